"""``configs/quick.yaml``, without what ``make quick`` does not install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({("jcm", "jax", "distributed", "tensorboard", "netCDF4", "pytest")!r}))
from vaevar.cli import main
main(sys.argv[1:])
"""
FEWER = """
name: quick
model:
  init_args:
    arms:
      free: FreeRun
      interpolation: {class_path: LinearInterpolation}
data:
  init_args:
    analyses: 3
trainer:
  callbacks:
    - {class_path: Scores, init_args: {skip: 0}}
"""


@pytest.mark.slow
def test_it_ends_with_a_table_and_a_report(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    (tmp_path / "fewer.yaml").write_text(FEWER)
    words = ["predict", "--config", str(ROOT / "configs" / "quick.yaml"), "--config", "fewer.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = (tmp_path / "runs" / "quick" / "summary.md").read_text()
    scores = dict(re.findall(r"^\| (free|interpolation) \| *(?:[^|]*\|)*? *(0\.\d+) ", summary, re.M))
    assert float(scores["interpolation"]) < float(scores["free"])
    assert (tmp_path / "runs" / "quick" / "report.html").stat().st_size > 1e5
    assert not (tmp_path / "data").exists()


def test_its_packages_are_the_dependencies_without_those_that_it_leaves_out() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=;]", text)[0].strip() for text in project["dependencies"]}
    needed = {re.sub(r"^dask\[.*\]", "dask[array]", name) for name in needed}
    lines = (ROOT / "requirements-quick.txt").read_text().splitlines()
    named = {line for line in lines if line and not line.startswith("#")}
    assert named <= needed
    assert needed - named == {"onnxruntime-gpu", "tensorboard"}

"""Text is UTF-8 whatever the locale is, as on clusters with older settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("localedef") is None or not Path("/usr/share/i18n/charmaps").is_dir(),
    reason="needs localedef and its charmaps",
)
@pytest.mark.parametrize(
    ("locale", "source", "charmap"), [("latin", "en_US", "ISO-8859-1"), ("gbk", "zh_CN", "GBK")]
)
def test_a_cycle_reads_its_configs_and_writes_its_summary(
    configs: dict[str, Path], tmp_path: Path, locale: str, source: str, charmap: str
) -> None:
    name = f"{source}.{charmap}"
    subprocess.run(
        ["localedef", "-i", source, "-f", charmap, str(tmp_path / name)], capture_output=True, check=False
    )
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))
    }
    environment |= {"LOCPATH": str(tmp_path), "LC_ALL": name, "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    encoding = [sys.executable, "-c", "import locale; print(locale.getencoding())"]
    found = subprocess.run(
        encoding, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    if found in ("UTF-8", "ANSI_X3.4-1968"):
        pytest.skip(f"no locale {name} here")
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["model"]["init_args"]["arms"] = {"free": "FreeRun"}
    (tmp_path / "λ.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for words, where in (
        (["--config", "configs/cycle_sparse.yaml", "--print_config"], ROOT),
        (["--config", str(tmp_path / "λ.yaml"), "--data.init_args.analyses", "2"], tmp_path),
    ):
        command = [sys.executable, str(ROOT / "main.py"), "predict", *words]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "–" in Path("runs/cycle/summary.md").read_text(encoding="utf-8")

"""The wheel: its contents, and what it does where there is no repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from vaevar import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")  # pip would fetch it
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def user(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory; the package is beside it, as it is installed."""
    place = tmp_path_factory.mktemp("user")
    zipfile.ZipFile(wheel).extractall(place / "site-packages")
    (place / "empty").mkdir()
    return place / "empty"


def vaevar(user: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(user.parent / "site-packages")}
    command = [sys.executable, "-c", "from vaevar.commands.main import main; main()", *words]
    return subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)


def test_it_holds_the_package_and_the_configs_and_nothing_large(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    inside = {name: content for name, content in held.items() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "vaevar").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"vaevar/{path.relative_to(ROOT).as_posix()}": path.read_bytes()
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert inside == expected
    (entries,) = (content for name, content in held.items() if name.endswith("entry_points.txt"))
    assert b"vaevar = vaevar.commands.main:main" in entries
    assert wheel.stat().st_size < 2e6


@pytest.mark.slow
def test_it_begins_and_says_where_weights_come_from(user: Path) -> None:
    done = vaevar(user, "init", ".")
    assert done.returncode == 0, done.stderr
    assert "--weights CLONE/weights" in done.stdout
    assert {path.name for path in (user / "configs").iterdir()} == {
        path.name for path in (ROOT / "configs").iterdir()
    }
    done = vaevar(user, "predict", "--config", "configs/quick.yaml")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "weights/" in line
    assert "`vaevar init . --weights CLONE/weights`" in line
    assert sorted(path.name for path in user.iterdir()) == ["configs"]


def test_what_is_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["license"] == project["license"]


def test_help_names_every_command(user: Path) -> None:
    done = vaevar(user, "--help")
    assert done.returncode == 0
    for command in ("init", "predict", "fit", "validate", "test"):
        assert command in done.stdout

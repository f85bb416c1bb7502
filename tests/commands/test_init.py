"""``vaevar init``: what it copies, and that it replaces nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vaevar import shipped
from vaevar.commands import init as module
from vaevar.commands.init import init, main

ROOT = Path(__file__).parents[2]


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What a clone has, but small."""
    place = tmp_path / "clone" / "weights"
    (place / "speedy").mkdir(parents=True)
    (place / "forecaster.onnx").write_bytes(b"a model")
    (place / "speedy" / "quick.zarr.zip").write_bytes(b"a world")
    return place


def test_configs_and_weights_are_copied(weights: Path, tmp_path: Path) -> None:
    lines = init(str(tmp_path / "mine"), str(weights))
    assert contents(tmp_path / "mine" / "configs") == contents(ROOT / "configs")
    assert contents(tmp_path / "mine" / "weights") == contents(weights)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["configs", "weights"]
    assert lines[-1] == f"next: cd {tmp_path / 'mine'} && vaevar predict --config configs/quick.yaml"


def test_what_is_there_stays(weights: Path, tmp_path: Path) -> None:
    mine = tmp_path / "configs" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("name: mine")
    first, second, *_ = init(str(tmp_path), str(weights))
    assert first == f"{tmp_path / 'configs'}: is there already, and stays as it is"
    assert second.startswith(f"{tmp_path / 'weights'}: 2 files")
    assert contents(mine.parent) == {"mine.yaml": b"name: mine"}


def test_without_a_clone_a_line_says_where_the_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPOSITORY", None)
    lines = init(str(tmp_path))
    assert f"`vaevar init {tmp_path} --weights CLONE/weights`" in lines[-1]
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("words", [["mine", "--weights", "nowhere"], ["blocked/mine"]])
def test_a_mistake_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "install", lambda: None)
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocked"]


def test_help_and_init_import_nothing_that_takes_seconds() -> None:
    code = "import sys, vaevar.commands.main, vaevar.commands.init; print([*sys.modules])"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "vaevar.shipped" in loaded.stdout
    for name in ("torch", "lightning", "numpy", "xarray", "jsonargparse"):
        assert f"'{name}'" not in loaded.stdout


def test_commands_are_named_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "predict"])
    assert shipped.typed("fit") == "python main.py fit"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/vaevar", "predict"])
    assert shipped.typed("fit") == "vaevar fit"
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    monkeypatch.setattr(shipped, "REPOSITORY", None)
    assert shipped.typed("fit") == "vaevar fit"

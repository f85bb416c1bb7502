"""The committed configs: every command at the head of one can be read, and every part is in use."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vaevar.cli import main

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    found = []
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        head = "\n".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
        joined = re.sub(r"\\\n\s*", "", head)
        found += re.findall(r"python main\.py ((?:fit|predict) [^\n]*\.(?:yaml|nc \S+ \d+))", joined)
    return sorted(set(found))


def test_every_config_has_a_command():
    named = " ".join(commands())
    unnamed = {path.name for path in (ROOT / "configs").glob("*.yaml") if path.name not in named}
    # By benchmarks/comparison.py and benchmarks/year.py.
    assert unnamed == {"comparison.yaml", "year.yaml"}


def test_every_part_is_named_by_a_config_and_no_class_by_its_module():
    texts = [path.read_text() for path in (ROOT / "configs").rglob("*.yaml")]
    settings = "\n".join(line.partition("#")[0] for text in texts for line in text.splitlines())
    for part in (ROOT / "configs" / "parts").glob("*.yaml"):
        assert f"{part.name}\n" in settings.replace(" ", ""), part
    assert not re.findall(r"\b(?:vaevar|lightning)\.\w+\.\w+", settings)


@pytest.mark.parametrize("command", commands())
def test_the_other_command_is_refused_in_one_line(command, tmp_path, monkeypatch, capsys):
    """Before anything is made: nothing that the config names is there."""
    words = [str(ROOT / word) if word.endswith(".yaml") else word for word in shlex.split(command)]
    right = words[0]
    words[0] = {"fit": "predict", "predict": "fit"}[right]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert f"`{right}`" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", commands())
def test_configs_can_be_read(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command), "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert "class_path" in printed.out

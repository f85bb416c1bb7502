"""Every command of README and site: its program is there, its configs can be read, its options are taken."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from tests.docs.blocks import PAGES, ROOT, commands, files_of, name_of, words_of
from tests.end_to_end.test_configs import commands as commands_of_configs
from vaevar import scripts
from vaevar.cli import main
from vaevar.commands import main as vaevar
from vaevar.commands.init import parser
from vaevar.runs import stopping

SUBCOMMANDS = ("fit", "validate", "test", "predict")
# What a page may tell a reader to type without more being looked at.
OTHERS = ("source", "git", "cd", "pip", "tensorboard")
# With files of the reader's own; a test of its own runs these pages.
TUTORIALS = {page for page in PAGES if any(path.endswith(".py") for path in files_of(page))}


def all_commands() -> list[Any]:
    """Each command once, with its page, without those that stand in the heads of configs too."""
    known = {f"python main.py {command}" for command in commands_of_configs()}
    found: dict[str, Any] = {}
    for page in PAGES:
        for command, as_it_stands in commands(page):
            words = words_of(command)
            text = " ".join(words)
            if text not in known and text not in found:
                found[text] = pytest.param(page, words, as_it_stands, id=text)
    return list(found.values())


class Parsed(BaseException):
    """The options of a program are taken."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that looks like the repository, in which a page's files can be written."""
    for name in ("benchmarks", "weights", "Makefile", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_configs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err


def take_options(path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program read its options, and no more."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r"parse_args|\brun\(\w+\)|command_line\(\)", text):
        assert not words, f"{path} takes no options"
        return
    for kind in (argparse.ArgumentParser, ArgumentParser):
        parse = kind.parse_args

        def parsed(self: Any, *args: Any, parse: Any = parse, **settings: Any) -> None:
            parse(self, *args, **settings)
            raise Parsed

        monkeypatch.setattr(kind, "parse_args", parsed)
    monkeypatch.setattr(stopping, "install", lambda importing=False: None)
    for name in ("use_utf8", "tell_faults_of_threads"):
        monkeypatch.setattr(scripts, name, lambda: None)
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    monkeypatch.setenv("VAEVAR_TRACEBACK", "1")
    with pytest.raises(Parsed), warnings.catch_warnings():
        runpy.run_path(str(path), run_name="__main__")


def recipe(target: str, arguments: str) -> list[list[str]]:
    """The commands of a target of the Makefile that run a program of the repository."""
    rule = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.M)
    assert rule, f"the Makefile has no target {target}"
    lines = (
        re.sub(r"\$\(BIN\)/|\$\(QUICK\)/bin/", "", line.strip("\t@")).replace("$(ARGS)", arguments)
        for line in rule[1].splitlines()
    )
    return [words_of(line) for line in lines if re.match(r"python (main\.py|benchmarks/|docs/)", line)]


def check(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a command is of a program that is known here; it is checked."""
    match words:
        case ["python", "main.py", command, *rest] | ["vaevar", command, *rest] if command in SUBCOMMANDS:
            read_configs([command, *rest], capsys)
        case ["vaevar", "--help"]:
            monkeypatch.setattr(vaevar, "install", lambda importing: None)
            monkeypatch.setattr(sys, "argv", words)
            vaevar.main()
            assert "vaevar init DIR" in capsys.readouterr().out
        case ["vaevar", "init", *rest]:
            assert parser().parse_args(rest).directory
        case ["python", "-m", module, *rest] if module.startswith("vaevar."):
            place = ROOT / module.replace(".", "/")
            paths = [path for path in (place.with_suffix(".py"), place / "__main__.py") if path.is_file()]
            assert paths, f"there is no program {module}"
            take_options(paths[0], rest, monkeypatch)
        case ["python", program, *rest] if program != "-m":
            assert (ROOT / program).is_file(), f"there is no {program}"
            take_options(ROOT / program, rest, monkeypatch)
        case ["make", target, *rest]:
            given = dict(word.partition("=")[::2] for word in rest)
            assert set(given) <= {"ARGS", "PYTEST_ARGS", "PYTHON"}
            for command in recipe(target, given.get("ARGS", "")):
                check(command, monkeypatch, capsys)
        case _:
            return False
    return True


@pytest.mark.parametrize(("page", "words", "as_it_stands"), all_commands())
def test_commands(
    page: Path,
    words: list[str],
    as_it_stands: bool,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = files_of(page)
    if page in TUTORIALS and set(words) & set(files):
        pytest.skip("tests/docs/test_tutorials.py runs it")
    for path, block in files.items():
        if path.endswith(".yaml"):
            (repository / path).write_text(block.text, encoding="utf-8")
    if not check(words, monkeypatch, capsys):
        known = not as_it_stands or words[0] in OTHERS
        assert known, f"{name_of(page)}: nothing checks `{' '.join(words)}`; say before its block: not run"
    assert Path.cwd() == repository
    assert not os.path.exists("runs")


def overlays() -> list[Any]:
    return [
        pytest.param(path, block.text, id=f"{name_of(page)}: {path}")
        for page in PAGES
        if page not in TUTORIALS
        for path, block in files_of(page).items()
        if path.endswith(".yaml") and not block.needs
    ]


@pytest.mark.parametrize(("path", "text"), overlays())
def test_configs_of_pages(path: str, text: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over the main one, also where no command of the page does it."""
    (repository / path).write_text(text, encoding="utf-8")
    read_configs(["predict", "--config", "configs/cycle_sparse.yaml", "--config", path], capsys)

"""~ and environment variables mean in settings what they mean in a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.runs.expansion import expand_arguments, expand_path, expand_paths
from vaevar.scripts import read_contents, run


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~/era5.zarr", "/home/someone/era5.zarr"),
        ("~", "/home/someone"),
        ("$SCRATCH", "/scratch"),
        ("$SCRATCH/era5.zarr", "/scratch/era5.zarr"),
        ("${SCRATCH}_2/era5.zarr", "/scratch_2/era5.zarr"),
        ("data/$SCRATCH", "data//scratch"),
        ("data/a~b.zarr", "data/a~b.zarr"),
        ("costs $5", "costs $5"),
        ("a $SCRATCH of text", "a $SCRATCH of text"),
        ("$x$ and\n$SCRATCH/y", "$x$ and\n$SCRATCH/y"),
        ("gs://bucket/era5.zarr", "gs://bucket/era5.zarr"),
        ("{epoch}-{step}", "{epoch}-{step}"),
        ("", ""),
    ],
)
def test_a_path_means_what_it_means_in_a_shell(text: str, expected: str) -> None:
    assert expand_path(text) == expected


@pytest.mark.parametrize("text", ["$NOWHERE/era5.zarr", "${NOWHERE}", "data/${NOWHERE}/x", "$EMPTY/x"])
def test_a_variable_that_is_not_set_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"the environment variable \w+ is not set, or empty; set it"):
        expand_path(text)


def test_whole_configs_and_command_lines() -> None:
    content = {"a": ["~/x", {"b": "$SCRATCH/y"}], "count": 3, "none": None}
    assert expand_paths(content) == {"a": ["/home/someone/x", {"b": "/scratch/y"}], "count": 3, "none": None}
    words = ["fit", "--config", "~/fit.yaml", "--path=$SCRATCH/y", "--flag", "--name=x"]
    assert expand_arguments(words) == [
        "fit", "--config", "/home/someone/fit.yaml", "--path=/scratch/y", "--flag", "--name=x",
    ]  # fmt: skip


def test_in_every_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("HERE", str(tmp_path))
    got = []

    def program(source: Source, path: Path, name: str, more: list[str]) -> None:
        got.append((source.path, path, name, more))  # type: ignore[attr-defined]

    (tmp_path / "a.yaml").write_text(
        "source: {class_path: StoreSource, init_args: {path: $HERE/era5.zarr}}\nname: ~/name\n"
    )
    run(program, ["--config=$HERE/a.yaml", "--path", "${HERE}/x", "--more", "[$SCRATCH/y, z]"])
    assert got == [(f"{tmp_path}/era5.zarr", tmp_path / "x", "/home/someone/name", ["/scratch/y", "z"])]
    assert read_contents([tmp_path / "a.yaml"])[0]["name"] == "/home/someone/name"
    (tmp_path / "a.yaml").write_text("name: $NOWHERE/name\n")
    for args in (["--config", str(tmp_path / "a.yaml")], ["--name=$NOWHERE/name"]):
        with pytest.raises(SystemExit, match="2"):
            run(program, args)
        assert "error: $NOWHERE/name: the environment variable NOWHERE is not set" in capsys.readouterr().err

"""What the end of a cycle says."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from vaevar.verification import closing
from vaevar.verification.closing import how_it_was_made, narrow_tables, nothing_computed, where_to_look


def test_tensorboard_is_named_only_where_it_has_something_to_show(tmp_path: Path) -> None:
    (tmp_path / "oi").mkdir()
    (tmp_path / "events.out.tfevents.1.host.2.0").touch()
    assert "--logdir" not in where_to_look(tmp_path)
    (tmp_path / "oi" / "events.out.tfevents.1.host.2.0").touch()
    assert where_to_look(tmp_path).endswith(f"tensorboard --logdir {tmp_path}")


def test_a_command_that_computes_nothing_has_made_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "how_to_repeat", lambda directory: "Made by `now`.")
    assert how_it_was_made(tmp_path, computed=False) == "Made by `now`."
    (tmp_path / "summary.md").write_text("# run\n\n| arm |\n\nMade by `before`.\n", encoding="utf-8")
    assert how_it_was_made(tmp_path, computed=False) == "Made by `before`."
    assert how_it_was_made(tmp_path, computed=True) == "Made by `now`."


def test_the_line_of_a_command_that_computes_nothing(tmp_path: Path) -> None:
    assert "had ended already, nothing was computed" in nothing_computed(tmp_path, ended=True)
    assert "had come this far already" in nothing_computed(tmp_path, ended=False)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_loses_no_digit_in_a_narrow_terminal(width: int) -> None:
    names = ["free", "interpolation", "threedvar_cycle", "fourdvar_48h_every_12h", "vaevar", "diffda", "oi"]
    numbers = [0.0003253 * 10**number for number in range(7)]
    columns = dict.fromkeys(("analysis rmse / std", "q700", "msl"), numbers)
    stops = ["2022-01-04T18:00:00, analysis 12", *[""] * 6]
    table = pd.DataFrame({"arm": names, **columns, "stopped at": stops})
    console = Console(width=width, file=StringIO())
    tables = narrow_tables(table, console, "run")
    for shown in tables:
        console.print(shown)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for number in numbers:
        assert text.count(f" {number:.4g} ") == 3
    assert "2022-01-04T18:00:00" in text
    assert (len(tables) == 1) == (width == 200)
    assert sum(len(shown.columns) - 1 for shown in tables) == 7

"""The Markdown writer, by hand and on the committed tables; tables that were damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaevar.verification.tables import (
    append_rows,
    cell_text,
    complete_times,
    cut_rows,
    markdown_table,
    time_text,
    to_markdown,
)

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("value", "text"),
    [("z500", "z500"), (12_345, "12345"), (1234.56, "1235"), (np.float32(0.123456), "0.1235"), (np.nan, "–")],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_the_first_column_is_aligned_left_unless_told_otherwise() -> None:
    expected = "| arm | rmse |\n| --- | ---: |\n| free | 0.5 |"
    assert markdown_table(["arm", "rmse"], [["free", 0.5]]) == expected
    assert markdown_table(["arm", "rmse"], [], align="rl") == "| arm | rmse |\n| ---: | --- |"
    assert to_markdown(pd.DataFrame({"arm": ["free"], "rmse": [0.5]})) == expected


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_committed_tables_come_out_the_same(path: Path) -> None:
    lines = path.read_text().splitlines()
    starts = [number - 1 for number, line in enumerate(lines) if line.startswith("| ---")]
    for start in starts:
        end = next((n for n in range(start, len(lines)) if not lines[n].startswith("|")), len(lines))
        head, rule, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start:end])
        align = "".join("r" if side.endswith(":") else "l" for side in rule)
        assert markdown_table(head, rows, align) == "\n".join(lines[start:end])
        default = "l" + "r" * (len(head) - 1)
        assert align == default or path.stem in ("error_growth", "forecast_skill", "window")


def written(path: Path, count: int) -> np.ndarray:
    """A table of two rows at each of ``count`` times."""
    times = np.datetime64("2022-01-01T00", "h") + 6 * np.arange(count)
    for number, time in enumerate(times):
        rows = pd.DataFrame({"time": time_text(time), "channel": ["a", "b"], "rmse": [number, number / 7]})
        append_rows(path, rows, time)
    return times


def test_complete_times_are_counted_up_to_the_first_that_is_not(tmp_path: Path) -> None:
    path, keys = tmp_path / "scores.csv", pd.DataFrame({"channel": ["a", "b"]})
    times = written(path, 6)
    lines = path.read_text().splitlines(keepends=True)

    def count(text: str) -> int:
        path.write_text(text)
        return complete_times(path, times, keys, ["rmse"])

    assert count("".join(lines)) == 6
    assert count("".join(lines[:12])) == 5
    assert count("".join(lines)[:-1]) == 5  # the last number may have lost digits
    assert count("".join([*lines[:5], *lines[6:]])) == 2
    assert count("".join([*lines[:5], *lines[3:]])) == 2
    assert count("".join([*lines[:3], lines[4], lines[3], *lines[5:]])) == 1
    assert count("".join(lines).replace("0.2857142857142857", "")) == 2
    assert count("".join(lines).replace("0.2857142857142857", "").replace(",2.0\n", ",\n")) == 6
    assert count("".join(lines[:9]) + "\0" * 50) == 4
    assert count(lines[0]) == count("") == count("other,columns\n1,2\n") == 0
    # A longer table is a longer run's.
    assert complete_times(path, times[:0], keys) == 0


def test_later_rows_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    written(path, 3)
    whole = path.read_text()
    cut_rows(path, 8)
    assert path.read_text() == whole
    cut_rows(path, 2)
    assert path.read_text().splitlines() == whole.splitlines()[:3]
    cut_rows(path, 0)
    assert path.read_text().splitlines() == ["time,channel,rmse"]
    cut_rows(tmp_path / "none.csv", 3)

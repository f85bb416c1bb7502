"""The Markdown writer, by hand and on the committed tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaevar.verification.tables import cell_text, markdown_table, to_markdown

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
        assert align == default or path.stem in ("error_growth", "forecast_skill")

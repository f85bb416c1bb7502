"""The mutation tester: what it changes, which tests it chooses, and what it reports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="needs the extra `mutants`")

from cosmic_ray.mutating import mutate_code
from mutants import report
from mutants_drawing import AREAS, DropCall, draw, lines_run

ROOT = Path(__file__).parents[2]
SOURCE = """import numpy as np

LIMIT = 3


def first(x, floor=0.5):
    if x > floor:
        y = np.sqrt(
            x.clip(0)
        )
        return y
    return x.mean(0)
"""


def test_calls_are_left_out() -> None:
    changed = [mutate_code(SOURCE, DropCall(), number) for number in range(4)]
    assert changed[3] is None
    texts = ["".join(str(text).split()) for text in changed[:3]]
    assert "y=(x.clip(0))" in texts[0]
    assert "y=np.sqrt(x)" in texts[1]
    assert "returnx\\n" not in texts[2]
    assert texts[2].endswith("returnx")


def test_lines_that_tell_of_a_change() -> None:
    assert lines_run(SOURCE, 3) == (range(1, 14), True)  # a constant: whatever runs the file
    assert lines_run(SOURCE, 6) == (range(7, 13), True)  # a default: whatever runs the function
    assert lines_run(SOURCE, 7) == (range(7, 8), False)
    assert lines_run(SOURCE, 9) == (range(8, 11), False)
    assert lines_run(SOURCE, 12) == (range(12, 13), False)


def test_a_draw_is_the_same_for_a_seed_and_means_something() -> None:
    drawn = draw(ROOT, 13, 5)
    assert [mutant.area for mutant in drawn[:12]] == list(AREAS)
    for mutant in drawn:
        source = (ROOT / mutant.path).read_text()
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(source))
        assert mutant.before != mutant.after
        assert mutant.after in " ".join(mutant.source.split())
    assert draw(ROOT, 12, 5) == drawn[:12]
    assert draw(ROOT, 12, 6) != drawn[:12]


def test_the_table_counts_what_matters() -> None:
    def entry(noticed: bool, reason: str = "", at_first: bool = False) -> dict:
        return {
            "area": "cost", "path": "vaevar/a.py", "before": "x + 1", "after": "x - 1", "noticed": noticed,
            "reason": reason, "seed": 0, "at_first": at_first,
        }  # fmt: skip

    text = report(
        [entry(True, at_first=True), entry(True), entry(False, "Equivalent: x is 0."), entry(False)]
    )
    assert "| cost | 4 | 2 | 1 | 1 | 67% |" in text
    assert "| all | 4 | 2 | 1 | 1 | 67% |" in text
    assert "Noticed when they were first tried: 1 of 3 of seed 0." in text
    assert "`a.py`: `x + 1` → `x - 1`. Equivalent: x is 0." in text
    assert text.count("a test is lacking") == 1

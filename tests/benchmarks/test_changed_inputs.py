"""A few of the changes of inputs, and whether the program that counts them would notice a silent one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from changed_inputs import INPUTS, all_cases, listing, text_of
from changes.kinds import Case, Result
from changes.probes import Prober, differences
from changes.world import world

# Every so many; a prime number, so that they are of all kinds.
EVERY = 43
CASES = list(all_cases())


@pytest.fixture(scope="module")
def prober(tmp_path_factory: pytest.TempPathFactory) -> Prober:
    place = tmp_path_factory.mktemp("changed")
    world(place / "world")
    return Prober(place / "world", place / "room")


def case(apply: Callable[[Path], Any], **more: str) -> Case:
    return Case(
        **{"target": "cycle.yaml", "change": "x", "probe": "cycle", "names": "seed"} | more, apply=apply
    )


def config(**changes: Any) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / "cycle.yaml"
        content = yaml.safe_load(path.read_text())
        content["data"]["init_args"] |= changes
        path.write_text(yaml.safe_dump(content))

    return apply


@pytest.mark.slow
@pytest.mark.parametrize("number", range(0, len(CASES), EVERY), ids=lambda number: CASES[number].title)
def test_nothing_is_silently_wrong(prober: Prober, number: int) -> None:
    result = prober(CASES[number])
    assert result.right, f"{result.outcome}: {result.line}"


@pytest.mark.slow
def test_another_result_is_noticed(prober: Prober) -> None:
    assert prober(case(lambda directory: None)).outcome == "harmless"
    silent = prober(case(config(seed=3)))
    assert (silent.outcome, silent.right) == ("other", False)
    assert prober(case(config(seed=3), unknowable="a seed is a seed")).right
    refused = case(config(seed=-1))
    assert prober(refused).outcome == "refused"
    unnamed = prober(case(config(seed=-1), names="nothing like this"))
    assert (unnamed.outcome, unnamed.right) == ("unnamed", False)


def test_there_are_changes_of_every_input() -> None:
    titles = [case.title for case in CASES]
    assert len(set(titles)) == len(titles) >= 200
    assert {case.target for case in CASES} == set(INPUTS)


def test_rounding_is_harmless_and_more_is_not() -> None:
    field = np.linspace(0.0, 1.0, 50)
    assert differences({"a": field}, {"a": field * (1 + 1e-6)}) == []
    assert differences({"a": field}, {"a": field * 1.01}) == ["a"]
    assert differences({"a": field}, {}) == ["a"]
    assert differences({"a": np.array(["x"])}, {"a": np.array(["y"])}) == ["a"]
    table = b",rmse,arm\n0,1.0,oi\n1,2.0,oi\n"
    assert differences({"t": table}, {"t": table.replace(b"2.0", b"2.000001")}) == []
    assert differences({"t": table}, {"t": table.replace(b"2.0", b"2.1")}) == ["t"]
    assert differences({"t": table}, {"t": table.replace(b"oi", b"free")}) == ["t"]


def test_the_table_counts_what_cannot_be_known_apart() -> None:
    blank = case(lambda directory: None)
    known = case(lambda directory: None, unknowable="nobody was there")
    results = [
        Result(blank, "refused", "error: no"),
        Result(known, "other", "a"),
        Result(blank, "other", "b"),
    ]
    text = text_of(results)
    assert "| config of a cycle (`cycle.yaml`) | 3 | 1 | 0 | 0 | 1 | 1 |" in text
    assert "- nobody was there: cycle.yaml: x." in text
    assert listing(results).splitlines()[1:] == [
        "cycle.yaml,x,cycle,refused,error: no",
        "cycle.yaml,x,cycle,other,nobody was there",
        "cycle.yaml,x,cycle,other,b",
    ]

"""Some seconds of damage at random, and whether a hang, a death and a silent acceptance would be noticed."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
import yaml
from changes.world import configs
from fuzz import TARGETS, Damage, apart, fuzz, recorded, text_of
from fuzzed import damaged, fuzz_config, places, restructured


@pytest.mark.slow
def test_some_damage(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    found = fuzz(tmp_path, 10.0, 1, "", record)
    assert found
    assert not [damage for damage in found if damage.fault]
    assert recorded(record) == found


def test_what_hangs_and_what_dies_is_noticed() -> None:
    assert apart(lambda: {"a": 1}, 20.0) == {"a": 1}
    with pytest.raises(TimeoutError):
        apart(lambda: time.sleep(60), 0.5)
    with pytest.raises(ChildProcessError, match="ended"):
        apart(lambda: os._exit(7), 20.0)


def test_damage_depends_on_the_seed_and_the_number_alone(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20
    kinds = {damaged(content, random.Random(number))[1].partition(",")[0] for number in range(200)}
    assert len(kinds) == 11
    for number in range(50):
        assert damaged(content, random.Random(number)) == damaged(content, random.Random(number))
    assert damaged(b"", random.Random(0))[0]


def test_configs_are_damaged_in_their_structure(tmp_path: Path) -> None:
    good = configs()["cycle.yaml"]
    texts = set()
    for number in range(60):
        content = json.loads(json.dumps(good))
        restructured(content, random.Random(number))
        texts.add(json.dumps(content))
        path = tmp_path / "cycle.yaml"
        path.write_text(yaml.safe_dump(good))
        fuzz_config(path, random.Random(number))
    assert len(texts) > 40


def test_a_run_that_was_ended_goes_on(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    first = Damage(0, TARGETS[0].what, "cycle.yaml", "cut", "refused", "error: x")
    line = json.dumps(first.__dict__)
    record.write_text(f"{line}\n{line[:20]}")
    assert recorded(record) == [first]
    assert record.read_text() == f"{line}\n"


@pytest.mark.parametrize(
    ("what", "outcome", "fault"),
    [
        ("B", "refused", False), ("B", "other", True), ("B", "harmless", False), ("B", "hangs", True),
        ("B", "crashed", True), ("B", "died", True), ("ONNX headers", "other", False),
        ("configs of a cycle", "other", False), ("configs of a cycle", "crashed", True),
    ],
)  # fmt: skip
def test_faults(what: str, outcome: str, fault: bool) -> None:
    damage = Damage(0, what, "x", "y", outcome, "")
    assert damage.fault is fault
    assert f"| {what} | 1 |" in text_of([damage], 1.0, 0)


def test_what_would_start_other_processes_is_left_alone() -> None:
    content = {"trainer": {"devices": 1, "strategy": "auto", "accelerator": "cpu"}}
    assert list(places(content)) == [("trainer",), ("trainer", "accelerator")]

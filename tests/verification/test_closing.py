"""What the end of a cycle says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaevar.verification import closing
from vaevar.verification.closing import how_it_was_made, nothing_computed, where_to_look


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

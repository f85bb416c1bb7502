"""Dashboards of a state with some channels only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vaevar.errors import UserError
from vaevar.state import StateSpec
from vaevar.verification.dashboards import Dashboards


def begin(dashboards: Dashboards, spec: StateSpec) -> Dashboards:
    trainer = SimpleNamespace(is_global_zero=False, loggers=[])
    module: Any = SimpleNamespace(local_arms=list, trainer=trainer, standing={}, directory="runs/some")
    data: Any = SimpleNamespace(spec=spec)
    dashboards.before_cycle(module, data)
    return dashboards


@pytest.mark.parametrize(
    ("spec", "channels", "maps"),
    [
        (StateSpec(), ["z500", "t850", "u500", "q700", "t2m", "msl"], ["z500", "u500", "t850"]),
        (StateSpec(("t2m",), ("t",), (850,)), ["t850", "t2m"], ["t850"]),
        (StateSpec((), ("q",), (500,)), [], []),
    ],
)
def test_the_usual_channels_as_far_as_there_are_some(
    spec: StateSpec, channels: list[str], maps: list[str]
) -> None:
    dashboards = begin(Dashboards(), spec)
    assert dashboards.channels == channels
    assert dashboards.maps == maps


def test_channels_asked_for_must_be_there() -> None:
    says = r"the state has no channels z700, q500; choose channels and maps from its 2, such as t2m, t850"
    with pytest.raises(UserError, match=says):
        begin(Dashboards(["z700", "t2m"], ["z700", "q500"]), StateSpec(("t2m",), ("t",), (850,)))

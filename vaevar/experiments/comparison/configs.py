"""The config of a comparison: one cycle's, or several cycles' whose arms are joined."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import yaml

from vaevar.cli import main as run
from vaevar.errors import UserError
from vaevar.experiments.comparison.record import fingerprints
from vaevar.scripts import read_contents


def resolve(configs: list[str]) -> dict[str, Any]:
    """The config that ``predict`` would run, with all defaults; later files win.

    Files with a model and its arms are cycles. Where there are several, each is resolved with the files that
    are none, and the arms of the later cycles are added to those of the first.

    Args:
        configs: paths of YAML files.

    Raises:
        UserError: when an arm of a later cycle would give other numbers beside those of the first.
    """
    cycles = [path for path in configs if _is_cycle(path)]
    if len(cycles) < 2:
        return _resolved(configs)
    joined: dict[str, Any] = {}
    for cycle in cycles:
        resolved = _resolved([path for path in configs if path == cycle or path not in cycles])
        joined = _join(joined, cycles[0], resolved, cycle) if joined else resolved
    return joined


def _is_cycle(path: str) -> bool:
    (content,) = read_contents([path])
    model = content.get("model")
    return isinstance(model, dict) and "class_path" in model and "arms" in (model.get("init_args") or {})


def _resolved(configs: list[str]) -> dict[str, Any]:
    printed = io.StringIO()
    arguments = [argument for path in configs for argument in ("--config", path)]
    try:
        with contextlib.redirect_stdout(printed):
            run(["predict", *arguments, "--print_config"])
    except SystemExit as stop:
        if stop.code:
            raise
    return yaml.safe_load(printed.getvalue())


def _join(first: dict[str, Any], first_path: str, other: dict[str, Any], path: str) -> dict[str, Any]:
    """The first config, with the arms of both."""
    joined = copy.deepcopy(first)
    arms, others = (config["model"]["init_args"]["arms"] for config in (joined, other))
    for name, arm in others.items():
        arms.setdefault(name, arm)
    known = fingerprints(joined)
    for name, digest in fingerprints(other).items():
        if known[name] != digest:
            what = "seed, forecaster, data, precision or scores" if arms[name] == others[name] else "settings"
            raise UserError(
                f"{path}: its arm {name} cannot be compared with the arms of {first_path}, which has other "
                f"{what}; make them the same, or compare the two in commands of their own"
            )
    return joined

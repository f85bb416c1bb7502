"""What TensorBoard's HParams tab shows of an arm: its settings and its final scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

Setting = bool | int | float | str


def hyperparameters(config: Path, arms: list[str]) -> dict[str, dict[str, Setting]]:
    """Settings of each arm and of its observations, by name such as ``control.checkpoint``.

    Args:
        config: the resolved config in a run directory; a run made without one has no settings to show.
        arms: names in ``model.arms``.
    """
    if not config.is_file():
        return {}
    content = yaml.safe_load(config.read_text())
    data = content["data"]["init_args"]
    shared = dict(
        _settings({key: data.get(key) for key in ("network", "errors", "analyses", "start", "seed")})
    )
    found = {}
    for name in arms:
        arm = content["model"]["init_args"]["arms"][name]
        found[name] = {"arm": name, **dict(_settings(arm)), **{f"data.{key}": v for key, v in shared.items()}}
    return found


def final_scores(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers of :func:`vaevar.verification.scores.summarise` by arm, named as charts are.

    What an arm has no number for is NaN.
    """
    return {
        row["arm"]: {_chart(str(name)): float(value) for name, value in row.items() if name != "arm"}
        for row in table.to_dict("records")
    }


def write_hyperparameters(
    directory: Path, settings: dict[str, Setting], scores: dict[str, float], step: int
) -> None:
    """A row of TensorBoard's HParams tab, in a run of its own below the arm's.

    The tab has a column for every setting of every row, as long as no row declares columns itself, and for
    every chart of the runs that rows are in; so those hold nothing else.

    Args:
        directory: of the row.
        settings: of the arm, from :func:`hyperparameters`.
        scores: of the arm, from :func:`final_scores`.
        step: at which they stand.
    """
    _, start, end = hparams(settings, scores)
    with SummaryWriter(str(directory), purge_step=0) as writer:
        events: Any = writer.file_writer
        for summary in (start, end):
            events.add_summary(summary)
        for name, value in scores.items():
            if not math.isnan(value):
                writer.add_scalar(name, value, step)


def _chart(name: str) -> str:
    for text, plain in ((" %/day", " percent per day"), (" / ", " over "), ("/", " over "), (" ", "_")):
        name = name.replace(text, plain)
    return f"final/{name}"


def _settings(value: Any, name: str = "") -> Iterator[tuple[str, Setting]]:
    """Scalars of a nested config; ``init_args`` leaves no trace in the names, a class its own name."""
    if isinstance(value, bool | int | float | str):
        yield name, value
    elif isinstance(value, list):
        yield name, str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "init_args":
                yield from _settings(item, name)
            elif key == "class_path":
                yield f"{name}.class".removeprefix("."), str(item).rpartition(".")[2]
            else:
                yield from _settings(item, f"{name}.{key}".removeprefix("."))

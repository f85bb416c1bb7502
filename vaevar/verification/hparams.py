"""An arm in TensorBoard's HParams tab: its settings and its final scores."""

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
    """Settings of each arm and its observations, with names such as ``control.checkpoint``.

    Args:
        config: the resolved config in a run directory; without one, or in the record of a run from Python,
            there are no settings.
        arms: names in ``model.arms``.
    """
    if not config.is_file():
        return {}
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    if not {"data", "model"} <= set(content):
        return {}
    data = content["data"]["init_args"]
    shared = dict(
        _settings({key: data.get(key) for key in ("network", "errors", "analyses", "start", "seed")})
    )
    shared = {f"data.{key}": value for key, value in shared.items()}
    settings = content["model"]["init_args"]["arms"]
    return {name: {"arm": name, **dict(_settings(settings[name])), **shared} for name in arms}


def final_scores(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers of :func:`vaevar.verification.scores.summarise` by arm, under the names of charts.

    NaN where an arm has no such number.
    """
    return {
        row["arm"]: {
            _chart(str(name)): float(value) for name, value in row.items() if not isinstance(value, str)
        }
        for row in table.to_dict("records")
    }


def write_hyperparameters(
    directory: Path, settings: dict[str, Setting], scores: dict[str, float], step: int
) -> None:
    """Write a row of TensorBoard's HParams tab, as a run of its own below the arm's.

    The tab has a column for every setting of every row (unless a row declares columns itself) and for every
    chart in the run of a row. So these runs hold nothing but the final scores.

    Args:
        directory: of the row.
        settings: of the arm, from :func:`hyperparameters`.
        scores: of the arm, from :func:`final_scores`.
        step: of the charts.
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
    """Scalars of a nested config by dotted name, without ``init_args``; classes by their short names."""
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

"""An arm in TensorBoard's HParams tab: its settings and its final scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
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
    writer: SummaryWriter, settings: dict[str, Setting], scores: dict[str, float], step: int
) -> None:
    """Write a row of TensorBoard's HParams tab.

    No row declares columns, since TensorBoard takes those of a single one. So the tab has a column for every
    setting of every arm, and for every chart.

    Args:
        writer: of the arm.
        settings: of the arm, from :func:`hyperparameters`.
        scores: of the arm, from :func:`final_scores`.
        step: of the scores.
    """
    _, start, end = hparams(settings, scores)
    events: Any = writer.file_writer
    for summary in (start, end):
        events.add_summary(summary)
    for name, value in known_scores(scores).items():
        writer.add_scalar(name, value, step)


def known_scores(scores: dict[str, float]) -> dict[str, float]:
    """Those that are numbers."""
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def remove_empty_events(directory: Path) -> None:
    """Remove the files in which a run's own logger logged nothing: TensorBoard shows a run for each.

    Args:
        directory: of the run; not below it.
    """
    for path in directory.glob("events.out.tfevents.*"):
        if all(event.HasField("file_version") for event in EventFileLoader(str(path)).Load()):
            path.unlink()


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

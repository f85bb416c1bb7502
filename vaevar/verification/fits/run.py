"""A fit as its report sees it: its losses, what it was made of, and what its model shows of itself."""

from __future__ import annotations

import pydoc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import yaml
from jsonargparse import ArgumentError

from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError, first_line
from vaevar.models.held_out.views import HeldOut, Shows
from vaevar.models.training.checkpoint_io import latest
from vaevar.models.training.history import NAME, read_history
from vaevar.runs.record import ENDED, readable_record
from vaevar.scripts import instantiate, mistake_of, read_contents
from vaevar.short_names import accept_short_names, resolve_names
from vaevar.verification.report.run import settings_of_record

CONFIG = "config.yaml"
# Of the data: what is held in memory, or would make samples, takes longer than a report may.
_LIGHT = {"in_memory": False, "making": None}


@dataclass
class FittedRun:
    """A fit.

    Attributes:
        directory: of the run.
        record: of the run; empty for a fit from Python.
        config: its resolved config; likewise.
        history: rows of ``history.csv``; None without them.
        ended: whether it has come to its end.
        shown: what its model shows of itself, if it can.
        model_from: the checkpoint that shows it, in words.
        faults: what could not be read or had, in a line each.
    """

    directory: Path
    record: dict[str, Any]
    config: dict[str, Any]
    history: pd.DataFrame | None
    ended: bool
    shown: HeldOut | None = None
    model_from: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """What the fit was made of, by names such as ``model.sigma``."""
        return settings_of_record(self.record)

    @property
    def outputs(self) -> list[Path]:
        """The files that its callbacks write the weights to."""
        found = []
        for callback in _callbacks(self.config):
            arguments = callback.get("init_args") or {}
            for name in getattr(pydoc.locate(str(callback.get("class_path"))), "outputs", ()):
                if arguments.get(name):
                    found.append(Path(arguments[name]))
        return found

    @property
    def checkpoints(self) -> list[Path]:
        """The directories of its checkpoints."""
        given = [(one.get("init_args") or {}).get("dirpath") for one in _callbacks(self.config)]
        places = [self.directory / "checkpoints", *(Path(path) for path in given if path)]
        return [place for place in dict.fromkeys(places) if place.is_dir()]


def is_fit(directory: Path) -> bool:
    """Whether a directory holds a fit."""
    if (directory / NAME).is_file():
        return True
    return bool(readable_record(directory)[0].get("settings", {}).get("command") == "fit")


def open_fit(directory: Path, module: Any = None, data: Any = None, ended: bool | None = None) -> FittedRun:
    """A fit from its directory.

    Args:
        directory: of the run.
        module: its model; None: as the best checkpoint has it, or the latest.
        data: its data module, set up; None: as its config says, as far as they can be had.
        ended: whether it has come to its end; None: as its record says.

    Raises:
        UserError: when there is nothing to report.
    """
    record, damage = readable_record(directory)
    faults = [damage] if damage else []
    history, config = None, _read_config(directory / CONFIG, faults)
    try:
        history = read_history(directory / NAME)
    except UserError as error:
        faults.append(str(error))
    run = FittedRun(
        directory, record, config, history, record.get("status") == ENDED if ended is None else ended,
        faults=faults,
    )  # fmt: skip
    if (history is None or history.empty) and not run.checkpoints:
        raise UserError(f"{directory}: holds no losses and no checkpoint of a fit yet: nothing to report")
    if module is None:
        module = _module_of(run)
    else:
        run.model_from = "the fit's last state"
    if isinstance(module, Shows):
        data = _data_of(run) if data is None else data
        if data is not None:
            _show(run, module, data)
    elif module is not None:
        faults.append(
            f"{type(module).__name__} has no method held_out, so there are no pictures of what it makes"
        )
    return run


def _show(run: FittedRun, module: Any, data: Any) -> None:
    training = module.training
    try:
        run.shown = module.eval().held_out(data)
    except Exception as error:  # a report without pictures is better than none
        run.faults.append(
            f"there are no pictures of what the model makes ({type(error).__name__}: {first_line(error)})"
        )
    finally:
        module.train(training)


def _module_of(run: FittedRun) -> L.LightningModule | None:
    """The model of the best checkpoint, or of the latest if none was chosen."""
    spec = run.config.get("model") or {}
    cls = pydoc.locate(str(spec.get("class_path"))) if "class_path" in spec else None
    found = [path for place in run.checkpoints if (path := latest(place))]
    if cls is None or not found:
        missing = "no config.yaml that names its model" if cls is None else "no checkpoint that can be read"
        run.faults.append(f"{run.directory}: has {missing}, so there are no pictures of what it makes")
        return None
    path = max(found, key=lambda one: one.stat().st_mtime)
    path = _best(path) or path
    try:
        load = getattr(cls, "load", None) or cls.load_from_checkpoint  # type: ignore[attr-defined]
        module: L.LightningModule = load(path)
    except Exception as error:  # of many kinds, for a checkpoint that is damaged or being written
        run.faults.append(f"{path}: cannot be read, so there are no pictures ({first_line(error)})")
        return None
    run.model_from = str(path)
    return module


def _best(path: Path) -> Path | None:
    """The best checkpoint, which a later one knows."""
    try:
        states = read_tensors(path, mmap=True, whole=False).get("callbacks", {})
    except Exception:  # unpickling raises many kinds; loading it says what is wrong
        return None
    for state in states.values():
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_path"):
            best = path.with_name(Path(state["best_model_path"]).name)
            if best.is_file():
                return best
    return None


def _data_of(run: FittedRun) -> Any:
    """The data of a config. Nothing is prepared: that might make a whole world."""
    if "data" not in run.config:
        run.faults.append(
            f"{run.directory / CONFIG}: names no data, so there are no pictures of held-out samples"
        )
        return None
    (content,) = read_contents([run.directory / CONFIG])
    arguments = content["data"].setdefault("init_args", {})
    arguments |= {name: value for name, value in _LIGHT.items() if name in arguments}
    try:
        data: Any = instantiate([content], data=L.LightningDataModule).data
        data.setup("fit")
    except (UserError, ArgumentError, OSError, ValueError, TypeError) as error:
        run.faults.append(
            f"the data cannot be read, so there are no pictures of held-out samples "
            f"({first_line(mistake_of(error) or error)}); run the command in the directory in which the fit "
            "was made, with its VAEVAR_DATA"
        )
        return None
    return data


def _read_config(path: Path, faults: list[str]) -> dict[str, Any]:
    """A resolved config with full names of classes; empty without one."""
    if not path.is_file():
        faults.append(f"{path}: is not there, so the report cannot say what the fit was made of")
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        accept_short_names()
        return dict(resolve_names(content)) if isinstance(content, dict) else {}
    except (yaml.YAMLError, OSError, ValueError) as error:
        faults.append(f"{path}: cannot be read ({first_line(error)})")
        return {}


def _callbacks(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = (config.get("trainer") or {}).get("callbacks") or []
    yield from (one for one in (listed if isinstance(listed, list) else [listed]) if isinstance(one, dict))

"""``--name``: the name of a run, on the command line or in a config."""

from __future__ import annotations

import argparse
import inspect
import pydoc
import re
from typing import Any, cast

import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.fabric.loggers.tensorboard import _TENSORBOARD_AVAILABLE, _TENSORBOARDX_AVAILABLE
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from vaevar.errors import UserError
from vaevar.mistakes.notices import notice

_NUMBERING = (TensorBoardLogger, CSVLogger)
# What is appended to a name, such as the number of a partial file, must fit beside it.
_LONGEST = 100
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


class RunName(argparse.Action):
    """``--name``: names the run on the command line."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name_run(namespace, values)


class ConfigFile(ActionConfigFile):
    """``--config``: a ``name`` in the file names the run. Later files and options win, as for any setting.

    The parser gets ``listed_callbacks``: those of all files, also where a later list took their place.
    """

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        before = cfg.get("name")
        cfg["name"] = None
        super().__call__(parser, cfg, values, option_string)
        listed = as_list(cfg.get("trainer.callbacks"))
        known = getattr(parser, "listed_callbacks", [])
        parser.listed_callbacks = [*known, [spec for spec in listed if isinstance(spec, Namespace)]]
        if cfg["name"] is None:
            cfg["name"] = before
        else:
            name_run(cfg, cfg["name"])


def name_run(settings: Namespace, name: str | int) -> None:
    """Give a run its name.

    The logger gets it, and the run directory follows. Settings without a logger get one that writes to
    ``runs/<name>``, if TensorBoard is installed.

    Args:
        settings: of a subcommand, partly parsed; changed in place.
        name: of the run.

    Raises:
        UserError: for a name that cannot be a directory below ``runs``.
    """
    text = str(name)
    if fault := fault_of_name(text):
        raise UserError(f"--name {_shown(text)}: {fault}")
    settings["name"] = text
    logger = settings.get("trainer.logger")
    if logger is None or logger is True:
        settings["trainer.logger"] = _logger(text)
    for spec in as_list(logger):
        if isinstance(spec, Namespace) and "name" in inspect.signature(class_of(spec)).parameters:
            spec["init_args.name"] = text
            # They would begin another directory, version_1, each time the command is given.
            if issubclass(class_of(spec), _NUMBERING) and spec.get("init_args.version") is None:
                spec["init_args.version"] = ""


def _logger(name: str) -> Namespace | bool:
    """The logger of a run that says nothing of loggers: none in an environment such as `make quick` makes."""
    if not (_TENSORBOARD_AVAILABLE or _TENSORBOARDX_AVAILABLE):
        notice(
            "TensorBoard is not installed here, so the run has no charts: python -m pip install tensorboard"
        )
        return False
    init_args = Namespace(save_dir="runs", name=name, version="")
    return Namespace(class_path="lightning.pytorch.loggers.TensorBoardLogger", init_args=init_args)


def fault_of_name(name: str) -> str:
    """Why a name cannot be a directory below the runs, or one in a run, on every system; empty if it can."""
    # In YAML null and true are no texts, and a logger would get no name.
    if not re.fullmatch(r"\w[\w.-]*", name) or isinstance(yaml.safe_load(name), bool | None):
        return (
            "a name is made of letters, digits, _, - and ., does not begin with - or ., and is not null, "
            "true or false"
        )
    if len(name.encode()) > _LONGEST:
        return f"it has {len(name.encode())} bytes, and a name may have {_LONGEST}"
    if name.endswith(".") or name.partition(".")[0].upper() in _RESERVED:
        return "on some systems no directory can have this name"
    return ""


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}...")


def take_the_loggers_name(settings: Namespace) -> None:
    """Let the run have the name that its logger was given after the run's own. The saved config keeps it.

    Args:
        settings: of a subcommand, parsed; changed in place.
    """
    logger = settings.trainer.logger
    if settings.name is not None and (logger is None or logger is True):
        name_run(settings, settings.name)
    elif isinstance(logger, Namespace) and logger.get("init_args.name", settings.name) != settings.name:
        settings.name = None


def class_of(spec: Namespace) -> type:
    """The class that a ``class_path`` names."""
    return cast(type, pydoc.locate(spec.class_path))


def as_list(setting: Any) -> list[Any]:
    """A setting that may be one thing or a list of them, or nothing."""
    if setting is None:
        return []
    return setting if isinstance(setting, list) else [setting]

"""The command line of ``main.py``: LightningCLI with short names, named runs and one-line errors."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import pydoc
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.module import AssimilationModule, run_directory
from vaevar.errors import UserError
from vaevar.models.training.checkpoint_io import check_checkpoint
from vaevar.models.training.trainer import prepare
from vaevar.provenance import fingerprint, provenance
from vaevar.runs import stopping
from vaevar.scripts import one_line_errors, use_utf8
from vaevar.short_names import accept_short_names

# Values of --ckpt_path that Lightning resolves itself.
LIGHTNINGS_OWN = re.compile(r"(best|last|hpc)$|registry\b|\w+://")
# What every cycle has, whatever else its callbacks are.
CALLBACKS_OF_A_CYCLE = (
    "vaevar.assim.cycle.cycle.Cycle",
    "vaevar.assim.cycle.writer.StateWriter",
    "vaevar.verification.scores.Scores",
)
PROGRESS_OF_A_CYCLE = "vaevar.assim.cycle.progress.CycleProgress"


class RunRecord(SaveConfigCallback):
    """Writes the resolved config and the provenance, and keeps two experiments apart.

    The run directory of a cycle belongs to one experiment: its model and data sections and the files that
    they name. Another experiment under the same name is refused, unless the cycle starts again
    (``Cycle.resume: false``).
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Asking for the log directory is collective, and save_config is called on the first rank alone.
        # A cycle without a logger is refused here, before anything is written or removed.
        self._log_dir = run_directory(trainer) if _cycles(trainer) else trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._log_dir is None:
            return
        directory = Path(self._log_dir)
        directory.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        experiment = fingerprint({key: config.get(key) for key in ("model", "data", "seed_everything")})
        cycles = _cycles(trainer)
        record = directory / "provenance.json"
        if cycles and record.is_file():
            before = json.loads(record.read_text(encoding="utf-8")).get("experiment")
            if before != experiment and cycles[0].resume:
                raise UserError(
                    f"{directory} holds another experiment (other settings or weights): choose another "
                    "`--name`, delete the directory, or add `--restart`"
                )
            if not cycles[0].resume:
                remove_cycle(directory)
        content = provenance(config) | {"experiment": experiment, "command": sys.argv}
        record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class RunName(argparse.Action):
    """``--name``: names the run on the command line."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name_run(namespace, values)


class ConfigFile(ActionConfigFile):
    """``--config``: a ``name`` in the file names the run. Later files and options win, as for any setting."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        before = cfg.get("name")
        cfg["name"] = None
        super().__call__(parser, cfg, values, option_string)
        if cfg["name"] is None:
            cfg["name"] = before
        else:
            name_run(cfg, cfg["name"])


class VaevarCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` with configs in YAML."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.setdefault("dump_header", [f"lightning.pytorch=={L.__version__}"])
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ConfigFile, help="Path to a config file in YAML; later files win."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name",
            action=RunName,
            help="name of the run, which writes to runs/NAME; checkpoints go to runs/NAME/checkpoints",
        )
        parser.add_argument(
            "--restart",
            action="store_true",
            help="predict: start the cycle again and replace what is in the run directory",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        settings = self.config[self.config.subcommand]
        logger = settings.trainer.logger
        if isinstance(logger, Namespace) and logger.get("init_args.name") != settings.name:
            # The logger's own name was set later. The saved config must not undo that.
            settings.name = None
        # Lightning reads the checkpoint's settings next, and takes any file for a checkpoint.
        path = settings.get("ckpt_path")
        # Names (best, last, ...), addresses and directories of sharded checkpoints are left to Lightning.
        if path is not None and not LIGHTNINGS_OWN.match(path) and not Path(path).is_dir():
            check_checkpoint(path, of_a_fit=self.config.subcommand == "fit")

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.config.subcommand]
        if self.config.subcommand == "predict" and issubclass(_class(settings.model), AssimilationModule):
            bar = settings.trainer.enable_progress_bar is not False
            settings.trainer.callbacks = complete_cycle(_as_list(settings.trainer.callbacks), bar)
        _silence_warnings()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        return prepare(super()._instantiate_trainer(config, callbacks))

    def after_instantiate_classes(self) -> None:
        settings = self.config[self.config.subcommand]
        if settings.get("restart"):
            # Said once: the saved config must not start the cycle again each time it is used.
            settings.restart = False
            for cycle in _cycles(self.trainer):
                cycle.resume = False


def main(args: list[str] | None = None) -> None:
    """Parse the command line and run it; a user's mistake is one line and exit code 2."""
    if args is None:
        use_utf8()
        stopping.install()
        if "LOCAL_RANK" in os.environ:
            stopping.end_with_parent()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    accept_short_names()
    with one_line_errors():
        VaevarCLI(
            save_config_callback=RunRecord,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False},
            args=args,
        )


def name_run(settings: Namespace, name: str | int) -> None:
    """Give a run its name.

    The logger gets it; Lightning derives the run directory from the logger, and from that the directory of
    checkpoints. Settings without a logger get one that writes to ``runs/<name>``.

    Args:
        settings: of a subcommand, partly parsed; changed in place.
        name: of the run.

    Raises:
        UserError: for a name that cannot be a directory below ``runs``.
    """
    text = str(name)
    # In YAML null and true are no texts, and a logger would get no name.
    if not re.fullmatch(r"\w[\w.-]*", text) or isinstance(yaml.safe_load(text), bool | None):
        raise UserError(
            f"--name {text!r}: a name is made of letters, digits, _, - and ., does not begin with - or ., "
            "and is not null, true or false"
        )
    settings["name"] = text
    logger = settings.get("trainer.logger")
    if logger is None or logger is True:
        init_args = Namespace(save_dir="runs", name=text, version="")
        settings["trainer.logger"] = Namespace(
            class_path="lightning.pytorch.loggers.TensorBoardLogger", init_args=init_args
        )
    for spec in _as_list(logger):
        if isinstance(spec, Namespace) and "name" in inspect.signature(_class(spec)).parameters:
            spec["init_args.name"] = text


def complete_cycle(callbacks: Sequence[Namespace], progress_bar: bool) -> list[Namespace]:
    """The callbacks of a cycle: those that a config lists, and what no cycle can do without.

    Args:
        callbacks: ``class_path`` and ``init_args`` of each.
        progress_bar: whether there may be one.
    """
    needed = [*CALLBACKS_OF_A_CYCLE, *([PROGRESS_OF_A_CYCLE] if progress_bar else [])]
    listed = [_class(callback) for callback in callbacks]
    added = []
    for path in needed:
        cls = cast(type, pydoc.locate(path))
        # Lightning allows one progress bar.
        kind = ProgressBar if issubclass(cls, ProgressBar) else cls
        if not any(issubclass(other, kind) for other in listed):
            defaults = {name: value.default for name, value in inspect.signature(cls).parameters.items()}
            added.append(Namespace(class_path=path, init_args=Namespace(defaults)))
    # The others look at the arms that Cycle has prepared.
    return sorted([*added, *callbacks], key=lambda callback: not issubclass(_class(callback), Cycle))


def remove_cycle(directory: Path) -> None:
    """Remove what an earlier cycle wrote into a run directory, and nothing else that lies there.

    That is the directory of each arm, known by its restart file or its diagnostics, the tables, and
    TensorBoard's events.
    """
    for arm in directory.iterdir():
        if arm.is_dir() and any((arm / name).is_file() for name in ("restart.pt", "diagnostics.csv")):
            if arm.is_symlink():
                arm.unlink()
            else:
                shutil.rmtree(arm)
    tables = [directory / name for name in ("scores.csv", "forecasts.csv", "summary.md", "profile.json")]
    for file in (*tables, *directory.glob("events.out.tfevents.*")):
        file.unlink(missing_ok=True)


def _cycles(trainer: L.Trainer) -> list[Cycle]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Cycle)]


def _class(spec: Namespace) -> type:
    return cast(type, pydoc.locate(spec.class_path))


def _as_list(setting: Any) -> list[Any]:
    if setting is None:
        return []
    return setting if isinstance(setting, list) else [setting]


def _silence_warnings() -> None:
    """Lightning's advertisements, and warnings about what its user cannot change."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for message in (
        ".*has `__len__` defined.*",
        "Couldn't infer the batch indices.*",
        ".*smaller than the logging interval.*",
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*not supported by the model summary.*",
        # Processes for which nothing is left to make (vaevar.data.samples.predict_loop).
        ".*across ranks is zero.*",
        # A calibration is a fit without an optimiser.
        ".*configure_optimizers` returned `None`.*",
    ):
        warnings.filterwarnings("ignore", message=message)

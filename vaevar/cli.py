"""The command line of ``main.py``: LightningCLI with short names, named runs and one-line errors."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.restart import analyses_made
from vaevar.commands.callbacks import (
    complete_cycle,
    complete_fit,
    keep_needed,
    look_shortly,
    without_a_logger,
    without_bars,
)
from vaevar.commands.processes import require_nodes, share_among
from vaevar.commands.silence import silence_warnings
from vaevar.content.setting import UNLIMITED
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.mistakes.commands import require_command, require_words
from vaevar.mistakes.fallbacks import tell_fallbacks
from vaevar.mistakes.notices import warnings_kept
from vaevar.mistakes.trainer_settings import require_single_precision, require_usable
from vaevar.models.training.checkpoint_io import (
    check_checkpoint,
    chosen,
    latest,
    steps_back,
    trained,
)
from vaevar.models.training.fit_checks import require_kept, require_trained
from vaevar.models.training.fit_log import lines_for_bars
from vaevar.models.training.trainer import prepare
from vaevar.provenance import unfinished_fit
from vaevar.runs import stopping
from vaevar.runs.checkpoints import RunNumber, is_own
from vaevar.runs.directory import RUNS, RunDirectory, directory_of, run_directory
from vaevar.runs.expansion import expand_arguments
from vaevar.runs.naming import ConfigFile, RunName, as_list, class_of, take_the_loggers_name
from vaevar.runs.record import read_record
from vaevar.runs.run import Run, Start, running
from vaevar.runs.settings import ORIGIN, settings_of
from vaevar.scripts import one_line_errors, tell_faults_of_threads, use_utf8
from vaevar.short_names import accept_short_names

# Values of --ckpt_path that Lightning resolves itself.
LIGHTNINGS_OWN = re.compile(r"(best|last|hpc)$|registry\b|\w+://")
OWN_NAMES = ("best", "last", "hpc")


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
            help="begin the run again; what is in its directory is moved aside, into .old",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        settings = self.config[self.config.subcommand]
        take_the_loggers_name(settings)
        # Lightning reads the checkpoint's settings next, and takes any file for a checkpoint.
        path = settings.get("ckpt_path")
        # Names (best, last, ...), addresses and directories of sharded checkpoints are left to Lightning.
        if path is not None and not LIGHTNINGS_OWN.match(path) and not Path(path).is_dir():
            check_checkpoint(path, of_a_fit=self.config.subcommand == "fit")

    def _parse_ckpt_path(self) -> None:
        """Lightning would put the checkpoint's settings in the place of those that are asked for."""

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.config.subcommand]
        listed = getattr(self._parser(self.config.subcommand), "listed_callbacks", [])
        callbacks, self._kept = keep_needed(as_list(settings.trainer.callbacks), listed)
        settings.trainer.callbacks = callbacks
        data = settings.get("data")
        require_command(
            self.config.subcommand, class_of(settings.model), None if data is None else class_of(data)
        )
        unused = [name for name in ("optimizer", "lr_scheduler") if settings.get(name) is not None]
        if unused and self.config.subcommand != "fit":
            raise UserError(
                f"{unused[0]} is a setting of fit, not of {self.config.subcommand}, which trains nothing; "
                "leave it out"
            )
        if self.config.subcommand == "predict" and issubclass(class_of(settings.model), AssimilationModule):
            bar = settings.trainer.enable_progress_bar is not False
            settings.trainer.callbacks = complete_cycle(as_list(settings.trainer.callbacks), bar)
            look_shortly(settings.trainer)
            share_among(len(settings.model.init_args.get("arms") or ()), settings.trainer)
        if self.config.subcommand == "fit":
            settings.trainer.callbacks = complete_fit(as_list(settings.trainer.callbacks))
        if settings.trainer.logger is False:
            settings.trainer.callbacks = without_a_logger(as_list(settings.trainer.callbacks))
        if settings.trainer.enable_progress_bar is False:
            settings.trainer.callbacks = without_bars(as_list(settings.trainer.callbacks))
        silence_warnings()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        if self.subcommand == "fit":
            callbacks = [*callbacks, *lines_for_bars(config, callbacks)]
        require_usable(config)
        trainer = prepare(super()._instantiate_trainer(config, callbacks))
        require_single_precision(trainer)
        require_nodes(trainer)
        tell_fallbacks(trainer)
        return trainer

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """A trainer whose run, checkpoints and whatever else Lightning writes have one directory."""
        settings = self._get(self.config_init, "trainer")
        loggers = as_list(settings.logger) if not isinstance(settings.logger, bool) else []
        root = Path(settings.default_root_dir) if settings.default_root_dir else RUNS
        named_by_lightning = settings.logger in (None, True)
        if named_by_lightning:
            trainer: L.Trainer = super().instantiate_trainer(**kwargs)
            directory = run_directory(trainer)
        else:
            name = self._get(self.config, "name")
            directory = directory_of(loggers[0] if loggers else None, name, root)
            trainer = super().instantiate_trainer(default_root_dir=str(directory), **kwargs)
        trainer.callbacks.append(RunDirectory(directory))  # type: ignore[attr-defined]
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback.dirpath = callback.dirpath or str(directory.absolute() / "checkpoints")
                # Lightning's trial of one batch keeps no checkpoint, except that it overwrites the last one.
                callback.save_last = callback.save_last and not getattr(trainer, "fast_dev_run", False)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        settings = self.config[subcommand]
        restart = bool(settings.restart) or any(not cycle.resume for cycle in _cycles(self.trainer))
        # Said once: the saved config must not start the run again each time it is used.
        settings.restart = False
        if getattr(self.trainer, "fast_dev_run", False) and subcommand != "predict":
            super()._run_subcommand(subcommand)  # which leaves nothing behind
            return
        run = self._run(subcommand, restart)
        if subcommand != "fit":
            asked = self.config_init[subcommand][ORIGIN] = chosen(settings.get(ORIGIN), self._places())
            if subcommand in ("validate", "test") and asked is None:
                print(
                    f"{subcommand}: without --ckpt_path the model is judged as its config makes it: "
                    "untrained, unless that has weights to start from"
                )
        with running(run, self.trainer.is_global_zero, lambda: not unfinished_fit(self.trainer)) as start:
            if start is Start.OVER:
                run.settings.check_written(read_record(run.directory) or {})
                ended = (
                    "this fit has ended. A larger --trainer.max_epochs goes on with it, --restart begins it "
                    "again"
                )
                print(f"{run.directory}: {run.already() or ended}")
                return
            if self._kept:
                print(self._kept)
            if subcommand == "fit":
                self._go_on(run, start)
            super()._run_subcommand(subcommand)
            if subcommand == "fit":
                require_trained(self.trainer)
                require_kept(self.trainer)

    def _run(self, command: str, restart: bool) -> Run:
        settings = self.config[command]
        text = self._parser(command).dump(settings, skip_none=False)
        directory, content = run_directory(self.trainer), yaml.safe_load(text)
        path = settings.get(ORIGIN) if command == "fit" else None
        own = path is not None and (path in OWN_NAMES or is_own(Path(path), directory))
        if own and restart:
            raise UserError(
                "--restart begins from nothing, --ckpt_path from a checkpoint of this run: give one of them"
            )
        if command != "fit" or own:
            content.pop(ORIGIN, None)
        places = self._places() if command == "fit" else ()
        return Run(
            directory=directory,
            command=command,
            settings=settings_of(content, command),
            config=text,
            checkpoints=places,
            restart=restart,
            from_checkpoint=own,
            devices=_devices(self.trainer),
            already=cache(
                lambda: self._analysed(directory) if command == "predict" else self._trained(places)
            ),
        )

    def _places(self) -> tuple[Path, ...]:
        """The directories of the run's checkpoints."""
        callbacks = self.trainer.checkpoint_callbacks
        places = [callback.dirpath for callback in callbacks if isinstance(callback, ModelCheckpoint)]
        return tuple(dict.fromkeys(Path(place) for place in places if place is not None))

    def _analysed(self, directory: Path) -> str:
        """That a cycle has more analyses than are asked for; empty if an arm has not."""
        if not isinstance(self.model, AssimilationModule) or not isinstance(self.datamodule, AnalysisTimes):
            return ""
        made, asked = (
            [analyses_made(directory / name) for name in self.model.arms],
            self.datamodule.times.size,
        )
        enough = min(made) >= asked and max(made) > asked
        return f"has {min(made)} analyses already, {asked} are asked for; nothing to do" if enough else ""

    def _trained(self, places: Sequence[Path]) -> str:
        """That a fit has more epochs or steps than are asked for; empty if it has not."""
        checkpoints = [path for place in places if (path := latest(place))]
        done = [max(counts) for counts in zip(*map(trained, checkpoints), strict=True)]
        limits = (self.trainer.max_epochs, self.trainer.max_steps)
        for number, asked, what in zip(done, limits, ("epoch", "step"), strict=False):
            if asked not in UNLIMITED and number > asked:
                return f"has come to {what} {number} already, {asked} are asked for; nothing to do"
        return ""

    def _go_on(self, run: Run, start: Start) -> None:
        """Give the fit's checkpoints the run's number, and let the fit go on from its last one."""
        record = read_record(run.directory)
        if record is not None:
            self.trainer.callbacks.insert(0, RunNumber(record["run"], run.settings))  # type: ignore[attr-defined]
        foreign = run.checkpoints_elsewhere(of_this_run=False)
        if run.from_checkpoint:
            asked = chosen(self.config_init["fit"][ORIGIN], run.checkpoints, foreign)
            self.config_init["fit"][ORIGIN] = asked
            if asked not in OWN_NAMES and (told := steps_back(str(asked), run.checkpoints)):
                print(told)
        elif start is Start.GOING_ON:
            found = [path for directory in run.checkpoints if (path := latest(directory, without=foreign))]
            checkpoint = max(found, key=lambda path: path.stat().st_mtime, default=None)
            if checkpoint is not None:
                origin = run.settings.values.get(ORIGIN)
                began = f"; it once began from {self.config_init['fit'][ORIGIN]}" if origin else ""
                print(f"{run.directory}: the fit goes on from {checkpoint}{began}")
                self.config_init["fit"]["ckpt_path"] = str(checkpoint)


def main(args: list[str] | None = None) -> None:
    """Parse the command line and run it; a user's mistake is one line and exit code 2."""
    if args is None:
        use_utf8()
        tell_faults_of_threads()
        stopping.install()
        if "LOCAL_RANK" in os.environ:
            stopping.end_with_parent()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    accept_short_names()
    with warnings_kept(), one_line_errors():
        words = expand_arguments(args)
        require_words(words)
        VaevarCLI(
            save_config_callback=None,  # the run's record is kept with the run (vaevar.runs)
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False},
            args=words,
        )


def _cycles(trainer: L.Trainer) -> list[Cycle]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Cycle)]


def _devices(trainer: L.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} x {name}"

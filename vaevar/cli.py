"""LightningCLI with one-line errors and a run directory that says how it came about."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from vaevar.assim.cycle.cycle import Cycle
from vaevar.errors import UserError
from vaevar.provenance import fingerprint, provenance

LIGHTNINGS_OWN = re.compile(r"(best|last|hpc)$|registry\b|\w+://")


class RunRecord(SaveConfigCallback):
    """Writes the resolved config and the provenance, and keeps two experiments apart.

    A cycle's run directory belongs to one experiment: its model and data sections and the files
    they name. Another experiment under the same name is refused rather than mixed in, unless the
    cycle is told to start again (``Cycle.resume: false``).
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # All ranks must ask for the log directory, and only the first one comes to save_config.
        self._log_dir = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._log_dir is None:
            return
        directory = Path(self._log_dir)
        directory.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        experiment = fingerprint({key: config.get(key) for key in ("model", "data", "seed_everything")})
        cycles = [callback for callback in trainer.callbacks if isinstance(callback, Cycle)]  # type: ignore[attr-defined]
        record = directory / "provenance.json"
        if cycles and record.is_file():
            before = json.loads(record.read_text()).get("experiment")
            if before != experiment and cycles[0].resume:
                raise UserError(
                    f"{directory} holds another experiment (other settings or weights): choose another "
                    "`trainer.logger.init_args.name`, delete the directory, or add `--restart`"
                )
            if not cycles[0].resume:
                shutil.rmtree(directory)
                directory.mkdir(parents=True)
                # The config was there already, and went with the rest.
                self.parser.save(self.config, directory / self.config_filename, skip_none=False)
        content = provenance(config) | {"experiment": experiment, "command": sys.argv}
        record.write_text(json.dumps(content, indent=2) + "\n")


class VaevarCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` over configs in YAML."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--restart",
            action="store_true",
            help="predict: start the cycle again, replacing what is in the run directory",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        # Lightning reads the checkpoint's settings next, and takes it to be one.
        path = self.config[self.config.subcommand].get("ckpt_path")
        # Names (best, last, ...), addresses and directories of sharded checkpoints are Lightning's affair.
        if path is not None and not LIGHTNINGS_OWN.match(path) and not Path(path).is_dir():
            check_checkpoint(path, of_a_fit=self.config.subcommand == "fit")

    def before_instantiate_classes(self) -> None:
        # Lightning's advertisements, and warnings about matters that its user cannot mend.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
            lambda record: "Tip:" not in record.getMessage()
        )
        warnings.filterwarnings("ignore", message=".*has `__len__` defined.*")
        warnings.filterwarnings("ignore", message="Couldn't infer the batch indices.*")
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*not supported by the model summary.*")
        # Processes that find nothing left to make (vaevar.data.samples.predict_loop).
        warnings.filterwarnings("ignore", message=".*across ranks is zero.*")
        # A calibration is a fit without an optimiser.
        warnings.filterwarnings("ignore", message=".*configure_optimizers` returned `None`.*")

    def after_instantiate_classes(self) -> None:
        if self.config[self.config.subcommand].get("restart"):
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Cycle):
                    callback.resume = False


def main(args: list[str] | None = None) -> None:
    """Parse the command line and run it; a user's mistake is one line and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    try:
        VaevarCLI(
            save_config_callback=RunRecord,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False},
            args=args,
        )
    except Exception as error:
        known = mistake_of(error)
        if known is None:
            raise
        print(f"error: {' '.join(str(known).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def check_checkpoint(path: str, of_a_fit: bool) -> None:
    """Refuse a file that is no checkpoint.

    Args:
        path: ``--ckpt_path``.
        of_a_fit: a fit is to go on from it, which takes more than weights.

    Raises:
        UserError: when there is no such file, or another one.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint; `--ckpt_path` goes on with a fit that was killed")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # unpickling raises many kinds; each means "not a checkpoint"
        raise UserError(f"{path}: not a checkpoint of a fit") from None
    if not isinstance(content, dict) or (of_a_fit and "loops" not in content):
        raise UserError(
            f"{path}: holds no state of a fit that could go on; give one of its `checkpoints/`, or begin "
            "from these weights where the model has `start_from`"
        )


def mistake_of(error: BaseException | None) -> Exception | None:
    """The user's mistake behind an error, if that is what it was.

    The parser wraps what a constructor raises in errors of its own; the innermost says it plainly. What the
    trainer calls a misconfiguration is a mistake in a config too.
    """
    found: Exception | None = None
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, ArgumentError | MisconfigurationException):
            found = error
        error = error.__cause__ or error.__context__
    return found

"""What the reports of experiments share: their data, printed tables, figures in files and loggers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import lightning as L
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console
from rich.table import Table

from vaevar.errors import UserError
from vaevar.loggers import log_picture
from vaevar.verification.tables import cell_text

Data = TypeVar("Data", bound=L.LightningDataModule)


def data_of(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    report: str,
    module: type[L.LightningModule],
    data: type[Data],
) -> Data:
    """The data of an experiment.

    Args:
        trainer, pl_module: of the run.
        report: the name of the callback that reports on it.
        module, data: what the experiment consists of.

    Raises:
        UserError: when the module or the data are of another experiment.
    """
    found = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(pl_module, module) or not isinstance(found, data):
        raise UserError(
            f"{report} needs a {module.__name__} over {data.__name__}, not "
            f"{type(pl_module).__name__} over {type(found).__name__}"
        )
    return found


def print_table(console: Console, title: str, table: pd.DataFrame, left: Collection[str]) -> None:
    """Print a table without lines, to fit into 80 columns.

    Args:
        console: where.
        title: above it.
        table: to print.
        left: columns that are not numbers.
    """
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in table.columns:
        shown.add_column(str(name), justify="left" if name in left else "right")
    for row in table.to_numpy(object):
        shown.add_row(*map(cell_text, row))
    console.print(shown)


def save_figures(trainer: L.Trainer, directory: Path, label: str, figures: Mapping[str, Figure]) -> None:
    """Write ``<name>_<label>.png`` into the run directory, and give them to the loggers.

    Args:
        trainer: whose loggers they are.
        directory: of the run.
        label: of what they show.
        figures: by name.
    """
    for name, figure in figures.items():
        path = directory / f"{name}_{label}.png"
        figure.savefig(path, dpi=100)
        if trainer.loggers:
            # Reading the file is faster than drawing the figure again.
            picture = (imread(path)[..., :3] * 255).round().astype(np.uint8)
            log_picture(trainer.loggers, f"{name}/{label}", picture, 0)

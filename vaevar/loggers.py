"""Pictures for whatever loggers a trainer has: several at once, one, or none.

Scalars and hyperparameters have methods that all of Lightning's loggers share. Pictures have none: how a
logger takes one is registered here by its class. A logger of another class gets no pictures, until its
own way is added::

    @take_picture.register
    def _(logger: MyLogger, name: str, picture: np.ndarray, step: int) -> None:
        logger.experiment.log_image(name, picture)
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from vaevar.files import replacing


def log_figure(loggers: Iterable[Logger], name: str, figure: Figure, step: int) -> None:
    """Give a figure to each logger.

    Args:
        loggers: of a trainer, on its first process.
        name: such as ``samples/maps``.
        figure: drawn once, and only if there is a logger.
        step: at which it was made.
    """
    loggers = list(loggers)
    if loggers:
        log_picture(loggers, name, rendered(figure), step)


def log_picture(loggers: Iterable[Logger], name: str, picture: np.ndarray, step: int) -> None:
    """Give a picture to each logger.

    Args:
        loggers: of a trainer, on its first process.
        name: such as ``samples/maps``.
        picture: [H, W, 3] uint8.
        step: at which it was made.
    """
    for logger in loggers:
        take_picture(logger, name, picture, step)


def rendered(figure: Figure) -> np.ndarray:
    """A figure as a picture, [H, W, 3] uint8.

    The loggers' own methods for figures import pyplot, which would choose a backend for the whole process.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


@singledispatch
def take_picture(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """How a logger takes a picture; one of no registered class takes none.

    Args:
        logger: of a trainer, on its first process.
        name: such as ``samples/maps``.
        picture: [H, W, 3] uint8.
        step: at which it was made.
    """


@take_picture.register
def _(logger: TensorBoardLogger, name: str, picture: np.ndarray, step: int) -> None:
    logger.experiment.add_image(name, picture, step, dataformats="HWC")


@take_picture.register
def _(logger: CSVLogger, name: str, picture: np.ndarray, step: int) -> None:
    """It keeps numbers alone: the picture goes beside its table."""
    path = Path(logger.log_dir) / "figures" / f"{name}_{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        imsave(partial, picture, format="png")


@take_picture.register
def _(logger: MLFlowLogger, name: str, picture: np.ndarray, step: int) -> None:
    logger.experiment.log_image(logger.run_id, picture, f"{name}_{step:06d}.png")


@take_picture.register
def _(logger: WandbLogger, name: str, picture: np.ndarray, step: int) -> None:
    logger.log_image(name, [picture], step)

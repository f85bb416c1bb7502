"""Calibrates 3DVar's B in a Lightning fit: two epochs over the samples, without training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.files import require_writable
from vaevar.models.covariance.estimation import (
    PASSES,
    CovarianceEstimator,
    EstimationSettings,
    error_std_of,
)
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.runs.aside import keeping
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import quadrature_weights
from vaevar.state import StateSpec


class CovarianceCalibration(L.LightningModule):
    """Estimates :class:`CovarianceStatistics` on a data module of normalised background errors.

    The data module has ``spec``, ``grid`` and ``error_std``, [C] or [C, H, 1], and yields errors divided by
    ``error_std``, [B, C, H, W]. Each epoch is a pass over its training samples; the result is compared with
    its validation samples.

    Args:
        path: the file to write.
        lmax, smoothing_degrees, balance_degrees, eof_fraction, ridge, unbalanced, floor, band_centres,
            local_degrees, local_fraction: as in
            :class:`vaevar.models.covariance.estimation.EstimationSettings`.

    Attributes:
        statistics: the result, after the fit.

    Raises:
        UserError: for settings that are out of range, or do not fit the grid of the samples.
    """

    outputs: ClassVar = ("path",)
    passes: ClassVar[int] = PASSES

    def __init__(
        self,
        path: str = "weights/covariance.nc",
        lmax: int = 31,
        smoothing_degrees: float = 4.0,
        balance_degrees: float = 10.0,
        eof_fraction: float = 0.999,
        ridge: float = 1e-3,
        unbalanced: Sequence[str] = ("q",),
        floor: float = 0.05,
        band_centres: Sequence[int] = (1, 4, 8, 14, 24),
        local_degrees: float = 6.0,
        local_fraction: float = 0.999,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.path = Path(path)
        self.settings = EstimationSettings(
            lmax, smoothing_degrees, balance_degrees, eof_fraction, ridge, tuple(unbalanced), floor,
            tuple(band_centres), local_degrees, local_fraction,
        )  # fmt: skip
        # Distributed strategies refuse a module without a parameter. Nothing is trained.
        self.unused = nn.Parameter(torch.zeros(()))
        self.statistics: Any = None

    def setup(self, stage: str) -> None:
        """Take channels, grid and scale from the data module.

        Raises:
            UserError: when the data module lacks them, the trainer is not set to two epochs, or the result
                cannot be written.
        """
        if stage != "fit":
            return
        data, name = getattr(self.trainer, "datamodule", None), type(self).__name__
        if data is None or not all(hasattr(data, part) for part in ("error_std", "spec", "grid")):
            raise UserError(
                f"{name}: the data module lacks error_std, spec or grid; fit on "
                "BackgroundErrors of vaevar.data.samples"
            )
        if self.trainer.max_epochs != self.passes:
            needed = f"{self.passes} pass{'es' if self.passes > 1 else ''}"
            raise UserError(
                f"{name}: trainer.max_epochs is {self.trainer.max_epochs}, but the calibration needs "
                f"{needed} over the samples; set it to {self.passes}"
            )
        if self.trainer.is_global_zero:
            require_writable(self.path)
        self.spec: StateSpec = data.spec
        self.grid: Grid = data.grid
        self.error_std = error_std_of(data)
        self.estimator = self.new_estimator()
        self._reset_validation()

    def new_estimator(self) -> Any:
        """Estimates the statistics in :attr:`passes` passes."""
        return CovarianceEstimator(self.spec, self.grid, self.settings)

    def tables(self, held_out: np.ndarray | None) -> list[Table]:
        """The report on the statistics; ``held_out`` is [C, H], mean squares of the validation samples."""
        return report(self.statistics, held_out)

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        self.estimator.update(self._errors(batch))

    def _errors(self, batch: Tensor) -> Tensor:
        """Errors in physical units, [B, C, H, W]."""
        return batch * self.error_std.to(batch.device)

    def on_train_epoch_end(self) -> None:
        self.estimator.end_pass(self._sum)

    def _reset_validation(self) -> None:
        self._squares = torch.zeros(len(self.spec), self.grid.shape[0], dtype=torch.float64)
        self._count = torch.zeros((), dtype=torch.float64)

    def on_validation_epoch_start(self) -> None:
        self._reset_validation()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Sum squares by channel and latitude."""
        errors = self._errors(batch).double()
        self._squares = self._squares.to(batch.device) + errors.square().mean(3).sum(0)
        self._count = self._count.to(batch.device) + len(batch)

    def _sum(self, total: Tensor) -> Tensor:
        reduced = self.trainer.strategy.reduce(total.to(self.device), reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    def on_train_end(self) -> None:
        """Compute the statistics on every rank; write and report them on the first.

        Raises:
            UserError: when the fit ended early.
        """
        name = type(self).__name__
        if self.estimator.passes_done < self.passes:
            raise UserError(f"{name}: the fit ended before it had passed over all samples")
        squares, count = self._sum(self._squares).cpu().numpy(), float(self._sum(self._count))
        try:
            self.statistics = self.estimator.statistics(self._provenance())
        except ValueError as error:
            raise UserError(f"{name}: {error}; use more samples") from None
        if self.trainer.is_global_zero:
            with keeping(self.path):
                self.statistics.save(self.path)
            console = Console()
            for table in self.tables(squares / count if count else None):
                console.print(table)
            console.print(f"wrote {self.path} ({self.path.stat().st_size / 1e6:.1f} MB)")

    def _provenance(self) -> dict[str, Any]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        record: dict[str, Any] = {"command": " ".join(sys.argv), "torch": torch.__version__}
        record["data"] = getattr(data, "record", {"source": type(data).__name__}) | {
            "samples": len(data.training) if hasattr(data, "training") else self.estimator.samples
        }
        return record


def report(statistics: CovarianceStatistics, held_out: np.ndarray | None = None) -> list[Table]:
    """Summarise statistics by variable.

    Args:
        statistics: estimated from the training samples.
        held_out: [C, H], mean squares of the validation samples.

    Returns:
        Two tables. The first has the channels' std, the range of S, and the ratio of implied to held-out
        variance; the second the fractions of the control variables' variances that balance explains and that
        lie within the truncation.
    """
    spec, weights = statistics.spec, quadrature_weights(statistics.grid) / 2
    channels = Table(
        "variable", "channels", "std (mean)", "S: least", "S: most", "implied / held-out variance"
    )
    for name in (*spec.surface, *spec.upper):
        chosen = spec.variable_slice(name)
        variance = statistics.channel_std[chosen] ** 2 @ weights
        factor = statistics.rescaling[chosen]
        ratio = "" if held_out is None else f"{(variance / (held_out[chosen] @ weights)).mean():.3f}"
        channels.add_row(
            name,
            str(len(variance)),
            f"{np.sqrt(variance).mean():.4g}",
            f"{factor.min():.3f}",
            f"{factor.max():.3f}",
            ratio,
        )
    carried = statistics.provenance.get("variance_within_truncation", {})
    variables = Table("control variable", "balance explains", f"within l ≤ {statistics.lmax}")
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(statistics.variables.names):
        matching = [variable for variable in (*spec.surface, *spec.upper) if name.startswith(variable)]
        label = name[:3] if name[:3] in ("psi", "chi") else max(matching, key=len)
        groups.setdefault(label, []).append(position)
    for label, positions in groups.items():
        names = [statistics.variables.names[i] for i in positions]
        within = np.mean([carried.get(name, np.nan) for name in names])
        variables.add_row(label, f"{statistics.balanced[positions].mean():.1%}", f"{within:.1%}")
    return [channels, variables]

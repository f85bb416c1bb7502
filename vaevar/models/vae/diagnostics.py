"""Do samples of the decoder look like the background errors that it was trained on?

An analysis spreads an observation by the covariances of the decoder. A VAE may reconstruct well and still
make poor increments, because its samples have too little variance or the wrong scales. After validation this
callback compares samples of the decoder with the validation errors, in numbers and figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaevar.errors import UserError
from vaevar.loggers import log_figure
from vaevar.models.vae.vae import VAE
from vaevar.moments import FieldMoments
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, largest_truncation
from vaevar.state import SURFACE_VARIABLES, UPPER_VARIABLES

BAND_EDGES = (1, 6, 16, 31, 61, 121, 241, 481)


def compare(samples: FieldMoments, errors: FieldMoments, grid: Grid) -> dict[str, float]:
    """Scores of samples against errors.

    Args:
        samples, errors: their moments.
        grid: the H × W points of both.

    Returns:
        ``abs_log_variance_ratio``: the area-weighted mean over channels and latitudes of |ln(zonal variance
        of samples / of errors)|, 0 at best; ``variance_ratio``: the geometric mean over channels of the ratio
        of global variances, 1 at best; ``spectrum_ratio_<from>_<to>``: likewise for the power in a band of
        total wavenumbers.
    """
    zonal = samples.variance.mean(-1).log() - errors.variance.mean(-1).log()  # [C, H]
    overall = grid.area_mean(samples.variance).log() - grid.area_mean(errors.variance).log()
    scores = {
        "abs_log_variance_ratio": float((zonal.abs() * grid.area_weights).mean()),
        "variance_ratio": float(overall.mean().exp()),
    }
    ours, theirs = samples.spectrum, errors.spectrum
    for low, high in itertools.pairwise(BAND_EDGES):
        last = min(high, ours.shape[-1]) - 1
        if last >= low:
            band = slice(low, last + 1)
            ratio = ours[:, band].sum(-1).log() - theirs[:, band].sum(-1).log()
            scores[f"spectrum_ratio_{low:02d}_{last:02d}"] = float(ratio.mean().exp())
    return scores


def _is_channel(name: str) -> bool:
    return name in SURFACE_VARIABLES or name.rstrip("0123456789") in UPPER_VARIABLES


class SampleDiagnostics(L.Callback):
    """Compares samples of a :class:`vaevar.models.vae.vae.VAE` with the validation errors, on rank 0.

    Args:
        every_n_epochs: number of epochs from one comparison to the next; the last epoch always has one.
        samples: number of samples, always from the same w.
        channels: the channels in the figures; those that the VAE lacks are skipped.

    Raises:
        UserError: for a count out of range, or a channel that no state has.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        samples: int = 64,
        channels: Sequence[str] = ("z500", "t850", "u500", "q700"),
    ) -> None:
        if every_n_epochs < 1 or samples < 2:
            raise UserError(
                f"SampleDiagnostics: every_n_epochs {every_n_epochs} must be positive, and samples {samples} "
                "two or more"
            )
        unknown = [name for name in channels if not _is_channel(name)]
        if unknown:
            raise UserError(
                f"SampleDiagnostics: channels names {', '.join(unknown)}, which no state has; write z500 or "
                "t2m"
            )
        self.every_n_epochs, self.samples, self.channels = every_n_epochs, samples, tuple(channels)
        self._errors: FieldMoments | None = None
        self._example: Tensor | None = None

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 or last
        self._errors = None
        if due and trainer.is_global_zero and not trainer.sanity_checking:
            assert isinstance(pl_module, VAE)
            harmonics = SphericalHarmonics(pl_module.grid, largest_truncation(pl_module.grid))
            self._errors = FieldMoments(harmonics.to(pl_module.device))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._errors is not None:
            self._errors.add(batch)
            self._example = batch[0].detach().float().cpu()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw samples, log the scalars and the figures."""
        errors, self._errors = self._errors, None
        if errors is None or errors.count < 2:
            return
        assert isinstance(pl_module, VAE)
        assert self._example is not None
        samples, generator = FieldMoments(errors.harmonics), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(self.samples):
                fields = pl_module.sample(1, generator)
                samples.add(fields)
        for name, value in compare(samples, errors, pl_module.grid).items():
            pl_module.log(f"samples/{name}", value, rank_zero_only=True)
        figures = {
            "samples/maps": self._maps(pl_module, samples, errors, fields[0].float().cpu()),
            "samples/zonal_variance": _zonal_figure(pl_module, samples, errors),
            "samples/spectra": self._spectra(pl_module, samples, errors),
        }
        for name, figure in figures.items():
            log_figure(trainer.loggers, name, figure, trainer.global_step)

    def _shown(self, vae: VAE) -> list[str]:
        return [name for name in self.channels if vae.spec.has(name)] or [vae.spec.names[0]]

    def _maps(self, vae: VAE, samples: FieldMoments, errors: FieldMoments, sample: Tensor) -> Figure:
        shown, std = self._shown(vae), vae.error_std.double().cpu()
        figure = Figure(figsize=(16, 2.4 * len(shown)), layout="constrained")
        panels = figure.subplots(len(shown), 4, squeeze=False)
        assert self._example is not None
        for row, name in zip(panels, shown, strict=True):
            index = vae.spec.index(name)
            unit, units = std[index], vae.spec.channels[index].units
            pairs = (
                (("std of errors", "std of samples"), (errors.std, samples.std), "viridis"),
                (("an error", "a sample"), (self._example.double(), sample.double()), "RdBu_r"),
            )
            for number, (titles, fields, colours) in enumerate(pairs):
                axes = row[2 * number : 2 * number + 2]
                top = float((fields[0][index] * unit).abs().max())
                low = 0.0 if colours == "viridis" else -top
                for axis, title, field in zip(axes, titles, fields, strict=True):
                    image = axis.imshow(
                        (field[index] * unit).numpy(),
                        cmap=colours,
                        vmin=low,
                        vmax=top,
                        aspect="auto",
                        extent=(0, 360, -90, 90),
                    )
                    axis.set_title(f"{name}: {title} ({units})", fontsize=8)
                figure.colorbar(image, ax=axes.tolist())
        return figure

    def _spectra(self, vae: VAE, samples: FieldMoments, errors: FieldMoments) -> Figure:
        shown = self._shown(vae)
        figure = Figure(figsize=(4 * len(shown), 3.2), layout="constrained")
        for axis, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            index = vae.spec.index(name)
            for label, moments in (("errors", errors), ("samples", samples)):
                power = moments.spectrum[index, 1:].numpy()
                axis.loglog(range(1, power.size + 1), power, label=label)
            axis.set_title(name)
            axis.set_xlabel("total wavenumber")
            axis.legend()
        return figure


def _zonal_figure(vae: VAE, samples: FieldMoments, errors: FieldMoments) -> Figure:
    """log2 of the ratio of zonal variances, by channel and latitude; −1 is half the variance."""
    ratio = (samples.variance.mean(-1) / errors.variance.mean(-1)).log2()
    figure = Figure(figsize=(8, 0.13 * len(vae.spec) + 1.5), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(
        ratio.numpy(), cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto", extent=(90, -90, len(vae.spec), 0)
    )
    axis.set_yticks([i + 0.5 for i in range(len(vae.spec))], vae.spec.names, fontsize=5)
    axis.set_xlabel("latitude")
    figure.colorbar(image, ax=axis, label="log2(variance of samples / of errors)")
    return figure

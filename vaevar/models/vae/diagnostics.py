"""Do samples of the decoder's odd part look like the background errors that they imitate?

What an analysis spreads around an observation are the decoder's covariances. A VAE that reconstructs
well but whose samples have too little variance, or the wrong scales, makes poor increments. After
validation this callback compares samples with the validation errors, as numbers and as figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics

BAND_EDGES = (1, 6, 16, 31, 61, 121, 241, 481)
SMALLEST = 1e-12  # variance, in units of the errors' own: keeps logarithms finite


class FieldMoments:
    """Mean, variance and power spectrum of fields that come in batches.

    Args:
        harmonics: of the fields' grid.
    """

    def __init__(self, harmonics: SphericalHarmonics) -> None:
        self.harmonics = harmonics
        self.count = 0
        self.total, self.squares, self.powers = torch.zeros(()), torch.zeros(()), torch.zeros(())

    def add(self, fields: Tensor) -> None:
        """[B, C, H, W]"""
        fields = fields.detach().float()
        self.count += fields.shape[0]
        self.total = self.total + fields.sum(0).double().cpu()
        self.squares = self.squares + fields.square().sum(0).double().cpu()
        self.powers = self.powers + self.harmonics.power(fields).sum(0).double().cpu()

    @property
    def mean(self) -> Tensor:
        """[C, H, W]"""
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """[C, H, W] about the mean at each point."""
        return (self.squares / self.count - self.mean.square()).clamp_min(SMALLEST)

    @property
    def std(self) -> Tensor:
        """[C, H, W]"""
        return self.variance.sqrt()

    @property
    def spectrum(self) -> Tensor:
        """[C, L] power of the departures from the mean by total wavenumber."""
        of_mean = self.harmonics.power(self.mean.float().to(self.harmonics.analysis_matrix.device))
        return (self.powers / self.count - of_mean.double().cpu()).clamp_min(SMALLEST)


def compare(samples: FieldMoments, errors: FieldMoments, grid: Grid) -> dict[str, float]:
    """Scalars that are 0 or 1 for perfect samples.

    Returns:
        ``abs_log_variance_ratio``: mean over channels and latitudes of |ln(zonal variance of samples /
        of errors)|, by area, 0 at best; ``variance_ratio``: the geometric mean over channels of the
        ratio of global variances; ``spectrum_ratio_<from>_<to>``: the same of the power in a band of
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


class SampleDiagnostics(L.Callback):
    """Compare samples of a :class:`vaevar.models.vae.vae.VAE` with validation errors, on rank 0.

    Args:
        every_n_epochs: how often, in epochs that validate.
        samples: how many to draw (always the same w).
        channels: shown as maps, as far as the VAE has them.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        samples: int = 64,
        channels: Sequence[str] = ("z500", "t850", "u500", "q700"),
    ) -> None:
        self.every_n_epochs, self.samples, self.channels = every_n_epochs, samples, tuple(channels)
        self._errors: FieldMoments | None = None
        self._example: Tensor | None = None

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 or last
        self._errors = None
        if due and trainer.is_global_zero and not trainer.sanity_checking:
            assert isinstance(pl_module, VAE)
            rows, columns = pl_module.grid.shape
            lmax = min(rows - 1 if pl_module.grid.is_gaussian else (rows - 1) // 2, columns // 2 - 1)
            self._errors = FieldMoments(SphericalHarmonics(pl_module.grid, lmax).to(pl_module.device))

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
        """Draw samples, log the scalars and add the figures to TensorBoard."""
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
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, figure in figures.items():
                    logger.experiment.add_figure(name, figure, trainer.global_step, close=False)

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
                ("std of errors", "std of samples", errors.std, samples.std, "viridis"),
                ("an error", "a sample", self._example.double(), sample.double(), "RdBu_r"),
            )
            for place, (first, second, left, right, colours) in enumerate(pairs):
                top = float((left[index] * unit).abs().max())
                low = 0.0 if colours == "viridis" else -top
                for axis, title, field in zip(
                    row[2 * place : 2 * place + 2], (first, second), (left, right), strict=True
                ):
                    image = axis.imshow(
                        (field[index] * unit).numpy(),
                        cmap=colours,
                        vmin=low,
                        vmax=top,
                        aspect="auto",
                        extent=(0, 360, -90, 90),
                    )
                    axis.set_title(f"{name}: {title} ({units})", fontsize=8)
                figure.colorbar(image, ax=row[2 * place : 2 * place + 2].tolist())
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
    """log2 of the ratio of zonal variances, channel by latitude: 0 is right, −1 half."""
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

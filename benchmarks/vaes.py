"""What the VAEs have learned: VAE-Var's, with 3DVar's B inside, and the one published, side by side.

    python benchmarks/vaes.py
    python benchmarks/vaes.py --spectral null --published null --nmc data/spectral_vae_nmc.ckpt \
        --page vaes_nmc.md

Each on samples of its own kind that it was not trained on: VAE-Var's on the last tenth of the errors of a
cycle (`configs/cycle_errors.yaml`); the published one, and VAE-Var's trained on NMC errors
(`configs/spectral_vae_nmc.yaml`), on differences of forecasts of the validation period
(`configs/nmc_validation.yaml`). Writes `benchmarks/results/vaes.md`:

- the evidence lower bound in nats per latent number, and what the networks add to the linear Gaussian model;
- active units: latent numbers whose posterior mean has a variance above 0.01 (Burda et al., 2016);
- variance and spectra of samples, and their balance, against the errors' own;
- skewness and excess kurtosis of samples and of the errors.

`null` leaves one out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from vaevar.data.samples.background_errors import BackgroundErrorsWithCoverage
from vaevar.data.samples.store import SampleStore
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.models.vae.held_out import ACTIVE
from vaevar.models.vae.vae import VAE
from vaevar.moments import ErrorMoments
from vaevar.scripts import run
from vaevar.verification.background_errors.tables import WAVE_BANDS
from vaevar.verification.tables import markdown_table

BATCH = 8
ZONAL_FLOOR = 0.3  # as in training: vaevar.data.samples.background_errors.BackgroundErrors


@dataclass
class Held:
    """What a VAE makes of a batch of held-out samples.

    Attributes:
        vae: the VAE.
        errors, samples: [B, C, H, W], physical units: held-out errors, and as many draws of the decoder.
        mean: [B, N], the posterior means of their latent numbers.
        scores: values per latent number.
        error_std: [C, H, 1], of the samples that it was trained on.
    """

    vae: VAE | SpectralVAE
    errors: Tensor
    samples: Tensor
    mean: Tensor
    scores: dict[str, Tensor]
    error_std: Tensor


class Findings:
    """What is known of a VAE after some batches.

    Attributes:
        errors, samples: moments.
        shapes: [2, 4, C] of each batch, the means of powers of normalised errors and samples.
        means: [B, N] of each batch.
        scores: of each batch.
    """

    def __init__(self, vae: VAE | SpectralVAE) -> None:
        self.errors, self.samples = (ErrorMoments(vae.spec, vae.grid, (), ()) for _ in range(2))
        self.shapes: list[Tensor] = []
        self.means: list[Tensor] = []
        self.scores: list[dict[str, float]] = []

    def add(self, held: Held) -> None:
        self.errors.add(held.errors)
        self.samples.add(held.samples)
        self.shapes.append(torch.stack([powers(x / held.error_std) for x in (held.errors, held.samples)]))
        self.means.append(held.mean)
        self.scores.append({name: float(value) for name, value in held.scores.items()})

    @property
    def active(self) -> float:
        """The fraction of active units."""
        return float((torch.cat(self.means).var(0) > ACTIVE).float().mean())

    def score(self, name: str) -> float:
        """The mean over batches; NaN where this VAE has no such score."""
        return float(np.mean([scores.get(name, math.nan) for scores in self.scores]))


def powers(fields: Tensor) -> Tensor:
    """[4, C], the means of x to x⁴ over samples and points."""
    x = fields.double()
    return torch.stack([(x**power).mean((0, 2, 3)) for power in range(1, 5)])


def skewness_and_kurtosis(moments: Tensor) -> tuple[float, float]:
    """Means over the channels of |skewness| and excess kurtosis, from means of powers [4, C]."""
    one, two, three, four = moments
    variance = two - one**2
    third = three - 3 * one * two + 2 * one**3
    fourth = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
    return float((third / variance**1.5).abs().mean()), float((fourth / variance**2 - 3).mean())


@torch.no_grad()
def of_published(checkpoint: str, errors: str, seed: int) -> Iterator[Held]:
    """The published VAE on differences of forecasts."""
    vae, store = VAE.load(checkpoint), SampleStore(errors)
    random = torch.Generator().manual_seed(seed)
    for start in range(0, len(store), BATCH):
        (batch,) = store.__getitems__(list(range(start, min(start + BATCH, len(store)))))
        x = store.decode("error", batch, std=vae.error_std)
        mean, _ = vae.encode(x)
        losses, count = vae.losses(x, start), mean[0].numel()
        constant = x[0].numel() * math.log(vae.sigma * math.sqrt(2 * math.pi))
        scores = {"bound": -(losses["loss"] + constant) / count, "kl": losses["kl"] / count}
        physical = (x * vae.error_std, vae.sample(len(x), random) * vae.error_std)
        yield Held(vae, *physical, mean.flatten(1), scores, vae.error_std)


@torch.no_grad()
def of_spectral(checkpoint: str, errors: str, seed: int) -> Iterator[Held]:
    """VAE-Var's VAE on the errors of a cycle, with the scales of each sample's day."""
    vae = SpectralVAE.load(checkpoint)
    data = BackgroundErrorsWithCoverage(errors, batch_size=BATCH)
    data.setup()
    vae.calibrate()
    error_std = data.store.error_std_by_latitude(ZONAL_FLOOR)
    random = torch.Generator().manual_seed(seed)
    for step, batch in enumerate(data.loader(data.validation)):
        background, x, coverage = data.normalise(batch)
        scales = vae.scales(background, coverage)
        held = of_spectral_batch(vae, x, scales, step, random, error_std)
        if vae.day is not None and scales is not None:
            held.scores["day_gain"] = vae.day.scored(vae.transform.standardised(x), scales)[2]
        yield held


@torch.no_grad()
def of_spectral_without_days(checkpoint: str, errors: str, seed: int) -> Iterator[Held]:
    """VAE-Var's VAE on differences of forecasts, whose days are not known."""
    vae, store = SpectralVAE.load(checkpoint), SampleStore(errors)
    vae.calibrate()
    error_std = store.error_std_by_latitude(ZONAL_FLOOR)
    random = torch.Generator().manual_seed(seed)
    for step, start in enumerate(range(0, len(store), BATCH)):
        (batch,) = store.__getitems__(list(range(start, min(start + BATCH, len(store)))))
        yield of_spectral_batch(vae, store.decode("error", batch), None, step, random, error_std)


def of_spectral_batch(
    vae: SpectralVAE,
    x: Tensor,
    scales: Tensor | None,
    step: int,
    random: torch.Generator,
    error_std: Tensor,
) -> Held:
    """Of errors [B, C, H, W] in physical units, with the scales of their days, if they are known."""
    y = vae.standardised(x, scales)
    losses = vae.losses(y, step)
    constant = math.log(vae.linear.noise * math.sqrt(2 * math.pi))
    scores = {"bound": -losses["loss"] - constant, "kl": losses["kl"], "gain": losses["gain"]}
    samples = vae.sample(len(x), random, scales)
    return Held(vae, x, samples, vae.encode(y)[0].flatten(1), scores, error_std)


def main(
    spectral: str | None = "weights/spectral_vae.ckpt",
    cycle_errors: str = "data/cycle_errors.zarr",
    published: str | None = "weights/vae.ckpt",
    nmc: str | None = None,
    nmc_errors: str = "data/nmc_validation.zarr",
    results: str = "benchmarks/results",
    page: str = "vaes.md",
    seed: int = 0,
) -> None:
    """Measure, and write the page.

    Args:
        spectral: checkpoint of VAE-Var's VAE.
        cycle_errors: store of a cycle's errors.
        published: checkpoint of the published VAE.
        nmc: checkpoint of VAE-Var's VAE trained on differences of forecasts, of no particular day.
        nmc_errors: store of differences of forecasts, none of which these two were trained on.
        results: directory of the page.
        page: its name.
        seed: of the samples.
    """
    streams: dict[str, Iterator[Held]] = {}
    if spectral is not None:
        streams["VAE-Var"] = of_spectral(spectral, cycle_errors, seed)
    if published is not None:
        streams["published"] = of_published(published, nmc_errors, seed)
    if nmc is not None:
        streams["VAE-Var on NMC errors"] = of_spectral_without_days(nmc, nmc_errors, seed)
    found: dict[str, Findings] = {}
    for name, stream in streams.items():
        for held in track(stream, description=name, total=None):
            found.setdefault(name, Findings(held.vae)).add(held)
    path = Path(results) / page
    text = page_of(found)
    path.write_text(text, encoding="utf-8")
    print(text)
    print(f"wrote {path}")


def page_of(found: dict[str, Findings]) -> str:
    """The page, as Markdown."""
    sizes, shapes = [], []
    bands = [f"l = {low} to {high}" for low, high in WAVE_BANDS]
    for name, one in found.items():
        bound, kl, gain, day = (one.score(key) for key in ("bound", "kl", "gain", "day_gain"))
        sizes.append([name, one.errors.count, one.means[0].shape[1], one.active, bound, kl, gain, day])
        for label, moments in zip(("errors", "samples"), torch.stack(one.shapes).mean(0), strict=True):
            shapes.append([f"{name}: {label}", *skewness_and_kurtosis(moments)])
    sections = [
        "# VAEs on held-out samples",
        f"Command: `python {' '.join(sys.argv)}`",
        "## Evidence",
        "In nats per latent number. The bounds of two VAEs cannot be compared: the published one has white "
        "noise in the channels, VAE-Var's in the standardised control variables, and errors of a cycle and "
        "of forecasts are not the same. *F* is what its network "
        "adds to the bound, which begins at the evidence of 3DVar's Gaussian; *day* what the scales of the "
        "day add to it, with the bands weighted as in the fit. Active: the fraction of latent numbers whose "
        f"posterior mean has a variance above {ACTIVE}.",
        markdown_table(
            ["VAE", "held-out samples", "latent numbers", "active", "bound", "KL", "F", "day"], sizes
        ),
        "## Departures from a Gaussian",
        "Of errors in units of their std by channel and latitude: the size of the skewness, and excess "
        "kurtosis, means over "
        "the channels. Differences in size from place to place and from day to day count as kurtosis too.",
        markdown_table(["", "size of the skewness", "excess kurtosis"], shapes),
        "## Samples over held-out errors",
        "Variance, and power in bands of total wavenumbers: geometric means over the channels of the ratio, "
        "1 at best. Geostrophy: the correlation of u500 with −(1/f) ∂z500/∂y at 30 to 60°, north and south.",
        markdown_table(
            ["VAE", "variance", *bands, "geostrophy of samples", "of errors"],
            [comparison(name, one) for name, one in found.items()],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def comparison(name: str, one: Findings) -> list[object]:
    """A row of the last table."""
    variance = (one.samples.global_std / one.errors.global_std).square()
    ratios = [float(variance.log().mean().exp())]
    for low, high in WAVE_BANDS:
        power = (moments.spectrum[:, low : high + 1].sum(1) for moments in (one.samples, one.errors))
        ours, theirs = (values.clamp_min(1e-30).log() for values in power)
        ratios.append(float((ours - theirs).mean().exp()))
    balance = [
        ", ".join(f"{value:.2f}" for value in moments.geostrophy) for moments in (one.samples, one.errors)
    ]
    return [name, *ratios, *balance]


if __name__ == "__main__":
    run(main)

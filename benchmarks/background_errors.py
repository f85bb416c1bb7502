"""Compares background errors: the NMC samples, 3DVar's B = U Uᵀ, and samples of the VAE.

    python benchmarks/background_errors.py

Writes `benchmarks/results/background_errors.md` and its figures, under
`benchmarks/results/background_errors/`. First come the deviations of variances and spectra from those of the
training samples; then a figure and a table each for standard deviations, correlation lengths, vertical
correlations, cross-correlations around a point, and spectra. Held-out samples are one of the sources: no
covariance can know how they differ from the training samples.

`--covariance null` or `--vae null` leaves one out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.decoder import DecoderControl
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.moments import ErrorMoments
from vaevar.scripts import run
from vaevar.state import StateSpec
from vaevar.verification.background_errors.figures import (
    cross_figure,
    length_figure,
    spectrum_figure,
    std_figure,
    vertical_figure,
)
from vaevar.verification.background_errors.tables import (
    checks,
    cross_table,
    latitude_table,
    length_table,
    spectrum_table,
    std_table,
    vertical_table,
)

VERTICAL = ("z", "u", "t", "q")
SPECTRA = ("z500", "t850", "u500", "v500", "q700", "u250", "t2m", "msl")
BATCH = 8


def main(
    errors: str = "data/background_errors.zarr",
    covariance: str | None = "weights/covariance.nc",
    vae: str | None = "weights/vae.ckpt",
    samples: int = 400,
    validation_fraction: float = 0.1,
    gap_hours: int = 48,
    results: str = "benchmarks/results",
    seed: int = 0,
) -> None:
    """Draw samples, and write the page.

    Args:
        errors: store of NMC differences (`python main.py predict --config configs/background_errors.yaml`).
        covariance: statistics of B.
        vae: checkpoint of the VAE.
        samples: number of samples drawn from B and from the VAE.
        validation_fraction: fraction of the NMC samples held out, at their end.
        gap_hours: between training and held-out samples; both as in configs/covariance.yaml.
        results: directory of the page.
        seed: for w.
    """
    store, spec = SampleStore(errors), StateSpec()
    if store.spec != spec:
        raise UserError(f"{errors}: holds the channels {', '.join(store.spec.names)}; expected {spec}")
    training, held_out = store.split_in_time(validation_fraction, gap_hours)
    streams: dict[str, tuple[int, Iterator[Tensor]]] = {
        "NMC, training": (len(training), stored(store, training)),
        "NMC, held out": (len(held_out), stored(store, held_out)),
    }
    if covariance is not None:
        streams["3DVar"] = samples, drawn(CovarianceControl(covariance), samples, seed)
    if vae is not None:
        streams["VAE"] = samples, drawn(DecoderControl(vae), samples, seed)
    sources: dict[str, ErrorMoments] = {}
    for name, (count, batches) in streams.items():
        sources[name] = ErrorMoments(spec, store.grid)
        for batch in track(batches, description=name, total=-(-count // BATCH)):
            sources[name].add(batch)
    write_page(sources, Path(results))


def stored(store: SampleStore, numbers: range) -> Iterator[Tensor]:
    """Samples of a store in batches [B, C, H, W], physical units."""
    for start in range(0, len(numbers), BATCH):
        (batch,) = store.__getitems__(list(numbers[start : start + BATCH]))
        yield store.decode("error", batch)


@torch.no_grad()
def drawn(control: ControlTransform, count: int, seed: int) -> Iterator[Tensor]:
    """D(w) for w ~ N(0, I), ``count`` in batches [B, C, H, W], physical units."""
    random = torch.Generator().manual_seed(seed)
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        yield torch.stack([control(torch.randn(control.shape, generator=random)) for _ in range(size)])


def write_page(sources: dict[str, ErrorMoments], directory: Path) -> None:
    """Write `background_errors.md` and its figures."""
    points = next(iter(sources.values())).around
    figures = {
        "std": std_figure(sources),
        "length": length_figure(sources),
        "vertical": vertical_figure(sources, VERTICAL),
        "spectra": spectrum_figure(sources, SPECTRA),
    } | {f"cross_{latitude:+.0f}": cross_figure(sources, i) for i, (_, latitude) in enumerate(points)}
    folder = directory / "background_errors"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=80)
    cross = "\n".join(_image(f"cross_{latitude:+.0f}") for _, latitude in points)
    sections = [
        "# Background errors: samples, 3DVar's B, and the VAE",
        f"Command: `python {' '.join(sys.argv)}`",
        "Everything is compared with the training part of the NMC differences (first source).",
        "## Checks",
        "Greatest and mean |ratio − 1| to the first source, and the correlation of u500 with "
        "−(1/f) ∂z500/∂y: 1 where errors are geostrophic.",
        checks(sources),
        "## Standard deviation by channel and latitude",
        _image("std"),
        std_table(sources),
        "Variance over that of the first source, by band of latitude, mean over the variable's levels:",
        latitude_table(sources),
        "## Correlation length by level (km)",
        "L² = 2 Σ P_l / Σ (l(l + 1)/a²) P_l (Daley, 1991).",
        _image("length"),
        length_table(sources),
        "## Vertical correlations",
        _image("vertical"),
        vertical_table(sources, VERTICAL),
        "## Cross-correlations around a point",
        "Averaged over the base's longitude.",
        cross,
        cross_table(sources),
        "## Spectra",
        _image("spectra"),
        "Power over that of the first source:",
        spectrum_table(sources),
    ]
    path = directory / "background_errors.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(checks(sources))
    print(f"wrote {path} and {len(figures)} figures in {folder}")


def _image(name: str) -> str:
    return f"![{name}](background_errors/{name}.png)"


if __name__ == "__main__":
    run(main)

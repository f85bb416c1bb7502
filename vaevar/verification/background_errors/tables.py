"""Markdown tables that compare samples of background errors.

The first source is the reference of all others: the samples that B was calibrated with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vaevar.moments import EXTRATROPICS, ErrorMoments, band_variance_ratio, spectrum_ratio, variance_ratio
from vaevar.verification.tables import markdown_table

Sources = Mapping[str, ErrorMoments]
# Limits of |ratio − 1| for 3DVar's B.
GLOBAL_LIMIT, BAND_LIMIT, SPECTRUM_LIMIT = 0.05, 0.15, 0.10
WAVE_BANDS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 25))


def reference_of(sources: Sources) -> tuple[str, ErrorMoments]:
    """Name and moments of the first source.

    Raises:
        ValueError: when there are no sources.
    """
    if not sources:
        raise ValueError("no source of background errors")
    return next(iter(sources.items()))


def checks(sources: Sources) -> str:
    """Deviations of variances and spectra of each source from the first one, and its geostrophy.

    Each cell has the greatest |ratio − 1| and its place, and the mean of |ratio − 1|.
    """
    name, reference = reference_of(sources)
    names = reference.spec.names
    rows: list[list[object]] = []
    for label, moments in sources.items():
        north, south = (f"{value:.2f}" for value in moments.geostrophy)
        cells = ["reference"] * 3
        if label != name:
            whole = variance_ratio(moments, reference)
            edges, bands = band_variance_ratio(moments, reference)
            spectra = spectrum_ratio(moments, reference)
            channel, band = np.unravel_index(np.abs(bands - 1).argmax(), bands.shape)
            worst, wave = np.unravel_index(np.abs(spectra - 1).argmax(), spectra.shape)
            places = (
                names[int(np.abs(whole - 1).argmax())],
                f"{names[channel]} from {edges[band]:.0f}°",
                f"{names[worst]}, l = {wave + 1}",
            )
            limits = (GLOBAL_LIMIT, BAND_LIMIT, SPECTRUM_LIMIT)
            cells = [
                _deviation(ratio, limit, place)
                for ratio, limit, place in zip((whole, bands, spectra), limits, places, strict=True)
            ]
        rows.append([label, moments.count, *cells, north, south])
    head = [
        "source",
        "fields",
        f"global variance (limit {GLOBAL_LIMIT:.0%})",
        f"variance in 10° bands (limit {BAND_LIMIT:.0%})",
        f"spectra, l = 1 to 25 (limit {SPECTRUM_LIMIT:.0%})",
        f"geostrophy {EXTRATROPICS[0]:.0f}–{EXTRATROPICS[1]:.0f}°N",
        "the same, °S",
    ]
    return markdown_table(head, rows)


def _deviation(ratio: np.ndarray, limit: float, place: str) -> str:
    deviation = np.abs(ratio - 1)
    verdict = "holds" if deviation.max() <= limit else f"{(deviation > limit).mean():.1%} beyond"
    return f"{deviation.max():.1%} ({place}), mean {deviation.mean():.1%}: {verdict}"


def std_table(sources: Sources) -> str:
    """Standard deviation of each channel over the sphere, in physical units."""
    return _by_channel(sources, {name: moments.global_std.numpy() for name, moments in sources.items()}, True)


def latitude_table(sources: Sources) -> str:
    """Variance relative to the first source in 30° bands, mean over the channels of a variable."""
    name, reference = reference_of(sources)
    spec, rows = reference.spec, []
    edges: np.ndarray = np.empty(0)
    for label, moments in sources.items():
        if label == name:
            continue
        edges, ratio = band_variance_ratio(moments, reference, 30.0)
        for variable in (*spec.surface, *spec.upper):
            mean = ratio[spec.variable_slice(variable)].mean(0)[::-1]
            rows.append([label, variable, *(f"{value:.2f}" for value in mean)])
    bands = [f"{low:.0f} to {low + 30:.0f}°" for low in edges[::-1]]
    return markdown_table(["source", "variable", *bands], rows)


def length_table(sources: Sources) -> str:
    """Correlation length of each channel, in km."""
    return _by_channel(sources, {name: moments.length_km.numpy() for name, moments in sources.items()}, False)


def _by_channel(sources: Sources, values: Mapping[str, np.ndarray], with_units: bool) -> str:
    _, reference = reference_of(sources)
    rows: list[list[object]] = []
    for position, channel in enumerate(reference.spec.channels):
        label = f"{channel.name} ({channel.units})" if with_units else channel.name
        numbers = [float(column[position]) for column in values.values()]
        rows.append([label, *(f"{n:.4g}" if with_units else f"{n:.0f}" for n in numbers)])
    return markdown_table(["channel", *values], rows)


def vertical_table(sources: Sources, variables: Sequence[str]) -> str:
    """Mean correlation of levels one and three apart, and the RMS difference from the first source."""
    _, reference = reference_of(sources)
    rows: list[list[object]] = []
    for variable in variables:
        expected = reference.vertical_correlation(variable).numpy()
        for label, moments in sources.items():
            matrix = moments.vertical_correlation(variable).numpy()
            apart = [f"{np.diagonal(matrix, k).mean():.2f}" if k < len(matrix) else "" for k in (1, 3)]
            rows.append([variable, label, *apart, f"{np.sqrt(((matrix - expected) ** 2).mean()):.3f}"])
    return markdown_table(["variable", "source", "next level", "three levels away", "rms difference"], rows)


def cross_table(sources: Sources) -> str:
    """Extremes of the correlation maps, and the agreement of their patterns with the first source's.

    The agreement is Σ a r r'/√(Σ a r² Σ a r'²) over all points, with the area weights a.
    """
    _, reference = reference_of(sources)
    area = reference.grid.area_weights.numpy()[:, None]
    expected = reference.cross_correlation.numpy()
    rows: list[list[object]] = []
    for place, (base, latitude) in enumerate(reference.around):
        for other, channel in enumerate(reference.among):
            for label, moments in sources.items():
                ours, theirs = moments.cross_correlation.numpy()[place, other], expected[place, other]
                norm = np.sqrt((area * ours**2).sum() * (area * theirs**2).sum())
                agreement = (area * ours * theirs).sum() / norm if norm > 0 else np.nan
                cells = (f"{value:.2f}" for value in (ours.min(), ours.max(), agreement))
                rows.append([f"{base} at {_north(latitude)} with {channel}", label, *cells])
    return markdown_table(["correlation of", "source", "least", "greatest", "agreement"], rows)


def _north(latitude: float) -> str:
    return f"{abs(latitude):.0f}°{'N' if latitude >= 0 else 'S'}"


def spectrum_table(sources: Sources) -> str:
    """Power in bands of total wavenumber relative to the first source, mean over a variable's channels."""
    name, reference = reference_of(sources)
    spec = reference.spec
    bands = [(low, high) for low, high in WAVE_BANDS if high <= reference.lmax]
    if reference.lmax > WAVE_BANDS[-1][1]:
        bands.append((WAVE_BANDS[-1][1] + 1, reference.lmax))
    rows: list[list[object]] = []
    for label, moments in sources.items():
        if label == name:
            continue
        for variable in (*spec.surface, *spec.upper):
            channels = spec.variable_slice(variable)
            ours, theirs = moments.spectrum[channels].numpy(), reference.spectrum[channels].numpy()
            ratios = [
                ours[:, low : high + 1].sum(1) / theirs[:, low : high + 1].sum(1) for low, high in bands
            ]
            rows.append([label, variable, *(f"{ratio.mean():.2f}" for ratio in ratios)])
    return markdown_table(["source", "variable", *(f"l = {low} to {high}" for low, high in bands)], rows)

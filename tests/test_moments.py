from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.constants import EARTH_RADIUS_KM
from vaevar.moments import ErrorMoments, band_variance_ratio, spectrum_ratio, variance_ratio
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics
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

GRID, LMAX = Grid.gaussian(24), 16
SPEC = StateSpec(["t2m"], ["z", "u", "v"], [500, 850])
OMEGA = 7.292e-5


def psi_fields(count: int, seed: int, length_km: float = 1200.0) -> Tensor:
    """[B, H, W] homogeneous fields of unit variance with the correlation exp(−r²/2L²)."""
    random = torch.Generator().manual_seed(seed)
    parts = torch.randn(count, LMAX + 1, LMAX + 1, 2, generator=random, dtype=torch.float64)
    parts[..., 0, 1] = 0
    parts[..., 1:, :] /= 2**0.5
    degree = torch.arange(LMAX + 1, dtype=torch.float64)
    power = torch.exp(-degree * (degree + 1) * (length_km / EARTH_RADIUS_KM) ** 2 / 2)
    size = (power / ((2 * degree + 1) * power).sum()).sqrt()
    coefficients = torch.view_as_complex(parts) * torch.ones(LMAX + 1, LMAX + 1).tril() * size[:, None]
    return SphericalHarmonics(GRID, LMAX, torch.float64).synthesise(coefficients)


def errors(count: int = 200, seed: int = 0) -> Tensor:
    """Geostrophic z500, u500, v500; z850 = half of z500; t2m, u850, v850 of their own."""
    psi = 1e7 * psi_fields(count, seed)
    u, v = VectorHarmonics(GRID, LMAX, torch.float64).wind(psi, torch.zeros_like(psi))
    z = 2 * OMEGA * torch.from_numpy(np.sin(np.radians(GRID.latitude)))[:, None] * psi
    own = [psi_fields(count, seed + 10 + i) for i in range(3)]
    return torch.stack([3 * own[0], z, z / 2, u, own[1], v, own[2]], 1)


def moments(fields: Tensor) -> ErrorMoments:
    found = ErrorMoments(SPEC, GRID)
    for batch in fields.split(64):
        found.add(batch)
    return found


@pytest.fixture(scope="module")
def found() -> ErrorMoments:
    return moments(errors())


def test_std_and_spectrum_are_those_of_the_fields(found: ErrorMoments) -> None:
    fields = errors()
    np.testing.assert_allclose(found.std, fields.square().mean((0, 3)).sqrt(), rtol=1e-5)
    whole = GRID.area_mean(fields.square()).mean(0).sqrt()
    np.testing.assert_allclose(found.global_std, whole, rtol=1e-5)
    assert found.count == 200
    # t2m is band-limited: its power is its variance (area weights and quadrature differ slightly).
    np.testing.assert_allclose(found.spectrum[0].sum(), whole[0] ** 2, rtol=1e-2)
    assert found.spectrum[0, LMAX + 1 :].max() < 1e-10


def test_length_is_that_of_the_gaussian(found: ErrorMoments) -> None:
    assert found.length_km[SPEC.index("t2m")] == pytest.approx(1200, rel=0.05)
    longer = moments(torch.stack([psi_fields(100, 3, 2000.0)] * len(SPEC), 1))
    assert float(longer.length_km[0]) == pytest.approx(2000, rel=0.1)


def test_correlation_between_levels_and_channels(found: ErrorMoments) -> None:
    np.testing.assert_allclose(found.vertical_correlation("z"), np.ones((2, 2)), atol=1e-5)
    assert abs(float(found.vertical_correlation("u")[0, 1])) < 0.15
    np.testing.assert_allclose(found.correlation.diagonal(), 1, rtol=1e-6)


def test_cross_correlations_around_a_point(found: ErrorMoments) -> None:
    cross = found.cross_correlation
    for place, latitude in enumerate((45.0, -45.0)):
        row = int(np.abs(GRID.latitude - latitude).argmin())
        z, u, v = cross[place]
        assert float(z[row, 0]) == pytest.approx(1, abs=1e-5)
        assert float(z.abs().max()) <= 1 + 1e-5
        # A high in the north turns clockwise: southerly to its west, westerly poleward; reversed south.
        sign = math.copysign(1, latitude)
        assert sign * float(v[row, -3]) > 0.3
        assert sign * float(v[row, 3]) < -0.3
        poleward, equatorward = (row - 2, row + 2) if latitude > 0 else (row + 2, row - 2)
        assert float(u[poleward, 0]) > 0.3
        assert float(u[equatorward, 0]) < -0.3


def test_cross_correlation_by_hand() -> None:
    """One longitude after another as the base, without a Fourier transform."""
    fields = errors(5)
    cross = moments(fields).cross_correlation
    row = int(np.abs(GRID.latitude - 45.0).argmin())
    z, v = fields[:, SPEC.index("z500")], fields[:, SPEC.index("v500")]
    columns = GRID.shape[1]
    lagged = [(z[:, row, i] * v[:, 4, (i + 7) % columns]).mean() for i in range(columns)]
    size = (z[:, row].square().mean() * v[:, 4].square().mean()).sqrt()
    assert float(cross[0, 2, 4, 7]) == pytest.approx(float(torch.stack(lagged).mean() / size), rel=1e-4)


def test_geostrophy_tells_balanced_errors(found: ErrorMoments) -> None:
    assert min(found.geostrophy) > 0.85  # −(1/f) ∂(fψ)/∂y has a term of β beside u
    reversed_south = errors()
    reversed_south[:, SPEC.index("z500"), GRID.shape[0] // 2 :] *= -1
    north, south = moments(reversed_south).geostrophy
    assert north > 0.85
    assert south < -0.85
    bare = StateSpec(["t2m"], ["z"], [850])
    other = ErrorMoments(bare, GRID, around=(), among=())
    other.add(torch.ones(2, 2, *GRID.shape))
    assert all(math.isnan(value) for value in other.geostrophy)


def test_ratios(found: ErrorMoments) -> None:
    fields = errors()
    north = torch.from_numpy((GRID.latitude > 60).astype(float))[:, None]
    other = moments(fields * (1 + north))
    edges, ratio = band_variance_ratio(other, found)
    assert edges[0] == -90
    np.testing.assert_allclose(ratio[:, edges < 60], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[:, edges >= 60], 4, rtol=1e-6)
    doubled = moments(2 * fields)
    np.testing.assert_allclose(variance_ratio(doubled, found), 4, rtol=1e-6)
    assert spectrum_ratio(doubled, found, 1, 10).shape == (len(SPEC), 10)
    np.testing.assert_allclose(spectrum_ratio(doubled, found, 1, 10), 4, rtol=1e-5)


def test_checks_say_what_holds_and_where_not() -> None:
    spec = StateSpec(["t2m"], ["z", "u", "v"], [500])
    noise = torch.randn(40, 4, *GRID.shape, generator=torch.Generator().manual_seed(0))
    made = []
    for factor in (1.0, 1.01, 2.0):
        made.append(ErrorMoments(spec, GRID))
        made[-1].add(factor * noise)
    # The grid carries l = 1 to 23 only: the check takes what there is.
    reference, close, far = checks(dict(zip(["NMC", "3DVar", "VAE"], made, strict=True))).splitlines()[2:]
    assert "reference" in reference
    assert close.count("holds") == 3
    assert "100.0% beyond" in far
    with pytest.raises(ValueError, match="no source"):
        checks({})


def test_page_of_tables_and_figures(found: ErrorMoments) -> None:
    sources = {"NMC": found, "B": moments(errors(20, 5))}
    assert "t2m (K)" in std_table(sources)
    assert len(std_table(sources).splitlines()) == 2 + len(SPEC)
    assert len(length_table(sources).splitlines()) == 2 + len(SPEC)
    assert len(vertical_table(sources, ("z", "u")).splitlines()) == 2 + 4
    assert "z500 at 45°S with v500" in cross_table(sources)
    assert "60 to 90°" in latitude_table(sources)
    assert "l = 16 to 20" in spectrum_table(sources)
    for figure in (
        std_figure(sources),
        length_figure(sources),
        vertical_figure(sources, ("z", "u")),
        cross_figure(sources, 1),
        spectrum_figure(sources, ("z500", "unknown")),
    ):
        assert figure.axes


def test_other_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="fields are"):
        ErrorMoments(SPEC, GRID).add(torch.zeros(2, 3, *GRID.shape))
    with pytest.raises(ValueError, match="not finite"):
        ErrorMoments(SPEC, GRID).add(torch.full((1, len(SPEC), *GRID.shape), math.nan))
    with pytest.raises(ValueError, match="no channel"):
        ErrorMoments(SPEC, GRID, around=(("q500", 45.0),))

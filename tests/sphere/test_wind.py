from __future__ import annotations

import numpy as np
import pytest
import torch

from vaevar.constants import EARTH_RADIUS
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, normalized_legendre
from vaevar.sphere.wind import VectorHarmonics, legendre_gradients

GRIDS = {"gaussian": (Grid.gaussian(16), 15), "equiangular with poles": (Grid.equiangular(25), 12)}
families = pytest.mark.parametrize("family", GRIDS)
DOUBLE = torch.float64


def coefficients(lmax: int, seed: int, batch: tuple[int, ...] = (2,)) -> torch.Tensor:
    """Random coefficients of a real field with mean 0, [*batch, L, M] complex, m² s⁻¹."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(*batch, lmax + 1, lmax + 1, 2, generator=random, dtype=DOUBLE) * 1e6
    values[..., :, 0, 1] = 0
    values[..., 0, 0, :] = 0
    return torch.view_as_complex(values) * torch.ones(lmax + 1, lmax + 1).tril()


def test_gradients_of_legendre_functions_against_finite_differences() -> None:
    phi, step = np.radians(np.array([-80.0, -31.0, 0.0, 12.0, 67.0])), 1e-6
    derivative, zonal = legendre_gradients(9, np.sin(phi))
    north, south = (normalized_legendre(9, np.sin(phi + sign * step)) for sign in (1, -1))
    np.testing.assert_allclose(derivative, (north - south) / (2 * step), atol=1e-7)
    here = normalized_legendre(9, np.sin(phi)) * np.arange(10)[:, None, None] / np.cos(phi)
    np.testing.assert_allclose(zonal, here, atol=1e-11)


@families
def test_round_trip(family: str) -> None:
    grid, lmax = GRIDS[family]
    harmonics = VectorHarmonics(grid, lmax, DOUBLE)
    psi, chi = coefficients(lmax, 0), coefficients(lmax, 1)
    u, v = harmonics.synthesise(psi, chi)
    assert u.shape == (2, *grid.shape)
    back = harmonics.analyse(u, v)
    assert (back[0] - psi).abs().max() < 1e-12 * psi.abs().max()
    assert (back[1] - chi).abs().max() < 1e-12 * chi.abs().max()
    again = harmonics.wind(*harmonics.potentials(u, v))
    torch.testing.assert_close(again[0], u, rtol=0, atol=1e-11 * float(u.abs().max()))
    torch.testing.assert_close(again[1], v, rtol=0, atol=1e-11 * float(v.abs().max()))


@families
def test_float32_is_accurate_to_single_precision(family: str) -> None:
    grid, lmax = GRIDS[family]
    u, v = VectorHarmonics(grid, lmax, DOUBLE).synthesise(coefficients(lmax, 0), coefficients(lmax, 1))
    single = VectorHarmonics(grid, lmax)
    found = single.wind(*single.potentials(u.float(), v.float()))
    assert found[0].dtype == torch.float32
    assert (found[0] - u).abs().max() < 1e-5 * u.abs().max()
    assert (found[1] - v).abs().max() < 1e-5 * v.abs().max()


@families
def test_solid_body_rotation(family: str) -> None:
    # u = U cos φ turns eastward with the planet: ψ = −a U sin φ, no χ.
    grid, lmax = GRIDS[family]
    phi = torch.from_numpy(np.radians(grid.latitude))[:, None].expand(grid.shape)
    psi, chi = VectorHarmonics(grid, lmax, DOUBLE).potentials(20 * phi.cos(), torch.zeros_like(phi))
    torch.testing.assert_close(psi, -20 * EARTH_RADIUS * phi.sin(), rtol=0, atol=1e-4)
    assert chi.abs().max() < 1e-4


@families
def test_rossby_haurwitz_wave(family: str) -> None:
    # Williamson et al. (1992), case 6, at time 0.
    grid, lmax = GRIDS[family]
    phi = torch.from_numpy(np.radians(grid.latitude))[:, None]
    lam = torch.from_numpy(np.radians(grid.longitude))[None]
    omega, k, r, a = 7.848e-6, 7.848e-6, 4, EARTH_RADIUS
    c, s = phi.cos(), phi.sin()
    psi = -(a**2) * omega * s + a**2 * k * c**r * s * (r * lam).cos()
    u = a * omega * c + a * k * c ** (r - 1) * (r * s**2 - c**2) * (r * lam).cos()
    v = -a * k * r * c ** (r - 1) * s * (r * lam).sin()
    harmonics = VectorHarmonics(grid, lmax, DOUBLE)
    found_psi, found_chi = harmonics.potentials(u, v)
    torch.testing.assert_close(found_psi, psi, rtol=0, atol=1e-12 * float(psi.abs().max()))
    assert found_chi.abs().max() < 1e-12 * psi.abs().max()
    found_u, found_v = harmonics.wind(psi, torch.zeros_like(psi))
    torch.testing.assert_close(found_u, u, rtol=0, atol=1e-10)
    torch.testing.assert_close(found_v, v, rtol=0, atol=1e-10)


@families
def test_rotational_wind_has_no_velocity_potential_and_the_reverse(family: str) -> None:
    grid, lmax = GRIDS[family]
    harmonics = VectorHarmonics(grid, lmax, DOUBLE)
    some = coefficients(lmax, 2)
    none = torch.zeros_like(some)
    assert harmonics.analyse(*harmonics.synthesise(some, none))[1].abs().max() < 1e-9 * some.abs().max()
    assert harmonics.analyse(*harmonics.synthesise(none, some))[0].abs().max() < 1e-9 * some.abs().max()


def test_divergence_theorem_gives_kinetic_energy() -> None:
    # The mean of u² + v² is Σ l(l + 1)/a² (|ψ|² + |χ|²).
    grid, lmax = GRIDS["gaussian"]
    psi, chi = coefficients(lmax, 3, ()), coefficients(lmax, 4, ())
    u, v = VectorHarmonics(grid, lmax, DOUBLE).synthesise(psi, chi)
    degree = torch.arange(lmax + 1, dtype=DOUBLE)
    scalar = SphericalHarmonics(grid, lmax, DOUBLE)
    power = sum(scalar.power(scalar.synthesise(c)) for c in (psi, chi))
    expected = (degree * (degree + 1) * power).sum() / EARTH_RADIUS**2
    # Gauss weights rather than area weights: exact.
    weights = torch.from_numpy(np.polynomial.legendre.leggauss(16)[1][::-1].copy()) / 2
    found = ((u**2 + v**2).mean(-1) * weights).sum()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_gradients_flow() -> None:
    grid = Grid.gaussian(6)
    harmonics = VectorHarmonics(grid, 4, DOUBLE)
    fields = [torch.randn(*grid.shape, dtype=DOUBLE, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(harmonics.potentials, fields, fast_mode=True, eps=1e-2)


def test_truncation_beyond_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="lmax 16"):
        VectorHarmonics(Grid.gaussian(16), 16)

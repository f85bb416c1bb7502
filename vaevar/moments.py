"""The second moments of background errors, measured alike for samples of any origin.

NMC differences, U w of 3DVar and D(w) of VAE-Var with w ~ N(0, I) are all samples of background errors. Their
covariances decide what an analysis makes of an observation: the standard deviation how much weight an
innovation gets, the correlation length how far it spreads, the vertical and cross-correlations what else it
changes (Daley, Atmospheric Data Analysis, 1991, chapters 4 and 5; Parrish and Derber, 1992; Bannister, 2008,
Q. J. R. Meteorol. Soc. 134, 1951 and 1971).

:class:`ErrorMoments` are about zero, as in the calibration of B: the mean is not subtracted. Shapes: B batch,
C channel, H latitude, W longitude, L total wavenumber, K levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaevar.constants import EARTH_RADIUS, EARTH_RADIUS_KM, EARTH_ROTATION
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, largest_truncation
from vaevar.state import StateSpec

EXTRATROPICS = (30.0, 60.0)  # degrees, for the balance of wind and mass
SMALLEST = 1e-12  # least variance of normalised fields: keeps logarithms finite


class ErrorMoments:
    """Second moments, about zero, of error fields that come in batches.

    Args:
        spec, grid: channels and points of the fields; the grid is Gaussian or equiangular with poles.
        around: (channel, latitude) of the base points of the cross-correlations.
        among: the channels that are correlated with the base points.

    Attributes:
        count: number of fields so far.

    Raises:
        ValueError: for a grid of another kind, or a channel that ``spec`` lacks.
    """

    def __init__(
        self,
        spec: StateSpec,
        grid: Grid,
        around: Sequence[tuple[str, float]] = (("z500", 45.0), ("z500", -45.0)),
        among: Sequence[str] = ("z500", "u500", "v500"),
    ) -> None:
        self.spec, self.grid = spec, grid
        rows, columns = grid.shape
        self.lmax = largest_truncation(grid)
        self._harmonics = SphericalHarmonics(grid, self.lmax)
        self.around, self.among = tuple(around), tuple(among)
        self._among = [spec.index(name) for name in self.among]
        self._points = [
            (spec.index(name), int(np.abs(grid.latitude - latitude).argmin())) for name, latitude in around
        ]
        self._area = grid.area_weights / rows  # sums to 1
        self.count = 0
        self._squares = torch.zeros(len(spec), rows, dtype=torch.float64)
        self._power = torch.zeros(len(spec), self.lmax + 1, dtype=torch.float64)
        self._products = torch.zeros(len(spec), len(spec), dtype=torch.float64)
        self._lagged = torch.zeros(len(around), len(among), rows, columns, dtype=torch.float64)
        self._geostrophy = torch.zeros(2, 3, dtype=torch.float64)

    @torch.no_grad()
    def add(self, fields: Tensor) -> None:
        """Add the fields [B, C, H, W], in physical units.

        Raises:
            ValueError: when their shape is wrong or a value is not finite.
        """
        expected = (len(self.spec), *self.grid.shape)
        if fields.ndim != 4 or tuple(fields.shape[1:]) != expected:
            raise ValueError(f"fields are {tuple(fields.shape)}, expected (B, C, H, W) = (B, {expected})")
        if not bool(fields.isfinite().all()):
            raise ValueError("fields are not finite")
        fields = fields.detach().float().cpu()
        self.count += len(fields)
        self._squares += fields.double().square().mean(3).sum(0)
        self._power += self._harmonics.power(fields).double().sum(0)
        # Area-weighted means, so that the products of both z and q stay within float32's range.
        scaled = fields * self._area.sqrt().float()[:, None] / fields.shape[-1] ** 0.5
        flat = scaled.transpose(0, 1).flatten(1)
        self._products += (flat @ flat.T).double()
        self._add_lagged(fields)
        if self.spec.has("z500") and self.spec.has("u500"):
            self._add_geostrophy(fields[:, self.spec.index("z500")], fields[:, self.spec.index("u500")])

    def _add_lagged(self, fields: Tensor) -> None:
        if not self._among:  # an FFT cannot take an empty field
            return
        waves = torch.fft.rfft(fields[:, self._among].double(), dim=-1)
        for number, (channel, row) in enumerate(self._points):
            base = torch.fft.rfft(fields[:, channel, row].double(), dim=-1).conj()
            lagged = torch.fft.irfft((base[:, None, None] * waves).sum(0), n=fields.shape[-1], dim=-1)
            self._lagged[number] += lagged / fields.shape[-1]

    def _add_geostrophy(self, z: Tensor, u: Tensor) -> None:
        latitude = torch.from_numpy(self.grid.latitude.copy())
        phi = latitude.deg2rad()
        (slope,) = torch.gradient(z.double(), spacing=(phi,), dim=1)
        coriolis = 2 * EARTH_ROTATION * phi.sin()[:, None]
        low, high = EXTRATROPICS
        for number, northern in enumerate((latitude, -latitude)):
            inside = (northern > low) & (northern < high)
            balanced = -(slope / coriolis)[:, inside] / EARTH_RADIUS
            wind, area = u.double()[:, inside], self._area[inside][:, None]
            pairs = ((balanced, wind), (balanced, balanced), (wind, wind))
            self._geostrophy[number] += torch.stack([(area * a * b).sum() for a, b in pairs])

    @property
    def std(self) -> Tensor:
        """[C, H], the zonal root mean square."""
        return (self._squares / self.count).sqrt()

    @property
    def global_std(self) -> Tensor:
        """[C], the root of the area-weighted mean variance."""
        return (self._squares @ self._area / self.count).sqrt()

    @property
    def spectrum(self) -> Tensor:
        """[C, L], power by total wavenumber; its sum over l is the mean square over the sphere."""
        return self._power / self.count

    @property
    def length_km(self) -> Tensor:
        """[C], correlation lengths in km (Daley, 1991, section 4.3):

        L² = −2 ρ(0)/∇²ρ(0) = 2 Σ_l P_l / Σ_l (l(l + 1)/a²) P_l.

        The correlation exp(−r²/2L²) with r ≪ a has the length L.
        """
        degree = torch.arange(self.lmax + 1, dtype=torch.float64)
        curvature = (self.spectrum * degree * (degree + 1)).sum(1) / EARTH_RADIUS_KM**2
        return (2 * self.spectrum.sum(1) / curvature).sqrt()

    @property
    def correlation(self) -> Tensor:
        """[C, C], between channels at the same point, averaged over the sphere."""
        size = self._products.diagonal().sqrt()
        return self._products / (size[:, None] * size)

    def vertical_correlation(self, variable: str) -> Tensor:
        """[K, K], between the levels of a variable, averaged over the sphere."""
        levels = self.spec.variable_slice(variable)
        return self.correlation[levels, levels]

    @property
    def cross_correlation(self) -> Tensor:
        """[base points, channels of ``among``, H, W], with the base at 0° longitude.

        Column δ holds the correlation of the base channel at (its row, λ) with another channel at
        (φ, λ + δ), averaged over all λ.
        """
        std = self.std
        base = torch.stack([std[channel, row] for channel, row in self._points])
        size = base[:, None, None] * std[self._among]
        return self._lagged / self.count / size[..., None].clamp_min(torch.finfo(torch.float64).tiny)

    @property
    def geostrophy(self) -> tuple[float, float]:
        """Correlation of u500 with −(1/f) ∂z500/∂y between 30° and 60°: north, south.

        Both are 1 for geostrophic errors, and NaN if the state lacks z500 or u500.
        """
        product, *squares = self._geostrophy.T
        north, south = (product / (squares[0] * squares[1]).sqrt()).tolist()
        return north, south


def std_by_latitude(overall: Tensor, zonal: Tensor, floor: float) -> Tensor:
    """A standard deviation at each latitude that is nowhere much below that of the sphere.

    Args:
        overall: [C], of the whole sphere.
        zonal: [C, H], at each latitude.
        floor: the least value, as a fraction of the former; from 1 on, the former at all latitudes.

    Returns:
        [C, H, 1]
    """
    everywhere = overall[:, None].expand_as(zonal)
    return (everywhere if floor >= 1 else torch.maximum(zonal, floor * everywhere))[..., None]


class FieldMoments:
    """Mean, and variance and power spectrum about it, of fields that come in batches.

    Args:
        harmonics: the transform on the grid of the fields, on their device.

    Attributes:
        count: number of fields so far.
    """

    def __init__(self, harmonics: SphericalHarmonics) -> None:
        self.harmonics = harmonics
        self.count = 0
        self.total, self.squares, self.powers = torch.zeros(()), torch.zeros(()), torch.zeros(())

    def add(self, fields: Tensor) -> None:
        """Add the fields [B, C, H, W]."""
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
        """[C, H, W], about the mean at each point."""
        return (self.squares / self.count - self.mean.square()).clamp_min(SMALLEST)

    @property
    def std(self) -> Tensor:
        """[C, H, W]"""
        return self.variance.sqrt()

    @property
    def spectrum(self) -> Tensor:
        """[C, L], power of the departures from the mean, by total wavenumber."""
        mean_power = self.harmonics.power(self.mean.float().to(self.harmonics.analysis_matrix.device))
        return (self.powers / self.count - mean_power.double().cpu()).clamp_min(SMALLEST)


def variance_ratio(moments: ErrorMoments, reference: ErrorMoments) -> np.ndarray:
    """[C], global variance divided by that of a reference."""
    return ((moments.global_std / reference.global_std).square()).numpy()


def band_variance_ratio(
    moments: ErrorMoments, reference: ErrorMoments, degrees: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Variance in bands of latitude, divided by that of a reference.

    Args:
        moments, reference: on the same grid.
        degrees: width of a band.

    Returns:
        The southern edges of the bands [N], from −90, and the ratios [C, N]; bands without a row are omitted.
    """
    latitude, area = moments.grid.latitude, moments.grid.area_weights.numpy()
    edges = np.arange(-90.0, 90.0, degrees)
    band = np.clip(((latitude + 90.0) // degrees).astype(int), 0, len(edges) - 1)
    member = (band == np.arange(len(edges))[:, None]) * area
    filled = member.sum(1) > 0
    ours, theirs = (m.std.square().numpy() @ member[filled].T for m in (moments, reference))
    return edges[filled], ours / theirs


def spectrum_ratio(
    moments: ErrorMoments, reference: ErrorMoments, first: int = 1, last: int = 25
) -> np.ndarray:
    """[C, last − first + 1], power divided by that of a reference, at total wavenumbers first to last."""
    chosen = slice(first, last + 1)
    return (moments.spectrum[:, chosen] / reference.spectrum[:, chosen]).numpy()

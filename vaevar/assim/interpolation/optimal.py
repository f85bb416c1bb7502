"""Optimal interpolation, channel by channel (Gandin, 1963; Daley, 1991, chapter 4).

    x_a = x_b + σ_b² C_go (σ_b² C_oo + R)⁻¹ d,   d = y − H(x_b),

with correlations C between observed places (o) and from these to grid points (g). They decrease with
distance r over a length L: Gaussian, exp(−r²/2L²), or second-order autoregressive (SOAR),
(1 + r/L) exp(−r/L). r is the chord, not the arc (2 % shorter at 4000 km): a function that is positive
definite in space is so on the sphere, and with arcs neither would be (Gneiting, 2013, Bernoulli 19).

The statistics of background errors come from the innovations, never from the truth. Since
E d² = σ_b² + σ_o², σ_b is estimated channel by channel at each analysis. L is given, or fitted to the
products of innovations at pairs of places, E d_i d_j = σ_b² C(r_ij) for i ≠ j.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vaevar.assim.assimilator import Analysis, Assimilator, add_increment
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.interpolation.places import Places, group_by_places
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.interpolation import grid_vectors, unit_vectors
from vaevar.state import VARIABLES, State, StateSpec

Kind = Literal["soar", "gaussian"]
_TOGETHER = 8  # factorisations in one batch, if the places are few
_AT_ONCE = 2**23  # numbers of a matrix of places by places or by grid points, 64 MB
_NEAR_KM, _BIN_KM = 3000.0, 50.0  # pairs that lengths are fitted to, and the bins of their distances

_FARTHEST = math.pi * EARTH_RADIUS_KM


def correlation(distance_km: Tensor, length_km: float, kind: Kind) -> Tensor:
    """C(r), of any shape; 1 at r = 0."""
    scaled = distance_km / length_km
    if kind == "gaussian":
        return torch.exp(-scaled.square() / 2)
    return (1 + scaled) * torch.exp(-scaled)


def chords_km(first: np.ndarray, second: np.ndarray) -> Tensor:
    """Straight-line distances between unit vectors [M, 3] and [N, 3], [M, N] float64."""
    # As a difference of vectors: 2 − 2 cos would lose all digits of small distances.
    return EARTH_RADIUS_KM * torch.cdist(
        torch.from_numpy(first), torch.from_numpy(second), compute_mode="donot_use_mm_for_euclid_dist"
    )


def background_error_std(innovation: np.ndarray, error_std: np.ndarray, floor: float) -> np.ndarray:
    """σ_b, [K], from innovations and observation errors [K, N]: σ_b² = mean(d² − σ_o²), at least
    (``floor`` · σ_o)²."""
    noise = np.square(error_std).mean(1)
    return np.sqrt(np.maximum(np.square(innovation).mean(1) - noise, floor**2 * noise))


def fit_lengths_km(
    places: Sequence[Places],
    spec: StateSpec,
    kind: Kind = "soar",
    floor: float = 0.1,
    default: float = 600.0,
    bounds: tuple[float, float] = (50.0, 3000.0),
) -> dict[str, float]:
    """The correlation length of each variable's background errors, in km, from innovations.

    A least-squares fit of C(r_ij) to d_i d_j / σ_b² over all pairs of different places within 3000 km
    and all levels of a variable. The noise of different observations is independent and averages out.
    ``default`` where fewer than 10 pairs lie within 3000 km.

    Args:
        places: innovations, of one or several analyses.
        spec: the channels.
        kind: which C.
        floor: as in :func:`background_error_std`.
        default: km, used where there are too few pairs.
        bounds: km, of the result.
    """
    names = (*spec.surface, *spec.upper)
    bins = {name: np.zeros((3, int(_NEAR_KM / _BIN_KM))) for name in names}
    for group in places:
        points = unit_vectors(group.latitude, group.longitude)
        scaled = group.innovation / background_error_std(group.innovation, group.error_std, floor)[:, None]
        variables = np.array([spec.channels[number].variable for number in group.channel])
        rows = max(1, _AT_ONCE // len(points))
        for start in range(0, len(points), rows):
            some = slice(start, start + rows)
            distance = chords_km(points[some], points).numpy()
            pairs = np.triu(distance < _NEAR_KM, 1 + start)
            near = distance[pairs]
            bin_of = (near // _BIN_KM).astype(int)
            for name in np.unique(variables):
                levels = scaled[variables == name]
                product = (levels[:, some].T @ levels / len(levels))[pairs]
                for total, weights in zip(bins[str(name)], (None, near, product), strict=True):
                    total += np.bincount(bin_of, weights, len(total))
    return {
        name: _fit(found, kind, bounds) if found[0].sum() >= 10 else default for name, found in bins.items()
    }


def _fit(bins: np.ndarray, kind: Kind, bounds: tuple[float, float]) -> float:
    """L from the number of pairs in each bin and the sums of their distances and products, [3, bins]."""
    # The sum of squares depends on the means over the bins, weighted by their pairs.
    count, distances, products = bins[:, bins[0] > 0]
    mean_distance, mean_product = torch.from_numpy(distances / count), products / count

    def misfit(log_length: float) -> float:
        model = correlation(mean_distance, math.exp(log_length), kind).numpy()
        return float((count * np.square(mean_product - model)).sum())

    best = minimize_scalar(misfit, bounds=tuple(np.log(bounds)), method="bounded")
    return float(np.exp(best.x))


class OptimalInterpolation(Assimilator):
    """Each channel analysed by itself, exactly, with a homogeneous and isotropic background error.

    Args:
        length_km: the correlation length L: one for all variables, or one for each by name. None: fit
            one for each variable to the innovations of each analysis.
        correlation: "soar" or "gaussian".
        floor: the least σ_b, as a fraction of σ_o.

    Raises:
        UserError: for a length or floor that is not positive, or a length of no variable.

    Example:
        >>> analysis = vaevar.OptimalInterpolation(length_km=800.0)(state, observations)
        >>> float(abs(analysis.increment["t2m"]).max()) > 0
        True
    """

    def __init__(
        self,
        length_km: float | dict[str, float] | None = 600.0,
        correlation: Kind = "soar",
        floor: float = 0.1,
    ) -> None:
        super().__init__()
        lengths = length_km.values() if isinstance(length_km, dict) else [length_km]
        if not all(length is None or (length > 0 and math.isfinite(length)) for length in lengths):
            raise UserError(f"OptimalInterpolation: length_km is {length_km}, must be positive")
        if any(length is not None and length > _FARTHEST for length in lengths):
            raise UserError(
                f"OptimalInterpolation: length_km is {length_km}, and no two places are farther apart than "
                f"{_FARTHEST:.0f} km: is it in metres?"
            )
        if correlation not in ("soar", "gaussian"):
            raise UserError(f"OptimalInterpolation: correlation is {correlation!r}, not soar or gaussian")
        if not floor > 0:
            raise UserError(f"OptimalInterpolation: floor is {floor}, must be positive")
        unknown = [name for name in length_km if name not in VARIABLES] if isinstance(length_km, dict) else []
        if unknown:
            raise UserError(
                f"OptimalInterpolation: length_km names {', '.join(unknown)}; variables are "
                f"{', '.join(VARIABLES)}"
            )
        self.length_km, self.correlation, self.floor = length_km, correlation, floor

    def lengths(self, spec: StateSpec, places: Sequence[Places]) -> Mapping[str, float]:
        """L by variable, km.

        Raises:
            UserError: for a variable of the state that ``length_km`` does not name.
        """
        names = (*spec.surface, *spec.upper)
        if self.length_km is None:
            return fit_lengths_km(places, spec, self.correlation, self.floor)
        if not isinstance(self.length_km, dict):
            return dict.fromkeys(names, self.length_km)
        missing = [name for name in names if name not in self.length_km]
        if missing:
            raise UserError(f"OptimalInterpolation: length_km names no length for {', '.join(missing)}")
        return self.length_km

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Solve for every channel; without observations the background is the analysis.

        Raises:
            UserError: for an observation that measures no channel of the state.
        """
        began = time.perf_counter()
        spec, grid = background.spec, background.grid
        places = group_by_places(background, observations)
        lengths = self.lengths(spec, places)
        targets = grid_vectors(grid)
        increment = torch.zeros(len(spec), len(targets), dtype=torch.float64)
        used: list[float] = []
        for group in places:
            points = unit_vectors(group.latitude, group.longitude)
            between = chords_km(points, points)
            std = background_error_std(group.innovation, group.error_std, self.floor)
            ratio = np.square(group.error_std / std[:, None])  # [K, N]: R / σ_b²
            by_channel = np.array([lengths[spec.channels[number].variable] for number in group.channel])
            used.extend(by_channel)
            weights = []
            for length in np.unique(by_channel):
                alike = by_channel == length
                weight = solve(
                    correlation(between, float(length), self.correlation),
                    torch.from_numpy(ratio[alike]),
                    torch.from_numpy(group.innovation[alike]),
                )
                weights.append((torch.from_numpy(group.channel[alike]), float(length), weight))
            step = max(1, _AT_ONCE // len(points))
            for start in range(0, len(targets), step):
                to_grid = chords_km(points, targets[start : start + step])
                for channels, length, weight in weights:
                    spread = correlation(to_grid, length, self.correlation)
                    increment[channels, start : start + step] = weight @ spread
        values = increment.reshape(len(spec), *grid.shape)
        diagnostics = {"seconds": time.perf_counter() - began}
        if used:
            diagnostics["length_km"] = float(np.mean(used))
        return Analysis(add_increment(background, values), diagnostics)


def solve(correlations: Tensor, ratio: Tensor, innovation: Tensor) -> Tensor:
    """(C + diag(ratio))⁻¹ d for each channel; equal ratios share one Cholesky factor.

    Args:
        correlations: [N, N], C between the observed places.
        ratio: [K, N], σ_o² / σ_b².
        innovation: [K, N], d.

    Returns:
        [K, N].
    """
    distinct, which = torch.unique(ratio, dim=0, return_inverse=True)
    out = torch.empty_like(innovation)
    together = min(_TOGETHER, max(1, _AT_ONCE // len(correlations) ** 2))
    for start in range(0, len(distinct), together):
        ratios = distinct[start : start + together]
        factor = torch.linalg.cholesky(correlations + torch.diag_embed(ratios))
        for number in range(len(ratios)):
            channels = which == start + number
            out[channels] = torch.cholesky_solve(innovation[channels].T, factor[number]).T
    return out

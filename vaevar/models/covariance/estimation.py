"""Estimates the statistics of B = U Uᵀ from samples, in two passes over them.

Pass 1 sums the products of all variables (ψ, χ and the other channels) at each latitude, averaged over
longitude. The standard deviations, the regression on f ψ and the unbalanced variances follow from them.
Pass 2 sums products of the standardised spectral coefficients, and of bands of them at each latitude.
Moments are about zero and not about the mean: a bias of the background is an error that the analysis has to
correct, and differences of forecasts have a mean near zero. Sums are float64. The caller provides the
samples, in one or more processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.models.covariance.balance import Balance, ControlVariables, coriolis_factor
from vaevar.models.covariance.local import band_windows, transport
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.models.training.states import set_up
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import quadrature_weights
from vaevar.sphere.wind import to_waves
from vaevar.state import StateSpec

PASSES = 2


@dataclass(frozen=True)
class EstimationSettings:
    """How statistics are estimated from samples.

    Attributes:
        lmax: triangular truncation.
        smoothing_degrees: e-folding width in latitude of the Gaussian that smooths variances.
        balance_degrees: the same for the window in which the regression on f ψ is fitted.
        eof_fraction: fraction of the variance of ψ that the predictors, its leading vertical EOFs, explain.
        ridge: ridge of the regression, as a fraction of the predictors' mean variance in the window.
        unbalanced: variables without a balanced part.
        floor: smallest σ, as a fraction of its root mean square over the globe.
        band_centres: centres of the bands of wavenumbers of :mod:`vaevar.models.covariance.local`.
        local_degrees: e-folding width in latitude of the window in which the bands' covariances are averaged.
        local_fraction: fraction of the variance that the EOFs explain in which M differs from the identity.

    Raises:
        UserError: for a setting out of range.
    """

    lmax: int = 31
    smoothing_degrees: float = 4.0
    balance_degrees: float = 10.0
    eof_fraction: float = 0.999
    ridge: float = 1e-3
    unbalanced: tuple[str, ...] = ("q",)
    floor: float = 0.05
    band_centres: tuple[int, ...] = (1, 4, 8, 14, 24)
    local_degrees: float = 6.0
    local_fraction: float = 0.999

    def __post_init__(self) -> None:
        positive = {"smoothing_degrees": self.smoothing_degrees, "balance_degrees": self.balance_degrees}
        positive |= {"local_degrees": self.local_degrees, "local_fraction": self.local_fraction}
        for name, value in positive.items():
            if not value > 0:
                raise UserError(f"covariance: {name} must be positive, got {value}")
        if not 0 < self.eof_fraction <= 1 or not 0 <= self.floor < 1 or not self.ridge >= 0:
            raise UserError(
                "covariance: eof_fraction must lie in (0, 1], floor in [0, 1) and ridge must not be "
                f"negative; got {self.eof_fraction}, {self.floor} and {self.ridge}"
            )


class CovarianceEstimator:
    """Estimates the statistics from batches of errors, each given twice.

    Args:
        spec, grid: channels and points of the samples; the grid is Gaussian or equiangular with poles.
        settings: the settings; the defaults if None.
        dtype: of the transforms; sums are always float64.

    Raises:
        UserError: when the grid cannot carry the truncation.
    """

    def __init__(
        self,
        spec: StateSpec,
        grid: Grid,
        settings: EstimationSettings | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.spec, self.grid, self.dtype = spec, grid, dtype
        self.settings = EstimationSettings() if settings is None else settings
        self.variables = ControlVariables(spec)
        n, rows, count = len(spec), grid.shape[0], self.settings.lmax + 1
        self._std = np.ones((n, rows))
        self._regression = np.zeros((n, self.variables.psi_count, rows))
        try:
            self._balance = self._new_balance()
            self._windows = band_windows(self.settings.lmax, self.settings.band_centres)
        except ValueError as error:
            raise UserError(f"covariance: {error}; choose another lmax") from None
        self._sums = [torch.zeros(s, dtype=torch.float64) for s in ((), (n, rows), (rows, n, n))]
        self._second_pass = [(), (count, n, n), (len(self._windows), rows, n, n)]
        self.passes_done = 0
        weights = quadrature_weights(grid)
        self._weights = weights / weights.sum()

    def _new_balance(self) -> Balance:
        return Balance(
            self.variables,
            self.grid,
            self.settings.lmax,
            self._std,
            self._regression,
            self.grid,
            self.dtype,
        )

    @torch.no_grad()
    def update(self, errors: Tensor) -> None:
        """Add a batch [B, C, H, W] in physical units to the sums of this pass."""
        self._balance.to(errors.device)
        self._sums = [total.to(errors.device) for total in self._sums]
        errors = errors.to(self.dtype)
        parts = self._moments(errors) if self.passes_done == 0 else self._products(errors)
        for total, part in zip(self._sums, (torch.tensor(float(len(errors))), *parts), strict=True):
            total += part.to(total)

    def _moments(self, errors: Tensor) -> tuple[Tensor, ...]:
        raw = self._balance.raw_variables(errors).double()
        columns = errors.shape[-1]
        moments = torch.einsum("bihw,bjhw->hij", raw, raw) / columns
        return errors.double().square().sum((0, 3)) / columns, moments

    def _products(self, errors: Tensor) -> tuple[Tensor, ...]:
        coefficients = self._balance.inverse(self._balance.waves(errors))
        coefficients[..., 1:, :] *= 2**0.5  # orders m and −m
        synthesis, bands = self._balance.inner.synthesis_matrix, []
        for window in torch.from_numpy(self._windows).to(coefficients):
            waves = to_waves(synthesis, coefficients * window[:, None, None]).double()
            bands.append(torch.einsum("bihmr,bjhmr->hij", waves, waves))
        coefficients = coefficients.double()
        return torch.einsum("bilmr,bjlmr->lij", coefficients, coefficients), torch.stack(bands)

    def end_pass(self, reduce: Callable[[Tensor], Tensor] = lambda total: total) -> None:
        """Estimate what this pass is for.

        Args:
            reduce: adds up a sum over the processes.

        Raises:
            UserError: when there were no samples, or a channel is zero everywhere.
        """
        count, *sums = [reduce(total).cpu().numpy() for total in self._sums]
        if not count > 0:
            raise UserError("covariance: there were no samples to calibrate with")
        self.samples = int(count)
        if self.passes_done == 0:
            self._channel_moments = sums[0] / count
            self._fit_balance(sums[1] / count)
            self._balance = self._new_balance()
            self._sums = [torch.zeros(shape, dtype=torch.float64) for shape in self._second_pass]
        else:
            self._spectral, self._bands = sums[0] / count, sums[1] / count
        self.passes_done += 1

    def _fit_balance(self, moments: np.ndarray) -> None:
        """Estimate σ and A from the moments [H, n, n] of ψ, χ and the others."""
        p, settings = self.variables.psi_count, self.settings
        total = np.einsum("hii->ih", moments)
        for name, variance in zip(self.variables.names, total @ self._weights, strict=True):
            if not 0 < variance < np.inf:
                raise UserError(f"covariance: the mean square of {name} in the samples is {variance:.3g}")
        unbalanced = total.copy()
        if p:
            psi_std = self._smooth_std(total[:p])
            psi = moments[:, :p, :p] / np.einsum("ih,jh->hij", psi_std, psi_std)
            cross = moments[:, :p, p:] / psi_std.T[:, :, None]
            targets = ~self.variables.is_variable(settings.unbalanced)[p:]
            regression = self._regress(psi, cross) * targets[:, None, None]
            factor = regression * coriolis_factor(self.grid.latitude)
            unbalanced[p:] += np.einsum("tph,hpq,tqh->th", factor, psi, factor)
            unbalanced[p:] -= 2 * np.einsum("tph,hpt->th", factor, cross)
            self._regression = np.concatenate([np.zeros((p, *regression.shape[1:])), regression])
        self._std = self._smooth_std(unbalanced.clip(0))
        self._balanced = 1 - (unbalanced @ self._weights) / (total @ self._weights)

    def _regress(self, psi: np.ndarray, cross: np.ndarray) -> np.ndarray:
        """A, [T, P, H], by ridge regression on the leading EOFs of ψ̂ times f/f₀, in windows of latitude.

        Args:
            psi: [H, P, P], moments of ψ̂.
            cross: [H, P, T], moments of ψ̂ and the targets.
        """
        values, vectors = np.linalg.eigh(np.einsum("h,hpq->pq", self._weights, psi))
        explained = np.cumsum(values[::-1]) / values.sum()
        leading = int(np.searchsorted(explained, self.settings.eof_fraction - 1e-12)) + 1
        eofs = vectors[:, ::-1][:, :leading]
        f = coriolis_factor(self.grid.latitude)
        window = self._window(self.settings.balance_degrees)
        predictors = np.einsum("gh,h,hpq,pk,ql->gkl", window, f**2, psi, eofs, eofs, optimize=True)
        fits = np.einsum("gh,h,hpt,pk->gkt", window, f, cross, eofs, optimize=True)
        ridge = self.settings.ridge * np.trace(predictors, axis1=1, axis2=2) / eofs.shape[1]
        solved = np.linalg.solve(predictors + ridge[:, None, None] * np.eye(eofs.shape[1]), fits)
        return np.einsum("pk,hkt->tph", eofs, solved)

    def _window(self, degrees: float) -> np.ndarray:
        """[H, H]: weights of area-weighted Gaussian averages in latitude."""
        latitude = self.grid.latitude
        window = np.exp(-(((latitude[:, None] - latitude) / degrees) ** 2)) * self._weights
        return window / window.sum(1, keepdims=True)

    def _smooth_std(self, variance: np.ndarray) -> np.ndarray:
        """Variances [..., H] -> smoothed standard deviations with a floor."""
        floor = (self.settings.floor**2) * (variance @ self._weights)[..., None]
        return np.sqrt(np.maximum(variance @ self._window(self.settings.smoothing_degrees).T, floor))

    def statistics(self, provenance: Mapping[str, Any] | None = None) -> CovarianceStatistics:
        """The statistics, after both passes.

        Args:
            provenance: plain values to keep with the statistics.

        Raises:
            RuntimeError: before the end of both passes.
            ValueError: when the estimates are no covariance.
        """
        if self.passes_done < PASSES:
            raise RuntimeError(f"{self.passes_done} of {PASSES} passes done")
        spectral, carried = self._spectral_covariance()
        channel_std = self._smooth_std(self._channel_moments)
        unscaled = CovarianceStatistics(
            spec=self.spec,
            grid=self.grid,
            std=self._std,
            regression=self._regression,
            spectral=spectral,
            windows=self._windows,
            local=self._local(spectral),
            rescaling=np.ones_like(channel_std),
            channel_std=channel_std,
            balanced=self._balanced,
            provenance={
                "samples": self.samples,
                "settings": asdict(self.settings),
                "variance_within_truncation": dict(
                    zip(self.variables.names, carried.round(4).tolist(), strict=True)
                ),
                **(provenance or {}),
            },
        )
        implied = CovarianceTransform(unscaled, dtype=torch.float64).implied_variance().numpy()
        return replace(unscaled, rescaling=channel_std / np.sqrt(implied))

    def _local(self, spectral: np.ndarray) -> np.ndarray:
        """M_b, [b, H, n, n], from the moments of the bands and C_l."""
        numbers = 2 * np.arange(self.settings.lmax + 1) + 1
        window = self._window(self.settings.local_degrees)
        means = np.einsum("bl,l,lij->bij", self._windows**2, numbers, spectral)
        local_moments = np.einsum("gh,bhij->bgij", window, self._bands)
        fraction = self.settings.local_fraction
        matrices = [
            transport(mean, local, fraction) for mean, local in zip(means, local_moments, strict=True)
        ]
        return np.stack(matrices).astype(np.float32).astype(np.float64)  # as stored in the file

    def _spectral_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """C_l, [L, n, n], and the fraction of standardised variance within the truncation, [n].

        At small l the n² numbers are estimated from few coefficients. Correlations, not variances, are drawn
        towards the mean correlations of the neighbouring l, with weight n/(n + N(2l + 1)) for N samples.
        """
        n, count = len(self.spec), self.settings.lmax + 1
        numbers = 2 * np.arange(count) + 1
        products = self._spectral
        carried = np.einsum("lii->i", products)
        size = np.sqrt(np.einsum("lii->li", products) / carried / numbers[:, None])
        scale = np.sqrt(np.einsum("lii->li", products))
        scale = np.einsum("li,lj->lij", scale, scale)
        correlation = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
        padded = np.concatenate([correlation[1:2], correlation, correlation[-2:-1]])
        neighbours = (padded[:-2] + padded[2:]) / 2 if count > 1 else correlation
        weight = (n / (n + self.samples * numbers))[:, None, None]
        correlation = (1 - weight) * correlation + weight * neighbours
        spectral = np.einsum("li,lij,lj->lij", size, correlation, size)
        return (spectral + spectral.transpose(0, 2, 1)) / 2, carried


def error_std_of(samples: Any) -> Tensor:
    """The physical units per unit of a sample, [C, 1, 1] or [C, H, 1], of a data module of errors."""
    std = torch.as_tensor(samples.error_std, dtype=torch.float32)
    return std[:, None, None] if std.ndim == 1 else std


def estimate_covariance(samples: Any, **settings: Any) -> CovarianceStatistics:
    """B of 3DVar from a data module of errors, in one call.

    Args:
        samples: with ``spec``, ``grid``, ``error_std`` and ``training_in_order()``, such as
            :class:`vaevar.data.error_samples.ErrorSamples`.
        settings: of :class:`EstimationSettings`, such as ``lmax=21``.

    Raises:
        UserError: for samples that are too few, a setting out of range, or a grid that cannot carry the
            truncation.

    Example:
        >>> vaevar.ThreeDVar(vaevar.estimate_covariance(errors, lmax=7, band_centres=(1, 4))).lambda_
        1.0
    """
    set_up(samples)
    estimator = CovarianceEstimator(samples.spec, samples.grid, EstimationSettings(**settings))
    std = error_std_of(samples)
    for _ in range(PASSES):
        for batch in samples.training_in_order():
            estimator.update(batch * std)
        estimator.end_pass()
    try:
        return estimator.statistics({"data": samples.record})
    except ValueError as error:
        raise UserError(f"covariance: {error}; use more samples") from None

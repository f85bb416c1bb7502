"""The estimates behind B against hand calculations, where their floors, bounds and damping act."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.models.covariance.test_covariance import (
    DOUBLE,
    GAUSSIAN,
    SPECS,
    estimate,
    normal,
    samples,
    statistics,
)
from vaevar.errors import UserError
from vaevar.models.covariance.balance import coriolis_factor, to_latitudes
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.local import LIMITS, LocalCovariance, band_windows, transport
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

QUADRATURE = np.polynomial.legendre.leggauss(12)[1][::-1] / 2
NO_WIND = SPECS["no wind"]


def plain(spectral: np.ndarray) -> CovarianceStatistics:
    """Statistics whose U is C_l^½ alone, scaled so that Σ (2l + 1) C_l has a unit diagonal."""
    size = np.sqrt(np.einsum("l,lii->i", 2 * np.arange(len(spectral)) + 1, spectral))
    spectral = spectral / size[:, None] / size
    n, rows = len(NO_WIND), GAUSSIAN.shape[0]
    return CovarianceStatistics(
        spec=NO_WIND, grid=GAUSSIAN, std=np.ones((n, rows)), regression=np.zeros((n, 0, rows)),
        spectral=spectral, windows=np.ones((1, len(spectral))),
        local=np.broadcast_to(np.eye(n), (1, rows, n, n)).copy(), rescaling=np.ones((n, rows)),
        channel_std=statistics(NO_WIND).channel_std, balanced=np.zeros(n),
    )  # fmt: skip


# --- U --------------------------------------------------------------------------------------------


def test_the_inverse_root_is_regularised_and_zero_where_there_is_no_variance() -> None:
    """project(U w) is λ/(λ + ε λ_max) of w along each eigenvector of C_l."""
    random = np.random.default_rng(0)
    roots = random.normal(size=(5, 3, 2)) * np.array([1.0, 0.03])  # of rank two
    roots[4] = 0
    found = plain(roots @ roots.swapaxes(1, 2))
    values, vectors = found.eigen()
    values = np.where(values > 1e-12 * values.max(), values, 0.0)
    for damping in (1e-3, 1e-2):
        transform = CovarianceTransform(found, dtype=DOUBLE, regularisation=damping)
        w = normal(transform.shape)
        again = transform.project(transform(w))
        kept = np.divide(
            values, values + damping * values.max(1, keepdims=True), where=values > 0, out=0 * values
        )
        for degree in range(5):
            part = slice(degree**2, (degree + 1) ** 2)
            matrix = torch.from_numpy(vectors[degree] * kept[degree] @ vectors[degree].T)
            torch.testing.assert_close(again[:, part], matrix @ w[:, part], atol=1e-9, rtol=1e-7)
    # As it is by default, all but directions of hardly any variance are kept.
    transform = CovarianceTransform(found, dtype=DOUBLE)
    v = torch.from_numpy(vectors[2][:, 1])[:, None] * normal((1, transform.shape[1]))
    v[:, : 2**2] = v[:, 3**2 :] = 0
    kept = 1 / (1 + 1e-6 * values[2, 2] / values[2, 1])
    assert kept < 1 - 1e-5
    torch.testing.assert_close(transform.project(transform(v)), kept * v, rtol=1e-7, atol=1e-12)


def test_statistics_are_interpolated_linearly_between_latitudes_and_constant_beyond() -> None:
    source, target = np.array([60.0, 0.0, -60.0]), np.array([90.0, 30.0, -15.0, -75.0])
    values = np.array([[4.0, 2.0, 0.0], [0.0, 6.0, 3.0]])
    expected = [[4.0, 3.0, 1.5, 0.0], [0.0, 3.0, 5.25, 3.0]]
    np.testing.assert_allclose(to_latitudes(values, source, target), expected)


def test_the_coriolis_factor_at_hand_latitudes() -> None:
    latitude = np.array([90.0, 30.0, 0.0, -30.0])
    np.testing.assert_allclose(coriolis_factor(latitude), [1.458, 0.729, 0, -0.729], atol=1e-3)


# --- bands ----------------------------------------------------------------------------------------


def test_windows_are_triangles_in_the_logarithm_of_the_wavenumber() -> None:
    windows = band_windows(9, [1, 4, 9, 30])
    assert windows.shape == (3, 10)
    np.testing.assert_allclose(windows.sum(0), 1)
    np.testing.assert_allclose(windows[:, [1, 4, 9]], np.eye(3))
    np.testing.assert_allclose(windows[:, 0], [1, 0, 0])
    share = np.log(3 / 2) / np.log(5 / 2)  # of l = 2 between 1 and 4
    np.testing.assert_allclose(windows[:, 2], [1 - share, share, 0])
    for wrong in ([4, 1], [1, 1], [10], []):
        with pytest.raises(ValueError, match="must ascend"):
            band_windows(9, wrong)
    np.testing.assert_allclose(band_windows(3, [0]), np.ones((1, 4)))


def covariances(count: int, size: int = 4) -> np.ndarray:
    random = np.random.default_rng(1)
    roots = random.normal(size=(count, size, size)) * 0.3 + np.eye(size)
    return roots @ roots.swapaxes(1, 2)


def test_transport_takes_one_covariance_to_another() -> None:
    mean, *local = covariances(4)
    matrices = transport(mean, np.stack(local), 1.0)
    np.testing.assert_allclose(matrices, matrices.swapaxes(1, 2), atol=1e-12)
    assert (np.linalg.eigvalsh(matrices) > LIMITS[0]).all()  # so that no bound acts
    np.testing.assert_allclose(matrices @ mean @ matrices, local, rtol=1e-8)
    np.testing.assert_allclose(transport(mean, mean[None], 1.0)[0], np.eye(4), atol=1e-8)


def test_transport_is_bounded_and_leaves_small_patterns_alone() -> None:
    mean = np.diag([4.0, 3.0, 2.0, 1.0])
    wild = np.diag([4.0 * 100, 3.0 / 1000, 2.0 * 4, 1.0 * 9])
    np.testing.assert_allclose(np.diag(transport(mean, wild[None], 1.0)[0]), [5.0, 0.2, 2.0, 3.0])
    # The first three explain nine tenths of the variance: the fourth keeps its own.
    np.testing.assert_allclose(np.diag(transport(mean, wild[None], 0.9)[0]), [5.0, 0.2, 2.0, 1.0])
    np.testing.assert_allclose(np.diag(transport(mean, wild[None], 0.91)[0]), [5.0, 0.2, 2.0, 3.0])
    nothing = np.diag(transport(mean, np.zeros((1, 4, 4)), 1.0)[0])
    np.testing.assert_allclose(nothing, LIMITS[0])


def test_recolouring_alike_everywhere_is_a_product_and_its_inverse_exact() -> None:
    windows, matrix = band_windows(6, [1, 4]), covariances(1, 3)[0]
    matrices = np.broadcast_to(matrix, (2, 12, 3, 3)).copy()
    local = LocalCovariance(windows, matrices, GAUSSIAN, DOUBLE)
    w = CovarianceTransform(plain(np.stack([np.eye(3)] * 7)), dtype=DOUBLE).unpack(normal((3, 49)))
    torch.testing.assert_close(local(w), torch.einsum("ij,jlmr->ilmr", torch.from_numpy(matrix), w))
    torch.testing.assert_close(local.inverse(local(w)), w)
    # A band alone is its window times the field.
    only = LocalCovariance(windows[:1], matrices[:1], GAUSSIAN, DOUBLE)(w)
    expected = torch.einsum(
        "ij,jlmr->ilmr", torch.from_numpy(matrix), w * torch.from_numpy(windows[0])[:, None, None]
    )
    torch.testing.assert_close(only, expected)


# --- estimates ------------------------------------------------------------------------------------


def southern(share: float) -> torch.Tensor:
    """Errors that are ``share`` as large in the northern half."""
    errors = samples(NO_WIND)
    errors[:, :, :6] *= share
    return errors


def test_sigma_has_a_floor() -> None:
    errors = southern(1e-4)
    for floor in (0.05, 0.3):
        found = estimate(errors, NO_WIND, smoothing_degrees=0.1, floor=floor)
        variance = errors.square().mean((0, 3)).numpy()
        rms = np.sqrt(variance @ QUADRATURE)
        np.testing.assert_allclose(found.channel_std[:, :6], floor * rms[:, None].repeat(6, 1), rtol=1e-6)
        np.testing.assert_allclose(found.channel_std[:, 6:], np.sqrt(variance[:, 6:]), rtol=1e-6)
        np.testing.assert_allclose(found.std[:, :6], floor * rms[:, None].repeat(6, 1), rtol=1e-6)


def test_variances_are_smoothed_in_latitude_by_area() -> None:
    errors = southern(0.1)
    found = estimate(errors, NO_WIND, smoothing_degrees=20.0, floor=0.0)
    apart = (GAUSSIAN.latitude[:, None] - GAUSSIAN.latitude) / 20.0
    window = np.exp(-(apart**2)) * QUADRATURE
    window /= window.sum(1, keepdims=True)
    variance = errors.square().mean((0, 3)).numpy()
    np.testing.assert_allclose(found.channel_std, np.sqrt(variance @ window.T), rtol=1e-6)


def test_correlations_of_few_samples_are_drawn_towards_their_neighbours() -> None:
    estimator = CovarianceEstimator(NO_WIND, GAUSSIAN, EstimationSettings(lmax=6), DOUBLE)
    for _ in range(2):
        estimator.update(samples(NO_WIND, 4))
        estimator.end_pass()
    products = estimator._spectral
    found = estimator.statistics()
    size = np.sqrt(np.einsum("lii->li", products))
    correlation = products / size[:, :, None] / size[:, None]
    neighbours = np.stack(
        [
            correlation[1],
            *(0.5 * (correlation[k - 1] + correlation[k + 1]) for k in range(1, 6)),
            correlation[5],
        ]
    )
    weight = 3 / (3 + 4 * (2 * np.arange(7) + 1))
    drawn = (1 - weight)[:, None, None] * correlation + weight[:, None, None] * neighbours
    std = np.sqrt(np.einsum("lii->li", found.spectral))
    np.testing.assert_allclose(found.spectral / std[:, :, None] / std[:, None], drawn, atol=1e-9)
    # The variances are those of the samples, of one coefficient each, in units of the carried variance.
    carried = np.einsum("lii->i", products)
    np.testing.assert_allclose(std**2, size**2 / carried / (2 * np.arange(7)[:, None] + 1), rtol=1e-9)
    assert found.provenance["variance_within_truncation"] == dict(
        zip(found.variables.names, carried.round(4).tolist(), strict=True)
    )


def test_balance_by_hand_with_one_wind() -> None:
    """A = Σ w f ⟨ψ̂ z⟩ / (Σ w f² ⟨ψ̂²⟩ (1 + ridge)), the sums over latitudes in a window."""
    spec, ridge = StateSpec([], ["z", "u", "v"], [500]), 0.3
    errors = samples(spec)
    estimator = CovarianceEstimator(
        spec,
        GAUSSIAN,
        EstimationSettings(lmax=6, ridge=ridge, balance_degrees=15.0, smoothing_degrees=3.0),
        DOUBLE,
    )
    raw = estimator._balance.raw_variables(errors).numpy()
    psi, z = raw[:, 0], raw[:, 2]
    for _ in range(2):
        estimator.update(errors)
        estimator.end_pass()
    found = estimator.statistics()

    def window(degrees: float) -> np.ndarray:
        made = np.exp(-(((GAUSSIAN.latitude[:, None] - GAUSSIAN.latitude) / degrees) ** 2)) * QUADRATURE
        return made / made.sum(1, keepdims=True)

    sigma = np.sqrt(window(3.0) @ (psi**2).mean((0, 2)))
    np.testing.assert_allclose(found.std[0], sigma, rtol=1e-9)
    f = coriolis_factor(GAUSSIAN.latitude)
    scaled, cross = (psi**2).mean((0, 2)) / sigma**2, (psi * z).mean((0, 2)) / sigma
    wide = window(15.0)
    a = wide @ (f * cross) / (wide @ (f**2 * scaled) * (1 + ridge))
    np.testing.assert_allclose(found.regression[2, 0], a, rtol=1e-9)
    # What balance leaves, and the part that it explains.
    left = ((z - (f * a)[:, None] * psi / sigma[:, None]) ** 2).mean((0, 2))
    np.testing.assert_allclose(found.std[2], np.sqrt(window(3.0) @ left), rtol=1e-8)
    explained = 1 - left @ QUADRATURE / ((z**2).mean((0, 2)) @ QUADRATURE)
    assert found.balanced[2] == pytest.approx(explained, rel=1e-9)
    assert found.balanced[0] == pytest.approx(0, abs=1e-12)


def test_the_predictors_are_as_many_eofs_as_the_fraction_asks_for() -> None:
    """With one EOF the balanced parts of z at both levels follow one pattern of ψ."""
    spec = StateSpec([], ["z", "u", "v"], [500, 850])
    errors = samples(spec)
    one = estimate(errors, spec, eof_fraction=0.01).regression[4:]
    all_ = estimate(errors, spec, eof_fraction=1.0).regression[4:]
    ratio = one[:, 0] / one[:, 1]
    np.testing.assert_allclose(ratio, ratio[0, 0] * np.ones_like(ratio), rtol=1e-6)
    assert np.ptp(all_[:, 0] / all_[:, 1]) > 0.1


def test_predictors_are_added_until_the_fraction_is_reached() -> None:
    """The regression at a latitude has the rank of its predictors."""
    spec = StateSpec([], ["z", "u", "v"], [300, 500, 850])
    errors = samples(spec)
    ranks = []
    for fraction in np.linspace(0.05, 1, 20):
        found = estimate(errors, spec, eof_fraction=float(fraction)).regression[6:, :, 3]
        ranks.append(int(np.linalg.matrix_rank(found / found.std(1, keepdims=True), tol=1e-6)))
    assert ranks == sorted(ranks)
    assert set(ranks) == {1, 2, 3}


def test_an_epoch_may_come_in_any_batches_and_two_passes_are_needed() -> None:
    errors, estimates = samples(NO_WIND, 8), []
    for sizes in ([8], [1, 3, 4]):
        estimator = CovarianceEstimator(NO_WIND, GAUSSIAN, EstimationSettings(lmax=6), DOUBLE)
        with pytest.raises(RuntimeError, match="0 of 2"):
            estimator.statistics()
        for _ in range(2):
            for batch in errors.split(sizes):
                estimator.update(batch)
            estimator.end_pass()
        assert estimator.samples == 8
        estimates.append(estimator.statistics())
    np.testing.assert_allclose(estimates[0].spectral, estimates[1].spectral, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"smoothing_degrees": 0.0}, {"balance_degrees": -1.0}, {"local_degrees": 0.0},
        {"local_fraction": 0.0},
        {"eof_fraction": 0.0}, {"eof_fraction": 1.01}, {"floor": -0.1}, {"floor": 1.0}, {"ridge": -1e-9},
        {"ridge": float("nan")},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        EstimationSettings(**wrong)
    EstimationSettings(floor=0.0, ridge=0.0, eof_fraction=1.0)


# --- statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["std", "regression", "spectral", "windows", "local", "rescaling", "channel_std", "balanced"]
)
def test_each_array_must_fit_and_be_finite(name: str) -> None:
    good = statistics(SPECS["surface and upper air"])
    values = getattr(good, name)
    with pytest.raises(ValueError, match=f"{name} is"):
        dataclasses.replace(good, **{name: values[..., :-1]})
    broken = values.copy()
    broken.flat[3] = np.nan
    with pytest.raises(ValueError, match=f"{name} has values that are not finite"):
        dataclasses.replace(good, **{name: broken})
    if name in ("std", "rescaling", "channel_std"):
        broken.flat[3] = 0.0
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            dataclasses.replace(good, **{name: broken})


def test_a_covariance_that_is_not_symmetric_is_refused_and_rounding_is_not() -> None:
    good = statistics(NO_WIND)
    crooked = good.spectral.copy()
    crooked[2, 0, 1] += 1e-8
    with pytest.raises(ValueError, match="not symmetric"):
        dataclasses.replace(good, spectral=crooked)
    # A rank-deficient C_l has eigenvalues of rounding size below zero; they count as zero.
    values = np.array([1.0, 0.5, -1e-12])
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    nearly = plain(np.stack([vectors * values @ vectors.T] * 3))
    assert nearly.eigen()[0].min() == 0
    assert Grid.gaussian(12) == nearly.grid

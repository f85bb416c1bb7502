from __future__ import annotations

import dataclasses
import errno
import gc
import warnings
from functools import cache
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.errors import UserError
from vaevar.models.covariance.balance import ControlVariables, coriolis_factor
from vaevar.models.covariance.calibration import CovarianceCalibration
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics
from vaevar.state import StateSpec

DOUBLE = torch.float64
SPECS = {
    "surface and upper air": StateSpec(["u10", "v10", "t2m", "msl"], ["z", "q", "u", "v", "t"], [500, 850]),
    "wind alone": StateSpec([], ["u", "v"], [250]),
    "no wind": StateSpec(["t2m"], ["z"], [500, 850]),
    "half a wind": StateSpec(["u10", "t2m"], ["t"], [500]),
    "v before u": StateSpec(["v10", "msl", "u10"], ["v", "z", "u"], [300, 500]),
}
GAUSSIAN, POLES = Grid.gaussian(12), Grid.equiangular(25)
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
every_grid = pytest.mark.parametrize("grid", [GAUSSIAN, POLES, Grid.gaussian(20)], ids=str)


def random_field(grid: Grid, lmax: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Homogeneous band-limited noise with a decaying spectrum, variance near 1, [*shape, H, W]."""
    random = torch.Generator().manual_seed(seed)
    parts = torch.randn(*shape, lmax + 1, lmax + 1, 2, generator=random, dtype=DOUBLE)
    parts[..., 0, 1] = 0
    degree = torch.arange(lmax + 1, dtype=DOUBLE)
    size = degree / (degree**2 + 9)
    size = size / ((2 * degree + 1) * size**2).sum().sqrt()
    tril = torch.ones(lmax + 1, lmax + 1).tril()
    parts[..., 1:, :] /= 2**0.5
    return SphericalHarmonics(grid, lmax, DOUBLE).synthesise(
        torch.view_as_complex(parts) * tril * size[:, None]
    )


def samples(spec: StateSpec, count: int = 60, grid: Grid = GAUSSIAN, lmax: int = 6) -> Tensor:
    """Errors of a plausible size that are correlated between channels and vary with latitude."""
    noise = random_field(grid, lmax, (count, len(spec)), 0)
    mixing = torch.eye(len(spec), dtype=DOUBLE)
    mixing = mixing + 0.3 * torch.randn(
        mixing.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE
    )
    phi = torch.from_numpy(np.radians(grid.latitude))
    size = {"q": 1e-3, "z": 200.0, "msl": 300.0}
    sizes = torch.tensor([size.get(c.variable, 3.0) for c in spec.channels], dtype=DOUBLE)
    mixed = torch.einsum("cd,bdhw->bchw", mixing, noise) * (1 + 0.4 * phi.sin() ** 2)[:, None]
    return mixed * sizes[:, None, None]


def estimate(
    errors: Tensor, spec: StateSpec, grid: Grid = GAUSSIAN, **settings: object
) -> CovarianceStatistics:
    chosen = EstimationSettings(**({"lmax": 6} | settings))  # type: ignore[arg-type]
    estimator = CovarianceEstimator(spec, grid, chosen, DOUBLE)
    for _ in range(2):
        for batch in errors.split(25):
            estimator.update(batch)
        estimator.end_pass()
    return estimator.statistics({"data": "synthetic"})


@cache
def statistics(spec: StateSpec) -> CovarianceStatistics:
    return estimate(samples(spec), spec)


def normal(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# --- U --------------------------------------------------------------------------------------------


@every_spec
@every_grid
def test_adjoint(spec: StateSpec, grid: Grid) -> None:
    transform = CovarianceTransform(statistics(spec), grid, DOUBLE)
    w = normal(transform.shape).requires_grad_()
    increment = transform(w)
    assert increment.shape == (len(spec), *grid.shape)
    sizes = torch.from_numpy(statistics(spec).channel_std).mean(1)[:, None, None]
    x, v = normal(tuple(increment.shape), 1) / sizes, normal(transform.shape, 2)
    (adjoint,) = torch.autograd.grad((increment * x).sum(), w)
    left, right = (transform(v) * x).sum(), (v * adjoint).sum()
    assert abs(left - right) < 1e-10 * (transform(v) / sizes).norm() * (x * sizes).norm()


@every_spec
@every_grid
def test_linear_and_batched(spec: StateSpec, grid: Grid) -> None:
    transform = CovarianceTransform(statistics(spec), grid, DOUBLE)
    w = normal((2, 3, *transform.shape))
    many = transform(w)
    assert many.shape == (2, 3, len(spec), *grid.shape)
    sizes = torch.from_numpy(statistics(spec).channel_std).mean(1)[:, None, None]
    combined = transform(2 * w[0, 0] - 0.5 * w[1, 2])
    assert ((combined - 2 * many[0, 0] + 0.5 * many[1, 2]) / sizes).abs().max() < 1e-11
    assert transform(torch.zeros(transform.shape, dtype=DOUBLE)).abs().max() == 0


@every_spec
def test_implied_variance_is_the_calibrated_variance_and_that_of_the_matrix(spec: StateSpec) -> None:
    found = statistics(spec)
    transform = CovarianceTransform(found, dtype=DOUBLE)
    implied = transform.implied_variance()
    np.testing.assert_allclose(implied.sqrt().numpy(), found.channel_std, rtol=1e-10)
    # The matrix U itself, column by column: the same variance at each longitude.
    size = transform.shape[0] * transform.shape[1]
    diagonal = torch.zeros(len(spec), *GAUSSIAN.shape, dtype=DOUBLE)
    for columns in torch.eye(size, dtype=DOUBLE).split(200):
        diagonal += transform(columns.unflatten(1, transform.shape)).square().sum(0)
    torch.testing.assert_close(diagonal, implied[..., None].expand_as(diagonal), rtol=1e-9, atol=0)


def test_global_variance_is_that_of_the_samples() -> None:
    spec = SPECS["surface and upper air"]
    errors = samples(spec)
    quadrature = torch.from_numpy(np.polynomial.legendre.leggauss(12)[1][::-1].copy()) / 2
    sampled = errors.square().mean((0, 3)) @ quadrature
    calibrated = torch.from_numpy(statistics(spec).channel_std).square() @ quadrature
    torch.testing.assert_close(calibrated, sampled, rtol=0.05, atol=0)


@every_grid
def test_packing_keeps_the_mean_square(grid: Grid) -> None:
    transform = CovarianceTransform(statistics(SPECS["no wind"]), grid, DOUBLE)
    r = normal(transform.shape)
    parts = transform.unpack(r)
    torch.testing.assert_close(transform.pack(parts), r)
    harmonics = SphericalHarmonics(grid, transform.lmax, DOUBLE)
    power = harmonics.power(harmonics.synthesise(torch.view_as_complex(parts.contiguous())))
    torch.testing.assert_close(power.sum(-1), r.square().sum(-1))
    for degree in range(transform.lmax + 1):
        torch.testing.assert_close(
            power[:, degree], r[:, degree**2 : (degree + 1) ** 2].square().sum(-1), rtol=1e-9, atol=1e-12
        )


@every_spec
def test_projection_is_nearly_an_inverse(spec: StateSpec) -> None:
    transform = CovarianceTransform(statistics(spec), dtype=DOUBLE)
    increment = transform(normal((4, *transform.shape)))
    again = transform(transform.project(increment))
    sizes = torch.from_numpy(statistics(spec).channel_std)[..., None]
    assert ((again - increment) / sizes).square().mean().sqrt() < 0.1


def test_the_same_covariance_on_another_grid() -> None:
    found = statistics(SPECS["surface and upper air"])
    coarse, fine = (CovarianceTransform(found, grid, DOUBLE) for grid in (GAUSSIAN, Grid.gaussian(36)))
    w = normal(coarse.shape)
    a, b = coarse(w), fine(w)
    # Compared at the band-limited scales of both: statistics are interpolated linearly in between.
    lmax = 6
    small, large = (
        SphericalHarmonics(GAUSSIAN, lmax, DOUBLE),
        SphericalHarmonics(Grid.gaussian(36), lmax, DOUBLE),
    )
    sizes = torch.from_numpy(found.channel_std).mean(1)[:, None, None]
    difference = small.synthesise(small.analyse(a) - large.analyse(b)) / sizes
    assert difference.square().mean().sqrt() < 0.1


def test_single_precision_and_autocast() -> None:
    found = statistics(SPECS["surface and upper air"])
    exact, single = CovarianceTransform(found, POLES, DOUBLE), CovarianceTransform(found, POLES)
    w = normal(exact.shape)
    sizes = torch.from_numpy(found.channel_std).mean(1)[:, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        increment = single(w.float())
    assert increment.dtype == torch.float32
    assert ((increment - exact(w)) / sizes).abs().max() < 1e-4
    assert single.double()(w).dtype == DOUBLE


# --- calibration ----------------------------------------------------------------------------------


def geostrophic(spec: StateSpec, count: int, grid: Grid, lmax: int = 5) -> Tensor:
    """z = f ψ, and the wind of ψ."""
    psi = random_field(grid, lmax, (count,), 5) * 5e6
    u, v = VectorHarmonics(grid, lmax, DOUBLE).wind(psi, torch.zeros_like(psi))
    f = torch.from_numpy(coriolis_factor(grid.latitude))[:, None] * 1e-4
    fields = {"u": u, "v": v, "z": f * psi}
    return torch.stack([fields[channel.variable] for channel in spec.channels], 1)


def test_balance_finds_geostrophy() -> None:
    spec, grid = StateSpec([], ["z", "u", "v"], [500]), Grid.gaussian(20)
    errors = geostrophic(spec, 300, grid)
    noise = random_field(grid, 5, (300,), 6) * 20.0
    errors[:, 0] += noise
    found = estimate(errors, spec, grid, lmax=10)
    # z = f ψ = f₀ (f/f₀) σ_ψ ψ̂, so that A = f₀ σ_ψ.
    position = found.variables.names.index("z500")
    outside = np.abs(grid.latitude) > 15
    ratio = found.regression[position, 0] / (1e-4 * found.std[0])
    np.testing.assert_allclose(ratio[outside], 1, atol=0.1)
    total = errors[:, 0].square().mean()
    assert found.balanced[position] == pytest.approx(1 - float(noise.square().mean() / total), abs=0.05)
    # An increment of z at 45°N and 45°S turns its own geostrophic wind in the right sense.
    transform = CovarianceTransform(found, dtype=DOUBLE)
    for row in (int(np.abs(grid.latitude - 45).argmin()), int(np.abs(grid.latitude + 45).argmin())):
        w = torch.zeros(transform.shape, dtype=DOUBLE, requires_grad=True)
        (adjoint,) = torch.autograd.grad(transform(w)[0, row, 10], w)
        increment = transform(adjoint).detach()
        z, u, v = increment
        sign = np.sign(grid.latitude[row])
        assert z[row, 10] > 0
        assert np.argmax(z[row].numpy()) == 10
        # A high: clockwise in the north, so wind from the south to its west.
        assert sign * v[row, 7] > 0 > sign * v[row, 13]
        poleward, equatorward = (row - 2, row + 2) if sign > 0 else (row + 2, row - 2)
        assert u[poleward, 10] > 0 > u[equatorward, 10]
        # v follows (1/f) ∂z/∂x.
        slope = z[row].roll(-1) - z[row].roll(1)
        assert np.corrcoef(sign * slope.numpy(), v[row].numpy())[0, 1] > 0.95


def test_spectral_covariance_is_that_of_homogeneous_samples() -> None:
    spec = StateSpec(["t2m"], ["t"], [500])
    grid = Grid.gaussian(16)
    first, second = random_field(grid, 8, (400,), 1), random_field(grid, 8, (400,), 2)
    errors = torch.stack([2 * first, 0.6 * first + 0.8 * second], 1)
    found = estimate(errors, spec, grid, lmax=8)
    degree = np.arange(9)
    expected = (degree / (degree**2 + 9)) ** 2
    expected /= ((2 * degree + 1) * expected).sum()
    np.testing.assert_allclose(found.spectral[1:, 0, 0], expected[1:], rtol=0.15)
    np.testing.assert_allclose(found.spectral[1:, 0, 1], 0.6 * expected[1:], rtol=0.25)
    np.testing.assert_allclose(np.einsum("l,lii->i", 2 * degree + 1, found.spectral), 1)
    np.testing.assert_allclose(found.channel_std.mean(1), [2, 1], rtol=0.05)
    np.testing.assert_allclose(found.rescaling, 1, atol=0.1)


def test_humidity_is_left_alone_and_balance_explains_no_more_than_all() -> None:
    found = statistics(SPECS["surface and upper air"])
    humid = found.variables.is_variable(("q",))
    assert humid.sum() == 2
    assert (found.regression[humid] == 0).all()
    assert (found.regression[: found.variables.psi_count] == 0).all()
    assert (found.balanced <= 1).all()


def test_control_variables_of_the_full_state() -> None:
    variables = ControlVariables(StateSpec())
    assert len(variables) == len(set(variables.names)) == 69
    assert variables.psi_count == 14
    assert variables.names[:2] == ("psi50", "psi100")
    assert variables.names[13:15] == ("psi10m", "chi50")
    assert variables.names[28:31] == ("t2m", "msl", "z50")


def test_constant_channel_no_samples_and_settings_are_refused() -> None:
    spec = SPECS["no wind"]
    errors = samples(spec)
    errors[:, 1] = 0
    with pytest.raises(UserError, match="mean square of z500"):
        estimate(errors, spec)
    with pytest.raises(UserError, match="no samples"):
        CovarianceEstimator(spec, GAUSSIAN, EstimationSettings(lmax=6)).end_pass()
    with pytest.raises(UserError, match="lmax 12 is outside"):
        CovarianceEstimator(spec, GAUSSIAN, EstimationSettings(lmax=12))
    with pytest.raises(UserError, match="smoothing_degrees"):
        EstimationSettings(smoothing_degrees=0)
    with pytest.raises(UserError, match="eof_fraction"):
        EstimationSettings(eof_fraction=1.5)


# --- the file -------------------------------------------------------------------------------------


@every_spec
def test_file_round_trip(spec: StateSpec, tmp_path: Path) -> None:
    before = statistics(spec)
    before.save(tmp_path / "new" / "covariance.nc")
    after = CovarianceStatistics.load(tmp_path / "new" / "covariance.nc")
    assert after.spec == spec
    assert after.grid == before.grid
    names = ("std", "regression", "spectral", "windows", "local", "rescaling", "channel_std", "balanced")
    for name in names:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.provenance["samples"] == 60
    assert after.provenance["data"] == "synthetic"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["covariance.nc"]


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "covariance.nc"

    def refused(says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            CovarianceStatistics.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "covariance.yaml" in str(caught.value)

    refused("no such")
    path.write_bytes(b"CDF nothing of the kind")
    refused("cannot be read")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(path, engine="scipy")
    refused("holds the format None")

    good = statistics(SPECS["no wind"])

    def changed(change: object) -> None:
        good.save(path)
        with xr.open_dataset(path, engine="scipy") as opened:
            dataset = opened.load()
        change(dataset).to_netcdf(path, engine="scipy")  # type: ignore[operator]

    changed(lambda dataset: dataset.drop_vars("rescaling"))
    refused("lacks rescaling")
    changed(lambda dataset: dataset.assign(channel_std=dataset.channel_std * np.nan))
    refused("channel_std has values that are not finite")
    changed(lambda dataset: dataset.assign(standard_deviation=-dataset.standard_deviation))
    refused("std must be positive")
    changed(lambda dataset: dataset.assign_coords(channel=dataset.channel[::-1].values))
    refused("channel is z850")
    changed(lambda dataset: dataset.assign(spectral_covariance=-dataset.spectral_covariance))
    refused("eigenvalue")
    changed(lambda dataset: dataset.assign(spectral_covariance=2.0 * dataset.spectral_covariance))
    refused("variance of a standardised variable is 2, expected 1")
    changed(lambda dataset: dataset.assign(channel_std=1.001 * dataset.channel_std))
    refused("checksum does not match")
    changed(lambda dataset: dataset.assign_coords(channel_units=dataset.channel_units[::-1].values))
    refused("channel_units is")
    changed(lambda dataset: dataset.assign(channel_std=1e6 * dataset.channel_std).drop_attrs(deep=False))
    refused("holds the format None")
    good.save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused("cut short, or damaged in another way .*; calibrate again")
        gc.collect()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is a directory, where a file of statistics of B is expected"):
        CovarianceStatistics.load(path)


def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "covariance.nc"
    statistics(SPECS["no wind"]).save(path)

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(UserError, match=r"covariance.nc: cannot be read .Input/output error"):
        CovarianceStatistics.load(path)


def test_negative_eigenvalues_are_told_with_figures() -> None:
    good = statistics(SPECS["no wind"])
    spectral = good.spectral.copy()
    spectral[3] -= 0.1 * np.eye(len(good.spec))
    with pytest.raises(ValueError, match="wavenumber 3 has the eigenvalue -"):
        dataclasses.replace(good, spectral=spectral)


# --- the command ----------------------------------------------------------------------------------


class Errors(L.LightningDataModule):
    """Normalised errors, as from vaevar.data.samples.background_errors."""

    def __init__(self, spec: StateSpec, errors: Tensor) -> None:
        super().__init__()
        self.spec, self.grid = spec, GAUSSIAN
        self.error_std = errors.square().mean((0, 2, 3)).sqrt().float()
        self.errors = errors.float() / self.error_std[:, None, None]

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(list(self.errors), batch_size=20, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(list(self.errors[:30]), batch_size=20)  # type: ignore[arg-type]


def trainer(**settings: object) -> L.Trainer:
    return L.Trainer(
        **{  # type: ignore[arg-type]
            "max_epochs": 2,
            "accelerator": DEVICE,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
        | settings
    )


def test_fit_writes_what_the_estimator_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPECS["surface and upper air"]
    errors = samples(spec)
    model = CovarianceCalibration(str(tmp_path / "covariance.nc"), lmax=6)
    trainer().fit(model, datamodule=Errors(spec, errors))
    found, expected = CovarianceStatistics.load(tmp_path / "covariance.nc"), statistics(spec)
    assert found.spec == spec
    np.testing.assert_allclose(found.channel_std, expected.channel_std, rtol=1e-4)
    np.testing.assert_allclose(found.spectral, expected.spectral, atol=1e-4)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-3)
    assert found.provenance["samples"] == 60
    printed = capsys.readouterr().out
    assert "msl" in printed
    assert "psi" in printed


def test_fit_refuses_what_cannot_work(tmp_path: Path) -> None:
    spec = SPECS["no wind"]
    data = Errors(spec, samples(spec))
    path = str(tmp_path / "covariance.nc")
    with pytest.raises(UserError, match="set it to 2"):
        trainer(max_epochs=3).fit(CovarianceCalibration(path, lmax=6), datamodule=data)
    with pytest.raises(UserError, match="lacks error_std"):
        trainer().fit(CovarianceCalibration(path, lmax=6), DataLoader(list(data.errors)))  # type: ignore[arg-type]
    assert not Path(path).exists()


def test_a_file_without_a_checksum_is_judged_by_ranges(tmp_path: Path) -> None:
    """Files of earlier versions have none."""
    path = tmp_path / "covariance.nc"
    statistics(SPECS["no wind"]).save(path)
    with xr.open_dataset(path, engine="scipy") as opened:
        dataset = opened.load()
    del dataset.attrs["sha256"]
    dataset.to_netcdf(path, engine="scipy")
    CovarianceStatistics.load(path)
    dataset.assign(channel_std=1e4 * dataset.channel_std).to_netcdf(path, engine="scipy")
    with pytest.raises(UserError, match=r"channel_std: the error std of .* expected"):
        CovarianceStatistics.load(path)

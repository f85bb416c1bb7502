"""Statistics of the published B: what is estimated, the file, and the calibration."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from tests.device import DEVICE
from vaevar.errors import UserError
from vaevar.models.covariance.balance import ControlVariables
from vaevar.models.covariance.draws import DrawnErrors
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.published import PublishedEstimator, PublishedStatistics
from vaevar.models.covariance.published_calibration import PublishedCalibration
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics
from vaevar.state import StateSpec

GRID, LMAX = Grid.gaussian(16), 8
SPEC = StateSpec(["t2m"], ["z", "q", "u", "v"], [500, 850])


@cache
def errors() -> Tensor:
    """[B, C, H, W]: ψ of 10⁶ m² s⁻¹, its wind, and z = 2·10⁻⁵ ψ + 5 everywhere; the others noise."""
    random = torch.Generator().manual_seed(0)
    harmonics = SphericalHarmonics(GRID, LMAX, torch.float64)

    def noise(fields: int) -> Tensor:
        parts = torch.randn(60, fields, LMAX + 1, LMAX + 1, 2, generator=random, dtype=torch.float64)
        return harmonics.synthesise(torch.view_as_complex(parts) * torch.ones(LMAX + 1, LMAX + 1).tril())

    psi = 1e6 * noise(2)
    psi = psi - GRID.area_mean(psi)[..., None, None]  # the wind does not know it
    u, v = VectorHarmonics(GRID, LMAX, torch.float64).wind(psi, torch.zeros_like(psi))
    return torch.cat([noise(1), 2e-5 * psi + 5.0 * noise(2), 1e-4 * noise(2), u, v], 1)


@cache
def statistics() -> PublishedStatistics:
    estimator = PublishedEstimator(SPEC, GRID, LMAX)
    for batch in errors().split(20):
        estimator.update(batch)
    estimator.end_pass()
    return estimator.statistics({"data": "synthetic"})


def test_a_regression_that_is_there_is_found() -> None:
    found, names = statistics(), ControlVariables(SPEC).names
    z, psi = names.index("z850"), names.index("psi850")
    assert found.coefficient[z] == pytest.approx(2e-5, rel=0.05)
    assert found.partner[z] == psi
    own, of_psi = found.std[z], 2e-5 * found.std[psi]
    assert found.explained[z] == pytest.approx(of_psi**2 / (of_psi**2 + own**2), rel=0.05)
    rms = GRID.area_mean(errors().square()).mean(0).sqrt()
    np.testing.assert_allclose(found.channel_std, rms.numpy(), rtol=1e-5)
    # Humidity has no partner, and the 10 m wind that t2m would have is not there.
    assert [found.partner[names.index(name)] for name in ("q500", "t2m", "psi500")] == [-1, -1, -1]
    assert found.provenance == {"samples": 60, "data": "synthetic"}


def test_file_round_trip(tmp_path: Path) -> None:
    before = statistics()
    before.save(tmp_path / "new" / "b.nc")
    after = PublishedStatistics.load(tmp_path / "new" / "b.nc")
    assert (after.spec, after.grid, after.lmax) == (before.spec, before.grid, LMAX)
    for name in ("std", "coefficient", "channel_std"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.provenance == before.provenance
    assert (tmp_path / "new" / "b.nc").stat().st_size < 10_000


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "b.nc"

    def refused(says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            PublishedStatistics.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def changed(change: object) -> None:
        statistics().save(path)
        with xr.open_dataset(path, engine="scipy") as opened:
            dataset = opened.load()
        change(dataset).to_netcdf(path, engine="scipy")  # type: ignore[operator]

    refused("no such statistics of the published B.*published_covariance.yaml")
    path.write_bytes(b"CDF nothing of the kind")
    refused("cannot be read")
    changed(lambda dataset: dataset.assign_attrs(format="vaevar-covariance-2"))
    refused("holds the format 'vaevar-covariance-2', expected 'vaevar-published-covariance-1'")
    changed(lambda dataset: dataset.drop_vars("truncation"))
    refused("lacks truncation")
    changed(lambda dataset: dataset.assign(truncation=np.int32(6)))
    refused("checksum does not match")
    changed(lambda dataset: dataset.assign(truncation=np.int32(0)))
    refused("truncation is 0")
    changed(lambda dataset: dataset.assign(standard_deviation=-dataset.standard_deviation))
    refused("std must be positive")
    changed(lambda dataset: dataset.assign(channel_std=dataset.channel_std * np.nan))
    refused("channel_std has values that are not finite")
    changed(lambda dataset: dataset.assign(channel_std=1.1 * dataset.channel_std))
    refused("the parts of .* have 0.909. times its std, expected 1")
    changed(lambda dataset: dataset.assign(regression_coefficient=0 * dataset.regression_coefficient + 1.0))
    refused("coefficient for psi500, which no ψ explains")
    changed(lambda dataset: dataset.assign_coords(channel_units=dataset.channel_units[::-1].values))
    refused("channel_units is")
    big = {name: 1e4 * getattr(statistics(), name) for name in ("std", "channel_std")}
    dataclasses.replace(statistics(), **big).save(path)
    refused(r"channel_std: the error std of .* expected")


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(UserError, match="choose another lmax"):
        PublishedEstimator(SPEC, GRID, 40)
    estimator = PublishedEstimator(SPEC, GRID, LMAX)
    estimator.end_pass()
    with pytest.raises(ValueError, match="no samples"):
        estimator.statistics()


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    estimator = CovarianceEstimator(SPEC, GRID, EstimationSettings(lmax=LMAX, band_centres=(1, 4)))
    for _ in range(2):
        estimator.update(errors())
        estimator.end_pass()
    estimator.statistics().save(tmp_path / "covariance.nc")
    return tmp_path / "covariance.nc"


def trainer(epochs: int) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs, accelerator=DEVICE, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def test_a_fit_on_draws_of_b_finds_the_moments_of_its_samples(
    calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = calibrated.with_name("published.nc")
    data = DrawnErrors(str(calibrated), samples=400, batch_size=50)
    with pytest.raises(UserError, match=r"PublishedCalibration: .* needs 1 pass .* set it to 1"):
        trainer(2).fit(PublishedCalibration(str(path), lmax=LMAX), datamodule=data)
    assert not path.exists()
    trainer(1).fit(PublishedCalibration(str(path), lmax=LMAX), datamodule=data)
    found, expected = PublishedStatistics.load(path), statistics()
    # The others have parts that depend on latitude in B: its balance has f in it.
    alone = [i for i, name in enumerate(found.variables.names) if name.startswith(("psi", "q", "t2m"))]
    np.testing.assert_allclose(found.std[alone], expected.std[alone], rtol=0.1)
    np.testing.assert_allclose(found.channel_std, expected.channel_std, rtol=0.1)
    record = found.provenance["data"]
    assert (record["source"], record["samples"], len(record["sha256"])) == ("draws of B", 400, 64)
    assert "ψ explains" in capsys.readouterr().out


def test_draws_depend_on_seed_and_number_alone(calibrated: Path) -> None:
    one, other = (DrawnErrors(str(calibrated), 6, size) for size in (2, 3))
    together = torch.cat(list(one.training_in_order()))
    torch.testing.assert_close(together, torch.cat(list(other.training_in_order())))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(
        together, torch.cat(list(DrawnErrors(str(calibrated), 6, 2, seed=1).training_in_order()))
    )
    # Physical units per unit: of the size that B has.
    drawn = torch.cat(list(DrawnErrors(str(calibrated), 300).training_in_order())) * one.error_std
    std = CovarianceStatistics.load(calibrated).channel_std
    ratio = drawn.square().mean((0, 3)).sqrt().numpy() / std
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)
    with pytest.raises(UserError, match="samples 0"):
        DrawnErrors(str(calibrated), samples=0)

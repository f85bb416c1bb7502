"""NMC differences on a toy world where every number is known, and the module that streams them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DistributedSampler

from tests.data.samples.toys import ADDED, GAINED, GRID, SPEC, START, ToyForecaster, ToySource
from vaevar.data.samples.background_errors import BackgroundErrors, BackgroundErrorStore
from vaevar.data.samples.nmc import BackgroundErrorMaking
from vaevar.errors import UserError
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

END = np.datetime64("2020-01-05T18", "h")


def _build(path: Path, forecaster: ToyForecaster, **changes: Any) -> None:
    settings = {"start": START, "end": END, "every_hours": 6, "batch_size": 3} | changes
    BackgroundErrorMaking(path, ToySource(END), forecaster, **settings).make()


def _physical(path: Path) -> np.ndarray:
    dataset = xr.open_zarr(path, chunks=None)
    return (dataset["background_error"].astype(np.float64) * dataset["scale"]).values


@pytest.mark.parametrize("every_hours", [6, 12, 24])
def test_differences_pair_by_valid_time(tmp_path: Path, every_hours: int) -> None:
    path = tmp_path / "errors.zarr"
    _build(path, ToyForecaster(), every_hours=every_hours)
    # 48 h forecast from v − 48 h: truth(v − 48 h) + 8 added; 24 h: truth(v − 24 h) + 4 added. With
    # truth(v − 24 h) = truth(v − 48 h) + 4 gained, the pair differs by 4 (added − gained); pairs of
    # other valid times differ by other multiples of what the truth gains.
    expected = (4 * (ADDED - GAINED)).double().numpy()
    found = _physical(path)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-3)
    dataset = xr.open_zarr(path, chunks=None)
    # Initial times begin where two past states exist and end with the period; valid 48 h later,
    # as long as a forecast from 24 h before that is at hand.
    first = np.datetime64("2020-01-01T06")
    starts = np.arange(first, END + np.timedelta64(1, "h"), np.timedelta64(every_hours, "h"))
    valid = starts + np.timedelta64(48, "h")
    valid = valid[valid <= starts[-1] + np.timedelta64(24, "h")]
    np.testing.assert_array_equal(dataset["time"].values, valid.astype("datetime64[ns]"))
    assert dataset["background_error"].dtype == np.float16
    assert dataset["background_error"].dims == ("time", "channel", "latitude", "longitude")
    assert dataset["channel"].values.tolist() == ["u10", "q500", "z500"]
    assert dataset.attrs["source"] == "a toy"
    assert "48 h minus 24 h" in dataset.attrs["scheme"]
    np.testing.assert_allclose(dataset["error_mean"].values, expected[:, 0, 0], rtol=1e-3)


def test_statistics_are_those_of_the_stored_fields_weighted_by_area(tmp_path: Path) -> None:
    path = tmp_path / "errors.zarr"
    _build(path, ToyForecaster(noise=0.3))
    values, weights = _physical(path), GRID.area_weights.numpy() / GRID.shape[0]
    mean = np.einsum("tchw,h->c", values, weights) / (values.shape[0] * GRID.shape[1])
    centred = (values - mean[None, :, None, None]) ** 2
    std = np.sqrt(np.einsum("tchw,h->c", centred, weights) / (values.shape[0] * GRID.shape[1]))
    dataset = xr.open_zarr(path, chunks=None)
    np.testing.assert_allclose(dataset["error_std"].values, std, rtol=1e-6)
    np.testing.assert_allclose(dataset["error_mean"].values, mean, rtol=1e-6)
    zonal = values.transpose(1, 2, 0, 3).reshape(*values.shape[1:3], -1).std(-1)
    np.testing.assert_allclose(dataset["zonal_error_std"].values, zonal, rtol=1e-6)
    # Small humidities keep float16's full relative precision of 2^-11.
    ratio = np.abs(dataset["background_error"].values[:, 1].astype(np.float64))
    assert 2.0**-14 < np.median(ratio) < 2.0**4


def test_a_killed_build_goes_on_to_the_same_store(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    _build(whole, ToyForecaster(noise=0.3))
    for steps in (8 * 3, 8 * 2):  # a kill in the fourth batch, and one during the resumed run
        with pytest.raises(KeyboardInterrupt):
            _build(killed, ToyForecaster(noise=0.3, stop_after=steps))
        assert not killed.exists()
    _build(killed, ToyForecaster(noise=0.3))
    assert not killed.with_name("killed.zarr.partial").exists()
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(killed) for p in killed.rglob("*") if p.is_file())
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    # A finished store is left alone: a forecaster that may not step is not asked to.
    _build(killed, ToyForecaster(noise=0.3, stop_after=0))


def test_a_store_made_in_another_way_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "errors.zarr"
    _build(path, ToyForecaster())
    with pytest.raises(UserError, match="every_hours = 6, but the config now says 12"):
        _build(path, ToyForecaster(), every_hours=12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every_hours": 7}, "every_hours must divide 24"),
        ({"end": np.datetime64("2020-01-02T00", "h")}, "too short"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _build(tmp_path / "errors.zarr", ToyForecaster(), **changes)


def test_a_forecaster_that_diverges_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finite.*u10"):
        _build(tmp_path / "errors.zarr", ToyForecaster(noise=float("nan")))


def _module(path: Path, **changes: Any) -> BackgroundErrors:
    settings: dict[str, Any] = {
        "start": str(START),
        "end": str(END),
        "every_hours": 6,
        "validation_fraction": 0.25,
        "gap_hours": 12,
        "batch_size": 2,
    }
    return BackgroundErrors(ToySource(END), ToyForecaster(noise=0.3), str(path), **settings | changes)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("errors") / "errors.zarr"
    _build(path, ToyForecaster(noise=0.3))
    return path


@pytest.mark.parametrize("floor", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("in_memory", [False, True])
def test_batches_are_normalised_and_validation_is_the_last_stretch(
    errors: Path, in_memory: bool, floor: float
) -> None:
    data = _module(errors, in_memory=in_memory, zonal_floor=floor)
    data.prepare_data()
    data.setup("fit")
    physical, dataset = _physical(errors), xr.open_zarr(errors)
    overall = dataset["error_std"].values[:, None]
    std = overall if floor >= 1 else np.maximum(dataset["zonal_error_std"].values, floor * overall)
    count = len(physical)
    first = count - round(count / 4)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    found = torch.cat(batches)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, physical[first:] / std[..., None], rtol=1e-5, atol=1e-6)
    # Training ends the gap before validation begins: two samples of 6 h lie between.
    assert list(data.training.indices) == list(range(first - 2 + 1))
    np.testing.assert_allclose(data.error_std[..., 0], np.broadcast_to(std, physical.shape[1:3]), rtol=1e-6)
    assert data.spec == SPEC
    assert data.grid == GRID


def test_shuffling_follows_the_seed_and_ranks_share_the_samples_out(errors: Path) -> None:
    def first_values(seed: int) -> list[float]:
        data = _module(errors, seed=seed, batch_size=1)
        data.setup("fit")
        return [float(batch[0, 0, 0, 0]) for batch in data.train_dataloader()]

    assert first_values(0) == first_values(0) != first_values(1)
    assert sorted(first_values(0)) == sorted(first_values(1))
    # Lightning shares samples out with this sampler; the data set has a length and an order for it.
    data = _module(errors)
    data.setup("fit")
    shares = [set(DistributedSampler(data.training, 2, rank, drop_last=True)) for rank in range(2)]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) >= len(data.training) - 1


def test_worker_processes_read_the_same(errors: Path) -> None:
    data = _module(errors, in_memory=False, workers=1)
    data.setup("fit")
    assert data.store[0] is not None  # a handle is open here before the workers start
    alone = _module(errors)
    alone.setup("fit")
    pairs = zip(data.val_dataloader(), alone.val_dataloader(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_augmentation_flips_signs_and_rolls_only_while_training(errors: Path) -> None:
    data = _module(errors, roll_longitude=4)
    data.setup("fit")
    batch = torch.stack([data.store[i] for i in range(8)])
    plain = data.normalise(batch)
    data.trainer = SimpleNamespace(training=False)  # type: ignore[assignment]
    assert torch.equal(data.on_after_batch_transfer(batch, 0), plain)
    data.trainer = SimpleNamespace(training=True, global_step=0)  # type: ignore[assignment]
    torch.manual_seed(0)
    changed = data.on_after_batch_transfer(batch, 0)
    kinds = set()
    for before, after in zip(plain, changed, strict=True):
        matches = [
            (sign, places)
            for sign in (-1, 1)
            for places in range(0, 16, 4)
            if torch.equal(after, sign * before.roll(places, -1))
        ]
        assert matches
        kinds.update(matches)
    assert {sign for sign, _ in kinds} == {-1, 1}
    assert len({places for _, places in kinds}) > 1


def test_stores_that_do_not_fit_are_refused(errors: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such store"):
        BackgroundErrorStore(tmp_path / "none.zarr")
    other = tmp_path / "other.zarr"
    xr.Dataset({"x": ("time", np.zeros(2))}).to_zarr(other)
    with pytest.raises(UserError, match="lacks background_error"):
        BackgroundErrorStore(other)
    data = _module(errors)
    data.spec = StateSpec(surface=("v10",), upper=("q", "z"), levels=(500,))
    with pytest.raises(UserError, match="holds the channels u10"):
        data.setup("fit")
    data.spec, data.grid = SPEC, Grid.gaussian(10)
    with pytest.raises(UserError, match=r"is on .*; expected Grid\(10"):
        data.setup("fit")
    with pytest.raises(UserError, match="0 for validation"):
        _module(errors, validation_fraction=0.01).setup("fit")
    with pytest.raises(UserError, match="times such as"):
        _module(errors, start="tomorrow")


def test_errors_on_a_coarser_grid_are_means_over_its_cells(tmp_path: Path) -> None:
    _build(tmp_path / "fine.zarr", ToyForecaster(noise=0.3))
    coarse = Grid.gaussian(4)
    _build(tmp_path / "coarse.zarr", ToyForecaster(noise=0.3), coarse=coarse)
    fine = torch.from_numpy(_physical(tmp_path / "fine.zarr"))
    found = _physical(tmp_path / "coarse.zarr")
    expected = Coarsening(GRID, coarse)(fine).numpy()
    size = np.abs(expected).max((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(found / size, expected / size, atol=2e-3)  # float16, before and after
    store = BackgroundErrorStore(tmp_path / "coarse.zarr")
    assert store.grid == coarse
    weights = coarse.area_weights.numpy()[:, None]
    mean = (found * weights).mean((0, 2, 3))
    std = np.sqrt((found**2 * weights).mean((0, 2, 3)) - mean**2)
    np.testing.assert_allclose(store.error_std, std, rtol=1e-3)


def test_a_module_with_coarse_errors(tmp_path: Path) -> None:
    data = BackgroundErrors(
        ToySource(END), ToyForecaster(noise=0.3), str(tmp_path / "errors.zarr"), str(START), str(END),
        every_hours=6, validation_fraction=0.3, gap_hours=6, coarsen_to=(4, 8),
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    assert data.grid == Grid.gaussian(4)
    assert next(iter(data.training_in_order())).shape[1:] == (3, 4, 8)
    with pytest.raises(UserError, match="is finer than"):
        _build(tmp_path / "finer.zarr", ToyForecaster(), coarse=Grid.gaussian(16))


def test_a_disk_too_small_is_found_before_the_first_sample(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"may be needed, but only 1\.00 kB are free"):
        _build(tmp_path / "errors.zarr", ToyForecaster(stop_after=0))
    assert not list(tmp_path.glob("*.zarr*/*"))
    assert "of 15 samples to make, at most" in capsys.readouterr().out

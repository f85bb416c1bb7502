"""Views of NMC differences and of a cycle's errors: normalised, split in time, augmented in training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DistributedSampler

from tests.data.samples.toys import (
    END,
    GRID,
    SPEC,
    START,
    ToyForecaster,
    ToySource,
    build_cycle,
    build_nmc,
    physical_errors,
)
from vaevar.data.samples.background_errors import (
    BackgroundErrorPairs,
    BackgroundErrors,
    BackgroundErrorsWithCoverage,
)
from vaevar.data.samples.nmc import NMCDifferences
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


def _module(path: Path, **changes: Any) -> BackgroundErrors:
    settings: dict[str, Any] = {"validation_fraction": 0.25, "gap_hours": 12, "batch_size": 2}
    return BackgroundErrors(str(path), _making(), **settings | changes)


def _making(**changes: Any) -> NMCDifferences:
    settings: dict[str, Any] = {"start": str(START), "end": str(END), "every_hours": 6}
    return NMCDifferences(ToySource(END), ToyForecaster(noise=0.3), **settings | changes)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("errors") / "errors.zarr"
    build_nmc(path, ToyForecaster(noise=0.3))
    return path


@pytest.mark.parametrize("floor", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("in_memory", [False, True])
def test_batches_are_normalised_and_validation_is_the_last_stretch(
    errors: Path, in_memory: bool, floor: float
) -> None:
    data = _module(errors, in_memory=in_memory, zonal_floor=floor)
    data.prepare_data()
    data.setup("fit")
    physical, dataset = physical_errors(errors), xr.open_zarr(errors)
    overall = dataset["error_std"].values[0, :, None]
    std = overall if floor >= 1 else np.maximum(dataset["zonal_error_std"].values[0], floor * overall)
    count = len(physical)
    first = count - round(count / 4)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    normalised = torch.cat(batches)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised, physical[first:] / std[..., None], rtol=1e-5, atol=1e-6)
    # Training ends the gap before validation begins: two samples of 6 h lie between.
    assert list(data.training.indices) == list(range(first - 2 + 1))
    np.testing.assert_allclose(data.error_std[..., 0], np.broadcast_to(std, physical.shape[1:3]), rtol=1e-6)
    assert data.spec == SPEC
    assert data.grid == GRID


def test_shuffling_follows_the_seed_and_ranks_share_the_samples_out(errors: Path) -> None:
    def first_values(seed: int) -> list[float]:
        data = _module(errors, seed=seed, batch_size=1)
        data.setup("fit")
        return [float(errors[0, 0, 0, 0]) for (errors,) in data.train_dataloader()]

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
    assert all(torch.equal(a, b) for (a,), (b,) in pairs)


def test_augmentation_flips_signs_and_rolls_only_while_training(errors: Path) -> None:
    data = _module(errors, roll_longitude=4)
    data.setup("fit")
    batch = data.store.__getitems__(list(range(8)))
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


def test_stores_that_do_not_fit_the_making_are_refused(errors: Path) -> None:
    data = _module(errors)
    data.making.spec = StateSpec(surface=("v10",), upper=("q", "z"), levels=(500,))  # type: ignore[union-attr]
    with pytest.raises(UserError, match="holds the channels u10"):
        data.setup("fit")
    data.making.spec, data.making.grid = SPEC, Grid.gaussian(10)  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"is on .*; expected Grid\(10"):
        data.setup("fit")
    with pytest.raises(UserError, match="0 for validation"):
        _module(errors, validation_fraction=0.01).setup("fit")
    with pytest.raises(UserError, match="is not a time"):
        _making(start="tomorrow")


def test_a_module_with_coarse_errors(tmp_path: Path) -> None:
    making = _making(coarsen_to=(4, 8))
    data = BackgroundErrors(str(tmp_path / "errors.zarr"), making, validation_fraction=0.3, gap_hours=6)
    data.prepare_data()
    data.setup()
    assert data.grid == Grid.gaussian(4)
    assert next(iter(data.training_in_order())).shape[1:] == (3, 4, 8)
    with pytest.raises(UserError, match="is finer than"):
        _making(coarsen_to=(16, 32))


CYCLE = {"validation_fraction": 0.25, "gap_hours": 12, "batch_size": 4}


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cycle") / "errors.zarr"
    build_cycle(path)
    return path


def _cycle_errors(store: Path, **arguments: Any) -> BackgroundErrors:
    data = BackgroundErrors(str(store), **CYCLE, **arguments)
    data.setup()
    return data


def test_errors_of_a_cycle_are_in_units_of_their_std_at_each_latitude(cycle: Path) -> None:
    data = _cycle_errors(cycle)
    values = data.normalise(data.store.__getitems__(list(range(len(data.store)))))
    torch.testing.assert_close(
        (values - values.mean((0, 3), keepdim=True)).square().mean((0, 3)).sqrt(),
        torch.ones(3, GRID.shape[0]),
        atol=1e-3,
        rtol=0,
    )
    # The same as in the view with coverage, in physical units.
    values = torch.cat(list(data.training_in_order()))
    plain = BackgroundErrorsWithCoverage(str(cycle), **CYCLE)
    plain.setup()
    physical = torch.cat([errors for _, errors, _ in plain.training_in_order()])
    torch.testing.assert_close(values * data.error_std, physical)
    level = _cycle_errors(cycle, zonal_floor=1.0)
    assert level.error_std.shape == (3, GRID.shape[0], 1)
    assert (level.error_std == level.error_std[:, :1]).all()


def test_pairs_are_normalised_as_a_denoiser_expects(cycle: Path) -> None:
    pairs, plain = (
        BackgroundErrorPairs(str(cycle), **CYCLE),
        BackgroundErrorsWithCoverage(str(cycle), **CYCLE),
    )
    for data in (pairs, plain):
        data.setup()
    background, residual = (torch.cat(part) for part in zip(*pairs.training_in_order(), strict=True))
    physical, errors, _ = (torch.cat(part) for part in zip(*plain.training_in_order(), strict=True))
    mean, std, size = (
        value[:, None, None] for value in (pairs.forecast_mean, pairs.forecast_std, pairs.residual_std)
    )
    torch.testing.assert_close(background * std + mean, physical)
    torch.testing.assert_close(residual * size, errors)
    assert background.mean().abs() < 0.1
    assert residual.square().mean() == pytest.approx(1.0, abs=0.2)
    assert pairs.lead_hours == 6


def test_signs_are_flipped_only_while_training(cycle: Path) -> None:
    data = _cycle_errors(cycle)
    batch = next(iter(data.val_dataloader()))
    data.trainer = SimpleNamespace(training=False, global_step=0)  # type: ignore[assignment]
    before = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(before, data.normalise(batch))
    signs = set()
    for step in range(4):
        data.trainer = SimpleNamespace(training=True, global_step=step)  # type: ignore[assignment]
        after = data.on_after_batch_transfer(batch, 0)
        torch.testing.assert_close(after.abs(), before.abs())
        signs |= set((after / before).mean((1, 2, 3)).round().tolist())
    assert signs == {-1.0, 1.0}


def test_the_record_says_what_the_samples_are(cycle: Path) -> None:
    record = _cycle_errors(cycle).record
    assert len(record.pop("content_digest")) == 64
    assert record == {
        "path": str(cycle), "format": "vaevar-samples-1", "scheme": "a toy", "lead_hours": 6, "samples": 29,
    }  # fmt: skip


def test_mistakes(cycle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zonal_floor must be positive"):
        _cycle_errors(cycle, zonal_floor=0.0)
    with pytest.raises(UserError, match=r"no such store of samples.*record a cycle: python main.py predict"):
        _cycle_errors(tmp_path / "nowhere.zarr")
    with pytest.raises(UserError, match="does not say how to make it"):
        _cycle_errors(cycle).builder  # noqa: B018
    with pytest.raises(UserError, match="is finer than"):
        _making(coarsen_to=(16, 32))

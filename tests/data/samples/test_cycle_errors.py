"""A cycle's errors as fields: in units of their std at each latitude, flipped only while training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr

from tests.data.samples.toys import GRID, SPEC
from vaevar.data.samples.cycle_errors import CycleErrorFields, CycleErrorPairs, CycleErrors
from vaevar.data.samples.layout import (
    finish_pairs,
    lay_out_coverage,
    lay_out_pairs,
    stored_pair_sums,
    write_pair,
)
from vaevar.errors import UserError

SIZE = np.array([0.5, 1e-5, 300.0])[:, None, None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cycle") / "errors.zarr"
    times = np.datetime64("2020-01-01T00", "h") + 6 * np.arange(40)
    lay_out_pairs(path, times, (6,), SPEC, GRID, {"note": "a toy"})
    lay_out_coverage(path, len(times), GRID)
    group = zarr.open_group(path, mode="r+")
    random = np.random.default_rng(0)
    # Errors grow from north to south.
    shape = np.linspace(0.5, 2.0, GRID.shape[0])[:, None]
    for number, time in enumerate(times):
        noise = random.normal(size=(2, 1, 3, *GRID.shape))
        forecast = np.array([1.0, 1e-3, 5e4])[:, None, None] + SIZE * noise[0]
        write_pair(lambda name: group[name], number, forecast, SIZE * shape * noise[1], SPEC, time)
    finish_pairs(group.get, stored_pair_sums(group.get, GRID))
    return path


def fields(store: Path, **arguments) -> CycleErrorFields:
    data = CycleErrorFields(
        str(store), spec=SPEC, validation_fraction=0.25, gap_hours=12, batch_size=4, **arguments
    )
    data.setup()
    return data


def test_errors_are_in_units_of_their_std_at_each_latitude(store):
    data = fields(store)
    values = torch.cat(list(data.training_in_order()))
    torch.testing.assert_close(
        values.square().mean((0, 3)).sqrt(), torch.ones(3, GRID.shape[0]), atol=1e-3, rtol=0
    )
    # The same as the plain module's, in physical units.
    plain = CycleErrors(str(store), spec=SPEC, validation_fraction=0.25, gap_hours=12, batch_size=4)
    plain.setup()
    physical = torch.cat([errors for _, errors, _ in plain.training_in_order()])
    torch.testing.assert_close(values * data.error_std, physical)
    level = fields(store, zonal_floor=1.0)
    assert level.error_std.shape == (3, GRID.shape[0], 1)
    assert (level.error_std == level.error_std[:, :1]).all()


def test_pairs_are_normalised_as_a_denoiser_expects(store):
    settings = {"spec": SPEC, "validation_fraction": 0.25, "gap_hours": 12, "batch_size": 4}
    pairs, plain = CycleErrorPairs(str(store), **settings), CycleErrors(str(store), **settings)
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


def test_signs_are_flipped_only_while_training(store):
    data = fields(store, flip_sign=True)
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


def test_the_record_says_what_the_samples_are(store):
    assert fields(store).record == {
        "path": str(store), "note": "a toy", "title": "Forecasts and their errors", "samples": 29,
    }  # fmt: skip


def test_mistakes(store, tmp_path):
    with pytest.raises(UserError, match="zonal_floor must be positive"):
        fields(store, zonal_floor=0.0)
    with pytest.raises(UserError, match="no such store of a cycle's errors"):
        fields(tmp_path / "nowhere.zarr")

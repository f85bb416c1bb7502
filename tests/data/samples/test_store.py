"""One store and one reader for all samples; other formats and damaged stores are refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

from tests.data.samples.toys import GRID, START, ToyForecaster, ToySource, build_cycle, build_nmc
from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.background_errors import (
    BackgroundErrorPairs,
    BackgroundErrors,
    BackgroundErrorsWithCoverage,
)
from vaevar.data.samples.forecast_errors import ForecastErrors
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.module import Samples
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError

# Kinds of stores, and their lead.
LEADS = {"nmc": 48, "forecast": 6, "cycle": 6}
FIELDS = {
    "nmc": ("error",),
    "forecast": ("error", "background"),
    "cycle": ("error", "background", "coverage"),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Samples made in three ways."""
    paths = {kind: tmp_path_factory.mktemp("stores") / f"{kind}.zarr" for kind in LEADS}
    build_nmc(paths["nmc"], ToyForecaster(noise=0.3))
    end = np.datetime64("2020-01-06T18", "h")
    forecasts = ForecastErrors(
        ToySource(end), ToyForecaster(noise=0.3), str(START), str(end), every_hours=6, rollout_batch_size=3
    )
    StoreBuilder(paths["forecast"], forecasts).make()
    build_cycle(paths["cycle"])
    return paths


@pytest.mark.parametrize("view", [BackgroundErrors, BackgroundErrorPairs, BackgroundErrorsWithCoverage])
@pytest.mark.parametrize("kind", LEADS)
def test_every_store_feeds_every_view_that_it_has_the_fields_for(
    stores: dict[str, Path], kind: str, view: type[Samples]
) -> None:
    data = view(str(stores[kind]), lead_hours=LEADS[kind], gap_hours=6, batch_size=2, validation_fraction=0.3)
    if not set(view.fields) <= set(FIELDS[kind]):
        absent = next(name for name in view.fields if name not in FIELDS[kind])
        with pytest.raises(UserError, match=f"lacks {absent}"):
            data.setup("fit")
        return
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    parts = (batch,) if isinstance(batch, torch.Tensor) else batch
    assert len(parts) == len(view.fields)
    for name, part in zip(view.fields, parts, strict=True):
        assert part.shape == (2, MAPS if name == "coverage" else 3, *GRID.shape)
        assert part.dtype == torch.float32
        assert part.isfinite().all()
    assert data.record["lead_hours"] == data.lead_hours == LEADS[kind]
    assert data.record["scheme"]


@pytest.mark.parametrize("kind", LEADS)
def test_a_sample_is_the_array_at_its_lead(stores: dict[str, Path], kind: str) -> None:
    store = SampleStore(stores[kind], FIELDS[kind], LEADS[kind])
    dataset = xr.open_zarr(stores[kind], chunks=None).sel(lead=LEADS[kind])
    valid = dataset["time"].values + np.timedelta64(LEADS[kind], "h")
    np.testing.assert_array_equal(store.times, valid)
    for name, values in zip(FIELDS[kind], store[3], strict=True):
        np.testing.assert_array_equal(values.numpy(), dataset[name].values[3])
        if name != "coverage":
            physical = dataset[name].astype(np.float64) * dataset[f"{name}_scale"]
            physical = physical + dataset.get(f"{name}_offset", 0.0)
            expected = physical.transpose("time", "channel", "latitude", "longitude").values[3]
            np.testing.assert_allclose(store.decode(name, values), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", LEADS)
def test_scales_are_powers_of_two(stores: dict[str, Path], kind: str) -> None:
    dataset = xr.open_zarr(stores[kind])
    for name in FIELDS[kind][:2]:
        fraction, _ = np.frexp(dataset[f"{name}_scale"].values)
        assert (fraction == 0.5).all()


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (("background_error", "scale"), "predict --config configs/background_errors.yaml"),
        (("forecast", "residual"), "fit --config configs/diffda.yaml"),
        (
            ("forecast", "residual", "coverage"),
            "configs/cycle_sparse.yaml --config configs/cycle_errors.yaml",
        ),
    ],
)
def test_earlier_formats_are_refused_with_the_command_that_makes_them(
    tmp_path: Path, names: tuple[str, ...], command: str
) -> None:
    path = tmp_path / "old.zarr"
    xr.Dataset({name: ("time", np.zeros(2)) for name in names}, attrs={"title": "old"}).to_zarr(
        path, zarr_format=2
    )
    for opening in (
        lambda: SampleStore(path),
        lambda: build_nmc(path, ToyForecaster(stop_after=0)),  # a fit finds it where it would make its own
    ):
        with pytest.raises(UserError, match=f"earlier format.*make it again: .*{command}$") as raised:
            opening()
        assert "\n" not in str(raised.value)


def _without(path: Path, name: str) -> None:
    del zarr.open_group(path, mode="r+")[name]
    zarr.consolidate_metadata(path)


def _set(path: Path, name: str, value: Any) -> None:
    zarr.open_array(path / name, mode="r+")[:] = value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: _without(path, "error_std"), "lacks error_std"),
        (lambda path: _without(path, "background_offset"), "lacks background_offset"),
        (lambda path: _without(path, "background"), "lacks background"),
        (lambda path: _without(path, "lead"), "lacks lead"),
        (lambda path: (path / "error" / ".zarray").unlink(), "error cannot be opened"),
        (lambda path: _set(path, "time", 0), "times do not ascend"),
        (lambda path: _set(path, "zonal_error_std", np.nan), "zonal_error_std is not finite.*incomplete"),
        (lambda path: _set(path, "error_scale", 0.0), "error_scale is not positive for u10, q500, z500"),
        (lambda path: _set(path, "background_std", -1.0), "background_std is not positive"),
        (lambda path: zarr.open_group(path, mode="r+").attrs.update(format="samples-9"), "'samples-9'"),
        (lambda path: (path / ".zgroup").write_text("{"), "cannot be opened as a zarr store"),
    ],
)
def test_damaged_and_incomplete_stores_are_refused(
    stores: dict[str, Path], tmp_path: Path, spoil: Any, message: str
) -> None:
    path = tmp_path / "copy.zarr"
    shutil.copytree(stores["cycle"], path)
    SampleStore(path, FIELDS["cycle"])
    spoil(path)
    with pytest.raises(UserError, match=message) as raised:
        SampleStore(path, FIELDS["cycle"])
    assert str(path) in str(raised.value)


def test_a_store_in_the_making_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_nmc(tmp_path / "errors.zarr", ToyForecaster(stop_after=20))
    with pytest.raises(UserError, match="is not finite: the store is incomplete"):
        SampleStore(tmp_path / "errors.zarr.partial")


def test_a_truncated_field_is_refused(stores: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "copy.zarr"
    shutil.copytree(stores["cycle"], path)
    zarr.open_array(path / "coverage", mode="r+").resize((7, MAPS, *GRID.shape))
    with pytest.raises(UserError, match="coverage is \\(7, "):
        SampleStore(path, FIELDS["cycle"])


def test_one_of_several_leads_has_to_be_chosen(stores: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"holds leads of \[6, 48\] h; choose one"):
        SampleStore(stores["forecast"])
    assert SampleStore(stores["nmc"]).lead_hours == 48

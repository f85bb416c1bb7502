"""A store of samples is what was made, or it is refused: whoever changes it through zarr is noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.data.samples.toys import END, START, ToyForecaster, ToySource, build_cycle
from vaevar.content.seal import SEAL
from vaevar.data.samples.forecast_errors import ForecastErrors
from vaevar.data.samples.layout import SUMS
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError

FIELDS = ("error", "background")


def build_forecasts(path: Path) -> None:
    """Two leads, four samples in a file."""
    errors = ForecastErrors(
        ToySource(END), ToyForecaster(noise=0.3), str(START), str(END), (6, 12), 6, 3, samples_per_file=4
    )
    StoreBuilder(path, errors).make()


@pytest.fixture(scope="module", params=["v2", "v3 in shards"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "samples.zarr"
    build_cycle(path, 10) if request.param == "v2" else build_forecasts(path)
    return path


@pytest.fixture
def store(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "samples.zarr")
    return tmp_path / "samples.zarr"


def opened(path: Path, in_memory: bool = False) -> SampleStore:
    return SampleStore(path, FIELDS, lead_hours=6, in_memory=in_memory)


def read(path: Path) -> None:
    """Every sample."""
    store = opened(path)
    store.__getitems__(list(range(len(store))))


def changed(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write numbers anew, as a program would that fixes something."""
    array: Any = zarr.open_array(path / name, mode="r+")
    array[...] = change(np.asarray(array[...]))


STATISTICS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "twice the scale of errors": ("error_scale", lambda x: x * 2),
    "twice the std of errors": ("error_std", lambda x: x * 2),
    "a mean of errors": ("error_mean", lambda x: x * 1.01),
    "latitudes of the std turned": ("zonal_error_std", lambda x: x[..., ::-1]),
    "no offset": ("background_offset", np.zeros_like),
    "twice the scale of backgrounds": ("background_scale", lambda x: x * 2),
    "another mean of backgrounds": ("background_mean", lambda x: x * 1.001),
    "another std of backgrounds": ("background_std", lambda x: x * 1.1),
    "times 6 h later": ("time", lambda x: x + 6),
    "rows farther apart": ("latitude", lambda x: x * 1.01),
    "columns farther east": ("longitude", lambda x: x + 1.0),
    "checksums": ("error_checksum", lambda x: x + 1),
}


@pytest.mark.parametrize("change", STATISTICS)
def test_numbers_that_were_changed_are_refused(store: Path, change: str) -> None:
    changed(store, *STATISTICS[change])
    with pytest.raises(UserError, match=r"samples\.zarr: .*(is not|are not) what it was made with: .*since"):
        opened(store)


def one(number: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[3, 0, 1, 5, 5] = number
        return values

    return change


ITEMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zero": np.zeros_like,
    "twice as large": lambda x: x * np.float16(2),
    "channels turned around": lambda x: x[:, :, ::-1],
    "upside down": lambda x: x[..., ::-1, :],
    "samples in another order": lambda x: x[::-1],
    "leads or rows exchanged": lambda x: x[:, ::-1] if x.shape[1] > 1 else x[..., ::-1, :],
    "one NaN": one(np.nan),
    "one infinite": one(np.inf),
    "one of 60 000": one(6e4),
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("change", ITEMS)
def test_samples_that_were_changed_are_refused(store: Path, field: str, change: str) -> None:
    changed(store, field, ITEMS[change])
    with pytest.raises(UserError, match=rf"samples\.zarr/{field}/.*not what was written when the store"):
        read(store)
    with pytest.raises(UserError, match="not what was written"):
        opened(store, in_memory=True)


def test_a_sample_in_anothers_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.zarr"
    build_cycle(path, 10)
    opened(path)
    shutil.copy(path / "error" / "3.0.0.0.0", path / "error" / "4.0.0.0.0")
    with pytest.raises(UserError, match=r"error/4\.0\.0\.0\.0: .*another item"):
        read(path)
    (path / "error" / "4.0.0.0.0").write_bytes(b"")
    with pytest.raises(UserError, match=r"error/4\.0\.0\.0\.0: cannot be read"):
        read(path)
    shutil.rmtree(path / "background")
    shutil.copytree(path / "error", path / "background")
    with pytest.raises(UserError, match=r"background/0\.0\.0\.0\.0: .*another item"):
        SampleStore(path, ("background",))[0]


def test_another_encoding_is_refused_and_the_way_out_works(store: Path) -> None:
    dataset = xr.open_zarr(store, chunks=None).load()
    for variable in dataset.variables.values():
        variable.encoding = {}
    again = store.with_name("again.zarr")
    dataset.drop_vars("error_checksum").to_zarr(again, zarr_format=2)
    with pytest.raises(UserError, match=rf"remove its attribute {SEAL} and its arrays \.\.\._checksum"):
        opened(again)
    del dataset.attrs[SEAL]
    dataset.to_zarr(store.with_name("another.zarr"), zarr_format=2)
    with pytest.raises(UserError, match="written again in another encoding"):
        opened(store.with_name("another.zarr"))
    dataset.drop_vars([name for name in SUMS if name in dataset]).to_zarr(store.with_name("free.zarr"))
    free, before = opened(store.with_name("free.zarr")), opened(store)
    for one_of, other in zip(free[3], before[3], strict=True):
        assert one_of.equal(other)


def test_a_copy_and_new_attributes_do_no_harm(store: Path) -> None:
    zarr.open_group(store, mode="r+").attrs["note"] = "mine"
    read(store)
    assert len(opened(store).attributes[SEAL]) == 64


def test_leads_that_no_forecast_has(tmp_path: Path) -> None:
    """Also in a store of an earlier version."""
    path = tmp_path / "samples.zarr"
    build_cycle(path, 10)
    del zarr.open_group(path, mode="r+").attrs[SEAL]
    changed(path, "lead", lambda x: x * 800)
    with pytest.raises(UserError, match=r"a lead of 4800 h, expected 1 to 720"):
        SampleStore(path)

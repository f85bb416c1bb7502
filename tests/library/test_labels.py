"""xarray and pandas at the door: by label, in any order and direction, and exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import vaevar
from tests.conftest import centre
from tests.library.conftest import weather
from vaevar.mistakes.notices import Notice

Grid = vaevar.Grid
SPEC = vaevar.StateSpec(["u10", "t2m"], ["z", "t"], [300, 500, 850])


def state(grid: Any, spec: Any = SPEC) -> Any:
    noise = np.random.default_rng(0).normal(size=(len(spec), *grid.shape))
    mean, std = (np.array(part)[:, None, None] for part in zip(*map(centre, spec.channels), strict=True))
    return vaevar.State(torch.from_numpy(mean + 0.1 * std * noise).float(), spec, grid)


GRIDS = [
    Grid.gaussian(8),
    Grid.equiangular(9),
    Grid.cells(8),
    Grid.regular(8, 16),
]


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(grid: Any, dtype: torch.dtype) -> None:
    here = vaevar.State(state(grid).values.to(dtype), SPEC, grid)
    dataset = here.to_xarray(np.datetime64("2021-01-01T06"))
    assert dataset["geopotential"].attrs["units"] == "m**2 s**-2"
    there = vaevar.State.from_xarray(dataset)
    assert there.spec == SPEC
    assert there.values.dtype == dtype
    assert torch.equal(there.values, here.values)
    assert (there.grid.latitude == grid.latitude).all()
    assert (there.grid.longitude == grid.longitude).all()


def disordered(dataset: xr.Dataset) -> dict[str, xr.Dataset]:
    level = {"level": ("level", dataset.level.values * 100, {"units": "Pa"})}
    west = {"longitude": (dataset.longitude + 180) % 360 - 180}
    return {
        "from south to north": dataset.isel(latitude=slice(None, None, -1)),
        "levels from below": dataset.isel(level=slice(None, None, -1)),
        "dimensions in another order": dataset.transpose("longitude", "latitude", "level"),
        "levels in Pa": dataset.assign_coords(level),
        "other names": dataset.rename({"latitude": "lat", "longitude": "lon", "level": "plev"}),
        "from the date line": dataset.assign_coords(west).sortby("longitude"),
        "with one time": dataset.expand_dims(time=[np.datetime64("2021-01-01", "ns")]),
        "with more variables": dataset.assign(orography=dataset["2m_temperature"] * 0),
    }


@pytest.mark.parametrize("name", disordered(state(GRIDS[0]).to_xarray()))
def test_labels_count_and_not_positions(name: str) -> None:
    here = state(GRIDS[0])
    there = vaevar.State.from_xarray(disordered(here.to_xarray())[name])
    assert there.spec == SPEC
    assert torch.equal(there.values, here.values)


def test_channels_may_be_chosen() -> None:
    here, some = state(GRIDS[0]), vaevar.StateSpec(["t2m"], ["t"], [500])
    there = vaevar.State.from_xarray(here.to_xarray(), some)
    assert torch.equal(there.values, here.select(some).values)
    assert there.spec.names == ("t2m", "t500")


def test_what_cannot_be_is_refused() -> None:
    dataset = state(GRIDS[0]).to_xarray()
    two = xr.concat([dataset, dataset], dim="time")
    celsius = dataset.assign({"temperature": dataset["temperature"].assign_attrs(units="degC")})
    silent = dataset.assign({"temperature": (dataset["temperature"] - 273.15).assign_attrs(units="K")})
    for wrong, error, says in (
        (two, vaevar.UserError, r"has 2 times; choose one with ds\.isel\(time=0\)"),
        (celsius, vaevar.UserError, "is in 'degC', expected 'K'; add 273.15"),
        (silent, ValueError, "channel t300 has mean"),
        (dataset.isel(latitude=slice(0, 4)), vaevar.UserError, "short of the pole"),
        (dataset["temperature"], vaevar.UserError, "is DataArray, expected an xarray.Dataset"),
        (xr.Dataset({"rain": ("x", [1.0])}), vaevar.UserError, "dimension 'latitude'"),
    ):
        with pytest.raises(error, match=says):
            vaevar.State.from_xarray(wrong)
    with pytest.raises(TypeError, match="values are ndarray, expected a tensor"):
        vaevar.State(state(GRIDS[0]).values.numpy(), SPEC, GRIDS[0])


def test_fields_by_name_and_differences() -> None:
    here = state(GRIDS[1])
    field = here["t500"]
    assert field.dims == ("latitude", "longitude")
    assert field.attrs["units"] == "K"
    assert float(field.level) == 500
    assert list(here[["t500", "z300"]].data_vars) == ["t500", "z300"]
    with pytest.raises(ValueError, match="no channel 't501'"):
        here["t501"]
    error = vaevar.State(here.values + 1.0, SPEC, here.grid) - here
    assert isinstance(error, vaevar.Fields)
    assert not isinstance(error, vaevar.State)
    np.testing.assert_allclose(error.rmse(), 1.0, rtol=1e-3)
    with pytest.raises(ValueError, match="the fields that are subtracted are others"):
        here - state(GRIDS[0])


def test_a_spectrum_sums_to_the_mean_square() -> None:
    grid = Grid.gaussian(16)
    wave = np.cos(np.radians(grid.latitude))[:, None] * np.cos(np.radians(grid.longitude))
    fields = vaevar.Fields(torch.from_numpy(wave).float().expand(len(SPEC), -1, -1), SPEC, grid)
    spectrum = fields.spectrum()
    np.testing.assert_allclose(spectrum.sum("wavenumber"), 1 / 3, rtol=1e-5)
    # The area of a band of latitude is not quite its weight in the quadrature.
    np.testing.assert_allclose(spectrum.sum("wavenumber"), fields.rmse() ** 2, rtol=5e-3)
    assert float(spectrum.sel(channel="z500").argmax()) == 1


def test_observations_there_and_back() -> None:
    observations = vaevar.Observations(
        variable=["t", "u10"], latitude=[1.5, -20.0], longitude=[3.0, -4.0], pressure=[500.0, np.nan],
        value=[250.25, 3.5], error_std=[1.0, 2.0], time_offset=[0.0, -1.5], platform=["sonde", "ship"],
    )  # fmt: skip
    table = observations.to_dataframe()
    again = vaevar.Observations.from_dataframe(table)
    pd.testing.assert_frame_equal(again.to_dataframe(), table)
    few = vaevar.Observations.from_dataframe(
        table.query("variable == 'u10'")[["variable", "latitude", "longitude", "value", "error_std"]]
    )
    assert (few.time_offset[0], few.platform[0], np.isnan(few.pressure[0])) == (0.0, "", True)
    with pytest.raises(ValueError, match="lacks the columns error_std; it has variable, latitude"):
        vaevar.Observations.from_dataframe(table.drop(columns="error_std"))
    assert len(vaevar.Observations.from_dataframe(table.iloc[:0])) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"value": np.ma.masked_array([250.0], [True])}, "value has 1 masked values: leave these"),
        (
            {"time_offset": np.array([2], "timedelta64[h]")},
            "time_offset holds durations, expected numbers",
        ),
        ({"value": [250.0 + 1j]}, "value holds complex numbers, expected numbers"),
        ({"latitude": ["north"]}, "latitude holds text, expected numbers"),
    ],
)
def test_what_is_no_number_is_no_observation(given: Any, says: str) -> None:
    good = {"variable": "t", "latitude": [1.0], "longitude": [2.0], "pressure": 500.0, "value": [250.0]}
    with pytest.raises(ValueError, match=says):
        vaevar.Observations(**good | {"error_std": 1.0} | given)


def test_short_names_beside_long_ones_are_told() -> None:
    """What is left out because of its name alone."""
    dataset = weather().to_xarray().rename(v_component_of_wind="v")
    said = (
        r"the dataset: v have other names .*, and are left out; to have them too, ds.rename\(\{'v': 'v_comp"
    )
    with pytest.warns(Notice, match=said):
        state = vaevar.Fields.from_xarray(dataset)
    assert state.spec.upper == ("z", "u")

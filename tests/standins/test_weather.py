"""Synthetic weather: the layout of WeatherBench 2, the atmosphere's first two moments, no partial stores."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr

from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.errors import UserError
from vaevar.scripts import run
from vaevar.sphere.grid import Grid
from vaevar.standins import weather as weather_module
from vaevar.standins.weather import LEVELS, SyntheticWeather, write
from vaevar.state import VARIABLES, State, StateSpec

SMALL = {"start": "2020-02-28T18", "end": "2020-02-29T12", "rows": 9, "columns": 16}
TIMES = np.datetime64("2020-02-28T18", "h") + np.arange(4) * np.timedelta64(6, "h")
SPEC = StateSpec()
GRID = Grid.equiangular(37)


@pytest.fixture(scope="module")
def weather() -> SyntheticWeather:
    return SyntheticWeather(SPEC, GRID)


@pytest.fixture(scope="module")
def year(weather) -> torch.Tensor:
    """[T, C, H, W] float64: 36 states of a year."""
    days = np.datetime64("2020-01-01T00", "h") + np.arange(36) * np.timedelta64(245, "h")
    return torch.from_numpy(np.stack([weather.state(time) for time in days])).double()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "sample.zarr"
    write(str(path), **SMALL)
    return path


# --- the store ------------------------------------------------------------------------------------


def test_the_layout_is_that_of_weatherbench(store):
    group = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == 2
    assert set(group.array_keys()) == {known.long_name for known in VARIABLES.values()} | {
        *("time", "level", "latitude", "longitude")
    }
    hours = group["time"]
    assert (hours.dtype, hours.attrs["units"]) == (np.int64, "hours since 1959-01-01")
    first = int((TIMES[0] - np.datetime64("1959-01-01T00")) / np.timedelta64(1, "h"))
    assert hours[:].tolist() == [first, first + 6, first + 12, first + 18]
    assert group["level"].dtype == np.int64
    assert group["level"][:].tolist() == list(LEVELS[13])
    assert group["latitude"].dtype == group["longitude"].dtype == np.float32
    assert group["latitude"][:].tolist() == np.linspace(90, -90, 9).tolist()
    assert group["longitude"][:].tolist() == (np.arange(16) * 22.5).tolist()
    for name, known in VARIABLES.items():
        array, upper = group[known.long_name], name in SPEC.upper
        dims = ["time", *(["level"] if upper else []), "latitude", "longitude"]
        assert array.attrs["_ARRAY_DIMENSIONS"] == dims
        assert array.attrs["units"] == known.units
        assert array.dtype == np.float32
        assert array.chunks == (1, *([13] if upper else []), 9, 16)


def test_it_opens_as_states(store, tmp_path):
    source = StoreSource(str(store))
    source.prepare(TIMES[0], TIMES[-1])
    opened = source.open(SPEC)
    assert opened.grid == Grid.equiangular(9)
    np.testing.assert_array_equal(opened.times, TIMES.astype("datetime64[ns]"))
    made = SyntheticWeather(SPEC, opened.grid)
    for time in TIMES:
        np.testing.assert_array_equal(opened.state(time).values.numpy(), made.state(time))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["sample.zarr", "sample.zarr.lock"]


def test_37_levels_hold_the_13(tmp_path):
    path = tmp_path / "sample.zarr"
    write(str(path), **SMALL, levels=37)
    assert zarr.open_group(path, mode="r")["temperature"].chunks == (1, 37, 9, 16)
    assert WeatherStore(path, StateSpec(levels=LEVELS[37])).read(TIMES).shape[1] == 4 + 5 * 37
    WeatherStore(path, SPEC).state(TIMES[0])


# --- the weather ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("t2m", 278.8, 21.3), ("msl", 100_981, 1336), ("z500", 53_827, 3300), ("u500", 7.08, 12.2)],
)
def test_means_and_stds_are_those_published_for_era5(year, name, mean, std):
    field = year[:, SPEC.index(name)]
    made = GRID.area_mean(field).mean()
    assert made.item() == pytest.approx(mean, abs=0.3 * std)
    variance = GRID.area_mean((field - made).square()).mean()
    assert variance.sqrt().item() == pytest.approx(std, rel=0.2)


def test_every_value_is_possible(year):
    for channel, field in zip(SPEC.channels, year.transpose(0, 1), strict=True):
        assert float(field.min()) in channel.points, channel.name
        assert float(field.max()) in channel.points, channel.name
    humidity = year[:, SPEC.variable_slice("q")]
    assert humidity.min() > 0
    assert GRID.area_mean(humidity[:, -1]).mean() > 10 * GRID.area_mean(humidity[:, 5]).mean()
    State(year, SPEC, GRID)


def test_latitudes_differ_as_on_earth(year):
    zonal = year.mean((0, -1))
    equator, middle, pole = 18, 9, 0
    assert zonal[SPEC.index("t2m"), equator] > zonal[SPEC.index("t2m"), pole] + 40
    assert zonal[SPEC.index("z500"), equator] > zonal[SPEC.index("z500"), pole] + 4000
    assert zonal[SPEC.index("u250"), middle] > zonal[SPEC.index("u250"), equator] + 10
    weather = (year - year.mean(0)).square().mean((0, -1)).sqrt()
    for name in ("t2m", "msl", "z500", "v500"):
        assert weather[SPEC.index(name), middle] > 1.3 * weather[SPEC.index(name), equator], name


def test_weather_changes_slowly_and_travels_eastward(weather, year):
    start = np.datetime64("2020-07-01T00", "h")
    before, after, much_later = (
        torch.from_numpy(weather.state(start + np.timedelta64(hours, "h"))) - year.mean(0)
        for hours in (0, 6, 40 * 24)
    )

    def alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return GRID.area_mean(a * b) / (GRID.area_mean(a * a) * GRID.area_mean(b * b)).sqrt()

    assert alike(before, after).min() > 0.9
    assert alike(before, much_later).abs().mean() < 0.5
    # 5° of longitude are a column, and what 12 hours of travel make.
    later = torch.from_numpy(weather.state(start + np.timedelta64(12, "h"))) - year.mean(0)
    shifts = torch.stack([alike(before.roll(columns, -1), later).mean() for columns in (-1, 0, 1, 2)])
    assert shifts.argmax() == 2


def test_a_state_is_a_function_of_time_and_seed(weather):
    again = SyntheticWeather(SPEC, GRID)
    for time in TIMES[[2, 0]]:
        np.testing.assert_array_equal(again.state(time), weather.state(time))
    other = SyntheticWeather(SPEC, GRID, seed=1).state(TIMES[0])
    assert not np.allclose(other, weather.state(TIMES[0]), rtol=1e-3)


# --- never half there -----------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_after(monkeypatch: pytest.MonkeyPatch, states: int) -> list[int]:
    """Makes writing fail in the middle of a state, and returns the numbers of the states written."""
    numbers: list[int] = []
    whole = weather_module.write_states

    def write_states(path, start, values, spec):
        if len(numbers) == states:
            surface = StateSpec(upper=())
            whole(path, start, np.zeros_like(values[:, :4]), surface)
            raise Killed
        whole(path, start, values, spec)
        numbers.append(start)

    monkeypatch.setattr(weather_module, "write_states", write_states)
    return numbers


def test_a_killed_run_leaves_no_store_and_is_gone_on_with(tmp_path, store, monkeypatch):
    path = tmp_path / "killed.zarr"
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            write(str(path), **SMALL)
    assert not path.exists()
    with monkeypatch.context() as patch:
        numbers = kill_after(patch, 99)
        write(str(path), **SMALL)
    assert numbers == [2, 3]
    np.testing.assert_array_equal(WeatherStore(path, SPEC).read(TIMES), WeatherStore(store, SPEC).read(TIMES))
    assert not (path / "progress.json").exists()


def test_what_another_recipe_left_is_not_mixed_in(tmp_path, store, monkeypatch):
    path = tmp_path / "killed.zarr"
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            write(str(path), **SMALL, seed=5)
    write(str(path), **SMALL)
    np.testing.assert_array_equal(WeatherStore(path, SPEC).read(TIMES), WeatherStore(store, SPEC).read(TIMES))


def test_a_store_that_is_there_is_left_alone(store, monkeypatch, capsys):
    numbers = kill_after(monkeypatch, 0)
    write(str(store), **SMALL)
    assert numbers == []
    assert "already exists" in capsys.readouterr().out
    for changed in ({"seed": 3}, {"levels": 37}, {"rows": 11}, {"end": "2020-02-29T18"}):
        with pytest.raises(UserError, match=r"is another store \(.* expected .*\); give another path"):
            write(str(store), **(SMALL | changed))
    np.testing.assert_array_equal(WeatherStore(store, SPEC).times, TIMES.astype("datetime64[ns]"))


def test_somebody_elses_store_is_not_touched(store):
    attributes = store / ".zattrs"
    attributes.write_text("{}")
    metadata = json.loads((store / ".zmetadata").read_text())
    metadata["metadata"][".zattrs"] = {}
    (store / ".zmetadata").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="source is None, expected 'made-up weather of vaevar'"):
        write(str(store), **SMALL)
    assert WeatherStore(store, SPEC).times.size == 4


def test_one_state_is_held_at_a_time(tmp_path, monkeypatch):
    made: list[weakref.ref] = []
    state, synthesise = SyntheticWeather.state, weather_module.SphericalHarmonics.synthesise

    def watched_state(self, time):
        # zarr's own thread may let go of the last one a moment after its write has returned.
        for _ in range(500):
            if all(ref() is None for ref in made):
                break
            sleep(0.01)
        assert all(ref() is None for ref in made)
        values = state(self, time)
        made.append(weakref.ref(values))
        return values

    def watched_synthesis(self, coefficients):
        assert coefficients.shape[0] <= 13
        return synthesise(self, coefficients)

    monkeypatch.setattr(SyntheticWeather, "state", watched_state)
    monkeypatch.setattr(weather_module.SphericalHarmonics, "synthesise", watched_synthesis)
    write(str(tmp_path / "sample.zarr"), **SMALL)
    assert len(made) == 4


def test_the_need_is_told_first_and_a_full_disk_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match=r"sample.zarr: 159 kB may be needed, but only 100 kB are free"):
        write(str(tmp_path / "sample.zarr"), **SMALL)
    assert "4 of 4 states on 9 × 16 to make, at most 159 kB to write (100 kB free)" in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample.zarr.lock"]


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"end": "2020-02-01"}, "the period ends (end 2020-02-01) before it starts (start 2020-02-28T18)"),
        ({"start": "yesterday"}, "'yesterday' is not a time; write it in UTC, such as 2020-01-01T06"),
        ({"columns": 15}, "15 columns are impossible: give an even number"),
        ({"columns": 4}, "9 × 4 points are impossible: Grid(9 × 4, equiangular) is too coarse for waves"),
        ({"rows": 1}, "1 × 16 points are impossible"),
        ({"columns": 0}, "0 columns are impossible"),
        ({"columns": -2}, "-2 columns are impossible"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, capsys, changed, says):
    settings = SMALL | {"path": str(tmp_path / "sample.zarr")} | changed
    with pytest.raises(SystemExit) as caught:
        run(write, [f"--{key}={value}" for key, value in settings.items()])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert says in errors
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    path = tmp_path / "new" / "sample.zarr"
    run(write, [f"--path={path}/", "--levels=13", *(f"--{key}={value}" for key, value in SMALL.items())])
    assert "wrote" in capsys.readouterr().out
    WeatherStore(path, SPEC).state(TIMES[-1])
    with pytest.raises(SystemExit):
        run(write, [f"--path={path}", "--levels=14"])

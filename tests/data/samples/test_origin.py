"""Samples are those of the states and the forecaster that there are, or are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.data.samples.toys import END, GRID, LEVEL, SPEC, START, ToyForecaster, ToyStore
from vaevar.data.samples.forecast_errors import ForecastErrors
from vaevar.data.samples.layout import check_format
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.nmc import NMCDifferences
from vaevar.data.samples.store import SampleStore
from vaevar.data.weather.store import StoreSource
from vaevar.data.weather.writer import create_store, extend_store, write_states
from vaevar.errors import UserError

TIMES = np.arange(START, END + np.timedelta64(1, "h"), np.timedelta64(6, "h"))
CENTRE = LEVEL.numpy()


class Normalised(ToyForecaster):
    normalisation = "of the mean and std files"


def truth(path: Path, factor: float = 1.0, times: np.ndarray = TIMES) -> None:
    shutil.rmtree(path, ignore_errors=True)
    create_store(path, times, SPEC, GRID, {})
    values = ToyStore(times[-1]).read(times)
    write_states(path, 0, CENTRE + factor * (values - CENTRE), SPEC)


def build(directory: Path, kind: Any = NMCDifferences, forecaster: Any = None, **changes: Any) -> None:
    source = StoreSource(str(directory / "truth.zarr"))
    settings = {"start": str(START), "end": str(END), "every_hours": 6} | changes
    making = kind(source, forecaster or ToyForecaster(), **settings)
    StoreBuilder(directory / "errors.zarr", making).make()


@pytest.mark.parametrize("kind", [NMCDifferences, ForecastErrors])
@pytest.mark.parametrize("samples_per_file", [1, 2])
def test_samples_of_a_source_that_was_replaced_are_refused(
    tmp_path: Path, kind: Any, samples_per_file: int
) -> None:
    truth(tmp_path / "truth.zarr")
    build(tmp_path, kind, samples_per_file=samples_per_file)
    before = SampleStore(tmp_path / "errors.zarr", lead_hours=48).statistics["error_std"]
    build(tmp_path, kind, samples_per_file=samples_per_file)
    truth(tmp_path / "truth.zarr", factor=3.0)
    with pytest.raises(UserError, match=r"errors\.zarr: was made from other states than .*truth\.zarr has"):
        build(tmp_path, kind, samples_per_file=samples_per_file)
    assert (SampleStore(tmp_path / "errors.zarr", lead_hours=48).statistics["error_std"] == before).all()


def test_a_source_that_has_grown_or_is_gone_stays_the_same(tmp_path: Path) -> None:
    truth(tmp_path / "truth.zarr")
    build(tmp_path)
    longer = np.arange(START, END + np.timedelta64(49, "h"), np.timedelta64(6, "h"))
    extend_store(tmp_path / "truth.zarr", longer)
    write_states(tmp_path / "truth.zarr", len(TIMES), ToyStore(longer[-1]).read(longer[len(TIMES) :]), SPEC)
    build(tmp_path)
    shutil.rmtree(tmp_path / "truth.zarr")
    build(tmp_path)


def test_another_part_of_the_source_may_change(tmp_path: Path) -> None:
    truth(tmp_path / "truth.zarr")
    early = {"end": "2020-01-04T00"}
    build(tmp_path, **early)
    values = ToyStore(END).read(TIMES[-2:])
    write_states(tmp_path / "truth.zarr", len(TIMES) - 2, CENTRE + 2 * (values - CENTRE), SPEC)
    build(tmp_path, **early)
    write_states(tmp_path / "truth.zarr", 4, CENTRE + 2 * (values - CENTRE), SPEC)
    with pytest.raises(UserError, match="was made from other states"):
        build(tmp_path, **early)


def test_a_source_replaced_while_samples_are_made_is_noticed(tmp_path: Path) -> None:
    truth(tmp_path / "truth.zarr")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, forecaster=ToyForecaster(stop_after=20))
    truth(tmp_path / "truth.zarr", factor=3.0)
    with pytest.raises(UserError, match=r"errors\.zarr\.partial: was made from other states"):
        build(tmp_path)


def test_forecasts_with_another_mean_and_std_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth(tmp_path / "truth.zarr")
    build(tmp_path, forecaster=Normalised())
    build(tmp_path, forecaster=Normalised())
    monkeypatch.setattr(Normalised, "normalisation", "of others")
    with pytest.raises(UserError, match="was made from forecasts with another mean and std"):
        build(tmp_path, forecaster=Normalised())


def test_samples_of_an_earlier_version_are_used_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth(tmp_path / "truth.zarr")
    build(tmp_path)
    group = zarr.open_group(tmp_path / "errors.zarr", mode="r+")
    del group.attrs["source_content"]
    capsys.readouterr()
    build(tmp_path)
    assert "earlier version of vaevar made it, which did not keep source_content" in capsys.readouterr().out
    assert "source_content" not in check_format(tmp_path / "errors.zarr")

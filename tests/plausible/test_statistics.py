"""Means, stds and error stds of other channels, units and files are told by their ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaevar.data.weather.climatology import load_climatological_std
from vaevar.errors import UserError
from vaevar.plausible.statistics import judge_error_means, judge_error_stds, judge_means, judge_stds
from vaevar.standins.climate import typical_climate
from vaevar.standins.weather import LEVELS
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

WEIGHTS = Path(__file__).parents[2] / "weights"
SPEC = StateSpec()
MEAN, STD = typical_climate(SPEC)
Q, Z = SPEC.variable_slice("q"), SPEC.variable_slice("z")


def units(values: np.ndarray, part: slice | int, factor: float) -> np.ndarray:
    changed = values.copy()
    changed[part] *= factor
    return changed


@pytest.mark.parametrize("spec", [SPEC, StateSpec(levels=LEVELS[37]), StateSpec((), ("q", "t"), (500,))])
def test_a_climate_is_accepted(spec: StateSpec) -> None:
    mean, std = typical_climate(spec)
    judge_means("mean", mean, spec)
    judge_stds("std", std, spec)
    for part in (0.02, 0.5, 1.0):
        judge_error_stds("error", part * std, spec)
    judge_error_means("error", 0.1 * std, spec)


def test_committed_files_are_accepted() -> None:
    Normalizer.load(WEIGHTS / "forecaster_mean.npy", WEIGHTS / "forecaster_std.npy", SPEC)
    load_climatological_std(WEIGHTS / "climatological_std.npy", SPEC)


@pytest.mark.parametrize(
    "wrong",
    [
        np.roll(MEAN, -4),
        MEAN[::-1],
        np.concatenate([MEAN[:4], MEAN[4:].reshape(5, 13)[:, ::-1].ravel()]),
        units(MEAN, 3, 0.01), units(MEAN, Z, 1 / 9.80665), units(MEAN, Q, 1000.0), units(MEAN, Q, -1.0),
        MEAN - 273.15 * np.array([channel.variable in ("t", "t2m") for channel in SPEC.channels]),
        STD, np.zeros(69), np.full(69, np.nan), units(MEAN, slice(4, 6), np.nan),
    ],
)  # fmt: skip
def test_means_of_something_else_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^file: .*mean .*expected"):
        judge_means("file", wrong, SPEC)


@pytest.mark.parametrize(
    "wrong",
    [
        np.roll(STD, -4), STD[::-1], units(STD, 3, 0.01), units(STD, Q, 1000.0), units(STD, Z, 0.01),
        MEAN, np.abs(MEAN), np.zeros(69), -STD, np.ones(69), STD**2,
    ],
)  # fmt: skip
def test_stds_of_something_else_are_refused(wrong: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "std.npy"
    np.save(path, wrong)
    with pytest.raises(UserError, match=r"std.npy: the std of .* expected .* in the order u10, v10"):
        load_climatological_std(path, SPEC)


@pytest.mark.parametrize("wrong", [np.abs(MEAN), np.roll(STD, -4), units(STD, Q, 1000.0), np.zeros(69)])
def test_errors_that_are_none_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UserError, match="error std of"):
        judge_error_stds("samples", wrong, SPEC)


def test_a_background_is_no_error() -> None:
    with pytest.raises(UserError, match="error mean of t2m"):
        judge_error_means("samples", MEAN, SPEC)


def test_humidity_that_varies_most_high_up_is_of_other_levels() -> None:
    spec = StateSpec([], ["q"], [300, 500, 850])
    std = np.array([1e-4, 5e-4, 2e-3])
    judge_stds("std.npy", std, spec)
    with pytest.raises(UserError, match=r"the std of q at 850 hPa is 0.0001, not above that at 300 hPa"):
        judge_stds("std.npy", std[::-1].copy(), spec)

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.standins.weather import LEVELS
from vaevar.state import PRESSURE_LEVELS, Channel, State, StateSpec
from vaevar.state.normalizer import Normalizer

GRID = Grid.gaussian(4)
SMALL = StateSpec(surface=("u10", "t2m"), upper=("z", "q"), levels=(500, 850))
# Published climatological means of these channels: u10, t2m, z500, z850, q500, q850.
MEANS = torch.tensor([-0.1, 278.8, 53_827.0, 13_730.0, 7.8e-4, 4.6e-3])


def small_values() -> torch.Tensor:
    return MEANS[:, None, None].expand(len(SMALL), *GRID.shape).clone()


# --- channels -------------------------------------------------------------------------------------


def test_the_69_channels_stand_in_the_order_of_fengwu():
    spec = StateSpec()
    expected = ["u10", "v10", "t2m", "msl"]
    for variable in "zquvt":
        for level in (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000):
            expected.append(f"{variable}{level}")
    assert list(spec.names) == expected
    assert len(spec) == 69
    positions = {"u10": 0, "v10": 1, "t2m": 2, "msl": 3}
    positions |= {"z500": 11, "q500": 24, "u500": 37, "v500": 50, "t850": 66, "t1000": 68}
    assert {name: spec.index(name) for name in positions} == positions


def test_a_subset_keeps_its_own_order():
    spec = StateSpec(surface=("msl", "u10"), upper=("t", "z"), levels=(200, 850))
    assert spec.names == ("msl", "u10", "t200", "t850", "z200", "z850")
    assert spec.variable_slice("z") == slice(4, 6)
    assert spec.variable_slice("msl") == slice(0, 1)
    assert spec.has("z850")
    assert not spec.has("z500")
    assert spec.channels[2] == Channel("t", 200)
    assert [channel.is_wind for channel in spec.channels] == [False, True, False, False, False, False]
    assert spec.channels[4].units == "m**2 s**-2"


def test_specs_are_equal_when_their_channels_are():
    assert StateSpec() == StateSpec(levels=list(PRESSURE_LEVELS))
    assert hash(StateSpec()) == hash(StateSpec())
    assert StateSpec() != StateSpec(upper=("z", "q", "u", "t", "v"))
    # Levels do not matter where nothing lies on them.
    assert StateSpec(surface=("t2m",), upper=(), levels=(1, 2)) == StateSpec(surface=("t2m",), upper=())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"surface": ("u10", "sst")}, r"unknown variables \['sst'\]"),
        ({"upper": ("z", "t2m")}, r"unknown variables \['t2m'\]"),
        ({"surface": ("u10", "u10")}, "repeat"),
        ({"levels": (1000, 500)}, "ascend from the top"),
        ({"levels": (500, 500)}, "ascend from the top"),
        ({"levels": ()}, "positive pressure levels"),
        ({"levels": (0, 500)}, "positive pressure levels"),
        ({"surface": (), "upper": ()}, "at least one channel"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        StateSpec(**arguments)


def test_a_channel_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no channel 'z100'"):
        SMALL.index("z100")
    with pytest.raises(ValueError, match="no variable 'v'"):
        SMALL.variable_slice("v")


def test_ranges_hold_the_published_means():
    published = {"t2m": 278.8, "msl": 100_981.0, "z500": 53_827.0, "q500": 7.8e-4, "u500": 7.08}
    spec = StateSpec()
    for name, mean in published.items():
        channel = spec.channels[spec.index(name)]
        assert mean in channel.points
        assert mean in channel.means


def test_a_state_on_the_37_levels_of_era5_is_possible():
    # The mesosphere begins near 1 hPa: in the standard atmosphere at 47.8 km, 0.47e6 m² s⁻² high.
    spec, grid = StateSpec(levels=LEVELS[37]), Grid.gaussian(8)
    mean = typical_climate(spec)[0]
    mean[spec.index("z1")], mean[spec.index("z20")] = 47.8e3 * 9.80665, 26.4e3 * 9.80665
    state = State(torch.from_numpy(mean)[:, None, None].expand(len(spec), *grid.shape), spec, grid)
    assert state.channel("z1").shape == grid.shape
    for name, wrong in (("z1", 1e6), ("z50", 3e5), ("z1", -2e4), ("t1", 100.0)):
        values = state.values.clone()
        values[spec.index(name)] = wrong
        with pytest.raises(ValueError, match=f"channel {name} has mean"):
            State(values, spec, grid)


def test_no_two_channels_have_one_name():
    spec = StateSpec(levels=LEVELS[37])
    assert len(set(spec.names)) == len(spec)
    assert spec.channels[spec.index("u10")].level is None
    assert spec.channels[spec.index("v10hPa")].level == 10


# --- states ---------------------------------------------------------------------------------------


def test_a_state_gives_its_channels_by_name():
    values = small_values()
    values[2] += torch.arange(32.0).reshape(4, 8)
    state = State(values, SMALL, GRID)
    torch.testing.assert_close(state.channel("z500"), values[2])
    batch = State(values.expand(3, 2, -1, -1, -1), SMALL, GRID)
    assert batch.channel("q850").shape == (3, 2, 4, 8)


def test_a_state_cannot_be_changed_by_assignment():
    with pytest.raises(dataclasses.FrozenInstanceError):
        State(small_values(), SMALL, GRID).spec = StateSpec()


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([1, 0, 2, 3, 4, 5], "channel u10 has mean 278.8.*wrong channel order"),  # u10 and t2m
        ([0, 1, 4, 5, 2, 3], "channel z500 has mean 0.00"),  # z and q
        ([0, 2, 1, 3, 4, 5], "channel t2m has mean 5.383e"),
        ([0, 1, 3, 2, 4, 5], "channel z500 has mean 1."),  # levels from below, as in Pangu's store
    ],
)
def test_swapped_channels_raise(order, says):
    with pytest.raises(ValueError, match=says):
        State(small_values()[order], SMALL, GRID)


def test_neighbouring_levels_of_geopotential_are_told_apart_by_their_order():
    spec = StateSpec(surface=(), upper=("z",), levels=(925, 1000))
    right = torch.tensor([5000.0, 3000.0])[:, None, None].expand(2, *GRID.shape)
    State(right, spec, GRID)
    with pytest.raises(ValueError, match="geopotential does not fall"):
        State(right.flip(0), spec, GRID)


def test_one_wrong_state_of_a_batch_is_enough():
    values = small_values().repeat(3, 1, 1, 1)
    values[2, 1] = 15.0  # degrees Celsius
    with pytest.raises(ValueError, match="channel t2m has mean 15, expected 240 to 310 K"):
        State(values, SMALL, GRID)
    values[2, 1] = float("nan")
    with pytest.raises(ValueError, match=r"channel t2m is NaN at 32 of 96 points, the first at .*° N, 0° E"):
        State(values, SMALL, GRID)


@pytest.mark.parametrize("shape", [(5, 4, 8), (6, 8, 4), (6, 4, 9), (4, 8)])
def test_a_wrong_shape_raises(shape):
    with pytest.raises(ValueError, match=r"the state is \(C, H, W\) = \(6, 4, 8\)"):
        State(torch.zeros(shape), SMALL, GRID)


# --- normalisation --------------------------------------------------------------------------------


def test_normalisation_and_back():
    mean, std = MEANS.numpy().astype(np.float64), np.array([5.0, 21.3, 3300.0, 1500.0, 1e-3, 4e-3])
    normalizer = Normalizer(mean, std)
    x = small_values().repeat(2, 1, 1, 1)
    x[1] += torch.from_numpy(2 * std).float()[:, None, None]
    normalized = normalizer.normalize(x)
    torch.testing.assert_close(normalized[0], torch.zeros(6, 4, 8), atol=1e-6, rtol=0)
    torch.testing.assert_close(normalized[1], torch.full((6, 4, 8), 2.0), atol=2e-5, rtol=0)
    torch.testing.assert_close(normalizer.denormalize(normalized), x)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (np.zeros(3), np.ones(2)),
        (np.zeros((3, 1)), np.ones((3, 1))),
        (np.zeros(2), np.array([1.0, 0.0])),
        (np.zeros(2), np.array([1.0, -1.0])),
        (np.array([0.0, np.nan]), np.ones(2)),
        (np.zeros(2), np.array([1.0, np.inf])),
    ],
)
def test_a_normaliser_that_makes_no_sense_is_refused(mean, std):
    with pytest.raises(ValueError, match="mean"):
        Normalizer(mean, std)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    mean, std = tmp_path / "data_mean.npy", tmp_path / "data_std.npy"
    np.save(mean, MEANS.numpy().astype(np.float64))
    np.save(std, np.array([5.0, 21.3, 3300.0, 1500.0, 1e-3, 4e-3]))
    return mean, std


def test_files_are_read_in_float64_of_any_shape_with_one_value_a_channel(files):
    normalizer = Normalizer.load(*files, SMALL)
    assert normalizer.mean.shape == (6, 1, 1)
    torch.testing.assert_close(normalizer.mean.flatten(), MEANS)
    np.save(files[0], np.load(files[0]).reshape(1, 6, 1, 1))
    torch.testing.assert_close(Normalizer.load(*files, SMALL).mean, normalizer.mean)
    for path in files:  # the bytes of a number in another order
        np.save(path, np.load(path).astype(">f8"))
    again = Normalizer.load(*files, SMALL)
    assert torch.equal(again.mean, normalizer.mean)
    assert torch.equal(again.std, normalizer.std)


def spoil(array: np.ndarray, value: float) -> np.ndarray:
    spoiled = array.copy()
    spoiled[1] = value
    return spoiled


@pytest.mark.parametrize("which", ["data_mean.npy", "data_std.npy"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such .npy file"),
        (b"", "cannot be read"),
        (b"nothing like numpy", "cannot be read"),
        (lambda a: a[:5], r"holds \(5,\) values, expected \(6,\)"),
        (lambda a: a.astype(str), "expected a .npy file of numbers"),
        (lambda a: a.astype(object), "cannot be read"),
        (lambda a: a.astype(complex), "expected a .npy file of numbers"),
        (lambda a: spoil(a, np.nan), "finite"),
        (lambda a: spoil(a, np.inf), "finite"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(files, which, content, says):
    path = files[0].with_name(which)
    good = np.load(path)
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content(good), allow_pickle=True)
    with pytest.raises(UserError, match=says) as caught:
        Normalizer.load(*files, SMALL)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_archive_in_place_of_an_array(files):
    with files[0].open("wb") as file:
        np.savez(file, mean=MEANS.numpy())
    with pytest.raises(UserError, match=r"data_mean.npy: .*it is an archive of numpy"):
        Normalizer.load(*files, SMALL)


def test_swapped_files_and_another_channel_order_are_found(files):
    with pytest.raises(UserError, match=r"data_std.npy: the mean of t2m is 21.3"):
        Normalizer.load(files[1], files[0], SMALL)  # u10's mean is negative: no std
    mean = np.load(files[0])
    np.save(files[0], mean[[2, 3, 4, 5, 0, 1]])
    with pytest.raises(UserError, match=r"data_mean.npy: the mean of u10 is 5.383e\+04 .* in another order"):
        Normalizer.load(*files, SMALL)
    np.save(files[0], np.abs(np.load(files[1])))
    with pytest.raises(UserError, match=r"the mean of t2m is 21.3 .* another file"):
        Normalizer.load(*files, SMALL)


def test_a_mean_file_in_place_of_the_std_is_found_without_a_negative_value(files):
    np.save(files[1], np.abs(np.load(files[0])))
    with pytest.raises(UserError, match=r"data_std.npy: the std of t2m .* is it another file"):
        Normalizer.load(*files, SMALL)


def test_levels_from_the_bottom_up_are_found(files):
    for path in files:
        np.save(path, np.load(path)[[0, 1, 3, 2, 5, 4]])
    with pytest.raises(UserError, match=r"data_mean.npy: the mean of z500 is .* order u10, t2m, z500"):
        Normalizer.load(*files, SMALL)


def test_files_in_single_precision_with_axes_of_length_one(files):
    expected = Normalizer.load(*files, SMALL)
    for path in files:
        np.save(path, np.load(path).astype(np.float32)[:, None, None])
    found = Normalizer.load(*files, SMALL)
    torch.testing.assert_close((found.mean, found.std), (expected.mean, expected.std), rtol=0, atol=0)


def test_zero_std(files):
    np.save(files[1], spoil(np.load(files[1]), 0.0))
    with pytest.raises(UserError, match=r"data_std.npy: the std of t2m is 0, expected 0.5 to 50 K"):
        Normalizer.load(*files, SMALL)

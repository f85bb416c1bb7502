"""Windows and statistics of a small store in which every number is known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from vaevar.data import sequences
from vaevar.data.sequences import LaneSampler, SequenceDataset, StateSequences, statistics
from vaevar.data.times import six_hourly
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC = StateSpec(surface=("u10",), upper=("z", "q"), levels=(500,))
GRID = Grid.gaussian(4)
TIMES = six_hourly("2020-01-01", "2020-01-05T18")  # 20 states
SCALES = np.array([5.0, 500.0, 1e-3], np.float32)[:, None, None]
OFFSETS = np.array([1.0, 54_000.0, 2e-3], np.float32)[:, None, None]


def world() -> np.ndarray:
    steps = np.random.default_rng(0).normal(size=(TIMES.size, 3, *GRID.shape)).astype(np.float32)
    return OFFSETS + SCALES * (0.3 * steps.cumsum(0))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sequences") / "world.zarr"
    create_store(path, TIMES, SPEC, GRID, {})
    write_states(path, 0, world(), SPEC)
    return path


@pytest.fixture
def store(path: Path) -> WeatherStore:
    return WeatherStore(path, SPEC)


def module(path: Path, **arguments) -> StateSequences:
    source = StoreSource(str(path))
    periods = ("2020-01-01", "2020-01-03", "2020-01-03T06", "2020-01-05T18")  # 9 and 11 states
    defaults = {"validation_steps": 3, "batch_size": 2, "spec": SPEC}
    return StateSequences(source, source, *periods, **(defaults | arguments))


# --- times ----------------------------------------------------------------------------------------


def test_six_hourly_times_include_both_ends():
    times = six_hourly("2020-02-28T18", "2020-03-01T06")
    assert times.tolist() == [
        t.item() for t in np.arange("2020-02-28T18", "2020-03-01T12", 6, "datetime64[h]")
    ]
    assert str(times[-1]) == "2020-03-01T06"
    assert six_hourly("2020-01-01", "2020-01-01").size == 1
    assert six_hourly("2020-01-01", "2020-01-01T18").size == 4


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2020-01-02", "2020-01-01", "ends .* before it starts"),
        ("monday", "2020-01-01", "start: 'monday' is not a time"),
        ("today", "2120-01-01", "start: 'today' is not a time"),
        ("2020-01-01", "2020-02-30", "end: '2020-02-30' is not a time"),
        ("2020-01-01", "NaT", "end: 'NaT' is not on the hour"),
        ("2020-01-01T06:30", "2020-01-02", "start: '2020-01-01T06:30' is not on the hour"),
        ("2020-01-01T06:00:01", "2020-01-02", "start: '2020-01-01T06:00:01' is not on the hour"),
        ("2020-01-01", "2020-01-02T00Z", "end: .* without a zone"),
        ("2020-01-01", "2020-01-01T17", "end: .* not a multiple of 6 h after start.* write 2020-01-01T12"),
    ],
)
def test_periods_that_are_none(start, end, says):
    with pytest.raises(UserError, match=says):
        six_hourly(start, end)


# --- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_windows_are_consecutive_states(store, in_memory):
    dataset = SequenceDataset(store, TIMES[2:9], 3, in_memory)
    assert len(dataset) == 5
    for index in range(5):
        assert dataset[index].dtype == torch.float32
        np.testing.assert_array_equal(dataset[index], world()[2 + index : 5 + index])


def test_in_memory_and_streaming_are_equal(store):
    memory, stream = (SequenceDataset(store, TIMES, 4, in_memory) for in_memory in (True, False))
    assert len(memory) == len(stream) == 17
    for index in range(len(memory)):
        torch.testing.assert_close(memory[index], stream[index], rtol=0, atol=0)


def test_a_period_shorter_than_a_window(store, path):
    with pytest.raises(UserError, match="holds 3 states, too few for a window of 4; make it longer"):
        SequenceDataset(store, TIMES[:3], 4, in_memory=True)
    short = module(path, rollout_steps=8)
    with pytest.raises(UserError, match="holds 9 states, too few for a window of 10"):
        short.setup("fit")


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_equal_a_direct_computation(store):
    mean, std, change_std = statistics(store, TIMES)
    # Every pair that starts before the last time; area weights by their own formula.
    edges = np.concatenate([[90.0], (GRID.latitude[1:] + GRID.latitude[:-1]) / 2, [-90.0]])
    area = -np.diff(np.sin(np.radians(edges)))
    weights = np.broadcast_to((area / area.sum() / GRID.shape[1])[:, None], GRID.shape)
    values = world().astype(np.float64)

    def average(fields: np.ndarray) -> np.ndarray:
        return (fields * weights).sum((-2, -1)).mean(0)

    expected = average(values[:-1])
    expected_std = np.sqrt(average((values[:-1] - expected[:, None, None]) ** 2))
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    np.testing.assert_allclose(std, expected_std, rtol=1e-8)
    assert mean.dtype == std.dtype == np.float64
    expected_change = np.sqrt(average(np.diff(values, axis=0) ** 2)) / expected_std
    np.testing.assert_allclose(change_std, expected_change, rtol=1e-6)
    assert change_std.dtype == torch.float32


def test_statistics_of_a_long_period_use_pairs_spread_over_it(store, monkeypatch):
    monkeypatch.setattr(sequences, "STATISTICS_STATES", 4)
    read, asked = store.read, []
    monkeypatch.setattr(
        store, "read", lambda times: asked.append([int(t) for t in store_positions(times)]) or read(times)
    )
    statistics(store, TIMES)
    assert asked == [[0, 1], [4, 5], [8, 9], [12, 13], [16, 17]]


def store_positions(times) -> np.ndarray:
    return (np.asarray(times) - TIMES[0]) / np.timedelta64(6, "h")


# --- lanes ----------------------------------------------------------------------------------------


def test_lanes_are_consecutive_and_cover_the_period():
    def lanes(epoch: int, rank: int = 0, count: int = 1) -> np.ndarray:
        sampler = LaneSampler(17, 4, rank, count, seed=3)
        sampler.set_epoch(epoch)
        found = np.array(list(sampler))
        assert len(sampler) == len(found)
        return found.reshape(4, 4 // count)

    epochs = [lanes(0), lanes(1)]
    for epoch in epochs:
        assert len(set(epoch.ravel())) == 16
        assert ((epoch[1:] - epoch[:-1]) % 17 == 1).all()
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(lanes(1), epochs[1])
    for rank in range(2):
        np.testing.assert_array_equal(lanes(1, rank, 2), epochs[1][:, rank::2])


def test_batches_are_groups_of_lanes(path, monkeypatch):
    data = module(path, lanes=2, batch_size=2)
    data.setup("fit")
    torch.manual_seed(0)
    batches = list(data.train_dataloader())
    assert len(batches) == 3  # 7 windows in two lanes
    followed = [
        torch.equal(now[lane, 1], then[lane, 0]) for now, then in pairwise(batches) for lane in (0, 1)
    ]
    assert followed.count(False) <= 1  # but where the period begins again
    with pytest.raises(UserError, match=r"lanes \(3\) must be a multiple of batch_size \(2\)"):
        module(path, lanes=3)
    crowded = module(path, lanes=20)
    crowded.setup("fit")
    monkeypatch.setattr(sequences, "processes", lambda: (0, 2))
    with pytest.raises(UserError, match=r"lanes \(2\) must be a multiple of .*\(2 × 2\)"):
        data.train_dataloader()
    monkeypatch.undo()
    with pytest.raises(UserError, match="lanes is 20; expected 1 to the period's 7 windows"):
        crowded.train_dataloader()


# --- the data module ------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_arrive_normalised(path, in_memory):
    data = module(path, rollout_steps=2, in_memory=in_memory)
    data.prepare_data()
    data.setup("fit")
    assert data.grid == GRID
    mean, std, _ = statistics(WeatherStore(path, SPEC), TIMES[:9])
    batch = next(iter(data.val_dataloader()))
    assert batch.shape == (2, 5, 3, *GRID.shape)
    made = data.on_after_batch_transfer(batch, 0)
    expected = (world()[9:14] - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(made[0], expected, atol=1e-4)


def test_training_sees_every_window_once_in_random_order(path):
    data = module(path)
    data.setup("fit")
    torch.manual_seed(0)
    loader = data.train_dataloader()
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches.append(list(loader))
    assert [len(epoch) for epoch in batches] == [3, 3]  # 7 windows; the odd one is dropped
    assert batches[0][0].shape == (2, 3, 3, *GRID.shape)

    def starts(epoch: list[torch.Tensor]) -> list[int]:
        first = torch.cat(epoch)[:, 0, 0, 0, 0]
        return [int(np.flatnonzero(world()[:, 0, 0, 0] == value.item())[0]) for value in first]

    for epoch in batches:
        assert len(set(starts(epoch))) == 6
        assert set(starts(epoch)) <= set(range(7))
    assert starts(batches[0]) != starts(batches[1])


@pytest.mark.parametrize(
    ("hours", "expected"), [(6, [9, 10, 11, 12, 13, 14, 15]), (12, [9, 11, 13, 15]), (24, [9, 13])]
)
def test_validation_windows_keep_their_distance(path, hours, expected):
    data = module(path, validation_every=hours)
    data.setup("fit")
    first = torch.cat(list(data.val_dataloader()))[:, 0]
    np.testing.assert_array_equal(first, world()[expected])


def test_workers_read_the_same(path):
    plain, parallel = (module(path, in_memory=False, workers=workers) for workers in (0, 2))
    batches = []
    for data in (plain, parallel):
        data.setup("fit")
        torch.manual_seed(3)
        batches.append(torch.cat(list(data.train_dataloader())))
    torch.testing.assert_close(batches[0], batches[1], rtol=0, atol=0)


@pytest.mark.parametrize("lanes", [None, 2])
def test_an_interrupted_epoch_goes_on(path, lanes):
    whole, resumed = (module(path, in_memory=False, workers=1, lanes=lanes) for _ in range(2))
    for data in (whole, resumed):
        data.setup("fit")
    loader = whole.train_dataloader()
    loader.sampler.set_epoch(1)
    batches = iter(loader)
    next(batches)
    state = whole.state_dict()
    rest = list(batches)
    resumed.load_state_dict(state)
    loader = resumed.train_dataloader()
    loader.sampler.set_epoch(1)
    torch.testing.assert_close(list(loader), rest, rtol=0, atol=0)
    assert len(rest) == 2


def test_sources_are_prepared_for_their_periods(path):
    class Source(StoreSource):
        asked: tuple = ()

        def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
            self.asked = (str(start), str(end))

    train, validation = Source(str(path)), Source(str(path))
    StateSequences(
        train, validation, "2020-01-01", "2020-01-03", "2020-01-03T06", "2020-01-05T18", spec=SPEC
    ).prepare_data()
    assert train.asked == ("2020-01-01T00", "2020-01-03T00")
    assert validation.asked == ("2020-01-03T06", "2020-01-05T18")


def test_the_default_is_all_69_channels(path):
    source = StoreSource(str(path))
    assert (
        StateSequences(source, source, "2020-01-01", "2020-01-03", "2020-01-04", "2020-01-05").spec
        == StateSpec()
    )

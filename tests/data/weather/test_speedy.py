"""The embedded world: its bookkeeping with a toy model, and the real model once (slow)."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaevar import files
from vaevar.data.weather import speedy
from vaevar.data.weather.speedy import PERIODS, STEP, NatureRun, Period, SpeedyWorld
from vaevar.data.weather.store import WeatherStore
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.state import StateSpec

WEIGHTS = Path(__file__).parents[3] / "weights" / "speedy"
SPEC = StateSpec(surface=("t2m",), upper=("z",), levels=(500,))
TOY = Period(np.datetime64("2022-01-01T00", "h"), 7)


def fields_of(state: int, grid: Grid) -> np.ndarray:
    """[C, H, W], weather that says which state it is of: it turns, and rises a little."""
    mean, std = typical_climate(StateSpec())
    pattern = np.linspace(-0.5, 0.5, grid.shape[0] * grid.shape[1]).reshape(grid.shape)
    pattern = np.roll(pattern, state % 7, -1) + 0.01 * (state % 4093 / 4093)
    return (mean[:, None, None] + 0.1 * std[:, None, None] * pattern).astype(np.float32)


class ToyRun:
    """Each state follows from the previous one alone, which is the content of a restart file."""

    grid = Grid.gaussian(4)
    started: int = 0

    def __init__(self, restart: Path) -> None:
        if not restart.is_file():
            raise UserError(f"{restart}: no such restart file")
        type(self).started += 1
        self.state = json.loads(gzip.decompress(restart.read_bytes()))

    def advance(self, states: int) -> np.ndarray:
        made = []
        for _ in range(states):
            self.state = (self.state * 48271) % 2147483647  # Park and Miller's generator
            made.append(fields_of(self.state, self.grid))
        return np.stack(made)

    def save(self, path: Path) -> None:
        with speedy.replacing(path) as partial:
            partial.write_bytes(gzip.compress(json.dumps(self.state).encode()))


def expected(count: int) -> np.ndarray:
    """The toy world's states by hand: [T, C, H, W] of the channels asked for."""
    state, made = 1, []
    for _ in range(count):
        state = (state * 48271) % 2147483647
        made.append(fields_of(state, ToyRun.grid)[[StateSpec().index(name) for name in SPEC.names]])
    return np.array(made)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], SpeedyWorld]:
    """Makes worlds as a new process would see them: 7 states, in chunks of 3."""
    monkeypatch.setattr(speedy, "NatureRun", ToyRun)
    monkeypatch.setattr(speedy, "CHUNK", 3)
    monkeypatch.setitem(PERIODS, "test", TOY)
    monkeypatch.setattr(ToyRun, "started", 0)
    (tmp_path / "restarts").mkdir()
    (tmp_path / "restarts" / "test.msgpack.gz").write_bytes(gzip.compress(b"1"))
    return lambda: SpeedyWorld("test", str(tmp_path / "data"), str(tmp_path / "restarts"))


def values_of(store: WeatherStore, times: np.ndarray) -> np.ndarray:
    return store.read(times)


# --- periods --------------------------------------------------------------------------------------


def test_the_periods_are_disjoint_and_long_enough():
    spans = sorted((period.times[0], period.times[-1]) for period in PERIODS.values())
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert start - end >= np.timedelta64(6 * 24, "h")
    days = {name: (p.times[-1] - p.times[0]) / np.timedelta64(24, "h") for name, p in PERIODS.items()}
    assert days["train"] >= 18 * 30
    assert days["validation"] >= 30
    assert days["test"] >= 2 * 31
    # Two months of spin-up come first.
    assert spans[0][0] - speedy.SPIN_UP_START >= np.timedelta64(60 * 24, "h")
    assert all(np.unique(np.diff(period.times)) == STEP for period in PERIODS.values())


def test_each_period_has_a_committed_restart():
    for name in PERIODS:
        path = WEIGHTS / f"{name}.msgpack.gz"
        assert path.is_file()
        assert path.stat().st_size <= 5e6


def test_the_directory_can_be_moved(tmp_path, monkeypatch):
    assert SpeedyWorld("train").path == Path("data/speedy_train.zarr")
    monkeypatch.setenv("VAEVAR_DATA", str(tmp_path))
    assert SpeedyWorld("train").path == tmp_path / "speedy_train.zarr"
    assert SpeedyWorld("train", directory="here").path == Path("here/speedy_train.zarr")
    assert "train period from 2019-12-01T00" in SpeedyWorld("train").description


# --- generation -----------------------------------------------------------------------------------


def test_only_what_is_needed_is_made_and_it_goes_on_from_there(toy):
    world, times = toy(), TOY.times
    world.prepare(times[0], times[1])
    assert ToyRun.started == 1
    np.testing.assert_array_equal(values_of(world.open(SPEC), times[:3]), expected(3))
    with pytest.raises(UserError, match="not written"):
        world.open(SPEC).read(times[3:4])

    toy().prepare(times[1], times[2])  # there already
    assert ToyRun.started == 1
    toy().prepare(times[2], times[3])  # one chunk more
    assert ToyRun.started == 2
    np.testing.assert_array_equal(values_of(toy().open(SPEC), times[:6]), expected(6))
    toy().prepare(times[0], times[-1])  # the last chunk is a short one
    store = toy().open(SPEC)
    np.testing.assert_array_equal(values_of(store, times), expected(7))
    np.testing.assert_array_equal(store.times, times.astype("datetime64[ns]"))
    assert store.grid == ToyRun.grid
    toy().prepare(times[0], times[-1])
    assert ToyRun.started == 3


def test_in_one_go_it_is_the_same(toy):
    toy().prepare(TOY.times[0], TOY.times[-1])
    np.testing.assert_array_equal(values_of(toy().open(SPEC), TOY.times), expected(7))
    names = sorted(path.name for path in toy().directory.iterdir() if not path.name.endswith(".lock"))
    assert names == ["speedy_test.7.msgpack.gz", "speedy_test.progress.json", "speedy_test.zarr"]


def test_progress_is_shown(toy, capsys):
    toy().prepare(TOY.times[0], TOY.times[-1])
    shown = capsys.readouterr().out
    assert "SPEEDY test: states" in shown
    assert "7/7" in shown


class Killed(BaseException):
    """The process ends here."""


class Executioner:
    """Kills at the n-th moment before, during or after a write."""

    def __init__(self, moment: int) -> None:
        self.moment, self.passed = moment, 0

    def pass_by(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.moment:
            raise Killed

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by()
            result = function(*args, **kwargs)
            self.pass_by()
            return result

        return watched

    def watch_replacing(
        self, replacing: Callable[[Path], AbstractContextManager[Path]]
    ) -> Callable[[Path], AbstractContextManager[Path]]:
        @contextmanager
        def watched(path: Path) -> Iterator[Path]:
            self.pass_by()
            with replacing(path) as partial:
                yield partial
                self.pass_by()  # written, but not yet in its place
            self.pass_by()

        return watched

    def watch_write(self, write_states: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Path, start: int, values: np.ndarray, spec: StateSpec) -> None:
            self.pass_by()
            # The first half of a chunk, wrong in its last state: a state half-written.
            half = values[: len(values) // 2 + 1].copy()
            half[-1, 30:] = np.nan
            write_states(path, start, half, spec)
            self.pass_by()
            write_states(path, start, values, spec)
            self.pass_by()

        return watched


def run_until_killed(world: SpeedyWorld, moment: int) -> bool:
    """Generate everything; True when it finished before the kill."""
    executioner = Executioner(moment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speedy, "create_store", executioner.watch(speedy.create_store))
        watched = executioner.watch_replacing(files.replacing)
        patch.setattr(speedy, "replacing", watched)
        patch.setattr(files, "replacing", watched)
        patch.setattr(speedy, "write_states", executioner.watch_write(speedy.write_states))
        removal = executioner.watch(SpeedyWorld._remove_restarts_but)
        patch.setattr(SpeedyWorld, "_remove_restarts_but", removal)
        try:
            world.prepare(TOY.times[0], TOY.times[4])
        except Killed:
            return False
    return True


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_world(toy, tmp_path):
    for moment in itertools.count():
        base = tmp_path / str(moment)

        def world(base: Path = base) -> SpeedyWorld:
            return SpeedyWorld("test", str(base), str(tmp_path / "restarts"))

        ended = run_until_killed(world(), moment)
        # What it calls done is written.
        done = world()._completed()
        if done:
            np.testing.assert_array_equal(values_of(world().open(SPEC), TOY.times[:done]), expected(done))
        world().prepare(TOY.times[0], TOY.times[4])
        np.testing.assert_array_equal(values_of(world().open(SPEC), TOY.times[:6]), expected(6))
        names = sorted(path.name for path in base.iterdir() if not path.name.endswith(".lock"))
        leftovers = set(names) - {"speedy_test.6.msgpack.gz", "speedy_test.progress.json", "speedy_test.zarr"}
        # Killed after the last chunk was recorded, its predecessor's restart may stay.
        assert leftovers <= {"speedy_test.3.msgpack.gz"}
        if ended:
            break
    assert moment == 27  # every moment of two chunks has been tried


def test_a_store_that_is_gone_is_made_anew(toy):
    world = toy()
    world.prepare(TOY.times[0], TOY.times[4])
    shutil.rmtree(world.path)
    # Killed when the new layout is there and no state in it: the old record must not count.
    with pytest.MonkeyPatch.context() as patch:

        def die(*_: Any) -> None:
            raise Killed

        patch.setattr(ToyRun, "advance", die)
        with pytest.raises(Killed):
            toy().prepare(TOY.times[0], TOY.times[4])
    assert world.path.is_dir()
    toy().prepare(TOY.times[0], TOY.times[4])
    np.testing.assert_array_equal(values_of(toy().open(SPEC), TOY.times[:6]), expected(6))


# --- errors ---------------------------------------------------------------------------------------


def test_a_store_without_its_progress_is_not_replaced(toy):
    world = toy()
    world.prepare(TOY.times[0], TOY.times[1])
    world._progress_file.unlink()
    with pytest.raises(UserError, match=r"speedy_test\.zarr: is there without speedy_test\.progress\.json"):
        toy().prepare(TOY.times[0], TOY.times[-1])
    np.testing.assert_array_equal(values_of(toy().open(SPEC), TOY.times[:3]), expected(3))


def test_unknown_period():
    with pytest.raises(UserError, match=r"no period 'tset' .* choose from train, validation, test"):
        SpeedyWorld("tset")


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 7), (8, 9)])
def test_times_outside_the_period(toy, start, end):
    world = toy()
    with pytest.raises(
        UserError, match=r"test period .* runs from 2022-01-01T00 to 2022-01-02T12; .* asked for"
    ):
        world.prepare(TOY.start + start * STEP, TOY.start + end * STEP)
    assert not world.directory.exists()


def test_missing_restart(tmp_path):
    world = SpeedyWorld("test", str(tmp_path / "data"), str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"nowhere/test.msgpack.gz: no such restart file; .*`restarts`"):
        world.prepare(PERIODS["test"].start, PERIODS["test"].start)
    assert not world.path.exists()
    assert world._completed() == 0


def test_a_restart_gone_from_the_cache(toy, monkeypatch):
    world = toy()
    world.prepare(TOY.times[0], TOY.times[1])
    (world.directory / "speedy_test.3.msgpack.gz").unlink()
    monkeypatch.setattr(speedy, "NatureRun", NatureRun)
    with pytest.raises(
        UserError, match=r"speedy_test.3.msgpack.gz: no such restart file; .* delete that store"
    ):
        toy().prepare(TOY.times[0], TOY.times[-1])


def test_without_jcm_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jcm", None)
    world = SpeedyWorld("test", str(tmp_path), str(WEIGHTS))
    with pytest.raises(UserError, match=r'needs jcm: pip install .*"vaevar\[world\]"'):
        world.prepare(PERIODS["test"].start, PERIODS["test"].start)
    assert not world.path.exists()


# --- the model itself -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_run() -> NatureRun:
    """The model, compiled once (half a minute); every test loads its own restart into it."""
    pytest.importorskip("jcm", reason="the embedded world needs jcm (extra `world`), not installed here")
    return NatureRun(WEIGHTS / "test.msgpack.gz")


@pytest.mark.slow
def test_the_first_days_of_the_test_period(real_run, tmp_path, monkeypatch):
    def reused(restart: Path) -> NatureRun:
        real_run._load(restart)
        return real_run

    reused.grid = NatureRun.grid  # type: ignore[attr-defined]
    monkeypatch.setattr(speedy, "NatureRun", reused)
    monkeypatch.setattr(speedy, "CHUNK", 2)  # one shape for every call: the model is compiled once
    times, spec = PERIODS["test"].times[:6], StateSpec()

    running_on = SpeedyWorld("test", str(tmp_path / "a"), str(WEIGHTS))
    running_on.prepare(times[0], times[-1])
    # The model's own clock stands at the last state's time.
    assert real_run._model._final_time.to_datetime64() == times[-1]
    resumed = SpeedyWorld("test", str(tmp_path / "b"), str(WEIGHTS))
    resumed.prepare(times[0], times[1])
    resumed.prepare(times[0], times[-1])

    store = running_on.open(spec)
    assert store.grid == Grid.gaussian(48)
    states = store.read(times)
    np.testing.assert_array_equal(states, resumed.open(spec).read(times))
    assert np.unique(states, axis=0).shape[0] == 6

    weights = store.grid.area_weights.numpy()[:, None]
    msl = states[:, spec.index("msl")]
    mean = (msl * weights).mean((1, 2), keepdims=True)
    std = np.sqrt(((msl - mean) ** 2 * weights).mean((1, 2)))
    assert ((std > 500) & (std < 2000)).all()
    assert np.abs(mean - 101_300).max() < 2500  # this world's air is 1.5 % heavier than the earth's
    for time in times:
        state = store.state(time)  # global means in range, geopotential falling
    assert 49_000 < state.channel("z500").min() < state.channel("z500").max() < 60_000
    assert 170 < state.channel("t2m").min() < state.channel("t2m").max() < 335
    # January: the winter is in the north, and the jets blow from the west.
    assert state.channel("t850")[:12].mean() < state.channel("t850")[-12:].mean()
    assert state.channel("u200").mean() > 5
    assert (states[:, spec.variable_slice("q")] > -1e-3).all()


def flipped(content: bytes) -> bytes:
    body = bytearray(content)
    body[len(body) // 2 : len(body) // 2 + 200] = b"\xff" * 200
    return bytes(body)


@pytest.mark.slow
def test_a_damaged_restart(real_run, tmp_path):
    good = (WEIGHTS / "test.msgpack.gz").read_bytes()
    damaged = {
        "empty": b"",
        "no gzip": b"restart",
        "cut off": good[: len(good) // 2],
        "bits flipped": flipped(good),
        "something else": gzip.compress(b"restart" * 100),
        "half a checkpoint": gzip.compress(gzip.decompress(good)[:100_000]),
    }
    for kind, content in damaged.items():
        path = tmp_path / f"{kind}.msgpack.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a restart file of this model") as caught:
            real_run._load(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert len(list(tmp_path.iterdir())) == len(damaged)  # and nothing is left beside them


def test_damaged_bits_are_a_user_error_whatever_zlib_says(tmp_path, monkeypatch):
    pytest.importorskip("jcm", reason="the embedded world needs jcm (extra `world`), not installed here")

    def fail(*_: object) -> bytes:
        raise zlib.error("Error -3 while decompressing data: invalid distance")

    monkeypatch.setattr(gzip.GzipFile, "read", fail)
    (tmp_path / "x.msgpack.gz").write_bytes(b"")
    run = object.__new__(NatureRun)
    run._model = None
    with pytest.raises(UserError, match=r"not a restart file of this model \(Error -3"):
        run._load(tmp_path / "x.msgpack.gz")

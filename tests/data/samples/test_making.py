"""Stores shared out among processes are the same whoever makes them and whatever kills the making."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.data.samples.toys import START, ToyForecaster, ToySource
from vaevar.data.samples.forecast_errors import ForecastErrors
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.nmc import NMCDifferences
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.files import size_text

END = np.datetime64("2020-01-05T18", "h")
SAMPLES, LAG = 15, 4


def errors(path: Path, steps: int | None = None, **changes: Any) -> StoreBuilder:
    """15 samples; every roll-out differs from the others."""
    settings = {"start": START, "end": END, "every_hours": 6, "rollout_batch_size": 3} | changes
    making = NMCDifferences(ToySource(END), ToyForecaster(noise=0.3, stop_after=steps), **settings)
    return StoreBuilder(path, making)


def make(store: StoreBuilder, processes: int, batches: int | None = None) -> None:
    """What this many processes do, each killed after this many batches of its own."""
    assert store.begin()
    for share in [store.share(rank, processes) for rank in range(processes)]:
        for batch in itertools.islice(share, batches):
            share.take(batch, store.errors.forecasts(batch.states, batch.hours))
    if not store.missing():
        store.complete()
    store.release()


def content(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("samples_per_file", [1, 2, 4, 20])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_any_number_of_processes_makes_the_same_store(
    tmp_path: Path, samples_per_file: int, batch_size: int
) -> None:
    settings = {"samples_per_file": samples_per_file, "rollout_batch_size": batch_size}
    errors(tmp_path / "alone.zarr", **settings).make()
    expected = content(tmp_path / "alone.zarr")
    for processes in (2, 3, 5):
        path = tmp_path / f"{processes}.zarr"
        make(errors(path, **settings), processes)
        assert content(path) == expected


@pytest.mark.parametrize("samples_per_file", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
def test_any_number_of_processes_resumes_what_killed_ones_left(
    tmp_path: Path, samples_per_file: int, before: int, after: int
) -> None:
    path = tmp_path / "killed.zarr"
    errors(tmp_path / "whole.zarr", samples_per_file=samples_per_file).make()
    make(errors(path, samples_per_file=samples_per_file), before, batches=2)
    left = errors(path, samples_per_file=samples_per_file).missing()
    assert 0 < len(left) < -(-SAMPLES // samples_per_file)
    make(errors(path, samples_per_file=samples_per_file), after)
    assert content(path) == content(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["killed.zarr", "whole.zarr"]


def test_a_block_is_done_when_its_summary_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "killed.zarr"
    errors(tmp_path / "whole.zarr", samples_per_file=4).make()
    with monkeypatch.context() as patch:
        patch.setattr("vaevar.data.samples.making.zonal_sums", _killed)
        with pytest.raises(KeyboardInterrupt):
            errors(path, samples_per_file=4).make()
    written = zarr.open_array(path.with_name("killed.zarr.partial") / "error", mode="r")
    assert np.isfinite(written[:4]).all()  # the fields are there, but they do not count
    assert len(errors(path, samples_per_file=4).missing()) == 4
    errors(path, samples_per_file=4).make()
    assert content(path) == content(tmp_path / "whole.zarr")


def test_a_kill_in_the_last_steps_costs_no_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "killed.zarr"
    errors(tmp_path / "whole.zarr").make()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _killed)
        with pytest.raises(KeyboardInterrupt):
            errors(path).make()
    assert not path.exists()
    errors(path, steps=0).make()
    assert content(path) == content(tmp_path / "whole.zarr")


def _killed(*arguments: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_more_is_rolled_out_than_samples_need(tmp_path: Path, processes: int) -> None:
    store = errors(tmp_path / "errors.zarr", steps=10_000, rollout_batch_size=1)
    make(store, processes)
    # A sample's own roll-out is 8 steps. Each share's last samples pair with as many as the lag that are not
    # its own, of which 24 h are enough, and so does the one that gave the scale.
    scale, shares = 8 + 4, 8 * SAMPLES + 4 * LAG * processes
    assert 10_000 - store.errors.forecaster.left == scale + shares  # type: ignore[attr-defined]


def test_shares_are_runs_of_equal_length(tmp_path: Path) -> None:
    store = errors(tmp_path / "errors.zarr", samples_per_file=2)
    assert store.begin()
    for processes in (1, 2, 3, 8, 11):
        blocks = [list(store.share(rank, processes).blocks) for rank in range(processes)]
        assert list(itertools.chain(*blocks)) == list(range(8))
        assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
        assert blocks[0]  # who completes the store has a share whenever anybody has
    store.release()


@pytest.mark.parametrize("samples_per_file", [2, 4, 20])
def test_files_of_several_samples_hold_what_files_of_one_do(tmp_path: Path, samples_per_file: int) -> None:
    plain, sharded = tmp_path / "plain.zarr", tmp_path / "sharded.zarr"
    errors(plain).make()
    errors(sharded, samples_per_file=samples_per_file).make()
    assert zarr.open_group(sharded).metadata.zarr_format == 3
    array = zarr.open_array(sharded / "error", mode="r")
    assert (array.chunks[0], array.shards[0]) == (1, samples_per_file)
    assert "lz4" in str(array.compressors)
    files = [p for p in (sharded / "error").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(files) == -(-SAMPLES // samples_per_file)
    a, b = (xr.open_zarr(path, chunks=None).load() for path in (plain, sharded))
    for name in ("error_mean", "error_std", "zonal_error_std"):  # sums in another order
        np.testing.assert_allclose(b[name], a[name], rtol=1e-12, atol=1e-12 * float(abs(a[name]).max()))
    np.testing.assert_array_equal(b["error"], a["error"])
    for name in ("error_scale", "channel", "units", "time", "lead", "latitude", "longitude"):
        np.testing.assert_array_equal(b[name].astype(a[name].dtype), a[name])
    for in_memory in (False, True):
        one, other = (SampleStore(path, in_memory=in_memory) for path in (plain, sharded))
        assert one.spec == other.spec
        assert all(bool((one[n][0] == other[n][0]).all()) for n in range(SAMPLES))


def test_a_half_made_store_of_other_files_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "errors.zarr"
    make(errors(path, samples_per_file=2), 1, batches=3)
    with pytest.raises(UserError, match="samples_per_file = 2, but the config now says 4"):
        errors(path, samples_per_file=4).make()
    make(errors(path, samples_per_file=2), 1)
    errors(path, steps=0, samples_per_file=4).make()  # a complete one is what it is


@pytest.mark.parametrize("samples_per_file", [1, 4])
def test_forecast_errors_are_shared_out_too(tmp_path: Path, samples_per_file: int) -> None:
    def forecasts(name: str) -> StoreBuilder:
        making = ForecastErrors(
            ToySource(END), ToyForecaster(noise=0.3), str(START), str(END), every_hours=6,
            rollout_batch_size=3, samples_per_file=samples_per_file,
        )  # fmt: skip
        return StoreBuilder(tmp_path / name, making)

    forecasts("alone.zarr").make()
    make(forecasts("several.zarr"), 3, batches=1)
    make(forecasts("several.zarr"), 2)
    assert content(tmp_path / "several.zarr") == content(tmp_path / "alone.zarr")


def test_sizes_are_told_in_three_digits() -> None:
    sizes = [0, 999, 1000, 12_345, 4_521_984, 143_000_000, 999_999_999, 21_500_000_000, 5_600_000_000_000]
    told = ["0 B", "999 B", "1.00 kB", "12.3 kB", "4.52 MB", "143 MB", "1000 MB", "21.5 GB", "5600 GB"]
    assert [size_text(size) for size in sizes] == told

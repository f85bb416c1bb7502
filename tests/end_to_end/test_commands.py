"""The commands that users type, on a world small enough for seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from vaevar.cli import main
from vaevar.sphere.grid import Grid


def predict(configs: dict[str, Path], *arguments: str) -> None:
    main(["predict", "--config", str(configs["predict"]), *arguments])


def edited(path: Path, change: Callable[[dict], None]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_fit_then_predict(ready: dict[str, Path], world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(ready)
    run = Path("runs/cycle")
    scores = pd.read_csv(run / "scores.csv")
    assert list(scores.columns) == ["time", "arm", "channel", "quantity", "rmse", "bias"]
    assert len(scores) == 4 * 2 * 6 * 2
    assert "vaevar" in (run / "summary.md").read_text()
    assert "vaevar" in capsys.readouterr().out

    truth = xr.open_zarr(world / "truth.zarr", chunks=None)
    background = xr.open_zarr(run / "vaevar" / "background.zarr", chunks=None)
    analysis = xr.open_zarr(run / "vaevar" / "analysis.zarr", chunks=None)
    assert analysis.attrs["truth"].endswith("truth.zarr")
    assert analysis["geopotential"].dims == (
        "time", "prediction_timedelta", "level", "latitude", "longitude"
    )  # fmt: skip
    assert analysis["geopotential"].attrs["units"] == "m**2 s**-2"
    valid = background["time"].values + background["prediction_timedelta"].values
    np.testing.assert_array_equal(valid, analysis["time"].values)
    # The scores of the file are those of the states beside it, computed anew.
    weights = Grid.gaussian(16).area_weights.numpy()[:, None]
    expected = truth["geopotential"].sel(time=analysis["time"], level=500).values
    error = analysis["geopotential"].sel(level=500).values[:, 0] - expected
    wanted = np.sqrt((error**2 * weights).mean((1, 2)))
    chosen = scores.query("arm == 'vaevar' and channel == 'z500' and quantity == 'analysis'")
    np.testing.assert_allclose(chosen["rmse"], wanted, rtol=1e-4)
    # The toy forecaster persists: a background is the analysis before it, a free run never changes.
    np.testing.assert_allclose(
        background["geopotential"].values[1:], analysis["geopotential"].values[:-1], rtol=1e-5
    )
    free = xr.open_zarr(run / "free" / "analysis.zarr", chunks=None)["geopotential"].values
    np.testing.assert_allclose(free[-1], free[0], rtol=1e-5)
    assert list((run / "vaevar").glob("events.out.tfevents*"))
    assert not list(run.rglob("*.partial"))


def test_killed_run_resumes_to_the_same_numbers(
    ready: dict[str, Path], killed_in_the_third_analysis: Callable[[Callable[[], None]], None]
) -> None:
    predict(ready)
    whole = pd.read_csv("runs/cycle/scores.csv")
    shutil.rmtree("runs/cycle")
    killed_in_the_third_analysis(lambda: predict(ready))
    predict(ready)
    pd.testing.assert_frame_equal(pd.read_csv("runs/cycle/scores.csv"), whole)
    analysis = xr.open_zarr("runs/cycle/vaevar/analysis.zarr", chunks=None)
    assert all(np.isfinite(array.values).all() for array in analysis.data_vars.values())


def test_finished_run_is_not_repeated_and_another_experiment_is_refused(
    ready: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(ready)
    before = Path("runs/cycle/vaevar/diagnostics.csv").stat().st_mtime_ns
    predict(ready)
    assert Path("runs/cycle/vaevar/diagnostics.csv").stat().st_mtime_ns == before
    edited(ready["predict"], lambda config: config["data"]["init_args"].update(seed=7))
    assert "another experiment" in refused(ready["predict"], capsys)
    predict(ready, "--restart")
    assert Path("runs/cycle/config.yaml").is_file()
    assert Path("runs/cycle/vaevar/diagnostics.csv").stat().st_mtime_ns > before


def refused(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command that must fail, checked to be one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--config", str(config), *arguments])
    assert stop.value.code not in (0, None)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_mistakes_are_one_line_each(
    ready: dict[str, Path], tmp_path: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, original = ready["predict"], ready["predict"].read_text()

    def model(content: dict) -> dict:
        return content["model"]["init_args"]

    def wrong_onnx(content: dict) -> None:
        (tmp_path / "wrong.onnx").write_bytes(b"not a model")
        model(content)["forecaster"]["init_args"]["model"] = str(tmp_path / "wrong.onnx")

    def no_checkpoint(content: dict) -> None:
        arm = model(content)["arms"]["vaevar"]["init_args"]
        arm["control"]["init_args"]["checkpoint"] = "weights/nowhere.ckpt"

    def unknown_key(content: dict) -> None:
        content["data"]["init_args"]["analysis"] = 4

    def fewer_channels(content: dict) -> None:
        truth = xr.open_zarr(world / "truth.zarr", chunks=None).drop_vars("geopotential")
        truth.to_zarr(tmp_path / "fewer.zarr", zarr_format=2)
        content["data"]["init_args"]["source"]["init_args"]["path"] = str(tmp_path / "fewer.zarr")

    def broken_field(content: dict) -> None:
        truth = xr.open_zarr(world / "truth.zarr", chunks=None).load()
        truth["2m_temperature"][62, 3, 4] = np.nan
        truth.to_zarr(tmp_path / "nan.zarr", zarr_format=2)
        content["data"]["init_args"]["source"]["init_args"]["path"] = str(tmp_path / "nan.zarr")

    cases: list[tuple[Callable[[dict], None], str]] = [
        (wrong_onnx, "wrong.onnx"),
        (no_checkpoint, "weights/nowhere.ckpt"),
        (unknown_key, "analysis"),
        (fewer_channels, "geopotential"),
        (broken_field, "2m_temperature"),
    ]
    for change, expected in cases:
        config.write_text(original)
        edited(config, change)
        assert expected in refused(config, capsys), change
        assert not Path("runs/cycle/scores.csv").exists()
        assert not list(tmp_path.rglob("*.partial"))
        shutil.rmtree("runs/cycle", ignore_errors=True)
    assert "nowhere.yaml" in refused(tmp_path / "nowhere.yaml", capsys)

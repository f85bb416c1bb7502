"""Forecasts from an arm's analyses, compared with a roll-out from the states that the run wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from vaevar.cli import main
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

ADDED = np.array([0.3, 20.0, 15.0, 10.0, 0.2, 0.1])
OLD, NEW = -0.4, 1.4


@pytest.fixture
def config(configs: dict[str, Path], toy_onnx: Callable[..., Any]) -> Path:
    """A cycle of interpolation with a forecaster that uses both of its past states."""
    content = yaml.safe_load(configs["predict"].read_text())
    init = content["data"]["init_args"]
    files = toy_onnx(StateSpec(**init["spec"]), added=ADDED, old=OLD, new=NEW, shape=(16, 32))
    assert str(files.model) == content["model"]["init_args"]["forecaster"]["init_args"]["model"]
    arms = content["model"]["init_args"]["arms"]
    arms["interpolation"] = {
        "class_path": "vaevar.assim.interpolation.linear.LinearInterpolation",
        "init_args": {"range_km": 3000.0}
    }  # fmt: skip
    del arms["vaevar"]
    init["analyses"] = 5
    forecasts = {
        "class_path": "vaevar.verification.forecasts.Forecasts",
        "init_args": {"every": 2, "lead_hours": [24, 6]},
    }
    content["trainer"]["callbacks"][3]["init_args"]["maps_every"] = 0
    content["trainer"]["callbacks"].append(forecasts)
    configs["predict"].write_text(yaml.safe_dump(content, sort_keys=False))
    return configs["predict"]


def change(path: Path, edit: Callable[[dict], None]) -> None:
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def forecasts() -> pd.DataFrame:
    return pd.read_csv("runs/cycle/forecasts.csv")


def geopotential(path: Path, times: np.ndarray | None = None) -> np.ndarray:
    """z500 of a store, [T, H, W] float64."""
    field = xr.open_zarr(path, chunks=None)["geopotential"].sel(level=500).squeeze(drop=True)
    return (field if times is None else field.sel(time=times)).values.astype(np.float64)


def test_forecasts_equal_an_independent_roll_out(config: Path, world: Path) -> None:
    main(["predict", "--config", str(config)])
    table = forecasts()
    assert list(table.columns) == ["time", "arm", "lead_hours", "channel", "rmse", "bias"]
    assert len(table) == 3 * 2 * 2 * 6
    analyses = geopotential(Path("runs/cycle/interpolation/analysis.zarr"))
    weights = Grid.gaussian(16).area_weights.numpy()[:, None]
    start, hours = np.datetime64("2021-01-16T00", "ns"), np.timedelta64(1, "h")
    for number in (2, 4):
        earlier, now = analyses[number - 1], analyses[number]
        for step in range(1, 5):
            earlier, now = now, OLD * earlier + NEW * now + ADDED[2]
            if step not in (1, 4):
                continue
            valid = start + (6 * number + 6 * step) * hours
            error = now - geopotential(world / "truth.zarr", np.array([valid]))
            here = table.query("arm == 'interpolation' and channel == 'z500' and lead_hours == @step * 6")
            row = here[here["time"] == str((start + 6 * number * hours).astype("datetime64[s]"))].iloc[0]
            np.testing.assert_allclose(row["rmse"], np.sqrt((error**2 * weights).mean()), rtol=1e-4)
            np.testing.assert_allclose(row["bias"], (error * weights).mean(), rtol=1e-3, atol=0.05)
    # The first of them starts from the forecast before the cycle: a 6 h forecast of the free run is its
    # background six hours later.
    scores = pd.read_csv("runs/cycle/scores.csv")
    wanted = scores.query("arm == 'free' and quantity == 'background' and time == '2021-01-16T06:00:00'")
    got = table.query("arm == 'free' and lead_hours == 6 and time == '2021-01-16T00:00:00'")
    np.testing.assert_allclose(got["rmse"], wanted["rmse"], rtol=1e-5)


def test_order_of_callbacks_and_a_kill_change_nothing(
    config: Path, killed_in_the_third_analysis: Callable[[Callable[[], None]], None]
) -> None:
    main(["predict", "--config", str(config)])
    whole = forecasts()
    shutil.rmtree("runs/cycle")
    change(
        config,
        lambda content: content["trainer"]["callbacks"].insert(0, content["trainer"]["callbacks"].pop()),
    )
    killed_in_the_third_analysis(lambda: main(["predict", "--config", str(config)]))
    assert not Path("runs/cycle/forecasts.csv").exists()
    main(["predict", "--config", str(config)])
    pd.testing.assert_frame_equal(forecasts(), whole, rtol=0, atol=0)


def test_mistakes_are_one_line_each(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def settings(**changed: Any) -> Callable[[dict], None]:
        return lambda content: content["trainer"]["callbacks"][-1]["init_args"].update(changed)

    original = config.read_text()
    cases = [
        (settings(every=0), "every 0"),
        (settings(lead_hours=[-24]), "positive"),
        (settings(lead_hours=[7]), "multiples"),
        (settings(lead_hours=[240]), "2021-01-27"),
    ]
    for edit, expected in cases:
        config.write_text(original)
        change(config, edit)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["predict", "--config", str(config)])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        assert expected in lines[0]
        shutil.rmtree("runs", ignore_errors=True)

    # A cycle that has gone by without forecasts cannot have them afterwards.
    config.write_text(original)
    without = config.with_name("without.yaml")
    without.write_text(original)
    change(without, lambda content: content["trainer"]["callbacks"].pop())
    main(["predict", "--config", str(without)])
    with pytest.raises(SystemExit):
        main(["predict", "--config", str(config)])
    assert "--restart" in capsys.readouterr().err

"""What TensorBoard finds in a run directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from vaevar.cli import main
from vaevar.data.analysis_times import AnalysisTime
from vaevar.data.observations.points import Observations
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec
from vaevar.verification.charts.hparams import final_scores, hyperparameters, write_hyperparameters
from vaevar.verification.maps import error_maps


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0}).Reload()


def hparams(found: EventAccumulator) -> dict[str, float | str]:
    """The settings of a row of the HParams tab."""
    contents = [
        HParamsPluginData.FromString(content) for content in found.PluginTagToContent("hparams").values()
    ]
    assert not any(content.experiment.hparam_infos for content in contents)
    (start,) = (content.session_start_info for content in contents if content.session_start_info.hparams)
    return {name: value.string_value or value.number_value for name, value in start.hparams.items()}


def columns_of_the_hparams_tab(directory: Path) -> tuple[set[str], set[str]]:
    """Settings and scores that TensorBoard finds below a directory."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(directory)).Reload()
    provider = MultiplexerDataProvider(runs, str(directory))
    tab = Context(TBContext(data_provider=provider, logdir=str(directory), multiplexer=runs))
    request = RequestContext()
    found = tab.experiment_from_metadata(
        request,
        "",
        True,
        tab.hparams_metadata(request, ""),
        tab.hparams_from_data_provider(request, "", None),
    )
    return {info.name for info in found.hparam_infos}, {info.name.tag for info in found.metric_infos}


def test_charts_maps_and_hyperparameters(configs: dict[str, Path], world: Path) -> None:
    content = yaml.safe_load(configs["predict"].read_text())
    arms = content["model"]["init_args"]["arms"]
    arms["vaevar"] = {
        "class_path": "vaevar.assim.interpolation.linear.LinearInterpolation",
        "init_args": {"range_km": 2500.0}
    }  # fmt: skip
    content["data"]["init_args"]["analyses"] = 2
    configs["predict"].write_text(yaml.safe_dump(content))
    main(["predict", "--config", str(configs["predict"])])
    run = Path("runs/cycle")
    found = EventMultiplexer().AddRunsFromDirectory(str(run)).Runs()
    assert set(found) == set(arms)
    images = {arm: events(run / arm).Tags()["images"] for arm in arms}
    assert images["free"] == ["maps/z500", "errors_of_all_arms/z500"]
    assert images["vaevar"] == ["maps/z500"]
    for arm in arms:
        found = events(run / arm)
        for name in ("t2m", "msl", "z", "u"):
            for chart in ("consistency", "consistency_background"):
                assert [event.step for event in found.Scalars(f"{chart}/{name}")] == [0, 1]
        settings = hparams(found)
        assert settings["arm"] == arm
        assert settings["data.network.count"] == 20
        assert settings["data.analyses"] == 2
        assert settings["class"] == ("FreeRun" if arm == "free" else "LinearInterpolation")
        assert settings.get("range_km") == (None if arm == "free" else 2500.0)
        summary = (run / "summary.md").read_text()
        line = next(line for line in summary.splitlines() if line.startswith(f"| {arm} |"))
        score = found.Scalars("final/analysis_rmse_over_std")[-1].value
        assert f"{score:.4g}" == line.split(" | ")[1]
    # A free run's analysis is its background, so that its ratio is that of the innovations.
    free = events(run / "free")
    assert free.Scalars("consistency_background/z")[0].value == 0.0
    scores = pd.read_csv(run / "scores.csv")
    assert set(scores["arm"]) == set(arms)
    analysis = xr.open_zarr(run / "free" / "analysis.zarr", chunks=None)["mean_sea_level_pressure"]
    truth = xr.open_zarr(world / "truth.zarr", chunks=None)["mean_sea_level_pressure"]
    error = analysis.values[0, 0] - truth.sel(time=analysis["time"][0]).values
    # E[d_b²]/R = 1 + σ_b²/R, with R = (1 hPa)²: about the error's mean square over 20 random columns.
    ratio = free.Scalars("consistency/msl")[0].value
    assert ratio == pytest.approx(1 + (error**2).mean() / 100.0**2, rel=0.7)


def test_a_finished_run_looked_at_again_keeps_its_scores(configs: dict[str, Path]) -> None:
    content = yaml.safe_load(configs["predict"].read_text())
    del content["model"]["init_args"]["arms"]["vaevar"]
    content["data"]["init_args"]["analyses"] = 2
    configs["predict"].write_text(yaml.safe_dump(content))
    for _ in range(2):
        main(["predict", "--config", str(configs["predict"])])
    found = events(Path("runs/cycle/free"))
    assert [event.step for event in found.Scalars("rmse_over_std/analysis")] == [0, 1]
    assert [event.step for event in found.Scalars("final/analysis_rmse_over_std")] == [2]


def test_the_hparams_tab_has_the_columns_of_all_arms_and_runs(tmp_path: Path) -> None:
    arms: dict[str, dict] = {"one/free": {"arm": "free"}, "one/near": {"reach": 2.0}, "two/far": {"count": 9}}
    for name, settings in arms.items():
        scores = {"final/rmse": 1.0} | ({"final/seconds": 2.0} if "count" in settings else {})
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("rmse/z500", 1.0, 0)
            write_hyperparameters(writer, settings, scores, 3)
    settings, scores = columns_of_the_hparams_tab(tmp_path)
    assert settings == {"arm", "reach", "count"}
    assert scores == {"final/rmse", "final/seconds", "rmse/z500"}


def test_settings_of_a_nested_config(tmp_path: Path) -> None:
    control = {"class_path": "a.b.Control", "init_args": {"path": "w.nc", "scale": None, "parts": [1, 2]}}
    arm = {"class_path": "a.Variational", "init_args": {"control": control, "lambda_": 4.0}}
    network = {"class_path": "a.Columns", "init_args": {"count": 250, "moving": False}}
    path = tmp_path / "config.yaml"
    content = {
        "model": {"init_args": {"arms": {"one": arm}}},
        "data": {"init_args": {"network": network, "seed": 3, "source": {"class_path": "a.World"}}},
    }
    path.write_text(yaml.safe_dump(content))
    assert hyperparameters(path, ["one"])["one"] == {
        "arm": "one", "class": "Variational", "control.class": "Control", "control.path": "w.nc",
        "control.parts": "[1, 2]", "lambda_": 4.0, "data.network.class": "Columns",
        "data.network.count": 250, "data.network.moving": False, "data.seed": 3,
    }  # fmt: skip
    assert hyperparameters(tmp_path / "nowhere.yaml", ["one"]) == {}
    table = pd.DataFrame([{"arm": "one", "2J/p": 1.5, "drift %/day": 2.0, "a / b": 3.0, "seconds": np.nan}])
    scores = final_scores(table)["one"]
    assert np.isnan(scores.pop("final/seconds"))
    assert scores == {"final/2J_over_p": 1.5, "final/drift_percent_per_day": 2.0, "final/a_over_b": 3.0}


def test_error_maps_share_one_scale() -> None:
    spec, grid = StateSpec(["t2m"], [], []), Grid.equiangular(7, 12)
    truth = State(torch.full((1, 7, 12), 280.0), spec, grid)
    time = AnalysisTime(0, np.datetime64("2022-01-01T00"), truth, Observations.concatenate([]))
    errors = {f"arm{number}": np.full((7, 12), float(number)) for number in range(1, 6)}
    figure = error_maps("t2m", time, errors)
    images = [axis.collections[0] for axis in figure.axes if axis.collections and axis.get_title()]
    assert len(images) == 5
    assert {image.get_clim() for image in images} == {(-3.0, 3.0)}
    assert [axis.get_title() for axis in figure.axes][:2] == ["arm1: rmse 1", "arm2: rmse 2"]

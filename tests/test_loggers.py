"""What arrives in which logger: scalars, figures and settings of a fit and of a cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vaevar
from tests.device import DEVICE
from tests.library.conftest import oi as oi  # the fixtures
from tests.library.conftest import tiny as tiny
from tests.library.conftest import world as world
from vaevar.loggers import log_figure, rendered
from vaevar.verification.dashboards import Dashboards


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1), dpi=50)
    drawn.subplots().plot([0, 1], [0, 3])
    return drawn


def test_a_logger_of_no_known_class_gets_no_pictures() -> None:
    class Other(Logger):
        name, version = "other", 0

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            raise AssertionError

        log_hyperparams = log_metrics  # type: ignore[assignment]

    log_figure([Other()], "a", figure(), 3)
    log_figure([], "a", figure(), 3)


def test_the_same_picture_arrives_in_files_and_in_tensorboard(tmp_path: Path) -> None:
    loggers: list[Any] = [CSVLogger(tmp_path, "csv", ""), TensorBoardLogger(tmp_path, "events", "")]
    drawn = figure()
    log_figure(loggers, "samples/maps", drawn, 12)
    loggers[1].finalize("success")
    picture = rendered(drawn)
    assert picture.shape == (50, 100, 3)
    path = tmp_path / "csv" / "figures" / "samples" / "maps_000012.png"
    np.testing.assert_array_equal((imread(path)[..., :3] * 255).round(), picture)
    (event,) = EventAccumulator(str(tmp_path / "events")).Reload().Images("samples/maps")
    assert (event.step, event.height, event.width) == (12, 50, 100)


def cycle(tiny: Any, oi: Any, logger: Any) -> None:
    """A cycle of two arms and five analyses, with charts, and maps of the first and the last."""
    dashboards = Dashboards(channels=["z500"], maps=["z500"], maps_every=4)
    vaevar.run(
        tiny.forecaster, {"free": vaevar.FreeRun(), "oi": oi}, tiny.data(), "runs/mine",
        callbacks=[dashboards], accelerator=DEVICE, logger=logger,
    )  # fmt: skip


def test_a_cycle_in_tables_alone(tiny: Any, oi: Any) -> None:
    cycle(tiny, oi, CSVLogger("logs", "cycle", ""))
    table = pd.read_csv("logs/cycle/metrics.csv")
    scores = pd.read_csv("runs/mine/scores.csv")
    for arm in ("free", "oi"):
        rows = scores[(scores["arm"] == arm) & (scores["channel"] == "z500")]
        rmse = rows.loc[rows["quantity"] == "analysis", "rmse"]
        np.testing.assert_allclose(table[f"{arm}/analysis_rmse/z500"].dropna(), rmse, rtol=1e-5)
        assert Path(f"logs/cycle/figures/{arm}/maps/z500_000000.png").is_file()
        assert table[f"{arm}/final/analysis_rmse_over_std"].notna().sum() == 1
    assert Path("logs/cycle/figures/errors_of_all_arms/z500_000000.png").is_file()
    assert not list(Path("runs/mine").rglob("events*"))
    assert Path("runs/mine/report.html").is_file()


def test_a_cycle_without_loggers_is_whole(tiny: Any, oi: Any) -> None:
    cycle(tiny, oi, False)
    assert not list(Path("runs/mine").rglob("events*"))
    assert Path("runs/mine/report.html").is_file()


@pytest.mark.parametrize("store", ["sqlite:///mine.db", "file:./mlruns"])
def test_a_cycle_in_mlflow_beside_tensorboard(
    tiny: Any, oi: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    if store.startswith("sqlite"):
        pytest.importorskip("alembic")  # the part of MLflow that keeps runs in a database
    # MLflow asks for this where runs are kept in files.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger("cycles", run_name="mine", tracking_uri=store, artifact_location="artifacts")
    cycle(tiny, oi, [logger, TensorBoardLogger("runs", "mine", "")])
    client = mlflow.MlflowClient(tracking_uri=store)
    run = client.get_run(logger.run_id)
    scores = pd.read_csv("runs/mine/scores.csv")
    for arm in ("free", "oi"):
        rows = scores[(scores["arm"] == arm) & (scores["channel"] == "z500")]
        rmse = rows.loc[rows["quantity"] == "analysis", "rmse"]
        found = client.get_metric_history(logger.run_id, f"{arm}/analysis_rmse/z500")
        np.testing.assert_allclose([one.value for one in found], rmse, rtol=1e-5)
        assert [one.step for one in found] == list(range(len(rmse)))
        pictures = [one.path for one in client.list_artifacts(run.info.run_id, f"{arm}/maps")]
        assert pictures == [f"{arm}/maps/z500_{index:06d}.png" for index in (0, 4)]
        charts = EventAccumulator(f"runs/mine/{arm}").Reload()
        assert len(charts.Scalars("analysis_rmse/z500")) == len(rmse)


def test_pictures_and_scalars_in_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("mine", save_dir=tmp_path, offline=True, project="tests")
    log_figure([logger], "samples/maps", figure(), 12)
    logger.log_metrics({"val/loss": 0.5}, 12)
    logger.experiment.finish()
    (picture,) = tmp_path.rglob("*.png")
    assert "maps" in picture.name
    assert list(tmp_path.rglob("run-*.wandb"))

"""The report of a fit: its numbers, and what it says where something is not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tests.end_to_end.reading import numbers, picture, section
from vaevar.cli import main
from vaevar.models.training import history
from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.verification.report.__main__ import main as report_command

RUN = Path("runs/vae")
REPORT, HISTORY = RUN / "report.html", RUN / "history.csv"


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """``python -m vaevar.verification.report``."""
    monkeypatch.setattr("sys.argv", ["report", *words])
    report_command()


def fit(config: Path, *words: str) -> None:
    main(["fit", "--config", str(config), *words])


def edited(config: Path, name: str, **trainer: Any) -> Path:
    """The config of a fit with other settings of its trainer."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["trainer"] |= trainer
    path = config.with_name(name)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def check_losses(path: Path, table: pd.DataFrame) -> None:
    """The curves are the rows of the table."""
    found = picture(path, "losses-0")
    lines = {(trace["meta"], trace["name"]): trace for trace in found.data}
    for name, label in (("val/loss", "validation"), ("train/loss", "training")):
        rows = table[table["name"] == name]
        np.testing.assert_allclose(numbers(lines["loss", label]["y"]), rows["value"], rtol=1e-6)
        np.testing.assert_allclose(numbers(lines["loss", label]["x"]), rows["epoch"], rtol=1e-6)
    assert {trace["visible"] for trace in found.data if trace["meta"] == "loss"} == {True}


def check_samples(path: Path) -> None:
    """Maps are the held-out errors and the samples; standard deviations are theirs."""
    maps = picture(path, "samples-0")
    of_z500 = [trace for trace in maps.data if trace["meta"] == "z500"]
    assert len(of_z500) == 3
    assert len({(trace["zmin"], trace["zmax"]) for trace in of_z500}) == 1
    profile = picture(path, "deviations-0")
    assert {trace["name"] for trace in profile.data} == {"held-out errors", "samples of the VAE"}


@pytest.mark.slow
def test_a_fit_ends_with_its_report(
    configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(configs["fit"])
    assert f"Look at all of it in a browser: {REPORT}" in capsys.readouterr().out
    rows = pd.read_csv(HISTORY)
    losses = rows[rows["name"] == "val/loss"]
    assert losses["epoch"].tolist() == [1, 2]
    check_losses(REPORT, rows)
    check_samples(REPORT)
    text = section(REPORT, "summary")
    assert f"{losses['value'].min():.4g}" in text
    run = section(REPORT, "run")
    for said in (
        "model",
        "VAE (",
        "data/errors.zarr",
        "2021-01-01T00",
        "checkpoints/best.ckpt",
        "made again",
    ):
        assert said in run
    assert not section(REPORT, "missing")
    # Made again later, from the checkpoint and the config: the same numbers.
    before = picture(REPORT, "deviations-0").data
    REPORT.unlink()
    command(monkeypatch, str(RUN))
    for one, other in zip(before, picture(REPORT, "deviations-0").data, strict=True):
        np.testing.assert_allclose(numbers(one["x"]), numbers(other["x"]), rtol=1e-5)
    # By hand: the root mean square of samples of the same w.
    vae = VAE.load(RUN / "checkpoints" / "best.ckpt")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = torch.cat([vae.sample(1, generator) for _ in range(48)]) * vae.error_std
    std = Grid.gaussian(16).area_mean(drawn.double().square().mean(0)).sqrt()
    line = next(t for t in before if t["name"] == "samples of the VAE" and t["xaxis"] == "x2")
    np.testing.assert_allclose(numbers(line["x"]), std[vae.spec.variable_slice("u")], rtol=1e-5)


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_losses_of_one_that_was_not(
    configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_EVERY", 3)
    steps = {"filename": "steps", "every_n_train_steps": 5, "enable_version_counter": False}
    often = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": steps}
    config = edited(configs["fit"], "often.yaml", callbacks=[often])
    fit(config)
    whole = pd.read_csv(HISTORY)
    shutil.rmtree(RUN)
    real, calls = VAE.training_step, []

    def dies(self: VAE, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 17:  # after a row at step 15 or 16, which is later than the checkpoint
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "training_step", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(config)
    assert not REPORT.exists()
    with HISTORY.open("a") as file:
        file.write("1.9,17,1.0,train/loss,1.0\n1.9,17,1.0,tra")  # in the middle of a row
    command(monkeypatch, str(RUN))
    assert "so far" in REPORT.read_text(encoding="utf-8").partition("<nav>")[0].rpartition("<header>")[2]
    check_samples(REPORT)
    fit(config)
    pd.testing.assert_frame_equal(
        pd.read_csv(HISTORY).drop(columns="seconds"), whole.drop(columns="seconds"), rtol=1e-5
    )
    assert "so far" not in REPORT.read_text(encoding="utf-8").partition("<nav>")[0].rpartition("<header>")[2]


def test_without_any_logger_nothing_is_lost_but_the_dashboards(
    configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(configs["fit"].read_text(encoding="utf-8"))
    rate = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    config = edited(
        configs["fit"], "no_logger.yaml", logger=False, callbacks=[*content["trainer"]["callbacks"], rate]
    )
    fit(config, "--name", "vae")
    check_losses(REPORT, pd.read_csv(HISTORY))
    assert not list(RUN.glob("events*"))


def test_what_is_not_there_is_said(
    configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(configs["fit"], "--trainer.max_epochs", "1")
    shutil.move("data", "elsewhere")
    command(monkeypatch, str(RUN))
    assert "VAEVAR_DATA" in section(REPORT, "missing")
    check_losses(REPORT, pd.read_csv(HISTORY))
    shutil.move("elsewhere", "data")
    (RUN / "checkpoints" / "best.ckpt").write_bytes(b"nothing")
    command(monkeypatch, str(RUN))
    assert "no checkpoint that can be read" in section(REPORT, "missing")
    HISTORY.write_text("epoch,loss\n1,2\n")
    command(monkeypatch, str(RUN))
    assert "history.csv: damaged" in section(REPORT, "missing")
    shutil.rmtree(RUN / "checkpoints")
    with pytest.raises(SystemExit):
        command(monkeypatch, str(RUN))
    assert "nothing to report" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(monkeypatch, str(RUN), "runs/other")
    assert "is a fit" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_ends_no_fit(
    configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no page")

    monkeypatch.setattr("vaevar.verification.fits.callback.write_fit_report", fails)
    fit(configs["fit"], "--trainer.max_epochs", "1")
    assert (RUN / "checkpoints" / "best.ckpt").is_file()
    assert "python -m vaevar.verification.report runs/vae" in capsys.readouterr().err


def test_a_fit_in_mlflow_and_in_tables(configs: dict[str, Path]) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    store = "sqlite:///mine.db"
    loggers = [
        {
            "class_path": "MLFlowLogger",
            "init_args": {"tracking_uri": store, "artifact_location": "artifacts"},
        },
        {"class_path": "CSVLogger", "init_args": {"save_dir": "tables"}},
    ]
    fit(edited(configs["fit"], "mlflow.yaml", logger=loggers), "--name", "vae")
    client = mlflow.MlflowClient(tracking_uri=store)
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["latent_channels"] == "4"
    assert run.data.metrics["val/loss"] == pytest.approx(
        pd.read_csv(HISTORY).query("name == 'val/loss'")["value"].iloc[-1], rel=1e-5
    )
    (picture,) = client.list_artifacts(run.info.run_id, "samples")[:1]
    assert picture.path.startswith("samples/maps_")
    assert list(Path("tables/vae/figures/samples").glob("maps_*.png"))
    assert REPORT.is_file()

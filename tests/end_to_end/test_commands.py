"""The commands that users type, on a world small enough for seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from lightning.pytorch.loggers import TensorBoardLogger

from tests.device import DEVICE
from tests.end_to_end.conftest import SPEC
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.variational import VariationalAssimilator
from vaevar.cli import main
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.scripts import instantiate, read_contents
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
    columns = ["time", "arm", "channel", "quantity", "rmse", "bias", "position", "window"]
    assert list(scores.columns) == columns
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
    ready: dict[str, Path],
    killed_in_the_third_analysis: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predict(ready)
    whole = pd.read_csv("runs/cycle/scores.csv")
    shutil.rmtree("runs/cycle")
    analysed, analyse = [], VariationalAssimilator.forward

    def counted(self: VariationalAssimilator, *args: Any) -> Any:
        analysed.append(args)
        return analyse(self, *args)

    monkeypatch.setattr(VariationalAssimilator, "forward", counted)
    killed_in_the_third_analysis(lambda: predict(ready))
    assert len(analysed) == 3
    predict(ready)
    # It goes on: from the beginning it would come to the same numbers too.
    assert len(analysed) in (4, 5)
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


SHORT = """
name: short
return_predictions: false
model:
  class_path: AssimilationModule
  init_args:
    forecaster: parts/forecaster.yaml
    arms:
      free: FreeRun
      vaevar: parts/vaevar.yaml
      oi: {class_path: OptimalInterpolation, init_args: {length_km: 900.0}}
data:
  class_path: AnalysisTimes
  init_args:
    source: {class_path: StoreSource, init_args: {path: TRUTH}}
    start: 2021-01-16T00
    analyses: 3
    lead_hours: 12
    spec: {surface: [t2m, msl], upper: [z, u], levels: [500, 850]}
    network: {class_path: ColumnNetwork, init_args: {count: 20}}
    climatology: CLIMATOLOGY
trainer: {accelerator: DEVICE, devices: 1, inference_mode: false}
"""


@pytest.fixture
def short(ready: dict[str, Path], world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config in short names, with parts beside it, in another directory than the current one."""
    directory = tmp_path_factory.mktemp("elsewhere")
    (directory / "parts").mkdir()
    text = SHORT.replace("TRUTH", str(world / "truth.zarr"))
    text = text.replace("CLIMATOLOGY", str(world / "climatological_std.npy")).replace("DEVICE", DEVICE)
    (directory / "short.yaml").write_text(text)
    model = yaml.safe_load(ready["predict"].read_text())["model"]["init_args"]
    forecaster = {"class_path": "OnnxForecaster", "init_args": model["forecaster"]["init_args"]}
    control = {"class_path": "DecoderControl", "init_args": {"checkpoint": "runs/vae/checkpoints/best.ckpt"}}
    vaevar = {"control": control, "iterations": 5}
    for name, content in (
        ("forecaster", forecaster),
        ("vaevar", {"class_path": "VariationalAssimilator", "init_args": vaevar}),
    ):
        (directory / "parts" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return directory / "short.yaml"


def test_a_config_in_short_names_with_an_overlay_of_callbacks(
    short: Path, ready: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "trainer:\n  callbacks:\n    - {class_path: Scores, init_args: {skip: 2}}\n    - DeviceStatsMonitor\n"
    )
    words = ["predict", "--config", str(short), "--config", "mine.yaml"]
    main([*words, "--model.arms.vaevar.iterations", "4"])
    run = Path("runs/short")
    scores = pd.read_csv(run / "scores.csv")
    assert set(scores["arm"]) == {"free", "vaevar", "oi"}
    assert scores["time"].nunique() == 3
    assert "1 of 3" in (run / "summary.md").read_text()
    assert (run / "vaevar" / "analysis.zarr").is_dir()
    assert (run / "vaevar" / "restart.pt").is_file()
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["name"] == "short"
    arm = written["model"]["init_args"]["arms"]["vaevar"]
    assert arm["class_path"] == "vaevar.assim.variational.VariationalAssimilator"
    assert arm["init_args"]["control"]["class_path"] == "vaevar.assim.control.decoder.DecoderControl"
    assert arm["init_args"]["iterations"] == 4
    callbacks = {entry["class_path"].rpartition(".")[2]: entry for entry in written["trainer"]["callbacks"]}
    expected = ["Cycle", "StateWriter", "CycleProgress", "Scores", "DeviceStatsMonitor", "RunReport"]
    assert list(callbacks) == expected
    assert callbacks["Cycle"]["init_args"]["new_cycle_every"] is None
    assert callbacks["StateWriter"]["init_args"] == {"states": ["background", "analysis"]}

    # The written config does the same again, in a run of another name.
    main(["predict", "--config", str(run / "config.yaml"), "--name", "again"])
    pd.testing.assert_frame_equal(pd.read_csv("runs/again/scores.csv"), scores)

    # The cycle that was added is the one that --restart speaks of.
    before = (run / "vaevar" / "diagnostics.csv").stat().st_mtime_ns
    assert "`--name`" in refused_words(capsys, *words)
    main([*words, "--restart"])
    assert (run / "vaevar" / "diagnostics.csv").stat().st_mtime_ns > before
    assert "did you mean ThreeDVar" in refused_words(capsys, *words, "--model.arms.more", "ThreDVar")


def refused_words(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a command which must fail prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


def test_no_states_are_written_when_none_are_asked_for(short: Path) -> None:
    main([
        "predict", "--config", str(short), "--data.init_args.analyses", "1",
        "--trainer.callbacks+", "StateWriter", "--trainer.callbacks.init_args.states", "[analysis]",
    ])  # fmt: skip
    assert Path("runs/short/oi/analysis.zarr").is_dir()
    assert not Path("runs/short/oi/background.zarr").exists()
    main([
        "predict", "--config", str(short), "--data.init_args.analyses", "1", "--name", "stateless",
        "--trainer.callbacks+", "StateWriter", "--trainer.callbacks.init_args.states", "[]",
    ])  # fmt: skip
    assert not list(Path("runs/stateless").rglob("*.zarr"))
    assert Path("runs/stateless/scores.csv").is_file()


def test_a_trainer_without_a_cycle_says_so(short: Path) -> None:
    parts = read_contents([short])
    objects = instantiate(parts, model=AssimilationModule, data=AnalysisTimes)
    trainer = L.Trainer(
        accelerator=DEVICE, devices=1, inference_mode=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, logger=TensorBoardLogger("runs", "none", ""),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"add vaevar\.assim\.cycle\.cycle\.Cycle"):
        trainer.predict(objects.model, objects.data)


def test_a_fit_keeps_its_checkpoints_under_its_name(configs: dict[str, Path]) -> None:
    def unnamed(content: dict) -> None:
        del content["trainer"]["logger"]
        content["trainer"]["callbacks"] = [
            {"class_path": "ModelCheckpoint", "init_args": {"filename": "best", "monitor": "val/loss"}}
        ]
        content["name"] = "ordinary"

    edited(configs["fit"], unnamed)
    main(["fit", "--config", str(configs["fit"]), "--name", "mine", "--trainer.max_epochs", "1"])
    assert Path("runs/mine/checkpoints/best.ckpt").is_file()
    assert list(Path("runs/mine").glob("events.out.tfevents*"))
    assert Path("runs/mine/config.yaml").is_file()
    assert not Path("runs/ordinary").exists()


def test_a_cycle_needs_a_directory_and_a_restart_is_said_once(
    ready: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("kept.txt").write_text("of the user")
    with pytest.raises(SystemExit) as stop:
        predict(ready, "--trainer.logger", "false", "--restart")
    assert stop.value.code == 2
    assert "give the run a name of its own" in capsys.readouterr().err
    assert Path("kept.txt").is_file()
    predict(ready, "--data.init_args.analyses", "1", "--restart")
    written = yaml.safe_load(Path("runs/cycle/config.yaml").read_text())
    assert written["restart"] is False


def test_the_first_state_is_the_oldest_that_the_forecaster_needs(
    ready: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store begins at the time from which a forecast of 12 h reaches the first analysis."""
    Path("persisting.py").write_text(
        "from vaevar.forecast import Forecaster\n"
        "from vaevar.sphere.grid import Grid\n"
        "from vaevar.state import StateSpec\n"
        "class Persisting(Forecaster):\n"
        "    def __init__(self, history: int) -> None:\n"
        "        self.history, self.step_hours = history, 6\n"
        f"        self.spec, self.grid = StateSpec(**{SPEC!r}), Grid.gaussian(16)\n"
        "    def step(self, states):\n"
        "        return states[:, -1]\n"
    )
    words = ["--data.init_args.start", "2021-01-01T12", "--data.init_args.analyses", "1"]
    words += [
        "--model.init_args.arms",
        "{free: {class_path: FreeRun}}",
        "--model.init_args.forecaster",
        "persisting.Persisting",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        predict(ready, *words, "--model.init_args.forecaster.init_args.history", "1", "--name", "one")
        with pytest.raises(SystemExit):
            predict(ready, *words, "--model.init_args.forecaster.init_args.history", "3", "--name", "three")
    assert "2020-12-31T12 to 2021-01-01T12 is needed" in capsys.readouterr().err

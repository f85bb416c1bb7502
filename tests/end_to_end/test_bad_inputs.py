"""Many mistakes, each in a config that is otherwise right: one line names it, and nothing is left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.end_to_end.conftest import SPEC
from vaevar.cli import main

M, D, T = "model/init_args", "data/init_args", "trainer"
FC, ARMS, NET, CALLBACKS = f"{M}/forecaster/init_args", f"{M}/arms", f"{D}/network", f"{T}/callbacks"
MAKING = f"{D}/making/init_args"
REMOVED = object()
ERRORS = "vaevar.data.observations.errors.ObservationErrors"
FREE = {"class_path": "vaevar.assim.assimilator.FreeRun"}
CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"


def arm(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": settings}


def errors(**settings: Any) -> dict[str, Any]:
    return arm(ERRORS, **settings)


# Where, what is put there, and what the line says besides the place.
PREDICT: list[tuple[str, Any, str]] = [
    # keys
    (f"{D}/analysis", 3, "AnalysisTimes has no setting analysis; did you mean analyses"),
    (f"{ARMS}/free/init_args", {"lenght": 3}, "FreeRun has no setting lenght"),
    (f"{NET}/init_args/counts", 3, "ColumnNetwork has no setting counts; did you mean count"),
    (f"{CALLBACKS}/2/init_args/skp", 3, r"trainer.callbacks.2.*Scores has no setting skp; did you mean skip"),
    (f"{T}/max_epoch", 3, "trainer.max_epoch: predict has no such setting; did you mean trainer.max_epochs"),
    ("modle", 3, "modle: predict has no such setting; did you mean model"),
    ("optimizer", "Adam", "optimizer is a setting of fit.*, not of predict"),
    (f"{D}/spec", {"surfaces": ["t2m"]}, "StateSpec has no setting surfaces; did you mean surface"),
    # what is missing
    (f"{D}/analyses", REMOVED, "data.init_args: AnalysisTimes needs analyses"),
    (NET, REMOVED, "AnalysisTimes needs network"),
    (ARMS, REMOVED, "AssimilationModule needs arms"),
    ("model", REMOVED, "no model is given"),
    ("data", REMOVED, "data is missing: predict of AssimilationModule needs a data module"),
    # types
    (f"{D}/analyses", "many", "data.init_args.analyses: 'many' is given, a whole number is expected"),
    (f"{D}/analyses", [1, 2], r"analyses: \[1, 2\] is given, a whole number"),
    (f"{D}/analyses", 3.5, "analyses: 3.5 is given, a whole number"),
    (f"{D}/start", 2021, "start: 2021 is given, a text is expected"),
    (f"{NET}/init_args/quantities", 5, "quantities: 5 is given, a list of texts or null"),
    (f"{NET}/init_args/quantities", "t", "quantities: 't' is given, a list of texts or null"),
    (f"{CALLBACKS}/2/init_args/skip", "x", "skip: 'x' is given, a whole number"),
    ("seed_everything", "abc", "seed_everything: 'abc' is given"),
    (f"{T}/fast_dev_run", "x", "fast_dev_run: 'x' is given, a whole number or true or false"),
    (f"{T}/precision", "33", "precision: '33' is given, .*32-true.* is expected"),
    (f"{FC}/grid", "gausian", "grid: 'gausian' is given, auto or equiangular or gaussian"),
    (ARMS, [FREE], "arms: .* is given, a mapping"),
    (f"{ARMS}/free", None, "arms.free: null is given, the name of an Assimilator"),
    # classes
    (f"{ARMS}/free/class_path", "FreRun", "FreRun: no Assimilator has this name; did you mean FreeRun"),
    (f"{ARMS}/free/class_path", "vaevar.assim.assimilator.Free", "no class vaevar.assim.assimilator.Free"),
    (f"{ARMS}/free/class_path", "vaevar.asim.FreeRun", "arms.free: there is no class vaevar.asim.FreeRun"),
    (f"{ARMS}/free/class_path", "Scores", "arms.free: .*Scores is no Assimilator"),
    (f"{ARMS}/free", {"class_path": ERRORS}, f"arms.free: {ERRORS} is no Assimilator"),
    (f"{ARMS}/free/class_path", "vaevar.assim.assimilator.Assimilator", "Assimilator is abstract"),
    (f"{CALLBACKS}/0/class_path", "vaevar.assim.cycle.cycle.Cycl", "callbacks.0: .*did you mean Cycle"),
    (NET, "nets/other.yaml", "nets/other.yaml: no such file"),
    ("model", {"class_path": "vaevar.models.vae.vae.VAE"}, "VAE has no predict_step"),
    # what constructors refuse
    (f"{D}/spec/levels", [850, 500], r"data.init_args.spec: StateSpec cannot be made: levels must ascend"),
    (f"{D}/spec/levels", [], "StateSpec cannot be made: upper-air variables need positive pressure levels"),
    (f"{FC}/spec/surface", ["2m_temperature"], r"forecaster.init_args.spec.*unknown variables \['2m_temp"),
    (f"{FC}/spec/upper", ["z", "z"], "variables repeat"),
    (f"{CALLBACKS}/0", arm(CHECKPOINT, mode="maximum"), "ModelCheckpoint cannot be made: `mode` can be"),
    (f"{T}/logger", arm("lightning.pytorch.loggers.MLFlowLogger"), "trainer.logger.*mlflow"),
    (f"{NET}/init_args/count", 0, "data.init_args.network: ColumnNetwork: count 0 must be positive"),
    (f"{NET}/init_args/quantities", [], "quantities is empty"),
    (f"{NET}/init_args/quantities", ["t3m"], "unknown variable 't3m'; these can be observed"),
    (f"{NET}/init_args/quantities", ["t2m", "t2m"], "t2m would be observed more than once"),
    (f"{NET}/init_args/quantities", ["u", "u500"], "u500 would be observed more than once"),
    (f"{D}/errors", errors(others={"ws11": 2.0}), "others: unknown variable 'ws11'"),
    (f"{D}/errors", errors(others={"z": 2.0}), "that of z follows from pressure and temperature"),
    (f"{D}/errors", errors(others={"ws10": -2.0}), "others has -2.0 for ws10, must be positive"),
    (f"{D}/errors", errors(wind=-1.0), "wind is -1.0, must be positive"),
    (f"{D}/errors", errors(temperature=float("nan")), "temperature is nan, must be positive"),
    (f"{D}/errors", errors(pressure=float("inf")), "pressure is inf, must be positive"),
    (f"{D}/seed", -1, "data.seed: -1"),
    (ARMS, {}, "name at least one experiment arm"),
    (f"{ARMS}/a b", FREE, "model.arms: 'a b' must be made of letters"),
    (f"{ARMS}/..", FREE, r"model.arms: '\.\.' must be made of letters"),
    (f"{ARMS}/oi", arm("OptimalInterpolation", length_km=-3.0), "arms.oi: OptimalInterpolation: length_km"),
    (f"{ARMS}/oi", arm("LinearInterpolation", range_km=0.0), "range_km is 0.0"),
    (f"{ARMS}/oi", arm("OptimalInterpolation", length_km={"tt": 3.0}), "length_km names tt; variables are"),
    (f"{ARMS}/x", arm("ThreeDVar", statistics="none.nc"), "x: ThreeDVar: none.nc: no such statistics of B"),
    (f"{ARMS}/x", arm("ThreeDVar", statistics="cycle.yaml"), "cycle.yaml: .* statistics of B, .* a text"),
    (f"{ARMS}/x", arm("VAEVar", checkpoint="none.ckpt"), "arms.x: VAEVar: none.ckpt"),
    (f"{CALLBACKS}/0/init_args", {"failures_in_a_row": 0}, "trainer.callbacks: Cycle: failures_in_a_row"),
    (f"{CALLBACKS}/2/init_args/skip", -1, "trainer.callbacks: Scores: skip is -1, must not"),
    (f"{CALLBACKS}/3/init_args/channels", ["z999"], "the state has no channels z999"),
    # times
    (f"{D}/start", "yesterday", "data.start: 'yesterday' is not a time"),
    (f"{D}/start", "today", "data.start: 'today' is not a time"),
    (f"{D}/start", "2021-01-16T06:30", "data.start: '2021-01-16T06:30' is not on the hour"),
    (f"{D}/start", "2021-02-30T06", "data.start: '2021-02-30T06' is not a time"),
    (f"{D}/start", "2021-01-16T06Z", "data.start: .* without a zone"),
    (f"{D}/start", "1821-01-16T06", "1821"),
    (f"{D}/analyses", 0, "analyses is 0"),
    (f"{D}/analyses", 4000, "needed"),
    (f"{D}/lead_hours", 9, "lead_hours is 9, must be a positive multiple"),
    (f"{D}/lead_hours", 0, "lead_hours is 0"),
    (f"{D}/step_hours", 3, "step"),
    # files
    (f"{FC}/model", "none.onnx", "none.onnx: no such file"),
    (f"{FC}/model", "cycle.yaml", "cycle.yaml: "),
    (f"{FC}/mean", "none.npy", "none.npy"),
    (f"{FC}/std", "cycle.yaml", "cycle.yaml"),
    (f"{D}/climatology", "none.npy", "none.npy"),
    (f"{D}/climatology", ".", "cannot be read"),
    (f"{D}/source/init_args/path", "none.zarr", "none.zarr"),
    (f"{D}/source/init_args/path", "cycle.yaml", "cycle.yaml"),
    (f"{D}/source/init_args/lead_hours", 24, "lead"),
    # the trainer
    (f"{T}/accelerator", "gpus", "trainer: .*invalid accelerator name"),
    (f"{T}/accelerator", "gpu", "trainer: No supported gpu backend found; torch finds no GPU here"),
    (f"{T}/devices", 0, "trainer: .*devices=0"),
    (f"{T}/devices", "two", "trainer: `devices`"),
    (f"{T}/num_nodes", 0, "trainer: `num_nodes` must be a positive integer, but got 0"),
    (f"{T}/num_nodes", 2, "trainer.num_nodes is 2, but nothing says which node this is: .* leave it out"),
    (f"{T}/strategy", "dppp", "trainer: .*invalid strategy name"),
    (f"{T}/strategy", "deepspeed", "trainer: .*deepspeed"),
    (f"{T}/precision", "transformer-engine", "transformer_engine.*leave trainer.precision at 32-true"),
    (f"{T}/precision", "64-true", "trainer.precision is 64-true"),
    (f"{T}/limit_predict_batches", -3, "trainer: .*-3 for limit_predict_batches"),
    (f"{T}/limit_predict_batches", 0, "trainer.limit_predict_batches is 0"),
    (f"{T}/limit_predict_batches", 0.1, "trainer.limit_predict_batches is 0.1: the cycle has no analysis"),
    (f"{T}/max_time", "3 hours", "trainer: .*'3 hours'.*00:03:00:00"),
    (f"{T}/profiler", "simpel", "trainer: .*profiler"),
    (f"{T}/inference_mode", True, "trainer.inference_mode: false"),
    (f"{T}/logger", False, "give the run a name"),
    ("seed_everything", -1, "seed_everything: -1 is not in bounds"),
    ("name", "../out", "a name is made of letters"),
]  # fmt: skip
FIT: list[tuple[str, Any, str]] = [
    (f"{D}/validation_fraction", 0, "validation_fraction must lie between 0 and 1, got 0"),
    (f"{D}/validation_fraction", 1.5, "validation_fraction must lie between 0 and 1, got 1.5"),
    (f"{D}/gap_hours", -1, "gap_hours not negative"),
    (f"{D}/batch_size", 0, "batch_size must be positive"),
    (f"{D}/path", "vae.yaml", "vae.yaml"),
    (f"{D}/path", "", "data: BackgroundErrors: path is '', give that of a store of samples"),
    (f"{D}/path", "/", "data: BackgroundErrors: path is '/'"),
    (f"{MAKING}/every_hours", 7, "every_hours must divide 24"),
    (f"{MAKING}/every_hours", 0, "every_hours"),
    (f"{MAKING}/end", "2020-01-15T00", "the period ends .* before it starts"),
    (f"{MAKING}/start", "2021-01-01T00:30", "start: '2021-01-01T00:30' is not on the hour"),
    (f"{MAKING}/coarsen_to", [3], "coarsen_to"),
    (f"{M}/widths", [8], "widths"),
    (f"{M}/widths", [8, 0], r"model: VAE: widths is \[8, 0\], must be at least 1"),
    (f"{M}/depths", [1, -1], r"VAE: depths is \[1, -1\], must not be negative"),
    (f"{M}/heads", [0, -2], r"VAE: heads is \[0, -2\], must not be negative"),
    (f"{M}/patch", 0, "VAE: patch is 0, must be at least 1"),
    (f"{M}/patch", -2, "VAE: patch is -2, must be at least 1"),
    (f"{M}/latent_channels", 0, "VAE: latent_channels is 0, must be at least 1"),
    (f"{M}/stem_width", 0, "VAE: stem_width is 0, must be at least 1"),
    (f"{M}/head_width", -4, "VAE: head_width is -4, must be at least 1"),
    (f"{M}/window", 0, "VAE: window is 0, must be at least 1"),
    (f"{M}/expansion", 0, "VAE: expansion is 0, must be at least 1"),
    (f"{M}/kernel_size", -3, "VAE: kernel_size is -3, must be at least 1"),
    (f"{M}/kl_weight", -1.0, "VAE: kl_weight is -1.0, must not be negative"),
    (f"{M}/weight_decay", -0.1, "VAE: weight_decay is -0.1, must not be negative"),
    (f"{M}/warmup_steps", -1, "VAE: warmup_steps is -1, must not be negative"),
    (f"{M}/learning_rate", float("inf"), "VAE: learning_rate is inf, must be positive"),
    (f"{M}/sigma", -1.0, "VAE: sigma is -1.0, must be positive"),
    (f"{M}/sigma", float("nan"), "VAE: sigma is nan, must be positive"),
    (f"{M}/nlat", 0, "VAE: a grid of 0 × 32 points: it has at least 2 rows and 2 columns"),
    (f"{M}/nlon", -32, "VAE: a grid of 16 × -32 points"),
    (f"{T}/max_epochs", "ten", "max_epochs: 'ten' is given, a whole number or null"),
    (f"{T}/precision", "64-true", "trainer.precision is 64-true: .* leave it at 32-true, or give bf16-mixed"),
    (f"{T}/precision", "bf16-true", "trainer.precision is bf16-true"),
    (f"{T}/accumulate_grad_batches", 0, "trainer: accumulate_grad_batches is 0, must be at least 1"),
    (f"{T}/val_check_interval", 0, "trainer: val_check_interval is 0, must be positive"),
    (f"{T}/check_val_every_n_epoch", 0, "trainer: check_val_every_n_epoch is 0, must be at least 1"),
    (f"{T}/gradient_clip_val", -1.0, "trainer: gradient_clip_val is -1.0, must not be negative"),
    (f"{T}/min_epochs", 9, "trainer: min_epochs is 9, more than max_epochs, 2"),
    (f"{T}/callbacks/0/init_args/monitor", 3, "monitor: 3 is given, a text or null"),
    ("return_predictions", False, "return_predictions is a setting of predict, not of fit"),
    (f"{T}/callbacks/1/init_args/channels", ["z5OO"], "channels names z5OO, which no state has"),
    (f"{T}/callbacks/1/init_args/samples", 0, "samples 0"),
    ("optimizer", {"class_path": "Adam", "init_args": {"lr": -1.0}}, "optimizer, lr_scheduler: .*learning"),
]  # fmt: skip
CASES = [*(("predict", *case) for case in PREDICT), *(("fit", *case) for case in FIT)]


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(content))  # YAML's anchors make one object of equal parts
    *way, last = path.split("/")
    place: Any = content
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    if value is REMOVED:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return content


def entries(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said; the directory stays as it was."""
    before = entries(Path.cwd())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "Traceback" not in said
    assert entries(Path.cwd()) == before
    return line


def test_there_are_enough() -> None:
    assert len({(command, path, repr(value)) for command, path, value, _ in CASES}) == len(CASES) >= 100


@pytest.mark.parametrize(
    ("command", "path", "value", "says"),
    CASES,
    ids=[f"{command}-{path.rpartition('/')[2]}-{number}" for number, (command, path, *_) in enumerate(CASES)],
)
def test_one_line_and_nothing_else(
    command: str,
    path: str,
    value: Any,
    says: str,
    configs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = yaml.safe_load(configs[command].read_text(encoding="utf-8"))
    if command == "predict":
        del content["model"]["init_args"]["arms"]["vaevar"]  # it needs a fit
    configs[command].write_text(yaml.safe_dump(changed(content, path, value)), encoding="utf-8")
    line = refusal([command, "--config", str(configs[command])], capsys)
    assert re.search(says, line), line
    assert len(line) < 420


TEXTS = {
    "model:\n\tclass_path: VAE\n": "line 2, column 1: .* indent with spaces, not tabs",
    "seed_everything: 1\nname: a\nseed_everything: 2\n": "line 3, .*seed_everything is given twice, first in",
    "data:\n  init_args: {analyses: 3, analyses: 4}\n": "data.init_args.analyses is given twice",
    "": "not a config: it has no sections such as model and data",
    "# only words\n": "not a config",
    "3\n": "not a config",
    "- model\n- data\n": "not a config",
    "model: a: b\n": "line 1, column 9: mapping values are not allowed here; check the indentation",
    "model: *other\n": "undefined alias",
    "model: !!python/object/apply:os.system [ls]\n": "could not determine a constructor",
    b"\x89PNG\r\n": "is no text in UTF-8",
    "name: é\n".encode("latin-1"): "is no text in UTF-8",
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), TEXTS.items(), ids=[str(number) for number in range(len(TEXTS))])
def test_what_is_no_config(
    text: str | bytes,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refusal(["predict", "--config", "bad.yaml"], capsys)
    assert line.startswith("error: bad.yaml: ")
    assert re.search(says, line), line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--config", "missing.yaml"], "missing.yaml: no such file; give the path of a config"),
        (["--config", "."], "is a directory, where a file is expected"),
        ([], "no model is given: give a config that has it, such as --config configs/cycle_sparse.yaml"),
        (["cycle.yaml"], "error: cycle.yaml: a config is given with --config cycle.yaml"),
        (["--config", "cycle.yaml", "--nome", "x"], "error: --nome x: no such option"),
        (["--config", "cycle.yaml", "--name", "a: b: c"], "--name 'a: b: c'"),
        (
            ["--config", "cycle.yaml", "--data.init_args.path", "x"],
            "--data.init_args.path: AnalysisTimes has no",
        ),
        (
            ["--config", "cycle.yaml", "--model.init_args.arms.free.init_args.lenght", "3"],
            "--model.init_args.arms.free.init_args.lenght: FreeRun has no setting lenght",
        ),
        (
            ["--config", "cycle.yaml", "--data.init_args.analyses", "x"],
            "--data.init_args.analyses: 'x' is given",
        ),
        (
            ["--config", "cycle.yaml", "--data.init_args.network.init_args.count", "x"],
            "--data.init_args.network.init_args.count: 'x' is given, a whole number",
        ),
        (
            ["--config", "cycle.yaml", "--trainer.callbacks+=Scors"],
            "Scors: no Callback has this name; did you mean",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else None,
)
def test_on_the_command_line(
    words: list[str], says: str, configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(["predict", *words], capsys)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["frobnicate"], "frobnicate: no such command; the commands are fit, validate, test, predict, init"),
        (["prdict", "--config", "cycle.yaml"], "prdict: no such command; did you mean predict?"),
        (["--config", "cycle.yaml", "predict"], "--config: the command comes first: begin with `predict`"),
        (["cycle.yaml"], "cycle.yaml: no such command; the commands are"),
    ],
)
def test_what_is_no_command(
    words: list[str], says: str, configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(words, capsys).startswith(f"error: {says}")


def test_a_part_that_is_missing_is_named_with_its_config(
    configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    configs["predict"].write_text(yaml.safe_dump(changed(content, NET, "network.yaml")), encoding="utf-8")
    line = refusal(["predict", "--config", "cycle.yaml"], capsys)
    assert line.startswith(
        "error: cycle.yaml: data.init_args.network: network.yaml: no such file; the path of a"
    )


def test_a_part_is_named_by_its_own_file(
    configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content = changed(content, NET, "network.yaml")
    configs["predict"].write_text(yaml.safe_dump(content), encoding="utf-8")
    Path("network.yaml").write_text("class_path: ColumnNetwork\ninit_args: {cuont: 3}\n", encoding="utf-8")
    line = refusal(["predict", "--config", "cycle.yaml"], capsys)
    assert re.match(r"error: \S*network.yaml: data.init_args.network.init_args.cuont: ColumnNetwork", line)


def test_channels_that_differ_are_named_and_no_others(
    configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    del content["model"]["init_args"]["arms"]["vaevar"]
    np.save("climatology.npy", np.array([8.0, 800.0, 8.0, 5.0, 900.0, 500.0]))
    content = changed(content, f"{D}/spec", {**SPEC, "upper": ["u", "z"]})
    content = changed(content, f"{D}/climatology", "climatology.npy")
    configs["predict"].write_text(yaml.safe_dump(content), encoding="utf-8")
    line = refusal(["predict", "--config", "cycle.yaml"], capsys)
    assert "with z500 as channel 2, not u500: bring a forecaster and a store that belong together" in line
    assert "u850" not in line


def test_a_traceback_is_there_for_those_who_ask(
    configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAEVAR_TRACEBACK", "1")
    with pytest.raises(Exception, match="validate"):
        main(["predict", "--config", "cycle.yaml", "--data.init_args.spec.init_args.levels", "[850,500]"])

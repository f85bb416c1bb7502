from __future__ import annotations

import pickle
from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from jsonargparse import ArgumentParser
from onnx import TensorProto, helper

from vaevar.errors import UserError
from vaevar.forecast import Forecaster, rollout
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.plausible.atmosphere import standard_geopotential
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

SPEC = StateSpec(surface=("t2m", "msl"), upper=("z", "t"), levels=(500, 850))
ADDED = np.array([0.5, -20.0, 30.0, -10.0, 1.0, 2.0])  # physical units per step


def some_states(batch: int = 2, spec: StateSpec = SPEC, shape: tuple[int, int] = (5, 8)) -> torch.Tensor:
    """[B, 2, C, H, W] of plausible values, different at every point."""
    mean = {"t2m": 280.0, "msl": 1.01e5, "t": 260.0, "q": 1e-3}
    mean |= {f"z{level}": standard_geopotential(level) for level in spec.levels}
    size = {"t2m": 10.0, "msl": 900.0, "z": 900.0, "t": 10.0, "q": 1e-4}
    fields = [
        mean.get(channel.name, mean.get(channel.variable, 0.0))
        + size.get(channel.variable, 5.0) * torch.randn(batch, 2, *shape)
        for channel in spec.channels
    ]
    return torch.stack(fields, dim=2)


def assert_close_in_std(forecast: torch.Tensor, expected: torch.Tensor, std: Path) -> None:
    """Equal to 5e-5 of each channel's std: float32 holds 101,000 ± 1300 Pa to 6e-6 of it."""
    scale = torch.from_numpy(np.load(std))[:, None, None]
    assert float(((forecast - expected) / scale).abs().max()) < 5e-5


def test_rollout_adds_the_known_constant_of_each_channel(toy_onnx):
    files = toy_onnx(SPEC, ADDED)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    states = some_states()
    forecasts = list(rollout(forecaster, states, 4))
    assert len(forecasts) == 4
    for step, forecast in enumerate(forecasts, start=1):
        assert forecast.shape == (2, 6, 5, 8)
        assert_close_in_std(forecast, states[:, 1] + step * torch.from_numpy(ADDED)[:, None, None], files.std)


def test_the_older_state_comes_first_and_the_window_moves(toy_onnx):
    """x(k+1) = 2 x(k) − x(k−1) + a: a straight line and a parabola, only in the right order."""
    files = toy_onnx(SPEC, ADDED, old=-1.0, new=2.0)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    states = some_states().double()
    before, now = states[:, 0], states[:, 1]
    for step, forecast in enumerate(rollout(forecaster, states, 3), start=1):
        curve = step * (step + 1) / 2 * torch.from_numpy(ADDED)[:, None, None]
        assert_close_in_std(forecast, now + step * (now - before) + curve, files.std)


def test_full_state_on_the_equiangular_grid_of_the_file(toy_onnx):
    spec = StateSpec()
    files = toy_onnx(spec, np.zeros(69))
    forecaster = OnnxForecaster(*astuple(files))
    assert (forecaster.history, forecaster.step_hours, forecaster.spec) == (2, 6, spec)
    assert forecaster.grid == Grid.equiangular(5)
    states = some_states(1, spec)
    assert_close_in_std(forecaster.step(states), states[:, 1], files.std)


def test_batch_fixed_to_one_runs_sample_by_sample(toy_onnx):
    states = some_states(3)
    together = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC).step(states)
    one_by_one = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED, batch=1)), spec=SPEC).step(states)
    assert torch.equal(together, one_by_one)


def test_strided_states_and_their_dtype(toy_onnx):
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED, old=-1.0, new=2.0)), spec=SPEC)
    states = some_states()
    strided = states.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    before = strided.detach().clone()
    forecast = forecaster.step(strided)
    assert torch.equal(forecast, forecaster.step(states))
    assert not forecast.requires_grad
    assert torch.equal(strided, before)
    assert forecaster.step(states.double()).dtype == torch.float64


def test_output_of_open_size_is_taken_as_the_contract_says(toy_onnx):
    files = toy_onnx(SPEC, ADDED, output_shape=["batch", "unknown", "h", "w"])
    states = some_states()
    forecast = OnnxForecaster(*astuple(files), spec=SPEC).step(states)
    assert_close_in_std(forecast, states[:, 1] + torch.from_numpy(ADDED)[:, None, None], files.std)


@pytest.mark.parametrize("declared", [["batch", "unknown", "h", "w"], []], ids=["open", "nothing said"])
@pytest.mark.parametrize("kept", [len(SPEC), len(SPEC) + 1, 2 * len(SPEC)])
def test_an_output_of_open_size_may_have_any_that_holds_a_state(toy_onnx, declared, kept):
    files = toy_onnx(SPEC, ADDED, old=-1.0, new=2.0, output_shape=declared, kept=kept)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    known = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED, old=-1.0, new=2.0)), spec=SPEC)
    for batch in (3, 1, 2):  # the first step finds the size; the others know it
        states = some_states(batch)
        assert torch.equal(forecaster.step(states), known.step(states))


def test_an_output_of_open_size_without_a_state_is_named(toy_onnx):
    files = toy_onnx(SPEC, ADDED, output_shape=["batch", "unknown", "h", "w"], kept=5)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    with pytest.raises(UserError, match=r"its output is \[2, 5, 5, 8\], expected \[B, at least C") as caught:
        forecaster.step(some_states())
    assert_one_line_naming(caught.value, files.model)


@pytest.mark.parametrize(
    ("family", "shape", "grid"),
    [
        ("cells", (4, 8), Grid.cells(4)),
        ("regular", (4, 8), Grid.regular(4, 8)),
        ("regular", (5, 8), Grid.equiangular(5)),
        ("equiangular", (5, 8), Grid.equiangular(5)),
    ],
)
def test_grids_of_every_family(toy_onnx, family, shape, grid):
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED, shape=shape)), spec=SPEC, grid=family)
    assert forecaster.grid == grid
    assert forecaster.step(some_states(shape=shape)).shape == (2, 6, *shape)


def test_points_that_are_no_such_grid(toy_onnx):
    files = toy_onnx(SPEC, ADDED, shape=(3, 8))
    with pytest.raises(UserError, match=r"3 × 8 points, grid: regular: .* short of the pole") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC, grid="regular")
    assert_one_line_naming(caught.value, files.model)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("no JSON", "its metadata 'vaevar' are damaged"),
        ("[1, 2]", "its metadata 'vaevar' are damaged"),
        ('{"channels": 3}', "its metadata 'vaevar' are damaged"),
        ('{"channels": ["t2m", "msl", "z500"]}', "it has 3 channels, but the config's spec 6"),
        ('{"latitude": [-45, 0, 45], "longitude": [0, 120, 240]}', "the grid in its metadata is damaged"),
        ('{"latitude": [45, -45], "longitude": [-180, 0]}', "the grid in its metadata is damaged"),
        ('{"latitude": [45, -45]}', "the grid in its metadata is damaged"),
        ('{"latitude": "north", "longitude": null}', "the grid in its metadata is damaged"),
        ('{"step_hours": 12}', "its time step is 12 h, but step_hours is 6"),
    ],
)
def test_metadata_that_are_wrong(toy_onnx, said, says):
    files = toy_onnx(SPEC, ADDED, metadata={"vaevar": said})
    with pytest.raises(UserError, match=says) as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)


def wavy_states(shape: tuple[int, int] = (5, 8)) -> torch.Tensor:
    """[2, 2, C, H, W]: states that change little from one to the next."""
    now, first, second = (some_states(shape=shape)[:, :1] for _ in range(3))
    return torch.cat([now + 0.2 * (first - second), now], 1)


@pytest.mark.parametrize(
    ("old", "new", "fine"),
    [(0.0, 1.0, True), (-1.0, 2.0, True), (-1.0, 1.0, False), (0.0, 9.0, False), (0.0, -1.0, False)],
)
def test_an_output_that_is_no_next_state(toy_onnx, old, new, fine):
    files = toy_onnx(SPEC, np.zeros(6), old=old, new=new)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    if fine:
        assert forecaster.step(wavy_states()).isfinite().all()
        return
    for _ in range(2):  # a second try does not slip through
        with pytest.raises(UserError, match="it seems to be a change, in physical units, or") as caught:
            forecaster.step(wavy_states())
        assert_one_line_naming(caught.value, files.model)


def test_gaussian_and_open_grids_are_named_by_the_config(toy_onnx):
    gaussian = astuple(toy_onnx(SPEC, ADDED, shape=(4, 8)))
    with pytest.raises(UserError, match="say which grid they are: grid: gaussian, cells"):
        OnnxForecaster(*gaussian, spec=SPEC)
    assert OnnxForecaster(*gaussian, spec=SPEC, grid="gaussian").grid == Grid.gaussian(4)
    with pytest.raises(UserError, match=r"its grid is \[4, 8\], but shape says \[6, 12\]"):
        OnnxForecaster(*gaussian, spec=SPEC, grid="gaussian", shape=(6, 12))
    open_grid = astuple(toy_onnx(SPEC, ADDED, shape=("h", "w")))
    with pytest.raises(UserError, match="give shape"):
        OnnxForecaster(*open_grid, spec=SPEC)
    forecaster = OnnxForecaster(*open_grid, spec=SPEC, grid="gaussian", shape=(6, 12))
    assert forecaster.grid == Grid.gaussian(6)
    assert forecaster.step(some_states(shape=(6, 12))).shape == (2, 6, 6, 12)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"input_name": "x"}, r"inputs are \['x'\], expected one named 'input'"),
        ({"dtype": TensorProto.DOUBLE}, r"tensor\(double\), expected tensor\(float\)"),
        ({"batch": 4}, "batch size is fixed to 4"),
    ],
)
def test_a_model_of_another_contract(toy_onnx, how, says):
    files = toy_onnx(SPEC, ADDED, **how)
    with pytest.raises(UserError, match=says) as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)


def test_a_model_of_other_channels(toy_onnx, tmp_path):
    other = toy_onnx(StateSpec(("t2m", "msl"), ("z",), (500, 850)), ADDED[:4]).model
    other = other.rename(tmp_path / "other.onnx")
    files = toy_onnx(SPEC, ADDED)
    with pytest.raises(UserError, match="input has 8 channels, expected 12") as caught:
        OnnxForecaster(other, files.mean, files.std, spec=SPEC)
    assert_one_line_naming(caught.value, other)


def test_a_model_whose_output_is_no_state(toy_onnx):
    files = toy_onnx(SPEC, ADDED)
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=1)],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 12, 5, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1, 5, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(files.model))
    with pytest.raises(UserError, match="output has 1 channels, expected 12, and at least 6") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)


def test_a_model_file_that_is_missing_or_no_model(toy_onnx):
    files = toy_onnx(SPEC, ADDED)
    files.model.write_bytes(files.model.read_bytes()[:100])
    with pytest.raises(UserError, match="it has 100 bytes and is cut off or damaged") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)
    files.model.write_bytes(b"<html>Not found</html>")
    with pytest.raises(UserError, match="an ONNX model is expected, it is a web page") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)
    files.model.unlink()
    with pytest.raises(UserError, match="no such file") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.model)


def test_wrong_normalisation_files(toy_onnx):
    files = toy_onnx(SPEC, ADDED)
    with pytest.raises(UserError, match=r"the mean of t2m is 21 .* expected 240 to 310 K") as caught:
        OnnxForecaster(files.model, files.std, files.mean, spec=SPEC)
    assert_one_line_naming(caught.value, files.std)
    np.save(files.mean, np.zeros(5))
    with pytest.raises(UserError, match=r"\(5,\) values, expected \(6,\)") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.mean)
    files.std.unlink()
    np.save(files.mean, np.array([280.0, 1e5, 5e4, 1e4, 250.0, 280.0]))
    with pytest.raises(UserError, match=r"no such \.npy file") as caught:
        OnnxForecaster(*astuple(files), spec=SPEC)
    assert_one_line_naming(caught.value, files.std)


@pytest.mark.parametrize(
    ("scale", "offset", "names"),
    [(1.0, -273.15, ["t2m", "t500", "t850"]), (1e-2, 0.0, ["msl"])],
    ids=["degC", "hPa"],
)
def test_states_in_other_units_are_refused_at_the_first_step(toy_onnx, scale, offset, names):
    files = toy_onnx(SPEC, ADDED)
    forecaster = OnnxForecaster(*astuple(files), spec=SPEC)
    states = some_states()
    wrong = [SPEC.index(name) for name in names]
    states[:, :, wrong] = states[:, :, wrong] * scale + offset
    for _ in range(2):  # a second try does not slip through
        with pytest.raises(UserError, match="use the files that belong to this model") as caught:
            forecaster.step(states)
        for path in (files.model, files.mean, files.std):
            assert_one_line_naming(caught.value, path)
        assert {name for name in SPEC.names if f"{name} (mean" in str(caught.value)} == set(names)
    states[:, :, wrong] = (states[:, :, wrong] - offset) / scale
    assert forecaster.step(states).isfinite().all()


def test_a_std_file_of_another_model_is_refused_at_the_first_step(toy_onnx):
    files = toy_onnx(SPEC, ADDED)
    np.save(files.std, np.load(files.std) / 25.0)
    with pytest.raises(UserError, match=r"and 2 more channels, expected .* stds below 10"):
        OnnxForecaster(*astuple(files), spec=SPEC).step(some_states())


def test_only_the_first_states_are_judged(toy_onnx):
    """A forecast that drifts away later is not the files' fault."""
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC)
    forecaster.step(some_states())
    assert forecaster.step(some_states() + 5e5).isfinite().all()


@pytest.mark.parametrize("limit", [1, 2 * 2 * 6 * 5 * 8, 2**28], ids=["one", "two", "all"])
def test_many_states_go_in_pieces_to_the_same_numbers(toy_onnx, monkeypatch, limit):
    files = astuple(toy_onnx(SPEC, ADDED, old=-1.0, new=2.0))
    states = some_states(5)
    one_by_one = [OnnxForecaster(*files, spec=SPEC).step(state[None])[0] for state in states]
    monkeypatch.setattr("vaevar.models.forecaster.fengwu.VALUES_AT_ONCE", limit)
    before = states.clone()
    assert torch.equal(OnnxForecaster(*files, spec=SPEC).step(states), torch.stack(one_by_one))
    assert torch.equal(states, before)


def test_a_step_is_normalising_running_and_back(toy_onnx):
    files = toy_onnx(SPEC, ADDED, old=-1.0, new=2.0)
    states = some_states()
    normalizer = Normalizer.load(files.mean, files.std, SPEC)
    session = ort.InferenceSession(str(files.model), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"input": normalizer.normalize(states).flatten(1, 2).numpy()})
    expected = normalizer.denormalize(torch.from_numpy(made)[:, : len(SPEC)])
    assert torch.equal(OnnxForecaster(*astuple(files), spec=SPEC).step(states), expected)


def assert_one_line_naming(error: UserError, path: Path) -> None:
    assert "\n" not in str(error)
    assert str(path) in str(error)


def test_a_forecast_that_is_not_finite_names_its_channel(toy_onnx):
    added = ADDED.copy()
    added[SPEC.index("z500")] = np.inf
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, added)), spec=SPEC)
    with pytest.raises(UserError, match=r"6 h forecast of z500 is not finite; .* the model itself"):
        forecaster.step(some_states())
    states = some_states()
    states[1, 1, SPEC.index("t850"), 2, 3] = torch.nan
    with pytest.raises(
        UserError,
        match="forecast of z500, t850 is not finite; the states it started from were not finite either",
    ):
        forecaster.step(states)


def test_states_of_another_shape_are_refused(toy_onnx):
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC)
    with pytest.raises(ValueError, match="expected"):
        forecaster.step(some_states(shape=(4, 8)))
    with pytest.raises(ValueError, match="past states"):
        next(rollout(forecaster, some_states()[:, :1], 1))


def test_opening_and_running_are_silent(toy_onnx, capfd):
    OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC).step(some_states())
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_it_is_a_forecaster_by_inheritance(toy_onnx):
    """Configs find the subclasses of a protocol by their short names."""
    assert Forecaster in OnnxForecaster.__mro__
    forecaster: Forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC, step_hours=12)
    assert (forecaster.history, forecaster.step_hours, forecaster.spec) == (2, 12, SPEC)


def test_a_pickled_forecaster_goes_on(toy_onnx):
    forecaster = OnnxForecaster(*astuple(toy_onnx(SPEC, ADDED)), spec=SPEC)
    states = some_states()
    again = pickle.loads(pickle.dumps(forecaster))
    assert torch.equal(again.step(states), forecaster.step(states))


def test_a_config_builds_it_from_paths_relative_to_the_current_directory(toy_onnx, monkeypatch):
    files = toy_onnx(SPEC, ADDED)
    monkeypatch.chdir(files.model.parent)
    spec = {"surface": ["t2m", "msl"], "upper": ["z", "t"], "levels": [500, 850]}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--forecaster", type=Forecaster)
    init_args = {"model": "toy.onnx", "mean": "mean.npy", "std": "std.npy", "threads": 1, "shape": [5, 8]}
    init_args |= {"spec": {"class_path": "vaevar.state.StateSpec", "init_args": spec}}
    config = parser.parse_object(
        {
            "forecaster": {
                "class_path": "vaevar.models.forecaster.fengwu.OnnxForecaster",
                "init_args": init_args,
            }
        }
    )
    forecaster = parser.instantiate_classes(config).forecaster
    assert isinstance(forecaster, OnnxForecaster)
    assert forecaster.step(some_states()).shape == (2, 6, 5, 8)


def test_devices_are_named_as_torch_names_them(toy_onnx):
    files = astuple(toy_onnx(SPEC, ADDED))
    for device in ("warp", "cuda:99", "meta"):
        with pytest.raises(UserError, match=device):
            OnnxForecaster(*files, spec=SPEC, device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_states_stay_there(toy_onnx):
    files = astuple(toy_onnx(SPEC, ADDED, old=-1.0, new=2.0))
    states = some_states()
    on_gpu = OnnxForecaster(*files, spec=SPEC).step(states.cuda())
    assert on_gpu.is_cuda
    expected = OnnxForecaster(*files, spec=SPEC, device="cpu").step(states)
    assert_close_in_std(on_gpu.cpu(), expected, files[2])

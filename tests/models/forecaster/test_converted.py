"""ONNX forecasters made differentiable: with onnx2torch where it is installed, and what is said where not."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.forecast import rollout
from vaevar.models.forecaster import converted as module_under_test
from vaevar.models.forecaster.converted import ConvertedForecaster, converted
from vaevar.models.forecaster.export import export
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.nn.blocks import ConvNeXtBlock, WindowAttention
from vaevar.sphere.grid import Grid
from vaevar.standins.forecaster import DriftForecaster, write
from vaevar.state import StateSpec

SPEC = StateSpec(surface=("t2m",), upper=("z",), levels=(500,))
MEAN, STD = np.array([280.0, 54_000.0]), np.array([20.0, 3000.0])
GRID = Grid.gaussian(8)
WEIGHTS = Path("weights")

needs_onnx2torch = pytest.mark.skipif(find_spec("onnx2torch") is None, reason="needs the extra `gradient`")


class Network(nn.Module):
    """Convolutions and windows that reach across the poles, as forecasters have them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 8, 1), ConvNeXtBlock(8, kernel_size=3), WindowAttention(8, 2, (4, 4), shifted=True),
            nn.Conv2d(8, 2, 1),
        )  # fmt: skip

    def forward(self, states: Tensor) -> Tensor:
        return states[:, 2:] + 0.3 * self.layers(states)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A forecaster as a user brings it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    network = Network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    export(network, path, SPEC, GRID)
    beside = path.with_name("mean.npy"), path.with_name("std.npy")
    for file, values in zip(beside, (MEAN, STD), strict=True):
        np.save(file, values)
    return path, *beside


def some_states(batch: int = 2) -> Tensor:
    before = torch.randn(batch, 1, 2, 8, 16)
    states = torch.cat([before, before + 0.3 * torch.randn_like(before)], 1)
    return states * torch.tensor(STD).float()[:, None, None] + torch.tensor(MEAN).float()[:, None, None]


def in_std(x: Tensor) -> Tensor:
    return x / torch.tensor(STD).float()[:, None, None]


def gradient(forecaster: ConvertedForecaster, states: Tensor, sensitivity: Tensor, steps: int = 1) -> Tensor:
    states = states.clone().requires_grad_()
    *_, last = rollout(forecaster, states, steps)
    return torch.autograd.grad(last, states, sensitivity)[0]


# --- the same forecast ----------------------------------------------------------------------------


@needs_onnx2torch
def test_the_committed_forecaster_forecasts_as_onnx_runtime_does() -> None:
    mean, std = (WEIGHTS / f"forecaster_{name}.npy" for name in ("mean", "std"))
    theirs = OnnxForecaster(WEIGHTS / "forecaster.onnx", mean, std, device="cpu", threads=1)
    ours = ConvertedForecaster(WEIGHTS / "forecaster.onnx", mean, std)
    assert (ours.spec, ours.grid, ours.step_hours, ours.history) == (theirs.spec, theirs.grid, 6, 2)
    assert (ours.description, ours.normalisation) == (theirs.description, theirs.normalisation)
    assert ours.differentiable
    assert not theirs.differentiable
    centre, spread = (torch.from_numpy(np.load(path)).float()[:, None, None] for path in (mean, std))
    states = centre + 0.5 * spread * torch.randn(1, 2, 69, 48, 96)
    pairs = zip(rollout(ours, states, 4), rollout(theirs, states, 4), strict=True)
    differences = [float(((one - other) / spread).abs().max()) for one, other in pairs]
    assert differences[0] < 1e-5
    assert differences[-1] < 1e-4


@needs_onnx2torch
def test_a_batch_fixed_to_one_and_outputs_that_nobody_needs(toy_onnx: Callable[..., Any]) -> None:
    spec, added = StateSpec(("t2m",), ("z",), (500,)), np.array([0.5, 30.0])
    files = toy_onnx(spec, added, old=-1.0, new=2.0, batch=1)
    ours, theirs = (kind(*astuple(files), spec=spec) for kind in (ConvertedForecaster, OnnxForecaster))
    states = some_states(3)[..., :5, :8]
    assert float(in_std(ours.step(states) - theirs.step(states)).abs().max()) < 2e-5
    adjoint = gradient(ours, states, torch.ones(3, 2, 5, 8))
    torch.testing.assert_close(adjoint[:, 0], torch.full((3, 2, 5, 8), -1.0))
    torch.testing.assert_close(adjoint[:, 1], torch.full((3, 2, 5, 8), 2.0))


@needs_onnx2torch
def test_the_stand_in_of_fengwus_contract(tmp_path) -> None:
    path = tmp_path / "forecaster.onnx"
    write(str(path), 9, 16)
    ours = ConvertedForecaster(path, *(tmp_path / f"forecaster_{name}.npy" for name in ("mean", "std")))
    torch_one = DriftForecaster(9, 16)
    assert ours.grid == torch_one.grid
    normalizer = torch_one.normalizer
    states = normalizer.denormalize(torch.randn(1, 1, 69, 9, 16).expand(-1, 2, -1, -1, -1))
    assert float(((ours.step(states) - torch_one.step(states)) / normalizer.std).abs().max()) < 2e-5


@needs_onnx2torch
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], None, None),
        ([1, -2], [2**62, 2**62], [3, 1], None),
        ([-1], [-(2**62)], [2], [-1]),
        ([-2, 0], [0, -1], [-1, -2], [-3, 2]),
        ([5], [-7], [3], [-2]),
    ],
)
def test_slices(tmp_path, starts, ends, axes, steps) -> None:
    numbers = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    given = {name: values for name, values in numbers.items() if values is not None}
    node = helper.make_node(
        "Slice", ["input", *(name if name in given else "" for name in numbers)], ["output"]
    )
    graph = helper.make_graph(
        [node],
        "slice",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [3, 4, 5, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [
            helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            for name, values in given.items()
        ],
    )
    path = tmp_path / "slice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    x = torch.randn(3, 4, 5, 8)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": x.numpy()})
    assert expected.size
    assert np.array_equal(converted(path)(x).numpy(), expected)


@needs_onnx2torch
def test_weights_beside_the_model(files, tmp_path) -> None:
    model = onnx.load(str(files[0]))
    path = tmp_path / "beside.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    states = some_states()
    forecasts = [ConvertedForecaster(one, *files[1:], spec=SPEC).step(states) for one in (files[0], path)]
    assert torch.equal(*forecasts)
    assert {file.name for file in tmp_path.iterdir()} == {"beside.onnx", "weights.bin"}


@needs_onnx2torch
def test_it_survives_a_pickle_and_a_copy(files) -> None:
    forecaster, states = ConvertedForecaster(*files, spec=SPEC), some_states()
    expected = forecaster.step(states)
    for one in (pickle.loads(pickle.dumps(forecaster)), copy.deepcopy(forecaster)):
        assert torch.equal(one.step(states), expected)
        assert one.step(states.requires_grad_()).requires_grad


# --- its gradient ---------------------------------------------------------------------------------


@needs_onnx2torch
def test_the_network_has_the_gradient_of_finite_differences(files) -> None:
    network = converted(files[0]).double()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    states = torch.randn(1, 4, 8, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: network(x)[:, :2], states, fast_mode=True, rtol=1e-6, atol=1e-8)


@needs_onnx2torch
@pytest.mark.parametrize("steps", [1, 3])
def test_so_have_roll_outs_in_physical_units(files, steps) -> None:
    forecaster, states = ConvertedForecaster(*files, spec=SPEC), some_states().double()
    std = torch.tensor(STD)[:, None, None]
    direction, sensitivity = torch.randn_like(states) * std, torch.randn(2, 2, 8, 16).double() / std
    products = []
    for size in (0.02, -0.02):
        *_, last = rollout(forecaster, states + size * direction, steps)
        products.append(float((last * sensitivity).sum()))
    exact = float((gradient(forecaster, states, sensitivity, steps) * direction).sum())
    assert (products[0] - products[1]) / 0.04 == pytest.approx(exact, rel=5e-3, abs=0.05)


@needs_onnx2torch
def test_the_adjoint_of_a_step_is_the_transpose_of_its_tangent_linear(files) -> None:
    forecaster, states = ConvertedForecaster(*files, spec=SPEC), some_states()
    direction = torch.randn_like(states) * torch.tensor(STD).float()[:, None, None]
    with pytest.raises(ValueError, match=r"one plain step on cpu before the first within torch\.func"):
        torch.func.jvp(forecaster.step, (states,), (direction,))
    plain = forecaster.step(states)
    forecast, change = torch.func.jvp(forecaster.step, (states,), (direction,))
    torch.testing.assert_close(forecast, plain)
    sensitivity = in_std(torch.randn_like(change))
    _, adjoint = torch.func.vjp(forecaster.step, states)
    forward = float((change * sensitivity).double().sum())
    backward = float((adjoint(sensitivity)[0] * direction).double().sum())
    assert backward == pytest.approx(forward, rel=1e-4, abs=1e-3)
    torch.testing.assert_close(adjoint(sensitivity)[0], gradient(forecaster, states, sensitivity))


@needs_onnx2torch
def test_checkpointing_and_bfloat16(files) -> None:
    states, sensitivity = some_states(), in_std(torch.randn(2, 2, 8, 16))
    exact = gradient(ConvertedForecaster(*files, spec=SPEC), states, sensitivity, 3)
    again = ConvertedForecaster(*files, spec=SPEC, checkpointing=True)
    assert torch.equal(gradient(again, states, sensitivity, 3), exact)
    # Its first step under autocast: the comparison with ONNX Runtime is made in full precision all the same.
    for checkpointing in (False, True):
        forecaster = ConvertedForecaster(*files, spec=SPEC, checkpointing=checkpointing)
        with torch.autocast("cpu", torch.bfloat16):
            rough = gradient(forecaster, states, sensitivity, 3)
        assert rough.isfinite().all()
        assert 0 < float((rough - exact).norm() / exact.norm()) < 0.05


@needs_onnx2torch
def test_a_gradient_that_is_not_finite_names_the_forecaster(files) -> None:
    forecaster, states = ConvertedForecaster(*files, spec=SPEC), some_states()
    with pytest.raises(FloatingPointError, match=r"Converted\w+ \(model.onnx sha256:\w+\) is not finite"):
        gradient(forecaster, states, torch.full((2, 2, 8, 16), torch.nan))


@needs_onnx2torch
def test_a_forecast_that_diverges_ends_a_cycle_and_not_a_minimisation(toy_onnx: Callable[..., Any]) -> None:
    files = toy_onnx(SPEC, np.zeros(2), new=1.5)
    forecaster, states = ConvertedForecaster(*astuple(files), spec=SPEC), some_states()[..., :5, :8]
    forecaster.step(states)
    states = states * torch.tensor([1.0, torch.inf])[:, None, None]
    assert not forecaster.step(states.clone().requires_grad_()).isfinite().all()
    with pytest.raises(UserError, match=r"the 6 h forecast of z500 is not finite"):
        forecaster.step(states)


# --- mistakes -------------------------------------------------------------------------------------


@needs_onnx2torch
def test_an_operator_that_cannot_be_converted_is_named(toy_onnx: Callable[..., Any]) -> None:
    files = toy_onnx(SPEC, np.zeros(2), output_shape=["batch", "unknown", "h", "w"], kept=2)
    with pytest.raises(UserError, match=r"cannot convert the operators Compress of opset 17") as told:
        ConvertedForecaster(*astuple(files), spec=SPEC)
    assert str(told.value).startswith(f"{files.model}: ")
    assert "OnnxForecaster, which has no gradient" in str(told.value)
    assert "\n" not in str(told.value)


@needs_onnx2torch
@pytest.mark.parametrize("wrong", [2e-3, float("nan")])
def test_a_network_that_forecasts_something_else_is_refused_in_its_first_step(
    files, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    class Wrong(nn.Module):
        def __init__(self, right: nn.Module, error: float) -> None:
            super().__init__()
            self.right, self.error = right, error

        def forward(self, states: Tensor) -> Tensor:
            return self.right(states) + torch.tensor([0.0, self.error, 0.0, 0.0])[:, None, None]

    monkeypatch.setattr(module_under_test, "converted", lambda path: Wrong(converted(path), 5e-4))
    states = some_states()
    ConvertedForecaster(*files, spec=SPEC).step(states)
    monkeypatch.setattr(module_under_test, "converted", lambda path: Wrong(converted(path), wrong))
    forecaster = ConvertedForecaster(*files, spec=SPEC)
    for _ in range(2):
        with pytest.raises(UserError, match=r"forecast of z500 differs from ONNX Runtime's by (0.002|inf) "):
            forecaster.step(states)


@needs_onnx2torch
def test_a_network_that_fails_is_a_line(files, monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster, states = ConvertedForecaster(*files, spec=SPEC), some_states()
    forecaster.step(states)
    monkeypatch.setattr(forecaster, "_network", nn.Conv2d(5, 2, 1))
    with pytest.raises(UserError, match=r"model.onnx: converted by onnx2torch, the forecast failed \(Given"):
        forecaster.step(states)


@needs_onnx2torch
def test_files_of_another_model_are_refused_as_onnx_forecaster_does(files, tmp_path) -> None:
    np.save(tmp_path / "mean.npy", MEAN - np.array([150.0, 0.0]))
    with pytest.raises(UserError, match="expected"):
        ConvertedForecaster(files[0], tmp_path / "mean.npy", files[2], spec=SPEC).step(some_states())
    with pytest.raises(UserError, match="its time step is 6 h, but step_hours is 12"):
        ConvertedForecaster(*files, spec=SPEC, step_hours=12)


def test_without_onnx2torch_a_line_says_how_to_install_it(files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'install "vaevar\[gradient\]"; .* --no-deps onnx2torch$') as told:
        ConvertedForecaster(*files, spec=SPEC)
    assert str(told.value).startswith(f"{files[0]}: ")


@needs_onnx2torch
def test_torchvision_is_neither_needed_nor_made_up(files) -> None:
    ConvertedForecaster(*files, spec=SPEC)
    assert ("torchvision" in sys.modules) <= (find_spec("torchvision") is not None)

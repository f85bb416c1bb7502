"""Forecasters with a gradient: LearnedForecaster, and the guard that all share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.forecast import rollout
from vaevar.models.forecaster.export import export_forecaster
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.forecaster.gradient import not_finite, require_finite_gradient, watched
from vaevar.models.forecaster.learned import LearnedForecaster
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.standins.forecaster import DriftForecaster
from vaevar.state import StateSpec

SPEC = StateSpec(surface=("t2m",), upper=("z",), levels=(500,))
MEAN, STD = torch.tensor([280.0, 54_000.0]), torch.tensor([20.0, 3000.0])
WEIGHTS = Path("weights")


@pytest.fixture
def module() -> ForecasterModule:
    torch.manual_seed(0)
    module = ForecasterModule(
        rows=8, columns=16, surface=("t2m",), upper=("z",), levels=(500,), widths=(8, 12), depths=(1, 1),
        kernel_size=3, resolved_lmax=4,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    module.network.change_std.copy_(torch.tensor([0.3, 0.5])[:, None, None])
    module.mean.copy_(MEAN)
    module.std.copy_(STD)
    return module


def some_states(batch: int = 2, change: float = 0.3) -> Tensor:
    """[B, 2, C, H, W], physical."""
    before = torch.randn(batch, 1, 2, 8, 16)
    states = torch.cat([before, before + change * torch.randn_like(before)], 1)
    return states * STD[:, None, None] + MEAN[:, None, None]


def gradient(forecaster: LearnedForecaster, states: Tensor, sensitivity: Tensor, steps: int = 1) -> Tensor:
    """Of the last forecast's product with the sensitivity, to the states."""
    states = states.clone().requires_grad_()
    *_, last = rollout(forecaster, states, steps)
    with torch.autocast("cpu", enabled=False):
        return torch.autograd.grad(last, states, sensitivity)[0]


def test_the_committed_network_forecasts_what_its_onnx_file_does() -> None:
    mean, std = (WEIGHTS / f"forecaster_{name}.npy" for name in ("mean", "std"))
    onnx = OnnxForecaster(WEIGHTS / "forecaster.onnx", mean, std, device="cpu", threads=1)
    torch_one = LearnedForecaster(WEIGHTS / "forecaster.ckpt")
    assert (torch_one.spec, torch_one.grid, torch_one.step_hours) == (onnx.spec, onnx.grid, 6)
    centre, spread = (torch.from_numpy(np.load(path)).float()[:, None, None] for path in (mean, std))
    states = centre + 0.5 * spread * torch.randn(1, 2, 69, 48, 96)
    with torch.no_grad():
        pairs = zip(rollout(torch_one, states, 4), rollout(onnx, states, 4), strict=True)
        differences = [float(((ours - theirs) / spread).abs().max()) for ours, theirs in pairs]
    assert differences[0] < 1e-5
    assert differences[-1] < 1e-4


def test_what_a_fit_exports_opens_as_both(module, tmp_path) -> None:
    path = tmp_path / "forecaster.onnx"
    export_forecaster(module, path, {"command": "by hand"})
    onnx = OnnxForecaster(path, *(tmp_path / f"forecaster_{name}.npy" for name in ("mean", "std")), spec=SPEC)
    opened, states = LearnedForecaster(tmp_path / "forecaster.ckpt"), some_states()
    assert opened.description.startswith("forecaster.ckpt sha256:")
    assert opened.grid == onnx.grid
    difference = (opened.step(states) - onnx.step(states)) / STD[:, None, None]
    assert float(difference.abs().max()) < 2e-5
    assert torch.equal(opened.step(states), LearnedForecaster(module).step(states))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_is_that_of_finite_differences(module, steps) -> None:
    forecaster, states = LearnedForecaster(module), some_states().double()
    direction, sensitivity = torch.randn(2, *states.shape).unbind(0)
    direction, sensitivity = direction * STD[:, None, None], sensitivity[:, 0] / STD[:, None, None]
    products = []
    for size in (0.02, -0.02):
        *_, last = rollout(forecaster, states + size * direction, steps)
        products.append(float((last * sensitivity).sum()))
    exact = float((gradient(forecaster, states, sensitivity.double(), steps) * direction).sum())
    assert (products[0] - products[1]) / 0.04 == pytest.approx(exact, rel=5e-3, abs=0.05)


def test_the_adjoint_of_a_step_is_the_transpose_of_its_tangent_linear(module) -> None:
    forecaster, states = LearnedForecaster(module), some_states()
    direction = torch.randn_like(states) * STD[:, None, None]
    forecast, change = torch.func.jvp(forecaster.step, (states,), (direction,))
    torch.testing.assert_close(forecast, forecaster.step(states))
    sensitivity = torch.randn_like(change) / STD[:, None, None]
    _, adjoint = torch.func.vjp(forecaster.step, states)
    forward = float((change * sensitivity).double().sum())
    backward = float((adjoint(sensitivity)[0] * direction).double().sum())
    assert backward == pytest.approx(forward, rel=1e-4, abs=1e-3)
    torch.testing.assert_close(adjoint(sensitivity)[0], gradient(forecaster, states, sensitivity))


def test_checkpointing_changes_memory_and_not_the_gradient(module) -> None:
    states = some_states()
    sensitivity = torch.randn(2, 2, 8, 16) / STD[:, None, None]
    kept = LearnedForecaster(module)
    again = LearnedForecaster(module, checkpointing=True)
    assert torch.equal(gradient(kept, states, sensitivity, 3), gradient(again, states, sensitivity, 3))

    def stored(forecaster: LearnedForecaster) -> int:
        """Numbers that the way back needs."""
        sizes: dict[int, int] = {}

        def seen(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            list(rollout(forecaster, states.clone().requires_grad_(), 3))
        return sum(sizes.values())

    assert stored(again) < 0.2 * stored(kept)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_forecaster_of_its_own_precision_does_what_autocast_does(module, checkpointing) -> None:
    states, sensitivity = some_states(), torch.randn(2, 2, 8, 16) / STD[:, None, None]
    forecaster = LearnedForecaster(module, checkpointing=checkpointing)
    reduced = LearnedForecaster(module, checkpointing=checkpointing, precision="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        expected = gradient(forecaster, states, sensitivity, 3)
    assert torch.equal(gradient(reduced, states, sensitivity, 3), expected)
    assert reduced.step(states).dtype == torch.float32


@pytest.mark.parametrize("there", [False, True])
def test_auto_takes_bfloat16_where_the_hardware_has_it(module, monkeypatch, there) -> None:
    monkeypatch.setattr("vaevar.models.forecaster.learned.has_bfloat16", lambda device: there)
    expected = LearnedForecaster(module, precision="bfloat16" if there else "float32")
    states = some_states()
    found = LearnedForecaster(module, precision="auto").step(states)
    assert torch.equal(found, expected.step(states))


def test_another_precision_is_refused(module) -> None:
    with pytest.raises(UserError, match="precision is 'bf16'"):
        LearnedForecaster(module, precision="bf16")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_gives_a_finite_gradient(module, checkpointing) -> None:
    states, sensitivity = some_states(), torch.randn(2, 2, 8, 16) / STD[:, None, None]
    forecaster = LearnedForecaster(module, checkpointing=checkpointing)
    exact = gradient(forecaster, states, sensitivity, 3)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradient(forecaster, states, sensitivity, 3)
    assert rough.dtype == torch.float32
    assert rough.isfinite().all()
    assert not torch.equal(rough, exact)
    assert float((rough - exact).norm() / exact.norm()) < 0.05


def test_a_step_without_gradient_keeps_nothing(module) -> None:
    states = some_states()
    assert not LearnedForecaster(module).step(states).requires_grad
    with torch.no_grad():
        assert LearnedForecaster(module, checkpointing=True).step(states.requires_grad_()).grad_fn is None


def test_states_of_another_shape_are_refused(module) -> None:
    with pytest.raises(ValueError, match=r"states are \(2, 1, 2, 8, 16\), expected \(B, 2, C, H, W\)"):
        LearnedForecaster(module).step(some_states()[:, :1])
    with pytest.raises(UserError, match="step_hours is 0, must be at least 1"):
        LearnedForecaster(module, step_hours=0)


# --- the guard ------------------------------------------------------------------------------------


def drift() -> tuple[DriftForecaster, Tensor]:
    """Channels do not mix in it."""
    forecaster = DriftForecaster(9, 16)
    return forecaster, forecaster.normalizer.denormalize(torch.randn(1, 2, 69, 9, 16))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_names_channel_and_forecaster(wrong) -> None:
    forecaster, states = drift()
    last = forecaster.step(states.requires_grad_())
    sensitivity = torch.zeros_like(last)
    sensitivity[0, forecaster.spec.index("z500"), 3, 5] = wrong
    with pytest.raises(FloatingPointError, match=r"through a step of DriftForecaster is not finite in z500;"):
        torch.autograd.grad(last, states, sensitivity)


def test_a_roll_out_that_numbers_its_steps_is_told_the_last_one_of_them() -> None:
    forecaster, states = drift()
    window = states.requires_grad_()
    for number in (1, 2, 3):
        window = watched(window, forecaster.spec, number, forecaster)
        window = torch.cat([window[:, 1:], forecaster.step(window)[:, None]], 1)
        if number == 2:
            window.register_hook(lambda gradient: gradient * torch.tensor(float("nan")))
    with pytest.raises(FloatingPointError, match=r"through step 2 of Drift\w+ .* and 64 more channels"):
        window.sum().backward()


def test_states_are_watched_once_and_only_for_a_gradient() -> None:
    forecaster, states = drift()
    assert watched(states, forecaster.spec, 1, forecaster) is states
    seen = watched(states.requires_grad_(), forecaster.spec, 1, forecaster)
    assert seen is not states
    assert seen.data_ptr() == states.data_ptr()
    assert watched(seen, forecaster.spec, 2, forecaster) is seen


def test_the_text_of_the_guard() -> None:
    forecaster, values = drift()
    spec = forecaster.spec
    require_finite_gradient(values, spec, 4, forecaster)
    assert not_finite(values[0, 0], spec) == ""
    for name in ("q850", "u10"):
        values[0, 1, spec.index(name), 2, 2] = torch.nan
    assert not_finite(values[0, 1], spec) == not_finite(values, spec) == "u10, q850"
    forecaster.description = "made by hand"
    with pytest.raises(
        FloatingPointError,
        match=r"through step 4 of DriftForecaster \(made by hand\) is not finite in u10, q850; shorten",
    ):
        require_finite_gradient(values, spec, 4, forecaster)

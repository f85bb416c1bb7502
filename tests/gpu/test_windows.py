"""Forecasters with a gradient, and 4DVar through them, on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import vaevar
from tests.gpu.conftest import Day
from vaevar.forecast import rollout

pytestmark = pytest.mark.gpu

CHECKPOINT = "weights/forecaster.ckpt"


def window(forecaster: vaevar.LearnedForecaster, **settings: Any) -> vaevar.FourDVar:
    control = vaevar.CovarianceControl(vaevar.pretrained("cycle_covariance"))
    return vaevar.FourDVar(control, window=4, iterations=15, forecaster=forecaster, **settings)


def last(day: Day, start: torch.Tensor, method: vaevar.FourDVar) -> torch.Tensor:
    """The increment at the last time of the window."""
    analyses = method.analyse_window(start, day.observations, vaevar.LearnedForecaster(CHECKPOINT))
    assert len(analyses) == 4
    assert all(analysis.state.values.device == start.device for analysis in analyses)
    return analyses[-1].increment.values


@pytest.mark.parametrize(("precision", "within"), [("float32", 2e-3), ("bfloat16", 0.05)])
def test_a_forecast_of_the_gpu_is_that_of_the_cpu(
    precision: Any, within: float, day: Day, gpu: torch.device
) -> None:
    *_, here = rollout(vaevar.LearnedForecaster(CHECKPOINT), day.start[None], 4)
    *_, there = rollout(vaevar.LearnedForecaster(CHECKPOINT, precision=precision), day.start[None].to(gpu), 4)
    assert there.device == gpu
    changed = day.size(here[0] - day.start[-1])
    assert day.size(there[0].cpu() - here[0]) < within * changed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gradient_through_24_hours(precision: Any, day: Day, gpu: torch.device) -> None:
    sensitivity = torch.randn_like(day.start[0]) / day.std.float()

    def gradient(forecaster: vaevar.LearnedForecaster, device: torch.device) -> torch.Tensor:
        states = day.start[None].to(device).requires_grad_()
        *_, forecast = rollout(forecaster, states, 4)
        return torch.autograd.grad(forecast, states, sensitivity[None].to(device))[0].cpu()

    expected = gradient(vaevar.LearnedForecaster(CHECKPOINT), torch.device("cpu"))
    std = day.std.float()
    for checkpointing in (False, True):
        forecaster = vaevar.LearnedForecaster(CHECKPOINT, checkpointing=checkpointing, precision=precision)
        found = gradient(forecaster, gpu)
        assert found.isfinite().all()
        difference = float(((found - expected) * std).norm() / (expected * std).norm())
        assert difference < (5e-3 if precision == "float32" else 0.1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"model_error_scale": 0.5}, {"outer_loops": 2}],
    ids=["strong", "model error", "incremental"],
)
def test_a_window_of_the_gpu_is_that_of_the_cpu(settings: Any, day: Day, gpu: torch.device) -> None:
    method = window(vaevar.LearnedForecaster(CHECKPOINT), **settings)
    here = last(day, day.start, method)
    there = last(day, day.start.to(gpu), method.to(gpu))
    assert day.size(there.cpu() - here) < 0.05 * day.size(here)


def test_a_window_in_bfloat16(day: Day, gpu: torch.device) -> None:
    exact = window(vaevar.LearnedForecaster(CHECKPOINT), model_error_scale=0.5).to(gpu)
    fast = window(
        vaevar.LearnedForecaster(CHECKPOINT, precision="bfloat16", checkpointing=True), model_error_scale=0.5
    ).to(gpu)
    start = day.start.to(gpu)
    expected = last(day, start, exact)
    assert day.size(last(day, start, fast) - expected) < 0.1 * day.size(expected)

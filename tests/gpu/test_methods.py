"""Analyses on a GPU beside those of the CPU, with the weights that are shipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import vaevar
from tests.gpu.conftest import Day

pytestmark = pytest.mark.gpu

# How far an analysis of the GPU may be from that of the CPU, as a fraction of its increment. The sums are in
# another order, and a minimisation ends elsewhere within its tolerance.
WITHIN = {
    "interpolation": 1e-5,
    "threedvar": 0.01,
    "threedvar_cycle": 0.01,
    "threedvar_published": 0.01,
    "vaevar": 0.01,
    "vaevar_published": 0.05,
    "diffda": 0.01,
}


def made(name: str) -> Any:
    try:
        return vaevar.pretrained(name)
    except vaevar.UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", WITHIN)
def test_an_analysis_of_the_gpu_is_that_of_the_cpu(name: str, day: Day, gpu: torch.device) -> None:
    method = made(name)
    here = method(day.background, day.observations[0]).increment.values
    background = day.background_on(gpu)
    analysis = method.to(gpu)(background, day.observations[0])
    assert analysis.state.values.device == gpu
    there = analysis.increment.values
    assert day.size(there - here.to(gpu)) < WITHIN[name] * day.size(here)
    again = method(background, day.observations[0]).increment.values
    assert day.size(again - there) < WITHIN[name] * day.size(here)


@pytest.mark.parametrize("name", ["covariance", "cycle_covariance"])
def test_u_and_its_adjoint_on_the_gpu(name: str, gpu: torch.device) -> None:
    control = vaevar.CovarianceControl(made(name))
    w = torch.randn(control.shape)
    x = control(w)
    control = control.to(gpu)
    on_gpu = w.to(gpu).requires_grad_()
    made_there = control(on_gpu)
    torch.testing.assert_close(made_there.cpu(), x, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    scale = x.square().mean((-2, -1), keepdim=True).sqrt()
    sensitivity = (torch.randn_like(x) / scale).to(gpu)
    (adjoint,) = torch.autograd.grad(made_there, on_gpu, sensitivity)
    left = float((made_there.detach().double() * sensitivity.double()).sum())
    right = float((adjoint.double() * on_gpu.detach().double()).sum())
    size = float(made_there.detach().double().norm() * sensitivity.double().norm())
    assert abs(left - right) < 1e-6 * size


def test_h_and_its_adjoint_on_the_gpu_in_double_precision(day: Day, gpu: torch.device) -> None:
    operator = day.observations[0].operator(day.store.spec, day.store.grid)
    state = day.start[-1].double()
    expected = operator(state)
    operator = operator.to(gpu)
    on_gpu = state.to(gpu).requires_grad_()
    observed = operator(on_gpu)
    torch.testing.assert_close(observed.cpu(), expected, rtol=1e-12, atol=1e-12)
    sensitivity = torch.randn_like(observed)
    (adjoint,) = torch.autograd.grad(observed, on_gpu, sensitivity)
    assert float((observed * sensitivity).sum()) == pytest.approx(float((adjoint * on_gpu).sum()), rel=1e-10)

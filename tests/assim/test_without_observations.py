"""Without observations an analysis is its background, to the last bit, whatever the method."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import vaevar.assim
from tests.assim.diffda.test_diffda import GRID, LEVEL, SIZES, SPEC, STD
from vaevar.assim.assimilator import Assimilator, FreeRun
from vaevar.assim.control.base import LinearControl
from vaevar.assim.diffda.diffda import DiffDA
from vaevar.assim.interpolation.kriging import Kriging
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.assim.interpolation.optimal import OptimalInterpolation
from vaevar.assim.methods import ThreeDVar, VAEVar
from vaevar.assim.variational import VariationalAssimilator
from vaevar.assim.window.fgat import FGAT
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.points import Observations
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.state import State


class NotZeroAtZero(LinearControl):
    """A control transform that moves the background by itself, as the published decoder does."""

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return super().forward(w) + 1.0


def control() -> LinearControl:
    return NotZeroAtZero(torch.ones(len(SPEC) * GRID.shape[0] * GRID.shape[1], 2), SPEC, GRID)


def diffda() -> DiffDA:
    denoiser = Denoiser(**SIZES).eval()
    denoiser.residual_std.copy_(STD)
    denoiser.forecast_mean.copy_(LEVEL)
    denoiser.forecast_std.copy_(STD)
    denoiser.lead_hours.fill_(48)
    return DiffDA(denoiser, steps=3, members=2)


ARMS: dict[type[Assimilator], Callable[[], Assimilator]] = {
    FreeRun: FreeRun,
    LinearInterpolation: LinearInterpolation,
    OptimalInterpolation: OptimalInterpolation,
    Kriging: Kriging,
    VariationalAssimilator: lambda: VariationalAssimilator(control()),
    DiffDA: diffda,
    FGAT: lambda: FGAT(LinearInterpolation()),
}
# They have the analysis of VariationalAssimilator, with a control transform of their own.
SAME = (ThreeDVar, VAEVar)
OF_WINDOWS = (FourDVar,)  # has a test of its own


def methods() -> Iterator[type[Assimilator]]:
    modules = {module.name for module in pkgutil.walk_packages(vaevar.assim.__path__, "vaevar.assim.")}
    for module in modules:
        importlib.import_module(module)
    found = [Assimilator]
    for cls in found:
        found += cls.__subclasses__()
        if cls is not Assimilator and cls.__module__ in modules:
            yield cls


def test_no_method_is_left_out() -> None:
    assert set(methods()) == {*ARMS, *SAME, *OF_WINDOWS}
    assert all(cls.forward is VariationalAssimilator.forward for cls in SAME)


@pytest.mark.parametrize("method", ARMS, ids=lambda cls: cls.__name__)
def test_the_analysis_is_the_background(method: type[Assimilator]) -> None:
    fields = ("variable", "latitude", "longitude", "pressure", "value", "error_std")
    nothing = Observations(**{name: np.zeros(0) for name in fields})
    noise = torch.randn(len(SPEC), *GRID.shape, generator=torch.Generator().manual_seed(1))
    background = State(LEVEL + STD * noise, SPEC, GRID)
    analysis = ARMS[method]()(background, nothing)
    assert torch.equal(analysis.state.values, background.values)
    assert all(isinstance(number, float) for number in analysis.diagnostics.values())

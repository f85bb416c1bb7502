"""DiffDA as an assimilator: observed everywhere, nowhere, twice, and in its place in a cycle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vaevar.assim.context import AnalysisContext
from vaevar.assim.diffda.diffda import DiffDA
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations, Points
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.mistakes import notices
from vaevar.mistakes.notices import Notice
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SIZES = {
    "nlat": 16, "nlon": 32, "surface": ["t2m", "msl"], "upper": ["z", "u"], "levels": [500, 850],
    "widths": [8, 12], "depths": [1, 1], "heads": [0, 2], "window": 4, "head_width": 4, "embedding": 8,
}  # fmt: skip
SPEC, GRID = StateSpec(["t2m", "msl"], ["z", "u"], [500, 850]), Grid.gaussian(16)
LEVEL = torch.tensor([280.0, 101_000.0, 55_000.0, 15_000.0, 7.0, 3.0])[:, None, None]
STD = torch.tensor([2.0, 200.0, 100.0, 100.0, 3.0, 3.0])[:, None, None]
TIME = np.datetime64("2021-01-01T00", "h")


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(**SIZES).eval()
    torch.nn.init.normal_(model.network.finish.weight, std=0.05)
    model.residual_std.copy_(STD)
    model.forecast_mean.copy_(LEVEL)
    model.forecast_std.copy_(5 * STD)
    model.lead_hours.fill_(48)
    return model


def background() -> State:
    return State(LEVEL + torch.zeros(len(SPEC), *GRID.shape), SPEC, GRID)


def observed(truth: State, count: int = 20) -> Observations:
    errors = ObservationErrors().with_climatology(SPEC, np.ones(len(SPEC)))
    return simulate(truth, ColumnNetwork(count), errors, TIME, 0)


def everywhere(truth: State) -> Observations:
    """Every channel at every grid point, without noise but with tiny errors."""
    parts = []
    latitude, longitude = (a.ravel() for a in np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij"))
    for channel, field in zip(SPEC.channels, truth.values, strict=True):
        level = np.nan if channel.level is None else float(channel.level)
        points = Points(
            variable=np.array(channel.variable), latitude=latitude, longitude=longitude,
            pressure=np.array(level),
        )  # fmt: skip
        values = field.double().numpy().ravel()
        fields = {name: getattr(points, name) for name in
                  ("variable", "latitude", "longitude", "pressure", "time_offset", "platform")}  # fmt: skip
        parts.append(Observations(**fields, value=values, error_std=np.full(values.size, 1e-3)))
    return Observations.concatenate(parts)


def test_all_observed_returns_the_observations(denoiser: Denoiser) -> None:
    noise = torch.randn(len(SPEC), *GRID.shape, generator=torch.Generator().manual_seed(3))
    truth = State(LEVEL + 3 * STD * noise, SPEC, GRID)
    analysis = DiffDA(denoiser, steps=6, jump_length=2, members=1)(background(), everywhere(truth)).state
    torch.testing.assert_close(
        (analysis.values - truth.values) / STD, torch.zeros_like(noise), atol=1e-3, rtol=0
    )


def test_nothing_observed_samples_the_conditional(denoiser: Denoiser) -> None:
    """A denoiser of r ~ N(1, 0.25) in every place: mean and spread are those. No analysis is one."""

    def known(noised: torch.Tensor, condition: torch.Tensor, step: int) -> torch.Tensor:
        signal = float(denoiser.schedule.signal[step])
        return 1 + signal**0.5 * 0.25 / (signal * 0.25 + 1 - signal) * (noised - signal**0.5)

    denoiser.clean = known  # type: ignore[method-assign]
    nothing = observed(background()).select(np.zeros(0, dtype=int))
    arm = DiffDA(denoiser, steps=60, resamples=1, members=64)
    samples, _ = arm.samples(background(), nothing)
    torch.testing.assert_close(samples.mean((0, 2, 3)), torch.ones(len(SPEC)), atol=0.02, rtol=0)
    assert float(samples.std(0).mean()) == pytest.approx(0.5, rel=0.06)
    analysis = arm(background(), nothing)
    assert torch.equal(analysis.state.values, background().values)
    assert analysis.diagnostics["evaluations"] == 0


def test_the_same_seed_gives_the_same_analysis(denoiser: Denoiser) -> None:
    settings = {"steps": 4, "jump_length": 2, "members": 2}
    first = DiffDA(denoiser, **settings)(background(), observed(background())).state.values
    torch.manual_seed(99)
    assert (DiffDA(denoiser, **settings)(background(), observed(background())).state.values == first).all()
    other = DiffDA(denoiser, **settings, seed=1)(background(), observed(background())).state.values
    assert (other != first).any()
    later = DiffDA(denoiser, **settings)(background(), observed(background()), AnalysisContext(index=1))
    assert (later.state.values != first).any()


def test_the_first_analyses_use_the_48_h_denoiser(denoiser: Denoiser) -> None:
    second = Denoiser(**SIZES).eval()
    second.load_state_dict(denoiser.state_dict())
    second.lead_hours.fill_(6)
    arm = DiffDA(denoiser, second, first_analyses=2, steps=2, jump_length=1, members=1)
    leads = []
    for index in range(4):
        analysis = arm(background(), observed(background()), AnalysisContext(index))
        leads.append(analysis.diagnostics["lead_hours"])
    assert leads == [48, 48, 6, 6]


def test_unobserved_channels_have_no_mask_and_the_known_part_is_the_arms_choice(denoiser: Denoiser) -> None:
    columns = observed(background(), count=5)
    arm = DiffDA(denoiser, interpolation=LinearInterpolation(500.0))
    mask = arm.mask(background(), columns.select(columns.variable == "z"))
    assert (mask[2:4].amax((1, 2)) > 0.8).all()
    assert not mask[[0, 1, 4, 5]].any()
    assert arm.evaluations == 45


def test_mistakes(denoiser: Denoiser, tmp_path: Path) -> None:
    for settings in ({"steps": 0}, {"steps": 1001}, {"members": 0}, {"mask_width": 0.0}, {"seed": -1}):
        with pytest.raises(UserError):
            DiffDA(denoiser, **settings)
    with pytest.raises(UserError, match=r"configs/diffda\.yaml"):
        DiffDA(tmp_path / "nowhere.ckpt")
    with pytest.raises(TypeError):
        DiffDA(torch.nn.Linear(1, 1))
    other = State(background().values[:2], StateSpec(["t2m", "msl"], [], []), GRID)
    with pytest.raises(UserError, match="denoiser was made for"):
        DiffDA(denoiser)(other, observed(background()))


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ((48, None), []),
        ((48, 6), []),
        ((0, None), []),  # in memory, not fitted
        ((6, None), [r"checkpoint_48h \(.*one\.ckpt\) .* of 6 h, expected 48 h"]),
        ((48, 48), [r"checkpoint_6h \(.*two\.ckpt\) .* of 48 h, expected 6 h"]),
        ((24, 12), ["checkpoint_48h .* 24 h, expected 48 h", "checkpoint_6h .* 12 h, expected 6 h"]),
    ],
)
def test_a_denoiser_of_another_lead_is_told(
    denoiser: Denoiser, leads: tuple[int, int | None], said: list[str], tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    paths: list[Path | None] = []
    for name, lead in zip(("one.ckpt", "two.ckpt"), leads, strict=True):
        paths.append(None if lead is None else tmp_path / name)
        if lead is not None:
            denoiser.lead_hours.fill_(lead)
            denoiser.save_weights(tmp_path / name, {})
    assert paths[0] is not None
    DiffDA(paths[0], paths[1])
    lines = [str(warning.message) for warning in recwarn if warning.category is Notice]
    assert len(lines) == len(said)
    assert all(re.search(pattern, line) for pattern, line in zip(said, lines, strict=True))
    assert notices.told() == lines  # and kept for the record of the run


def test_exchanged_denoisers_are_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    for name, lead in (("48h.ckpt", 48), ("6h.ckpt", 6)):
        denoiser.lead_hours.fill_(lead)
        denoiser.save_weights(tmp_path / name, {})
    with pytest.raises(
        UserError, match=r"checkpoint_48h \(.*6h\.ckpt\) is of forecasts of 6 h.*exchange them"
    ):
        DiffDA(tmp_path / "6h.ckpt", tmp_path / "48h.ckpt")

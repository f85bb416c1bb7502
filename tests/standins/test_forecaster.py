"""The forecaster without skill, on a small grid: FengWu's contract, and bounded roll-outs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.forecast import rollout
from vaevar.models.forecaster.fengwu import METADATA_KEY, OnnxForecaster
from vaevar.scripts import run
from vaevar.sphere.grid import Grid
from vaevar.standins.forecaster import Drift, DriftForecaster, write
from vaevar.state import State, StateSpec
from vaevar.state.normalizer import Normalizer

ROWS, COLUMNS = 19, 36  # 2.5° are a quarter of a column
SPEC = StateSpec()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    path = tmp_path_factory.mktemp("full_size") / "deep" / "forecaster.onnx"
    write(str(path), ROWS, COLUMNS)
    return path, path.with_name("forecaster_mean.npy"), path.with_name("forecaster_std.npy")


def waves(files: tuple[Path, Path, Path]) -> Tensor:
    """[1, 2, C, H, W], physical: mean + std (a zonal pattern + a wave of zonal wavenumber 3), all at rest."""
    mean, std = (torch.from_numpy(np.load(path)).float()[:, None, None] for path in files[1:])
    grid = Grid.equiangular(ROWS, COLUMNS)
    latitude, longitude = (
        torch.from_numpy(np.radians(grid.latitude)),
        torch.from_numpy(np.radians(grid.longitude)),
    )
    pattern = latitude.cos()[:, None].float() * (1 + (3 * longitude).cos()[None].float()) - 0.6
    return (mean + std * pattern).expand(1, 2, -1, -1, -1)


def test_the_file_keeps_fengwus_contract_and_says_nothing_of_itself(files):
    model = onnx.load(str(files[0]))
    assert [node.name for node in model.graph.input] == ["input"]
    assert [node.name for node in model.graph.output] == ["output"]
    for node in (model.graph.input[0], model.graph.output[0]):
        assert node.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [size.dim_value for size in node.type.tensor_type.shape.dim[1:]] == [138, ROWS, COLUMNS]
    assert METADATA_KEY not in {entry.key for entry in model.metadata_props}
    forecaster = OnnxForecaster(*files)
    assert (forecaster.spec, forecaster.history, forecaster.step_hours) == (SPEC, 2, 6)
    assert forecaster.grid == Grid.equiangular(ROWS)


def test_mean_and_std_are_about_those_published_for_fengwu(files):
    normalizer = Normalizer.load(*files[1:], SPEC)
    mean, std = np.load(files[1]), np.load(files[2])
    assert mean.shape == std.shape == (69,)
    assert mean.dtype == std.dtype == np.float64
    published = {
        "t2m": (278.8, 21.3), "msl": (100_981.0, 1336.0), "z500": (53_827.0, 3300.0),
        "q500": (7.8e-4, 1.0e-3), "u500": (7.08, 12.2),
    }  # fmt: skip
    for name, (centre, spread) in published.items():
        assert mean[SPEC.index(name)] == pytest.approx(centre, rel=0.25)
        assert std[SPEC.index(name)] == pytest.approx(spread, rel=0.4)
    # A state of the means is one: in the ranges, geopotential falling from level to level.
    State(normalizer.mean.expand(-1, ROWS, COLUMNS), SPEC, Grid.equiangular(ROWS))


def test_ten_days_stay_within_the_range_of_the_first_state(files):
    forecaster, start = OnnxForecaster(*files), waves(files)
    std = torch.from_numpy(np.load(files[2])).float()[:, None, None]
    low, high = start[0, 1].amin((1, 2), keepdim=True), start[0, 1].amax((1, 2), keepdim=True)
    forecasts = [forecast[0] for forecast in rollout(forecaster, start, 40)]
    for forecast in forecasts:
        assert forecast.isfinite().all()
        assert ((forecast - low) / std).min() > -1e-3
        assert ((forecast - high) / std).max() < 1e-3
    assert ((forecasts[3] - start[0, 1]) / std).square().mean().sqrt() > 0.1  # no persistence


def test_a_wave_travels_eastward_by_two_and_a_half_degrees_a_step(files):
    std = torch.from_numpy(np.load(files[2])).float()[:, None, None]
    start = waves(files)
    for number, forecast in enumerate(rollout(OnnxForecaster(*files), start, 12), start=1):
        wave = torch.fft.rfft((forecast[0] / std)[:, ROWS // 2].double())[:, 3]
        phase = -torch.rad2deg(wave.angle()) / 3
        # Interpolated between columns of 10°, the wave lags by 1.8 %: atan(¼ sin 30° / (¾ + ¼ cos 30°)).
        torch.testing.assert_close(phase, torch.full_like(phase, 2.5 * number), atol=0, rtol=0.02)


def test_the_same_in_torch_has_a_gradient(files):
    forecaster, states = DriftForecaster(ROWS, COLUMNS, checkpointing=True), waves(files)
    onnx = OnnxForecaster(*files)
    assert (forecaster.spec, forecaster.grid, forecaster.step_hours) == (SPEC, onnx.grid, onnx.step_hours)
    std = forecaster.normalizer.std
    start = states.clone().requires_grad_()
    for ours, theirs in zip(rollout(forecaster, start, 4), rollout(onnx, states, 4), strict=True):
        assert float(((ours.detach() - theirs) / std).abs().max()) < 2e-5
    # What a channel's mean is sensitive to: all of it alike, and nothing of the state before.
    (adjoint,) = torch.autograd.grad(ours[0, 3].mean(), start)
    torch.testing.assert_close(adjoint[0, 1, 3], torch.full((ROWS, COLUMNS), 1 / (ROWS * COLUMNS)))
    adjoint[0, 1, 3] = 0.0
    assert not adjoint.any()
    with pytest.raises(UserError, match="0 columns are impossible"):
        DriftForecaster(9, 0)


@pytest.mark.parametrize("turn", [1, 7, -5])
def test_it_is_cyclic(files, turn):
    forecaster = OnnxForecaster(*files)
    states = waves(files) * (1 + 1e-3 * torch.randn(ROWS, COLUMNS))
    std = torch.from_numpy(np.load(files[2])).float()[:, None, None]
    difference = forecaster.step(states.roll(turn, -1)) - forecaster.step(states).roll(turn, -1)
    assert (difference / std).abs().max() < 1e-4


@pytest.mark.parametrize(("columns", "degrees"), [(36, 2.5), (36, 10.0), (144, 2.5), (36, 25.0)])
def test_a_step_by_hand(columns, degrees):
    """One spike: smoothed by ¼, ½, ¼, shifted by degrees · W/360 columns, and damped towards its mean."""
    states = torch.zeros(1, 2, 3, columns)
    states[0, 1, 1, columns - 1] = 1.0
    expected = np.full(columns, 0.1 / columns)
    distance = degrees * columns / 360
    whole = int(distance)
    for offset, weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        for more, share in ((0, 1 - (distance - whole)), (1, distance - whole)):
            expected[(columns - 1 + whole + offset + more) % columns] += 0.9 * weight * share
    made = Drift(1, columns, degrees, fading=0.1)(states)
    assert made.shape == (1, 1, 3, columns)
    np.testing.assert_allclose(made[0, 0, 1].numpy(), expected, atol=1e-6)
    assert float(made[0, 0, [0, 2]].abs().max()) == 0.0


@pytest.mark.slow
def test_it_is_a_command(tmp_path):
    path = tmp_path / "model.onnx"
    command = [sys.executable, "-m", "vaevar.standins.forecaster", "--path", str(path)]
    done = subprocess.run([*command, "--rows", "5", "--columns", "8"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "model.onnx", "model_mean.npy", "model_std.npy",
    ]  # fmt: skip
    assert OnnxForecaster(path, tmp_path / "model_mean.npy", tmp_path / "model_std.npy").grid.shape == (5, 8)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (1, 8, "1 × 8 points are impossible"),
        (-1, 8, "-1 × 8 points are impossible"),
        (5, 0, "0 columns are impossible"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_a_line(tmp_path, capsys, rows, columns, message):
    path = tmp_path / "model.onnx"
    with pytest.raises(SystemExit) as caught:
        run(write, [f"--path={path}", f"--rows={rows}", f"--columns={columns}"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: forecaster: ")
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())

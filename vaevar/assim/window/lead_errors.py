"""What a forecaster adds to the error by lead time: the other way to allow for model error in a window.

R of observations made later in a window is enlarged by the variance of the forecaster's own error at that
lead, measured on forecasts that start from true states:

    python -m vaevar.assim.window.lead_errors --forecaster ... --source ... --start ... --end ...
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaevar.content.arrays import read_array
from vaevar.data.observations.window import WindowOperator
from vaevar.data.times import six_hourly, steps_in
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.files import require_writable, save_array
from vaevar.forecast import Forecaster, rollout
from vaevar.plausible.statistics import judge_error_stds
from vaevar.runs.aside import keeping
from vaevar.runs.expansion import expand_path
from vaevar.scripts import run
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


def lead_errors(forecaster: Forecaster, store: WeatherStore, starts: np.ndarray, steps: int) -> np.ndarray:
    """RMS error of forecasts from true states, over the sphere and all forecasts, [steps, C] float64.

    Args:
        forecaster: makes the forecasts.
        store: of the truth.
        starts: [T], the times of the last states that the forecasts know.
        steps: how far.
    """
    step = forecaster.step_hours * np.timedelta64(1, "h")
    square = np.zeros((steps, len(forecaster.spec)))
    for start in starts:
        first = start - (forecaster.history - 1) * step
        states = torch.from_numpy(store.read(first + step * np.arange(forecaster.history + steps)))
        past, future = states[: forecaster.history], states[forecaster.history :]
        for lead, forecast in enumerate(rollout(forecaster, past[None], steps)):
            error = forecast[0].double() - future[lead].double()
            square[lead] += store.grid.area_mean(error.square()).numpy()
    return np.sqrt(square / len(starts))


def load_lead_errors(path: str | Path, spec: StateSpec, steps: int) -> np.ndarray:
    """Read the file that :func:`write` made, [steps, C].

    Args:
        path: of the file.
        spec: the C channels.
        steps: leads that are needed.

    Raises:
        UserError: when it is missing or unreadable, has fewer leads or other channels, or values that cannot
            be errors of these channels.
    """
    try:
        stds = read_array(Path(expand_path(str(path))))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a .npy file ({error})") from None
    if stds.ndim != 2 or stds.shape[0] < steps or stds.shape[1] != len(spec) or stds.dtype.kind != "f":
        raise UserError(
            f"{path}: holds {stds.dtype} {stds.shape}, expected floats of at least {steps} leads and "
            f"{len(spec)} channels: make it with `python -m vaevar.assim.window.lead_errors --steps {steps}`"
        )
    for lead in stds:
        judge_error_stds(path, lead, spec)
    return stds[:steps].astype(np.float64)


def at_observations(operator: WindowOperator, stds: np.ndarray, grid: Grid, device: torch.device) -> Tensor:
    """What the forecaster adds to the error of each observation, as a std, [P]; none at the first time.

    Args:
        operator: H of the window.
        stds: [K − 1, C], of :func:`load_lead_errors`.
        grid: of the states.
        device: of the operator.
    """
    by_step = torch.from_numpy(np.concatenate([np.zeros((1, stds.shape[1])), stds])).to(device)
    return operator(by_step[:, :, None, None].expand(-1, -1, *grid.shape))


def write(
    forecaster: Forecaster,
    source: Source,
    start: str,
    end: str,
    every: int = 24,
    steps: int = 7,
    path: str = "lead_errors.npy",
) -> None:
    """Measure the errors of a forecaster by lead and write them.

    Args:
        forecaster: whose errors they are.
        source: the truth, of a period that no experiment is judged on.
        start: first initial state.
        end: last state that a forecast is compared with.
        every: hours between forecasts, a multiple of 6.
        steps: how far the forecasts go; a window of K times needs K − 1.
        path: the file to write, in the form of ``.npy``.

    Raises:
        UserError: for another ``every``, no steps, or a period that is too short for a forecast.
    """
    target = Path(path)
    require_writable(target)
    if steps < 1:
        raise UserError(f"steps is {steps}, must be at least 1")
    times = six_hourly(start, end)
    step = forecaster.step_hours * np.timedelta64(1, "h")
    starts = times[:: steps_in(every, "every")]
    starts = starts[starts + steps * step <= times[-1]]
    if not starts.size:
        raise UserError(f"from {start} to {end} there is no forecast of {steps} steps: give a longer period")
    source.prepare(starts[0] - (forecaster.history - 1) * step, times[-1])
    stds = lead_errors(forecaster, source.open(forecaster.spec), starts, steps)
    with keeping(target):
        save_array(target, stds)
    print(f"wrote {path}: {steps} leads, {starts.size} forecasts")


if __name__ == "__main__":
    run(write)

"""What one assimilation window costs and gains: forms of the minimisation, and ways to allow for model error.

    python benchmarks/window.py

A cycle of 3DVar on the validation period makes the background; from there each setting analyses the same
window. Writes benchmarks/results/window.md.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Timer

from vaevar.assim.assimilator import Analysis
from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.cycle.loop import cycle
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.assim.window.lead_errors import write as measure_lead_errors
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.weather.speedy import SpeedyWorld
from vaevar.files import require_writable, save_text
from vaevar.forecast import Trajectory, rollout
from vaevar.library.pretrained import pretrained
from vaevar.models.forecaster.learned import LearnedForecaster
from vaevar.scripts import run
from vaevar.verification.metrics import rmse
from vaevar.verification.tables import markdown_table

_LONGEST = 8
_HEAD = ["window", "setting", "CPU seconds", "evaluations", "2J/p", "first", "mean", "last"]


def main(
    columns: int = 250,
    spin_up: int = 8,
    windows: tuple[int, ...] = (4, 8),
    results: str = "benchmarks/results/window.md",
) -> None:
    """Analyse one window with every setting.

    Args:
        columns: of the network, at fixed places.
        spin_up: analyses of 3DVar before the window.
        windows: numbers of analysis times, at most 8.
        results: the file to write.
    """
    require_writable(Path(results))
    data = AnalysisTimes(
        SpeedyWorld("validation"),
        start="2021-11-15T06",
        analyses=spin_up + _LONGEST,
        network=ColumnNetwork(columns, seed=100),
        climatology="weights/climatological_std.npy",
        seed=100,
    )
    data.prepare_data()
    data.setup("predict")
    forecaster = LearnedForecaster("weights/forecaster.ckpt", precision="auto")
    full, control = pretrained("forecaster_torch"), CovarianceControl(pretrained("cycle_covariance"))
    start = _background(data, spin_up)
    with tempfile.TemporaryDirectory() as directory:
        leads = Path(directory) / "lead_errors.npy"
        measure_lead_errors(
            forecaster,
            SpeedyWorld("validation"),
            "2021-11-15T06",
            "2021-12-15T06",
            24,
            _LONGEST - 1,
            str(leads),
        )
        settings: dict[str, dict[str, Any]] = {
            "no model error": {"model_error_scale": 0.0},
            "η, Q = 0.3": {"model_error_scale": 0.3},
            "η, Q = 0.5": {"model_error_scale": 0.5},
            "η, Q = 0.8": {"model_error_scale": 0.8},
            "R enlarged": {"model_error_scale": 0.0, "lead_errors": str(leads)},
            "η, Q = 0.5, all in float32": {"model_error_scale": 0.5, "forecaster": full},
            "η, Q = 0.5, incremental, 2 outer loops": {"model_error_scale": 0.5, "outer_loops": 2},
        }
        rows = []
        for window, (name, setting) in itertools.product(windows, settings.items()):
            method = FourDVar(
                control, window, iterations=60 if window <= 4 else 80, tolerance=0.01, **setting
            )
            observed = [time.observations for time in data.window(spin_up, window)]
            with Timer("cpu") as timer:
                analyses = method.analyse_window(start, observed, forecaster)
            numbers, errors = analyses[0].diagnostics, _errors(data, spin_up, analyses)
            rows.append(
                [window, name, timer.busy_seconds, numbers["evaluations"], numbers["chi2"], errors[0],
                 float(np.mean(errors)), errors[-1]]
            )  # fmt: skip
            print(*rows[-1], flush=True)
    save_text(
        Path(results),
        "# One window\n\n"
        f"Made by `python benchmarks/window.py` on {torch.get_num_threads()} CPU threads: {columns} fixed "
        f"columns, the window from {data.times[spin_up]} on the validation period, λ = 8, after {spin_up} "
        "analyses of 3DVar with the cycle's B. Errors are the mean over channels of rmse / std, at the first "
        "and the last time of the window and in its mean. L-BFGS on the full cost, until the gradient has "
        "fallen to 1 % of what it was, and the forecaster in bfloat16 where the CPU has it, unless a setting "
        "says otherwise.\n\n"
        f"{markdown_table(_HEAD, rows, 'rlrrrrrr')}\n",
    )


def _background(data: AnalysisTimes, spin_up: int) -> torch.Tensor:
    """The trajectory that ends at the background of the window, [2, C, H, W]."""
    forecaster = pretrained("forecaster")
    states = data.initial_states(forecaster.history)
    for forecast in rollout(forecaster, states[None], data.lead_hours // data.step_hours):
        states = torch.cat([states, forecast])[-forecaster.history :]
    observed = {time.time: time.observations for time in data.window(0, spin_up)}
    start = Trajectory(states, forecaster.spec, forecaster.grid)
    steps = cycle(
        forecaster, pretrained("threedvar_cycle"), start, data.times[:spin_up], observed.__getitem__
    )
    last = torch.stack([step.analysis.values for step in steps][-forecaster.history :])
    return torch.cat([last, forecaster.step(last[None])])[-forecaster.history :]


def _errors(data: AnalysisTimes, index: int, analyses: list[Analysis]) -> list[float]:
    found = []
    for number, analysis in enumerate(analyses):
        truth = data.analysis_time(index + number).truth
        error = rmse(analysis.state.values - truth.values, truth.grid).numpy()
        found.append(float((error / data.climatological_std).mean()))
    return found


if __name__ == "__main__":
    run(main)

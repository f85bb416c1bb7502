"""4DVar at 0.25°: memory and time of a window, with and without checkpointing.

    python benchmarks/window_quarter_degree.py --json_path benchmarks/results/window_quarter_degree.json
    python benchmarks/window_quarter_degree.py --windows 4 --forecasters network --device cuda

The weather is synthetic; the truth is the background plus half a random U w, with the embedded world's U. The
forecaster is ``drift``, which is cheap and shows what all else costs, or ``network``, the forecast network on
0.25° with weights of no skill, in bfloat16 where the hardware has it, which shows what a network costs.
Each case runs in its own process, which gives its own peak memory.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from measuring import (
    Timer,
    device_peak_gb,
    forget_peak,
    in_own_process,
    machine,
    peak_gb,
    try_results,
    write_results,
)

from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.learned import LearnedForecaster
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.runs.stopping import install
from vaevar.scripts import one_line_errors
from vaevar.standins.climate import typical_climate
from vaevar.standins.forecaster import DriftForecaster
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import State, regrid

TIME = np.datetime64("2020-01-01T00", "h")
STATISTICS = "weights/cycle_covariance.nc"


@dataclass(frozen=True)
class Case:
    """A window of ``window`` times on ``rows`` latitudes, minimised for ``iterations``."""

    forecaster: str
    window: int
    checkpointing: bool
    rows: int
    columns: int
    iterations: int
    device: str


def _drift(rows: int, checkpointing: bool) -> Forecaster:
    return DriftForecaster(rows, 2 * rows - 2, checkpointing)


def _network(rows: int, checkpointing: bool) -> Forecaster:
    torch.manual_seed(0)
    module = ForecasterModule(
        rows=rows, columns=2 * rows - 2, gaussian=False, patch=4, widths=(192, 256, 384), depths=(1, 1, 1),
        resolved_lmax=None,
    )  # fmt: skip
    mean, std = typical_climate(module.spec)
    module.mean.copy_(torch.as_tensor(mean))
    module.std.copy_(torch.as_tensor(std))
    return LearnedForecaster(module, checkpointing=checkpointing, precision="auto")


FORECASTERS = {"drift": _drift, "network": _network}


def measured(case: Case) -> dict[str, Any]:
    """One window in this process: seconds per evaluation of J and its gradient, peak memory, J."""
    forecaster = FORECASTERS[case.forecaster](case.rows, case.checkpointing)
    spec, grid = forecaster.spec, forecaster.grid
    control = CovarianceControl(STATISTICS, 128, 256, gaussian=True)
    weather = SyntheticWeather(spec, grid)
    hours = np.timedelta64(6, "h")
    start = torch.stack(
        [torch.from_numpy(weather.state(TIME - hours)), torch.from_numpy(weather.state(TIME))]
    )
    generator = torch.Generator().manual_seed(0)
    errors = ObservationErrors().with_climatology(spec, typical_climate(spec)[1])
    with torch.no_grad():
        states = start.clone()
        error = control(torch.randn(control.shape, generator=generator))
        states[-1] += 0.5 * regrid(error, spec, control.grid, grid)
        observed = []
        for number in range(case.window):
            if number:
                states = torch.cat([states[-1:], forecaster.step(states[None])])
            truth = State(states[-1], spec, grid)
            observed.append(
                simulate(truth, ColumnNetwork(case.columns), errors, TIME + number * hours, number)
            )
    del states, truth, error
    method = FourDVar(
        control.to(case.device), case.window, lambda_=1.0, iterations=case.iterations, tolerance=1e-6
    ).to(case.device)
    values: list[float] = []
    method.on_iteration = lambda done, value, norm: values.append(value)
    start, before = start.to(case.device), peak_gb()
    forget_peak(case.device)
    with Timer(case.device) as timer:
        analyses = method.analyse_window(start, observed, forecaster)
    first_seconds = timer.seconds
    if case.device != "cpu":  # the first window chooses algorithms
        values.clear()
        with Timer(case.device) as timer:
            analyses = method.analyse_window(start, observed, forecaster)
    evaluations = int(analyses[0].diagnostics["evaluations"])
    return {
        **asdict(case),
        "observations": sum(map(len, observed)),
        "evaluations": evaluations,
        "seconds": timer.seconds,
        "first_seconds": first_seconds,
        "busy_seconds_per_evaluation": timer.busy_seconds / evaluations,
        "peak_gb": peak_gb(),
        "peak_gb_before": before,
        "device_peak_gb": device_peak_gb(case.device),
        "j_by_iteration": values,
        **machine(case.device),
    }


def main(
    windows: list[int],
    forecasters: list[str],
    checkpointing: list[bool],
    json_path: Path | None,
    **settings: Any,
) -> None:
    """Measure each case in a process of its own."""
    try_results(json_path)
    results = []
    for forecaster, window, again in itertools.product(forecasters, windows, checkpointing):
        case = Case(forecaster, window, again, **settings)
        result = in_own_process(__file__, ["--case", json.dumps(asdict(case))])
        results.append(result)
        memory = result["device_peak_gb"] or result["peak_gb"]
        print(
            f"{forecaster}, window of {window}, checkpointing {again}: "
            f"{result['busy_seconds_per_evaluation']:.2f} s an evaluation, {memory:.1f} GB, J "
            f"{result['j_by_iteration'][0]:.5g} to {result['j_by_iteration'][-1]:.5g}",
            flush=True,
        )
    write_results(json_path, results)


if __name__ == "__main__":
    install()
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[2], help="times in a window")
    parser.add_argument("--forecasters", nargs="+", choices=list(FORECASTERS), default=["drift"], help="M")
    parser.add_argument("--checkpointing", type=bool, nargs="+", default=[False, True], help="of M's steps")
    parser.add_argument("--rows", type=int, default=721, help="latitudes; 721 is 0.25°")
    parser.add_argument("--columns", type=int, default=1000, help="observed columns at each time")
    parser.add_argument("--iterations", type=int, default=5, help="of the minimisation")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json_path", type=Path, default=None, help="where results go")
    parser.add_argument("--case", default=None, help="(for internal use) run one case and print its result")
    given = vars(parser.parse_args())
    given.pop("config", None)
    with one_line_errors():
        if (own := given.pop("case")) is not None:
            print(json.dumps(measured(Case(**json.loads(own)))))
        else:
            main(**given)

"""Analyses at 0.25° with the incremental operator, compared with a plain implementation.

    python benchmarks/analysis.py --columns 1000 8000 --json_path benchmarks/results/analysis.json
    python benchmarks/analysis.py --methods vaevar --vae data/quarter_degree/spectral_vae.ckpt

The plain implementation works like published code: each iteration makes the increment on 721 × 1440 points,
channel by channel, adds it to the background, and observes the whole state. Both minimise the same J with the
same L-BFGS. The weather is synthetic, and the truth is the background plus a random U w. 3DVar has a
calibrated B. VAE-Var (`vaevar`) has the VAE of `--vae`, such as one of the sizes of
`configs/era5_spectral_vae.yaml`. The published VAE-Var (`vaevar_published`) has the embedded world's trained
decoder on a 1.25° grid: its cost is right, its scales are not. Each case runs in its own process, which gives
its own peak memory. Ratios are within one run; on a CPU they are of processor time, which other jobs affect
less. On a GPU the second of two analyses is timed, since the first one also loads kernels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    matmul_gflops,
    peak_gb,
    try_results,
    write_results,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vaevar.assim.context import STANDALONE
from vaevar.assim.control.base import ControlTransform
from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.decoder import DecoderControl
from vaevar.assim.control.spectral import SpectralControl
from vaevar.assim.cost import Cost
from vaevar.assim.minimiser import minimise
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.models.vae.vae import VAE
from vaevar.runs.stopping import install
from vaevar.scripts import one_line_errors
from vaevar.sphere.grid import Grid
from vaevar.sphere.wind import field_of
from vaevar.standins.climate import typical_climate
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import State, StateSpec, regrid

TIME = np.datetime64("2020-01-01T00", "h")
LATENT_ROWS = 144  # 1.25°: a multiple of the windows of the trained decoder


class PlainCost:
    """J(w) with x = x_b + D(w) and H(x) at full resolution in each evaluation."""

    def __init__(
        self,
        increment: Callable[[Tensor], Tensor],
        background: State,
        observations: Observations,
        lambda_: float,
    ) -> None:
        device = background.values.device
        self.increment, self.background, self.lambda_ = increment, background.values, lambda_
        self.operator = observations.operator(background.spec, background.grid).to(device)
        self.observed = torch.tensor(observations.value, device=device)
        self.error_std = torch.tensor(observations.error_std, device=device)

    def terms(self, w: Tensor) -> tuple[Tensor, Tensor]:
        state = self.background + self.increment(w)
        departure = (self.observed - self.operator(state)) / self.error_std
        return 0.5 * self.lambda_ * w.square().sum(), 0.5 * departure.square().sum()


def plain_covariance(statistics: str, grid: Grid, device: str) -> tuple[Callable[[Tensor], Tensor], tuple]:
    """U w on the full grid, with one inverse transform per channel."""
    control = CovarianceControl(statistics, grid.shape[0]).to(device)
    transform = control.transform

    def increment(w: Tensor) -> Tensor:
        waves = transform.balance(transform.local(transform.coloured(w)))
        waves = waves * transform.rescaling[..., None, None]
        return torch.stack([field_of(one, grid.shape[1]) for one in waves])

    return increment, control.shape


def decoder_on(rows: int, checkpoint: str) -> VAE:
    """A trained VAE on a finer grid, with its error stds interpolated in latitude."""
    trained = VAE.load(checkpoint)
    vae = VAE(**{**trained.hparams, "nlat": rows, "nlon": 2 * rows}).eval().requires_grad_(False)
    vae.decoder.load_state_dict(trained.decoder.state_dict())
    source, target = trained.grid.latitude[::-1], vae.grid.latitude
    std = [np.interp(target, source, row[::-1]) for row in trained.error_std[..., 0].double().numpy()]
    vae.error_std.copy_(torch.tensor(np.array(std))[..., None])
    return vae


CONTROLS: dict[str, Callable[[str], ControlTransform]] = {
    "threedvar": lambda statistics: CovarianceControl(statistics, 128, 256, gaussian=True),
    "vaevar": SpectralControl,
    "vaevar_published": lambda vae: DecoderControl(decoder_on(LATENT_ROWS, vae)),
}


def case(
    method: str,
    plain: bool,
    columns: int,
    iterations: int,
    weights: Mapping[str, str],
    device: str,
    rows: int,
) -> dict[str, Any]:
    """Run one analysis in this process.

    Returns:
        Seconds (of the analysis alone), peak memory of the process in GB, J after each iteration, and the
        floating-point operations of one evaluation of J and its gradient.
    """
    spec, grid = StateSpec(), Grid.equiangular(rows)
    background = State(torch.from_numpy(SyntheticWeather(spec, grid).state(TIME)), spec, grid)
    truth_control = CovarianceControl(weights["threedvar"], 128, 256, gaussian=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        error = truth_control(torch.randn(truth_control.shape, generator=generator))
        truth = background.values + regrid(error, spec, truth_control.grid, grid)
    errors = ObservationErrors().with_climatology(spec, typical_climate(spec)[1])
    observations = simulate(State(truth, spec, grid), ColumnNetwork(columns), errors, TIME, 0)
    del truth, error, truth_control
    background = State(background.values.to(device), spec, grid)
    before = peak_gb()
    costs: list[float] = []
    if plain:
        minimised = _plain(method, background, observations, iterations, weights[method], device, costs)
    else:
        control = CONTROLS[method](weights[method])
        assimilator = VariationalAssimilator(control, iterations=iterations, tolerance=1e-3).to(device)
        assimilator.on_iteration = lambda done, value, norm: costs.append(value)

        def minimised() -> dict[str, float]:
            diagnostics = assimilator(background, observations).diagnostics
            return {
                "evaluations": int(diagnostics["evaluations"]),
                "relative_gradient": diagnostics["grad_norm"] / diagnostics["initial_grad_norm"],
                "j": diagnostics["j_b"] + diagnostics["j_o"],
            }

    forget_peak(device)
    with Timer(device) as timer:
        minimum = minimised()
    first_seconds = timer.seconds
    if device != "cpu":
        costs.clear()
        with Timer(device) as timer:
            minimum = minimised()
    memory = {"peak_gb": peak_gb(), "peak_gb_before": before, "device_peak_gb": device_peak_gb(device)}
    operations = 0.0
    if not plain:
        operations = _operations(control.for_analysis(background, STANDALONE), observations, device)
    return {
        "method": method,
        "plain": plain,
        "columns": columns,
        "observations": len(observations),
        "seconds": timer.seconds,
        "busy_seconds": timer.busy_seconds,
        "first_seconds": first_seconds,
        **minimum,
        "j_by_iteration": costs,
        **memory,
        "gflop_per_evaluation": operations / 1e9,
        "matmul_gflops": matmul_gflops(device),
        **machine(device),
    }


def _plain(
    method: str,
    background: State,
    observations: Observations,
    iterations: int,
    weights: str,
    device: str,
    costs: list[float],
) -> Callable[[], dict[str, float]]:
    """The function that minimises the plain cost."""
    if method == "threedvar":
        increment, shape = plain_covariance(weights, background.grid, device)
    else:
        control = CONTROLS[method](weights).to(device).for_analysis(background, STANDALONE)
        shape = control.shape

        def increment(w: Tensor) -> Tensor:
            return regrid(control(w), background.spec, control.grid, background.grid)

    def minimised() -> dict[str, float]:
        cost: Any = PlainCost(increment, background, observations, 1.0)
        start = torch.zeros(shape, device=device)
        minimum = minimise(cost, start, iterations, 10, 1e-3, lambda done, value, norm: costs.append(value))
        return {
            "evaluations": minimum.evaluations,
            "relative_gradient": minimum.final.grad_norm / minimum.initial.grad_norm,
            "j": minimum.final.value,
        }

    return minimised


def _operations(control: ControlTransform, observations: Observations, device: str) -> float:
    operator = PointInterpolation(control.spec, control.grid, observations).to(device, torch.float32)
    innovation = torch.zeros(len(observations), device=device)
    cost = Cost(control, operator, innovation, torch.ones_like(innovation), 1.0)
    w = torch.full(control.shape, 0.1, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        sum(cost.terms(w)).backward()  # type: ignore[union-attr]
    return counter.get_total_flops()


def main(
    columns: list[int],
    methods: list[str],
    plain: bool,
    iterations: int,
    weights: Mapping[str, str],
    device: str,
    json_path: Path | None,
    rows: int,
) -> None:
    """Run each case in its own process, then print the table."""
    try_results(json_path)
    results = []
    settings = ["--device", device, "--iterations", str(iterations), "--rows", str(rows)]
    settings += ["--statistics", weights["threedvar"], "--vae", weights["vaevar"]]
    settings += ["--published_vae", weights["vaevar_published"]]
    for method in methods:
        for count in columns:
            for way in (False, True) if plain else (False,):
                arguments = ["--case", method, "--columns", count, *settings]
                results.append(in_own_process(__file__, [*arguments, *(["--is_plain"] if way else [])]))
                print(f"{method} {count} {'plain' if way else 'incremental'}: {results[-1]['seconds']:.1f} s")
    table = Table(
        "method", "columns", "seconds", "peak GB", "J", "plain: s", "GB", "J", "times faster", "of matmul"
    )
    for ours in (result for result in results if not result["plain"]):
        key = (ours["method"], ours["columns"])
        others = [r for r in results if r["plain"] and (r["method"], r["columns"]) == key]
        work = ours["gflop_per_evaluation"] * ours["evaluations"] / ours["busy_seconds"]
        row = [*map(str, key), f"{ours['seconds']:.1f}", f"{ours['peak_gb']:.2f}", f"{ours['j']:.5g}"]
        for other in others:
            row += [f"{other['seconds']:.1f}", f"{other['peak_gb']:.2f}", f"{other['j']:.5g}"]
            row += [f"{other['busy_seconds'] / ours['busy_seconds']:.1f}"]
        row += [""] * (9 - len(row)) + [f"{work / ours['matmul_gflops']:.0%}"]
        table.add_row(*row)
    Console(width=120).print(table)
    print(
        "of matmul: fraction of the speed of a large matrix product, the limit of U and of the decoder; the "
        "plain one is bound by memory: it reads and writes 287 MB fields many times in each evaluation"
    )
    write_results(json_path, results)


if __name__ == "__main__":
    install()
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=[1000], nargs="+", help="observed columns")
    parser.add_argument("--methods", choices=CONTROLS, default=["threedvar", "vaevar"], nargs="+")
    parser.add_argument("--plain", type=bool, default=True, help="run the plain implementation too")
    parser.add_argument("--iterations", type=int, default=100, help="at most")
    parser.add_argument("--statistics", default="weights/covariance.nc", help="B")
    parser.add_argument("--vae", default="weights/spectral_vae.ckpt", help="VAE-Var's VAE")
    parser.add_argument("--published_vae", default="weights/vae.ckpt", help="the published VAE")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rows", type=int, default=721, help="latitudes; 721 is 0.25°")
    parser.add_argument("--json_path", type=Path, default=None, help="where results go")
    parser.add_argument("--case", default=None, help="(for internal use) run one case and print its result")
    parser.add_argument("--is_plain", action="store_true", help="(for internal use)")
    a = parser.parse_args()
    weights = {"threedvar": a.statistics, "vaevar": a.vae, "vaevar_published": a.published_vae}
    settings = (a.iterations, weights, a.device)
    with one_line_errors():
        if a.case is None:
            main(a.columns, a.methods, a.plain, *settings, a.json_path, a.rows)
        else:
            print(json.dumps(case(a.case, a.is_plain, a.columns[0], *settings, a.rows)))

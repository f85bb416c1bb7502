"""How much one analysis reduces the error of a 24 h forecast, for each arm of a config.

    python benchmarks/one_step.py --columns 115 460 1000

Prints lines `<arm> <columns> <ratio>`: RMSE of the analyses over RMSE of their backgrounds, mean over
channels. Unlike in a cycle, all arms start from the same backgrounds, which compares the transforms alone.
`--lambda_` sets λ for all arms: the best λ differs from that of a cycle, whose background is better than a
24 h forecast.
"""

from __future__ import annotations

import numpy as np
import torch
from jsonargparse import ArgumentParser

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.analysis_times import HOUR, AnalysisTimes
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.data.weather.speedy import PERIODS, SpeedyWorld
from vaevar.errors import UserError
from vaevar.forecast import rollout
from vaevar.runs.stopping import install
from vaevar.scripts import instantiate, one_line_errors, read_contents
from vaevar.state import State
from vaevar.verification.metrics import RootMeanSquare


def main(
    columns: list[int],
    config: list[str],
    period: str = "test",
    arms: list[str] | None = None,
    lambda_: float | None = None,
    cases: int = 16,
    lead_hours: int = 24,
) -> None:
    """Analyse ``cases`` forecasts spread over a period, with each arm and network.

    Args:
        columns: sizes of the networks; their positions change from case to case.
        config: of a cycle, for its arms, forecaster and observation errors; later files win.
        period: of the embedded world.
        arms: only these; default all.
        lambda_: of every variational arm; None: each arm keeps its own.
        cases: number of analyses in each average.
        lead_hours: of the backgrounds.
    """
    objects = instantiate(read_contents(config), model=AssimilationModule, data=AnalysisTimes)
    model, data = objects.model, objects.data
    chosen = {name: arm for name, arm in model.arms.items() if not isinstance(arm, FreeRun)}
    unknown = [name for name in arms or [] if name not in chosen]
    if unknown:
        raise UserError(f"no arms {', '.join(unknown)}; there are {', '.join(chosen)}")
    chosen = {name: chosen[name] for name in arms or chosen}
    for arm in chosen.values():
        if isinstance(arm, VariationalAssimilator) and lambda_ is not None:
            arm.lambda_ = lambda_
    world, forecaster = SpeedyWorld(period), model.forecaster
    history, step = forecaster.history, forecaster.step_hours
    first = PERIODS[period].times[0] + (lead_hours + (history - 1) * step) * HOUR
    # Only as long as the shortest period, so that less of the world must be generated.
    last = PERIODS[period].times[min(len(each.times) for each in PERIODS.values()) - 1]
    times = first + np.linspace(0, (last - first) // (step * HOUR), cases).astype(int) * step * HOUR
    world.prepare(PERIODS[period].times[0], last)
    store = world.open(data.spec)

    def scores() -> RootMeanSquare:
        return RootMeanSquare(len(data.spec), store.grid)

    before = scores()
    after = {(name, count): scores() for name in chosen for count in columns}
    seconds = dict.fromkeys(after, 0.0)
    for number, time in enumerate(times):
        start = time - lead_hours * HOUR - np.arange(history - 1, -1, -1) * step * HOUR
        states = torch.from_numpy(store.read(start))[None]
        *_, forecast = rollout(forecaster, states, lead_hours // step)
        truth = store.state(time)
        background = State(forecast[0], truth.spec, truth.grid)
        before.update(background.values - truth.values)
        for count in columns:
            observations = simulate(truth, ColumnNetwork(count, seed=1000 + number), data.errors, time, 0)
            for name, arm in chosen.items():
                analysis = arm(background, observations)
                after[name, count].update(analysis.state.values - truth.values)
                seconds[name, count] += analysis.diagnostics.get("seconds", 0.0) / cases
    for (name, count), metric in after.items():
        ratio = (metric.compute() / before.compute()).mean()
        print(f"{name} {count} {ratio:.3f}   # {seconds[name, count]:.1f} s per analysis", flush=True)


if __name__ == "__main__":
    install()
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--columns", type=int, nargs="+", default=[115, 460, 1000], help="sizes of the networks"
    )
    parser.add_argument(
        "--config",
        nargs="+",
        default=["configs/cycle_sparse.yaml"],
        help="of a cycle, for its arms, forecaster and observation errors; later files win",
    )
    parser.add_argument("--arms", type=str, nargs="+", default=None, help="only these")
    parser.add_function_arguments(main, skip={"columns", "config", "arms"})
    with one_line_errors():
        main(**parser.instantiate(parser.parse_args()))

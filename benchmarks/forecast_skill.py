"""RMSE of a forecaster and of persistence in the embedded world, and the forecaster's time per step.

python benchmarks/forecast_skill.py --period test
"""

from __future__ import annotations

import time

import numpy as np
import torch

from vaevar.data.weather.speedy import PERIODS, STEP, SpeedyWorld
from vaevar.forecast import rollout
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.scripts import run
from vaevar.state import StateSpec
from vaevar.verification.metrics import RootMeanSquare
from vaevar.verification.tables import markdown_table

CHANNELS = ("z500", "t850", "u500", "q700", "t2m", "msl")


def main(
    period: str = "test",
    model: str = "weights/forecaster.onnx",
    mean: str = "weights/forecaster_mean.npy",
    std: str = "weights/forecaster_std.npy",
    every_hours: int = 24,
    steps: int = 8,
) -> None:
    """Score roll-outs from initial times spread over a period.

    Args:
        period: of the embedded world.
        model, mean, std: of the forecaster.
        every_hours: between initial times.
        steps: of 6 h in each roll-out.
    """
    spec, world = StateSpec(), SpeedyWorld(period)
    times = PERIODS[period].times
    world.prepare(times[0], times[-1])
    store, forecaster = world.open(spec), OnnxForecaster(model, mean, std)
    starts = times[forecaster.history - 1 : -steps : every_hours // 6]
    errors = [RootMeanSquare(len(spec), store.grid) for _ in range(steps)]
    persisted = [RootMeanSquare(len(spec), store.grid) for _ in range(steps)]
    seconds = 0.0
    for start in starts:
        first = start - STEP * (forecaster.history - 1)
        states = torch.from_numpy(store.read(first + STEP * np.arange(forecaster.history + steps)))
        past, future = states[: forecaster.history], states[forecaster.history :]
        began = time.perf_counter()
        forecasts = list(rollout(forecaster, past[None], steps))
        seconds += time.perf_counter() - began
        for step, forecast in enumerate(forecasts):
            errors[step].update(forecast[0] - future[step])
            persisted[step].update(past[-1] - future[step])
    print(f"{period} period, {len(starts)} roll-outs, {1e3 * seconds / len(starts) / steps:.0f} ms per step")
    head = ["hours", *CHANNELS, *(f"persistence {name}" for name in CHANNELS)]
    rows = [
        [6 * step, *(float(metric.compute()[spec.index(name)]) for metric in pair for name in CHANNELS)]
        for step, pair in enumerate(zip(errors, persisted, strict=True), start=1)
    ]
    print(markdown_table(head, rows, align="r" * len(head)))


if __name__ == "__main__":
    run(main)

"""Does an arm use its observations fully? If so, the innovations of its cycle have no memory.

    python main.py predict --config configs/cycle_sparse.yaml
    python benchmarks/innovations.py --directory runs/cycle_sparse

With the gain of the Kalman filter innovations are white (:mod:`vaevar.verification.consistency`). So the
autocorrelation of an arm's innovations shows, without the truth, whether its gain is too small (above 0; λ is
too large) or too large (below 0). The table has a row per arm: each variable after one step, and all
variables after several. The run must have written its backgrounds (`StateWriter`), and its network must not
move.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vaevar.data.analysis_times import AnalysisTimes
from vaevar.data.observations.points import Observations
from vaevar.data.weather.store import WeatherStore
from vaevar.errors import UserError
from vaevar.scripts import instantiate, read_contents, run
from vaevar.verification.consistency import departures, memory
from vaevar.verification.tables import to_markdown


def main(directory: str = "runs/cycle_sparse", skip: int = 20, lags: list[int] | None = None) -> None:
    """Print the table.

    Args:
        directory: of a finished `predict` run.
        skip: analyses to leave out at its beginning.
        lags: in steps; default 1, 2 and 4.
    """
    print(table(Path(directory), skip, lags or [1, 2, 4]))


def table(directory: Path, skip: int, lags: list[int]) -> str:
    """A GitHub table, a row per arm.

    Raises:
        UserError: when there is no such run, its network moves, or it is too short.
    """
    arms = sorted(path.parent for path in directory.glob("*/background.zarr"))
    if not arms:
        raise UserError(
            f"{directory}: no arm in it has a background.zarr; run predict with the StateWriter callback"
        )
    data = instantiate(read_contents([directory / "config.yaml"]), data=AnalysisTimes).data
    data.prepare_data()
    data.setup("predict")
    if skip + max(lags) >= len(data.times):
        raise UserError(f"{directory}: too few analyses ({len(data.times)}) for skip {skip} and lags {lags}")
    observed = [data.analysis_time(index).observations for index in range(skip, len(data.times))]
    if any(not np.array_equal(positions(one), positions(observed[0])) for one in observed):
        raise UserError(f"{directory}: the innovations of a moving network cannot be compared")
    operator = observed[0].operator(data.spec, data.store.grid)
    rows = []
    for arm in arms:
        store = WeatherStore(arm / "background.zarr", data.spec, data.step_hours)
        innovations = np.stack(
            [
                departures(operator, store.state(time), observations)
                for time, observations in zip(data.times[skip:], observed, strict=True)
            ]
        )
        after = {lag: memory_after(lag, innovations, observed) for lag in lags}
        first = {f"{name}, {lags[0]}": value for name, value in after[lags[0]].items()}
        means = {f"all, {lag}": float(np.mean(list(values.values()))) for lag, values in after.items()}
        rows.append({"arm": arm.name} | {name: f"{value:.2f}" for name, value in (first | means).items()})
    return to_markdown(pd.DataFrame(rows))


def memory_after(lag: int, innovations: np.ndarray, observed: list[Observations]) -> dict[str, float]:
    """Innovation memory at a lag, over all times.

    Args:
        lag: in steps.
        innovations: [T, P].
        observed: the observations of each time.
    """
    later = Observations.concatenate(observed[lag:])
    return memory(innovations[:-lag].ravel(), innovations[lag:].ravel(), later)


def positions(observations: Observations) -> np.ndarray:
    """[2, P] latitudes and longitudes."""
    return np.stack([observations.latitude, observations.longitude])


if __name__ == "__main__":
    run(main)

"""The climatological std of each channel: scores are divided by it, and humidity errors derived from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vaevar.content.arrays import read_array
from vaevar.data.times import six_hourly, steps_in
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.files import require_writable, save_array
from vaevar.mistakes.notices import notice
from vaevar.plausible.statistics import judge_stds
from vaevar.runs.aside import keeping
from vaevar.runs.expansion import expand_path
from vaevar.scripts import run
from vaevar.shipped import missing_weights
from vaevar.state import StateSpec

_USUAL_PERIOD = np.timedelta64(330, "D")


def climatological_std(store: WeatherStore, times: np.ndarray) -> np.ndarray:
    """Std in time about the mean of each grid point, root mean square over the sphere, [C] float64.

    Differences between places do not count: relative to this std, a forecast that knows the climate of each
    place but not the weather has an RMSE of about 1, and a free run of about √2.

    Args:
        store: of the truth.
        times: of the states to use.
    """
    first = store.read(times[:1])[0].astype(np.float64)
    total, square = np.zeros_like(first), np.zeros_like(first)
    for time in times:
        departure = store.read([time])[0] - first
        total += departure
        square += np.square(departure, out=departure)
    variance = square / times.size - (total / times.size) ** 2
    return np.sqrt(store.grid.area_mean(torch.from_numpy(variance)).numpy())


def load_climatological_std(path: str | Path | np.ndarray, spec: StateSpec) -> np.ndarray:
    """Read the ``.npy`` file that :func:`write` made, [C] float64; an array is what such a file holds.

    Raises:
        UserError: when it is missing or unreadable, has another length, or values that cannot be the std of
            these channels: they are in another order or other units, or the file is another.
    """
    path = path if isinstance(path, np.ndarray) else expand_path(str(path))
    try:
        std = path if isinstance(path, np.ndarray) else read_array(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such .npy file{missing_weights(str(path))}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a .npy file ({error})") from None
    path = "climatology" if isinstance(path, np.ndarray) else path
    if std.shape != (len(spec),) or std.dtype.kind != "f":
        raise UserError(
            f"{path}: holds {std.dtype} {std.shape}, expected floats ({len(spec)},), one per channel of "
            "`spec` (FengWu's 69 channels where none is given)"
        )
    judge_stds(path, std, spec)
    return std.astype(np.float64)


def write(
    source: Source,
    start: str,
    end: str,
    every: int = 24,
    path: str = "climatological_std.npy",
    spec: StateSpec | None = None,
) -> None:
    """Compute the climatological std of a period and write it.

    Args:
        source: the truth.
        start: first state.
        end: last state.
        every: hours between the states used, a multiple of 6.
        path: the file to write, in the form of ``.npy``.
        spec: the channels; default FengWu's 69.

    Raises:
        UserError: for another ``every``, a period without states, or a source that lacks some of them.
    """
    target = Path(path)
    require_writable(target)
    times = six_hourly(start, end)[:: steps_in(every, "every")]
    source.prepare(times[0], times[-1])
    store = source.open(spec or StateSpec())
    std = climatological_std(store, times)
    _require_change(store, times, std)
    if times[-1] - times[0] < _USUAL_PERIOD:
        notice(
            f"{path}: is made of {times.size} states from {times[0]} to {times[-1]}; a climatology is of a "
            "year or more: of a season, scores and humidity errors are relative to something else"
        )
    judge_stds(f"{path} (not written)", std, store.spec)
    with keeping(target):
        save_array(target, std)
    print(f"wrote {path}")


def _require_change(store: WeatherStore, times: np.ndarray, std: np.ndarray) -> None:
    """Refuse states that stay the same.

    Raises:
        UserError: when a channel does; it names the store.
    """
    still = [name for name, value in zip(store.spec.names, std, strict=True) if value == 0]
    if still:
        which = ", ".join(still[:3]) + (f" and {len(still) - 3} more channels" if len(still) > 3 else "")
        raise UserError(
            f"{store.path}: its states do not change: {which} are the same in all {times.size} from "
            f"{times[0]} to {times[-1]}; repair the store, or give a longer period"
        )


if __name__ == "__main__":
    run(write)

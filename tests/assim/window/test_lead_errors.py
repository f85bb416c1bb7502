"""R of later observations, enlarged by what the forecaster adds to the error by then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.assim.window.toys import GRID, SPEC, bent, control, observed, random, start
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.assim.window.lead_errors import lead_errors
from vaevar.errors import UserError
from vaevar.forecast import Forecaster

STDS = np.array([[0.5, 0.6, 0.7], [1.0, 1.1, 1.2]])


@pytest.fixture
def path(tmp_path: Path) -> str:
    np.save(tmp_path / "leads.npy", STDS)
    return str(tmp_path / "leads.npy")


def stds_of(method: FourDVar, offsets: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """What the cost divides departures by, and what the observations say of their errors."""
    made = [
        observed(hours, seed, variable="t2m", value=np.full(len(hours), 281.0))
        for seed, hours in enumerate(offsets)
    ]
    problem = method.problem(start(1), made, bent(1))
    return problem.cost.error_std.numpy(), problem.observed.error_std


def test_errors_are_enlarged_by_lead(path: str) -> None:
    method = FourDVar(control(), window=3, lead_errors=path, dtype="float64")
    enlarged, own = stds_of(method, [[0.0], [0.0, 3.0], [0.0]])
    added = np.sqrt(enlarged**2 - own**2)
    np.testing.assert_allclose(added, [0.0, 0.7, (0.7 + 1.2) / 2, 1.2], atol=1e-7)


def test_a_window_of_one_time_has_no_leads(path: str) -> None:
    method = FourDVar(control(), window=1, lead_errors=path, dtype="float64")
    enlarged, own = stds_of(method, [[0.0, 0.0]])
    np.testing.assert_array_equal(enlarged, own)


def test_files_that_will_not_do_are_refused_before_a_run(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leads\.npy: holds float64 \(2, 3\), expected .* at least 3 leads"):
        FourDVar(control(), window=4, lead_errors=path)
    with pytest.raises(UserError, match=r"none\.npy: cannot be read"):
        FourDVar(control(), window=3, lead_errors=str(tmp_path / "none.npy"))
    np.save(tmp_path / "huge.npy", 1e6 * STDS)
    with pytest.raises(UserError, match=r"huge\.npy: .*error std"):
        FourDVar(control(), window=3, lead_errors=str(tmp_path / "huge.npy"))
    with pytest.raises(UserError, match="model_error_scale and lead_errors both"):
        FourDVar(control(), window=3, lead_errors=path, model_error_scale=0.3)


def test_errors_of_a_forecaster_by_lead() -> None:
    """One that is too warm by a degree a step, and knows nothing else to be wrong."""
    first = np.datetime64("2021-01-01T00", "h")
    states = (start(1)[0] + 0.1 * random(8, len(SPEC), *GRID.shape, seed=5)).float().numpy()

    class Truth:
        grid = GRID

        def read(self, times: np.ndarray) -> np.ndarray:
            return states[((times - first) / np.timedelta64(6, "h")).astype(int)]

    following = {states[number].tobytes(): states[number + 1] for number in range(7)}
    warmed: dict[bytes, np.ndarray] = {}

    def step(x: torch.Tensor) -> torch.Tensor:
        here = x[0, -1].numpy()
        true = warmed.get(here.tobytes(), here)
        moved = following[true.tobytes()]
        warmer = moved + (here - true) + np.array([0.0, 0.0, 1.0], dtype=np.float32)[:, None, None]
        warmed[warmer.tobytes()] = moved
        return torch.from_numpy(warmer)[None]

    forecaster = Forecaster.from_function(step, SPEC, GRID)
    starts = first + np.timedelta64(6, "h") * np.array([0, 3])
    found = lead_errors(forecaster, Truth(), starts, 3)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [[0, 0, 1], [0, 0, 2], [0, 0, 3]], atol=1e-4)

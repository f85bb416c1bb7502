"""The table of a long cycle by months, and the comparison of its end with its beginning."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from year import by_month, levelness

from vaevar.errors import UserError
from vaevar.state import StateSpec

SPEC = StateSpec(("t2m",), ("z",), (500,))
TIMES = np.array(["2022-01-30T00", "2022-01-31T00", "2022-02-01T00", "2022-02-02T00"], "datetime64[h]")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one arm: z500 has an error of 3 and 4 in January, and of 6 in February."""
    rows = [
        {"time": str(time), "arm": "one", "channel": channel, "quantity": quantity, "rmse": rmse, "bias": 0.0}
        for time, z500 in zip(TIMES, (3.0, 4.0, 6.0, 6.0), strict=True)
        for channel, rmse in (("t2m", 1.0), ("z500", z500))
        for quantity in ("analysis", "background")
    ]
    diagnostics = [
        {"time": str(time), "chi2": chi2, "iterations": 20.0, "seconds": 0.5}
        for time, chi2 in zip(TIMES, (1.0, 2.0, 3.0, 5.0), strict=True)
    ]
    (tmp_path / "one").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "one" / "scores.csv", index=False)
    pd.DataFrame(diagnostics).to_csv(tmp_path / "one" / "diagnostics.csv", index=False)
    return tmp_path


def test_the_root_is_taken_over_a_month(run: Path) -> None:
    data = SimpleNamespace(spec=SPEC, climatological_std=np.array([1.0, 10.0]))
    table = by_month(run, ["one"], data)  # type: ignore[arg-type]
    assert list(table["month"]) == ["2022-01", "2022-02"]
    assert list(table["analyses"]) == [2, 2]
    root = np.sqrt((9 + 16) / 2)
    assert list(table["z500"]) == [f"{root:.4g}", "6"]
    assert list(table["analysis rmse / std"]) == [f"{(1 + root / 10) / 2:.4f}", "0.8000"]
    assert list(table["largest"]) == ["0.7000", "0.8000"]
    assert list(table["2J/p"]) == ["1.500", "4.000"]


def resources(path: Path, growth: float, analyses: int = 200) -> Path:
    numbers = np.arange(analyses)
    table = pd.DataFrame({"resident_gb": 1 + growth * numbers, "busy_seconds": 2.0, "seconds": 2.0})
    table.to_csv(path, index=False)
    return path


def test_a_leak_is_seen(tmp_path: Path) -> None:
    level = levelness(resources(tmp_path / "level.csv", 0.0))
    assert "memory 1.000 GB and 1.000 GB (+0.0%)" in level
    assert "processor time an analysis time 2.000 s and 2.000 s (+0.0%)" in level
    # Medians of analyses 50 to 99 and 150 to 199.
    assert "memory 1.745 GB and 2.745 GB (+57.3%)" in levelness(resources(tmp_path / "leak.csv", 0.01))


def test_a_short_run_cannot_tell(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="149 analyses are too few"):
        levelness(resources(tmp_path / "short.csv", 0.0, 149))

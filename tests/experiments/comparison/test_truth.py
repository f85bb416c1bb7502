"""What tells one truth from another, and records of two truths."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vaevar.errors import UserError
from vaevar.experiments.comparison.record import MEAN, Case, read, record
from vaevar.experiments.comparison.truth import TRUTH, require_one_truth, truth_number

WHERE = Path("results")


def data_of(values: torch.Tensor) -> SimpleNamespace:
    """Two analysis times, of which the last has the truth ``values``, [C, H, W]."""
    states = {0: torch.full_like(values, torch.nan), 6: values}
    store = SimpleNamespace(state=lambda time: SimpleNamespace(values=states[time]))
    source = SimpleNamespace(open=lambda spec: store)
    return SimpleNamespace(spec=None, source=source, times=[0, 6], climatological_std=np.array([2.0, 10.0]))


def test_the_number_is_the_spread_over_the_grid_of_the_last_state() -> None:
    values = torch.tensor([[[3.0, 5.0]], [[-10.0, 10.0]]])  # standard deviations √2 and 10 √2
    assert truth_number(data_of(values)) == pytest.approx(np.sqrt(2) * (1 / 2 + 10 / 10) / 2)  # type: ignore[arg-type]
    assert truth_number(data_of(values + 50)) == pytest.approx(truth_number(data_of(values)))  # type: ignore[arg-type]


def rows(**truths: float | None) -> pd.DataFrame:
    found = []
    for arm, truth in truths.items():
        for case in ("fixed_100_seed0", "moving_100_seed0"):
            found.append((case, arm, "analysis", 0.1))
            found += [(case, arm, TRUTH, truth)] if truth is not None else []
    return pd.DataFrame(found, columns=["case", "arm", "quantity", "value"])


def test_one_truth_is_fine_however_it_was_rounded() -> None:
    require_one_truth(rows(), WHERE, 1.0)
    require_one_truth(rows(free=0.983412, vaevar=0.983413), WHERE)
    require_one_truth(rows(free=0.983412, vaevar=0.983413), WHERE, 0.9834125)


@pytest.mark.parametrize(
    ("truths", "here", "said"),
    [
        (
            {"free": 0.98, "vaevar": 0.99, "diffda": 0.98},
            None,
            "4 runs of diffda, free .0.98. and that of 2 ",
        ),
        ({"free": 0.98, "vaevar": None}, None, "free .0.98. and that of 2 runs of vaevar .not told"),
        ({"free": None}, None, "found that of 2 runs of free .not told"),
        ({"free": 0.98}, 0.99, "2 runs of free .0.98. and this machine's .0.99"),
        ({"free": None}, 0.99, "free .not told. and this machine's"),
    ],
)
def test_several_truths_are_refused(truths: dict[str, float | None], here: float | None, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        require_one_truth(rows(**truths), WHERE, here)
    assert "--results DIRECTORY" in str(refusal.value)


def test_a_record_keeps_enough_digits(tmp_path: Path) -> None:
    found = pd.DataFrame(
        [("analysis", MEAN, 0.1), (TRUTH, "", 1 / 3)], columns=["quantity", "channel", "value"]
    )
    record(tmp_path / "case.csv", Case("fixed", 100, 0), "free", found, "f", "c")
    require_one_truth(read(tmp_path / "case.csv"), tmp_path, 1 / 3)

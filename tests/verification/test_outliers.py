"""2J/p that leaves its own past is noticed, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaevar.verification.outliers import PastAnalyses, far_from_its_past, usual

RANDOM = np.random.default_rng(0)
USUAL = 1.9 * np.exp(0.05 * RANDOM.normal(size=100))


@pytest.mark.parametrize("factor", [1.8, 10.0, 0.4, 1e6, 1e-6])
def test_a_jump_is_noticed_and_is_no_new_past(factor: float) -> None:
    values = USUAL.copy()
    values[50] *= factor
    assert np.flatnonzero(far_from_its_past(values)).tolist() == [50]


def test_a_spin_up_a_slow_drift_and_gaps_are_no_jumps() -> None:
    settling = USUAL * (1 + 2.0 * np.exp(-np.arange(100) / 3.0))
    assert not far_from_its_past(settling).any()
    assert not far_from_its_past(USUAL * np.linspace(1.0, 2.0, 100)).any()
    gaps = np.where(np.arange(100) % 3 == 0, np.nan, USUAL)
    assert not far_from_its_past(gaps).any()
    assert not far_from_its_past([]).any()


def test_little_past_says_nothing() -> None:
    assert usual(USUAL[:7]) is None
    assert usual([np.nan] * 20) is None
    assert usual(USUAL[:8]) is not None


def test_it_is_said_at_once_and_after_a_resumption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "diagnostics.csv"
    pd.DataFrame({"time": range(20), "chi2": USUAL[:20]}).to_csv(table, index=False)
    past = PastAnalyses()
    past.go_on("threedvar", table, 20)
    empty = tmp_path / "of_a_full_disk.csv"
    empty.touch()
    past.go_on("free", empty, 0)
    time = np.datetime64("2022-01-06T00")
    past.add("threedvar", time, {"chi2": 2.0})
    past.add("free", time, {})
    assert capsys.readouterr().out == ""
    past.add("threedvar", time, {"chi2": 9.0})
    assert "arm threedvar at 2022-01-06T00: 2J/p is 9, far from its own past" in capsys.readouterr().out

"""Arms that analyse several times at once: what is recorded of them, and what the tables say, by hand."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vaevar.experiments.comparison.figure import comparison_figure
from vaevar.experiments.comparison.record import MEAN, Case, measure, read, record
from vaevar.experiments.comparison.table import report, summary, wide
from vaevar.state import StateSpec

SPEC = StateSpec(("t2m",), ("z",), (500,))
TIMES = np.datetime64("2022-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(7)


def run(directory: Path, window: int) -> SimpleNamespace:
    """A run whose analysis of z500 has the error 1, 2, 3, ..., and its background ten times as much."""
    rows, leads = [], []
    for index, time in enumerate(TIMES):
        label = {"time": f"{time}:00:00", "arm": "one", "bias": 0.0}
        for channel in SPEC.names:
            size = index + 1.0 if channel == "z500" else 0.0
            for quantity, factor in (("analysis", 1), ("background", 10)):
                row = label | {"channel": channel, "quantity": quantity, "rmse": factor * size}
                rows.append(row | ({"position": index % window, "window": window} if window > 1 else {}))
            leads.append(label | {"channel": channel, "lead_hours": 24, "rmse": size})
    (directory / "one").mkdir()
    pd.DataFrame(rows).to_csv(directory / "one" / "scores.csv", index=False)
    pd.DataFrame(leads).to_csv(directory / "one" / "forecasts.csv", index=False)
    diagnostics = pd.DataFrame({"time": [f"{time}:00:00" for time in TIMES], "evaluations": np.arange(7.0)})
    diagnostics.to_csv(directory / "one" / "diagnostics.csv", index=False)
    truth = SimpleNamespace(values=torch.arange(8.0).reshape(2, 2, 2))
    source = SimpleNamespace(open=lambda spec: SimpleNamespace(state=lambda time: truth))
    return SimpleNamespace(spec=SPEC, times=TIMES, climatological_std=np.array([1.0, 10.0]), source=source)


def root(*values: float) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_what_is_recorded_of_windows(tmp_path: Path) -> None:
    rows = measure(tmp_path, "one", run(tmp_path, 3), skip=1)  # type: ignore[arg-type]
    of = rows.set_index(["quantity", "channel"])["value"]
    # The skip is rounded up to a window: times 4 to 6, then the first of a window that was cut short.
    assert of["analysis_window", "z500"] == pytest.approx(root(4, 5, 6, 7))
    assert of["analysis", "z500"] == of["analysis_window", "z500"]
    assert of["analysis_last", "z500"] == pytest.approx(6)
    assert of["background_next", "z500"] == pytest.approx(10 * root(4, 7))
    assert of["analysis_last", MEAN] == pytest.approx(6 / 10 / 2)
    assert of["forecast_24h", "z500"] == pytest.approx(6)
    assert of["evaluations", ""] == pytest.approx(4.5)


def test_one_time_is_recorded_at_the_times_of_windows(tmp_path: Path) -> None:
    rows = measure(tmp_path, "one", run(tmp_path, 1), skip=1, others=[3, 1, 3])  # type: ignore[arg-type]
    of = rows.set_index(["quantity", "channel"])["value"]
    assert of["analysis", "z500"] == pytest.approx(root(2, 3, 4, 5, 6, 7))
    # As the arm with windows of 3 in the test above.
    assert of["analysis_window_of_3", "z500"] == pytest.approx(root(4, 5, 6, 7))
    assert of["analysis_last_of_3", "z500"] == pytest.approx(6)
    assert of["background_next_of_3", "z500"] == pytest.approx(10 * root(4, 7))
    assert of["forecast_24h_of_3", "z500"] == pytest.approx(6)
    assert not rows.duplicated(["quantity", "channel"]).any()


def test_one_time_is_recorded_as_before(tmp_path: Path) -> None:
    rows = measure(tmp_path, "one", run(tmp_path, 1), skip=2)  # type: ignore[arg-type]
    of = rows.set_index(["quantity", "channel"])["value"]
    assert of["analysis", "z500"] == pytest.approx(root(3, 4, 5, 6, 7))
    assert of["evaluations", ""] == pytest.approx(4)
    assert not {"analysis_last", "analysis_window", "background_next"} & set(rows["quantity"])


def numbers(**values: float) -> pd.DataFrame:
    rows = [(quantity, MEAN, value) for quantity, value in values.items()] + [("threads", "", 2.0)]
    return pd.DataFrame(rows, columns=["quantity", "channel", "value"])


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Two seeds of an arm of one time and of one with windows, and a place where only the first was run."""
    for seed, factor in enumerate((1.0, 2.0)):
        case = Case("fixed", 100, seed)
        path = tmp_path / f"{case.name}.csv"
        one = numbers(analysis=factor, background=1.2 * factor)
        record(path, case, "threedvar_cycle", one, "f", "c")
        many = numbers(
            analysis=0.8 * factor, background=factor, analysis_last=0.9 * factor,
            analysis_window=0.8 * factor, background_next=0.6 * factor,
        )  # fmt: skip
        record(path, case, "fourdvar", many, "f", "c")
    case = Case("moving", 100, 0)
    record(
        tmp_path / f"{case.name}.csv", case, "threedvar_cycle", numbers(analysis=1, background=2), "f", "c"
    )
    return wide(pd.concat([read(path) for path in sorted(tmp_path.glob("*.csv"))]))


ARMS = ["threedvar_cycle", "fourdvar", "absent"]


def test_the_csv_by_hand(table: pd.DataFrame) -> None:
    text = summary(table, ARMS).to_csv(index=False, float_format="%.6g")
    assert text.splitlines() == [
        "network,columns,arm,quantity,mean,std,seeds",
        "fixed,100,threedvar_cycle,analysis_last,1.5,0.707107,2",
        "fixed,100,threedvar_cycle,analysis_window,1.5,0.707107,2",
        "fixed,100,threedvar_cycle,background_next,1.8,0.848528,2",
        "fixed,100,fourdvar,analysis_last,1.35,0.636396,2",
        "fixed,100,fourdvar,analysis_window,1.2,0.565685,2",
        "fixed,100,fourdvar,background_next,0.9,0.424264,2",
        "moving,100,threedvar_cycle,analysis_last,1,,1",
        "moving,100,threedvar_cycle,analysis_window,1,,1",
        "moving,100,threedvar_cycle,background_next,2,,1",
    ]
    assert pd.read_csv(StringIO(text))["std"].isna().sum() == 3


def test_the_section_of_windows(table: pd.DataFrame) -> None:
    text = report(table, ARMS, "A note.").partition("## Windows")[2]
    assert "| fixed | 100 | threedvar_cycle | 1.5 ± 0.71 | 1.5 ± 0.71 | 1.8 ± 0.85 |" in text
    assert "| fixed | 100 | fourdvar | 1.2 ± 0.57 | 1.35 ± 0.64 | 0.9 ± 0.42 |" in text
    assert "| fixed | 100 | fourdvar | **-20.0 ± 0.0** | **-10.0 ± 0.0** | **-50.0 ± 0.0** |" in text
    assert "moving" not in text


def test_differences_are_at_the_same_times(tmp_path: Path) -> None:
    windows = {"fourdvar": 4, "fourdvar_long": 8}
    for seed in (0, 1):
        case = Case("fixed", 100, seed)
        one = numbers(
            analysis=9, background=9, analysis_last_of_4=2, analysis_window_of_4=4, background_next_of_4=5,
            forecast_24h=9, forecast_24h_of_4=10,
        )  # fmt: skip
        many = numbers(
            analysis=1, background=1, analysis_last=1, analysis_window=1, background_next=1, forecast_24h=1,
        )  # fmt: skip
        for arm, rows in (("threedvar_cycle", one), ("fourdvar", many), ("fourdvar_long", many)):
            record(tmp_path / f"{case.name}.csv", case, arm, rows, "f", "c")
    table = wide(pd.concat([read(path) for path in sorted(tmp_path.glob("*.csv"))]))
    arms = ["threedvar_cycle", *windows]
    before, _, text = report(table, arms, "A note.", windows).partition("## Windows: differences")
    of_reference = before.partition("## Differences to threedvar_cycle, %")[2]
    assert re.search(r"\| fourdvar \|.*\| \*\*-90.0 ± 0.0\*\* \| – \| – \|", of_reference)
    assert re.search(r"\| fourdvar_long \|.*\| – \| – \| – \|", of_reference)
    assert "| fixed | 100 | fourdvar | **-75.0 ± 0.0** | **-50.0 ± 0.0** | **-80.0 ± 0.0** |" in text
    assert "fourdvar_long" not in text  # 3DVar's numbers at its times are not known
    fixed = comparison_figure(table, arms, windows).axes[0]
    lines = {container.get_label(): container.lines[0] for container in fixed.containers}
    np.testing.assert_allclose(lines["fourdvar"].get_ydata(), [-50])
    assert "fourdvar_long" not in lines


def test_without_windows_there_is_no_section(table: pd.DataFrame) -> None:
    plain = table.drop(index="fourdvar", level="arm").dropna(axis="columns", how="all")
    text = report(plain, ARMS, "A note.")
    assert "Windows" not in text
    assert len(summary(plain, ARMS)) == 6


def test_the_figure_tells_last_times_from_means(table: pd.DataFrame) -> None:
    fixed = comparison_figure(table, ARMS).axes[0]
    lines = {container.get_label(): container.lines[0] for container in fixed.containers}
    assert set(lines) == {"threedvar_cycle", "fourdvar", "fourdvar, mean of the window"}
    np.testing.assert_allclose(lines["fourdvar"].get_ydata(), [-10])
    np.testing.assert_allclose(lines["fourdvar, mean of the window"].get_ydata(), [-20])

"""The record, the differences and the figure of a comparison, by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vaevar.errors import UserError
from vaevar.experiments.comparison.figure import comparison_figure
from vaevar.experiments.comparison.record import MEAN, Case, current, fingerprints, read, record
from vaevar.experiments.comparison.table import differences, means, relative_differences, report, wide

ANALYSIS = ("analysis", MEAN)
LEADS = {"forecast_24h": 1.5, "forecast_72h": 2.0, "forecast_120h": 3.0}


def config(weights: Path) -> dict[str, Any]:
    def arm(**settings: Any) -> dict[str, Any]:
        return {"class_path": "vaevar.Some", "init_args": settings}

    network = {"class_path": "vaevar.Columns", "init_args": {"count": 1, "seed": 5, "moving": False}}
    callbacks = [{"class_path": "vaevar.Scores", "init_args": {"skip": 1}}]
    callbacks.append({"class_path": "vaevar.Forecasts", "init_args": {"every": 2}})
    return {
        "seed_everything": 0,
        "model": {"init_args": {"forecaster": {}, "arms": {"one": arm(a=1), "two": arm(path=str(weights))}}},
        "data": {"init_args": {"network": network, "seed": 5, "analyses": 4}},
        "trainer": {"callbacks": callbacks, "precision": None, "logger": {"init_args": {"name": "any"}}},
    }


def test_fingerprints_change_with_what_the_numbers_depend_on(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"first")
    base = config(weights)
    known = fingerprints(base)
    assert fingerprints(Case("moving", 250, 2).config(base, "one"))["one"] == known["one"]
    weights.write_bytes(b"second")
    assert fingerprints(base)["one"] == known["one"]
    assert fingerprints(base)["two"] != known["two"]
    weights.write_bytes(b"first")

    def changed(*path: Any, value: Any) -> dict[str, str]:
        content = copy.deepcopy(base)
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return fingerprints(content)

    assert changed("trainer", "logger", value=None) == known
    assert changed("model", "init_args", "arms", "one", "init_args", "a", value=2)["two"] == known["two"]
    for shared in (
        changed("data", "init_args", "analyses", value=5),
        changed("model", "init_args", "forecaster", value={"model": "other"}),
        changed("trainer", "callbacks", 1, "init_args", "every", value=3),
        changed("trainer", "precision", value="bf16-mixed"),
    ):
        assert not set(shared.values()) & set(known.values())
    with pytest.raises(UserError, match="Forecasts"):
        changed("trainer", "callbacks", value=base["trainer"]["callbacks"][:1])


def test_a_class_that_moves_to_another_module_keeps_its_fingerprint(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"first")
    base, moved, renamed = (config(weights) for _ in range(3))
    moved["model"]["init_args"]["arms"]["one"]["class_path"] = "vaevar.elsewhere.Some"
    moved["trainer"]["callbacks"][0]["class_path"] = "vaevar.verification.Scores"
    renamed["model"]["init_args"]["arms"]["one"]["class_path"] = "vaevar.Another"
    assert fingerprints(moved) == fingerprints(base)
    assert fingerprints(renamed)["one"] != fingerprints(base)["one"]


def test_a_case_changes_network_and_both_seeds() -> None:
    base = config(Path("nowhere"))
    made = Case("moving", 500, 2).config(base, "two")
    assert made["data"]["init_args"]["network"]["init_args"] == {"count": 500, "seed": 2, "moving": True}
    assert made["data"]["init_args"]["seed"] == 2
    assert list(made["model"]["init_args"]["arms"]) == ["two"]
    assert base == config(Path("nowhere"))


def numbers(value: float) -> pd.DataFrame:
    rows = [("analysis", MEAN, value), ("analysis", "z500", 100 * value), ("threads", "", 2.0)]
    rows += [("background", MEAN, 1.1 * value)]
    rows += [(name, MEAN, times * value) for name, times in LEADS.items()]
    return pd.DataFrame(rows, columns=["quantity", "channel", "value"])


def test_an_arm_is_merged_in_and_replaced(tmp_path: Path) -> None:
    path, case = tmp_path / "results" / "case.csv", Case("fixed", 100, 0)
    assert read(path).empty
    record(path, case, "one", numbers(1.0), "aaa", "c1")
    record(path, case, "two", numbers(2.0), "000012345678", "c1")
    assert set(current(read(path), {"one": "aaa", "two": "000012345678"})["arm"]) == {"one", "two"}
    # An arm's own settings changed: its rows are stale, the other's are not.
    assert set(current(read(path), {"one": "bbb", "two": "000012345678"})["arm"]) == {"two"}
    record(path, case, "one", numbers(3.0), "bbb", "c2")
    table = read(path)
    assert len(table) == 2 * len(numbers(0.0))
    chosen = table[(table["arm"] == "one") & (table["channel"] == "z500")].iloc[0]
    assert (chosen["value"], chosen["fingerprint"], chosen["commit"]) == (300.0, "bbb", "c2")
    assert (chosen["network"], chosen["columns"], chosen["seed"]) == ("fixed", 100, 0)
    path.write_text("something,else\n1,2\n")
    with pytest.raises(UserError, match="delete it"):
        read(path)


@pytest.fixture
def results(tmp_path: Path) -> pd.DataFrame:
    """Two networks of 100 columns and one of 1000; arm values by seed 0 and 1."""
    values = {
        ("fixed", 100): {"threedvar": (1.0, 2.0), "vaevar": (0.8, 1.8), "diffda": (1.1, 1.9)},
        ("moving", 100): {"threedvar": (1.0, 1.0), "vaevar": (0.9, 0.7)},
        ("fixed", 1000): {"threedvar": (0.5, 0.5), "vaevar": (0.4, 0.5)},
    }
    tables = []
    for (network, columns), arms in values.items():
        for arm, by_seed in arms.items():
            for seed, value in enumerate(by_seed):
                case = Case(network, columns, seed)
                record(tmp_path / f"{case.name}.csv", case, arm, numbers(value), "f", "c")
    for path in sorted(tmp_path.glob("*.csv")):
        tables.append(read(path))
    return wide(pd.concat(tables))


def test_means_and_paired_differences_by_hand(results: pd.DataFrame) -> None:
    table = means(
        results, ["threedvar", "vaevar", "diffda"], {"rmse / std": ANALYSIS, "seconds": ("seconds", "")}
    )
    # Sample std of 1 and 2.
    assert table.iloc[0].tolist() == ["fixed", "100", "threedvar", "1.5 ± 0.71", "–"]
    assert len(table) == 7
    pairs = relative_differences(results, "fixed", 100, "vaevar", "threedvar", ANALYSIS)
    np.testing.assert_allclose(pairs, [-0.2, -0.1])
    both = relative_differences(results, "both", 100, "vaevar", "threedvar", ANALYSIS)
    np.testing.assert_allclose(both, [-0.15, -0.2])
    shown = differences(results, ["threedvar", "vaevar", "diffda"], "threedvar").set_index(
        ["network", "columns", "arm"]
    )
    assert list(shown.index) == [
        ("fixed", "100", "vaevar"), ("fixed", "100", "diffda"), ("fixed", "1000", "vaevar"),
        ("moving", "100", "vaevar"), ("both", "100", "vaevar"),
    ]  # fmt: skip
    assert shown.loc[("fixed", "100", "vaevar"), "rmse / std"] == "**-15.0 ± 7.1**"
    assert shown.loc[("fixed", "100", "diffda"), "rmse / std"] == "+2.5 ± 10.6"
    assert shown.loc[("both", "100", "vaevar"), "day 5"] == "**-17.5 ± 3.5**"
    assert shown.loc[("both", "100", "vaevar"), "t2m"] == "–"


def test_report_and_figure(results: pd.DataFrame) -> None:
    arms = ["threedvar", "vaevar", "diffda", "absent"]
    text = report(results, arms, "A note.")
    for title in ("Analyses", "Backgrounds", "Forecasts", "on 2 CPU threads", "to threedvar", "to diffda"):
        assert any(title in line for line in text.splitlines() if line.startswith("## ")), title
    assert "| fixed | 1000 | vaevar | 0.45 ± 0.071 | 45 ± 7.1 |" in text
    assert "rmse / std, day 5" in text
    figure = comparison_figure(results, arms)
    assert [axis.get_title() for axis in figure.axes] == [
        "analyses, fixed networks", "analyses, moving networks", "forecasts, 100 fixed columns"
    ]  # fmt: skip
    labels = [line.get_text() for line in figure.legends[0].get_texts()]
    assert labels == ["threedvar", "vaevar", "diffda"]
    reference, fixed = (container.lines[0] for container in figure.axes[0].containers[:2])
    np.testing.assert_allclose(fixed.get_xdata(), [100, 1000])
    np.testing.assert_allclose(reference.get_ydata(), 0, atol=1e-12)
    np.testing.assert_allclose(fixed.get_ydata(), [-15, -10])  # per cent, seed by seed
    by_lead = figure.axes[2].containers[1].lines[0]
    np.testing.assert_allclose(by_lead.get_xdata(), [0, 24, 72, 120])
    np.testing.assert_allclose(by_lead.get_ydata(), -15)

"""What the end of a cycle says beside its table: how it was made, and where its charts are."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from vaevar.mistakes.words import setting, words
from vaevar.runs.record import how_to_repeat
from vaevar.verification.tables import cell_text

_EVENTS_OF_ARMS = "*/events.out.tfevents.*"
_MADE_BY = "Made by "
_WIDEST = 13  # characters of a line in a column of the table, unless a word is longer
_UNLIMITED = 10_000


def how_it_was_made(directory: Path, computed: bool) -> str:
    """The paragraph on how a run is made again; a command that computed nothing leaves it as it was.

    Args:
        directory: of the run.
        computed: whether this command made an analysis.
    """
    summary = directory / "summary.md"
    if not computed and summary.is_file():
        lines = summary.read_text(encoding="utf-8").splitlines()
        before = next((line for line in lines if line.startswith(_MADE_BY)), "")
        if before:
            return before
    return how_to_repeat(directory)


def nothing_computed(directory: Path, ended: bool) -> str:
    """The line of a command that found everything there.

    Args:
        directory: of the run.
        ended: whether the cycle is at its end, and not only as far as this command was to go.
    """
    there = "had ended already" if ended else "had come this far already"
    return (
        f"{directory}: this cycle {there}, nothing was computed. More "
        f"{setting('data.init_args.analyses')} go on with it; to make it again, {words().restart}"
    )


def what_it_is_of(times: np.ndarray, over: int, skipped: int) -> str:
    """The analyses that a summary is of.

    Args:
        times: of all analyses that were asked for.
        over: how many have been made.
        skipped: how many are left out at the beginning.
    """
    text = f"Analyses {times[skipped]} to {times[over - 1]}, {over - skipped} of {times.size}"
    if over < times.size:
        text += f" (the cycle has come to analysis {over}; {words().again} goes on from there)"
    return text


def explained(period: str, truth: str, windows: bool) -> str:
    """How to read a summary.

    Args:
        period: what it is of.
        truth: what it was compared with.
        windows: whether an arm analyses several times at once.
    """
    note = (
        f"{period}; truth: {truth}. RMSE is area-weighted, its root taken after the mean over time, in SI "
        "units (z: m² s⁻², q: kg kg⁻¹); `rmse / std` is the mean over channels of RMSE / climatological std, "
        "`improved` the fraction of "
        "analyses better than their background, `drift` how fast the analyses' error grows."
    )
    if windows:
        note += (
            " Arms that analyse windows of several times have seen later observations in all but the last of "
            "them, and their backgrounds are forecasts from the beginning of the window: compare arms at the "
            "`last time` of all windows, and in the `next background`."
        )
    return note


def print_summary(table: pd.DataFrame, directory: Path, remarks: str) -> None:
    """Print the summary of a run, and where its results are.

    Args:
        table: a row per arm.
        directory: of the run.
        remarks: what a reader must know who compares the arms; may be empty.
    """
    console = Console()
    title = f"{directory.name}: RMSE against the truth"
    for shown in narrow_tables(table, console, title):
        console.print(shown)
    console.print("\n".join(text for text in (remarks, where_to_look(directory)) if text))


def narrow_tables(table: pd.DataFrame, console: Console, title: str) -> list[Table]:
    """A summary in as many tables as it takes to show every digit in the width of a terminal.

    Arms are columns: a dozen numbers fit into a narrow terminal as rows, not as columns. Long names are
    folded, numbers are not.

    Args:
        table: a row per arm.
        console: how wide it is.
        title: of the first table.
    """
    unlimited = console.options.update(max_width=_UNLIMITED)
    tables: list[Table] = []
    arms: list[int] = []
    for arm in range(len(table)):
        wider = _arms_as_columns(table, [*arms, arm])
        if arms and console.measure(wider, options=unlimited).maximum > console.width:
            tables.append(_arms_as_columns(table, arms))
            arms = []
        arms.append(arm)
    tables.append(_arms_as_columns(table, arms))
    tables[0].title = title
    return tables


def _arms_as_columns(table: pd.DataFrame, arms: list[int]) -> Table:
    chosen = table.iloc[arms]
    shown = Table()
    shown.add_column("", no_wrap=True)
    for name in chosen["arm"]:
        shown.add_column(_folded(name.replace("_", "_ ")).replace(" ", ""), justify="right", no_wrap=True)
    for name in chosen.columns.drop("arm"):
        shown.add_row(name, *[_folded(cell_text(value)) for value in chosen[name]])
    return shown


def _folded(text: str) -> str:
    return "\n".join(wrap(text, _WIDEST, break_long_words=False))


def where_to_look(directory: Path) -> str:
    """Where the results of a run are; with the command for TensorBoard where it has something to show."""
    text = f"Scores and states are in {directory}/"
    # Those of the arms: the run's own logger leaves a file in any case, with nothing in it.
    if any(True for _ in directory.glob(_EVENTS_OF_ARMS)):
        text += f"; look at the charts with: tensorboard --logdir {directory}"
    return text

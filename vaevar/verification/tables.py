"""Tables: in Markdown, and as CSV files that grow with a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from vaevar.files import replacing

_LONGEST_ROW = 1000  # bytes


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[object]], align: str | None = None) -> str:
    """A GitHub table.

    Args:
        head: title of each column.
        rows: cells, written by :func:`cell_text`.
        align: ``l`` or ``r`` for each column; default the first left, the others right.
    """
    align = align or "l" + "r" * (len(head) - 1)
    rules = [{"l": "---", "r": "---:"}[side] for side in align]
    lines = [head, rules, *([cell_text(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def to_markdown(table: pd.DataFrame) -> str:
    """A data frame as a GitHub table, without its index."""
    return markdown_table(list(table.columns), table.to_numpy())


def cell_text(value: object) -> str:
    """Floats to four digits, NaN as a dash, anything else as it is."""
    if not isinstance(value, float | np.floating):
        return str(value)
    return "–" if np.isnan(value) else f"{value:.4g}"


def append_rows(path: Path, rows: pd.DataFrame, time: np.datetime64) -> None:
    """Append the rows of one analysis to those of earlier ones, replacing what a killed run left.

    Args:
        path: a CSV file whose first column is the time; created when it is missing.
        rows: of the analysis.
        time: of the analysis.
    """
    with path.open("r+b" if path.is_file() else "w+b") as file:
        file.truncate(_end_of_earlier_rows(file, time_text(time)))
        file.seek(0)
        header = file.readline().decode().rstrip()
        columns = header.split(",") if header else list(rows.columns)
        # The diagnostics of an analysis that failed, or of one without observations, may lack columns.
        if set(rows.columns) <= set(columns):
            file.seek(0, os.SEEK_END)
            text = rows.reindex(columns=columns).to_csv(index=False, header=not header, lineterminator="\n")
            file.write(text.encode())
            return
    with replacing(path) as partial:
        pd.concat([pd.read_csv(path), rows], ignore_index=True).to_csv(partial, index=False)


def _end_of_earlier_rows(file: BinaryIO, time: str) -> int:
    """Bytes of the header and of the complete rows of analyses before ``time``."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST_ROW))
    last = file.read().splitlines(keepends=True)[-1:]
    if last and last[0].endswith(b"\n") and last[0].split(b",")[0] < time.encode():
        return size
    # A killed run was resumed: drop its rows of this analysis, of which the last may be incomplete.
    file.seek(0)
    end = 0
    for line in file:
        if not line.endswith(b"\n") or (end and line.split(b",")[0] >= time.encode()):
            break
        end += len(line)
    return end


def complete_times(
    path: Path,
    times: np.ndarray,
    keys: pd.DataFrame,
    numbers: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> int:
    """How many times, from the first, have all their rows: each once, in order, and with their numbers.

    Args:
        path: a table that :func:`append_rows` has written; it may be damaged.
        times: [T], that it should hold.
        keys: the rows of one time, as far as they are the same at every time.
        numbers: columns that are finite in all rows of a time; in none, where there was no truth.
        labels: the same of columns that files of earlier versions lack.
    """
    try:
        table = pd.read_csv(path, on_bad_lines="skip", encoding_errors="replace")
    except (pd.errors.EmptyDataError, pd.errors.ParserError):
        return 0
    if not {"time", *keys.columns, *numbers} <= set(table.columns):
        return 0
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        lines = len(table) if file.read() == b"\n" else len(table) - 1  # the last one was cut short
    sets = min(max(lines, 0) // len(keys), times.size)
    table = table.iloc[: sets * len(keys)]
    texts = [time_text(time) for time in times[:sets]]
    right = table["time"].to_numpy(str) == np.repeat(np.array(texts, str), len(keys))
    for name in keys.columns:
        right &= table[name].to_numpy(str) == np.tile(keys[name].to_numpy(str), sets)
    right = right.reshape(sets, len(keys)).all(1)
    for columns in (list(numbers), [name for name in labels if name in table]):
        values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        finite = np.isfinite(values).reshape(sets, len(keys) * len(columns))
        right &= finite.all(1) | ~finite.any(1)
    return sets if bool(right.all()) else int(right.argmin())


def cut_rows(path: Path, rows: int) -> None:
    """Remove all rows of a table but the first; a shorter or missing one stays as it is."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        for _ in range(rows + 1):
            file.readline()
        end = file.tell()
        if file.read(1):
            file.truncate(end)


def gather_rows(
    directory: Path, arms: list[str], name: str, earlier: Mapping[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """The rows of ``<directory>/<arm>/<name>`` of all arms, in order of time, then of ``arms``.

    Args:
        directory: of a run.
        arms: whose tables are whole.
        name: of the tables.
        earlier: other arms, with the times of which their rows are taken.
    """
    parts = [pd.read_csv(directory / arm / name) for arm in arms]
    parts += [rows_at(directory / arm / name, times) for arm, times in (earlier or {}).items()]
    return pd.concat(parts, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)


def rows_at(path: Path, times: np.ndarray) -> pd.DataFrame:
    """The rows of a table at some times; what a killed run left of another one is passed over."""
    table = pd.read_csv(path, on_bad_lines="skip", encoding_errors="replace")
    return table[table["time"].isin([time_text(time) for time in times])]


def time_text(time: np.datetime64) -> str:
    """A time as written in the files, in seconds; the texts sort like the times."""
    return str(time.astype("datetime64[s]"))

"""What a report says of a run in words: what was run, by which program, and how it is made again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from vaevar.runs.record import how_to_repeat
from vaevar.verification.report.run import ReportedRun


def about(run: ReportedRun) -> tuple[str, str]:
    """What was run in a sentence, and the command that makes it again."""
    first = np.datetime_as_string(run.shared[0], "h").replace("T", " ")
    arms = f"{len(run.arms)} methods" if len(run.arms) > 1 else str(run.arms[0])
    name = f"{run.directory.absolute().name}: " if run.prefix else ""
    text = f"{name}{arms} cycled over {len(run.shared)} analyses from {first} UTC"
    if run.data is not None:
        text += (
            f", every {run.data.step_hours} h, from simulated observations of {run.data.source.description}; "
            f"network: {_object(run, 'data.network') or type(run.data.network).__name__}"
        )
    return f"{text}.", _again(run)


def facts(run: ReportedRun) -> list[tuple[str, str]]:
    """Name and value of what a reader must know of a run."""
    return [(name, text) for name, text in _facts(run) if text]


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    record, data = run.results.record, run.data
    done = len(run.shared)
    first, last = (np.datetime_as_string(run.shared[index], "h").replace("T", " ") for index in (0, -1))
    analyses = f"{done}, from {first} to {last} UTC"
    asked = data.times.size if data is not None else done
    if done < asked:
        analyses = f"{done} of {asked} so far, from {first} to {last} UTC"
    yield "analyses", analyses
    for arm, stop in run.stops.items():
        yield f"{arm} stopped", f"at {stop.time}, analysis {stop.index + 1}: {stop.cause}"
    if data is not None:
        yield "truth", data.source.description
        yield "first background", f"a {data.lead_hours} h forecast"
        yield "time step", f"{data.step_hours} h"
    yield "observations", _object(run, "data.network")
    yield "forecaster", _object(run, "forecaster")
    yield "command", _command(record)
    yield "made again", _again(run)
    yield "program", _program(record)
    yield (
        "machine",
        ", ".join(str(record[name]) for name in ("host", "processor", "device") if record.get(name)),
    )
    yield (
        "time",
        f"{record['began']} to {record['until']}" if "until" in record else str(record.get("began", "")),
    )
    yield "warnings", "; ".join(record.get("warnings", ()))


def settings_of_arms(run: ReportedRun) -> list[tuple[str, str, str]]:
    """Name, class and settings of each arm; those that were not given are left out."""
    rows = []
    for arm in run.arms:
        own = _below(run, f"arms.{arm}")
        method = str(own.pop("class", ""))
        text = ", ".join(f"{name} = {value}" for name, value in own.items() if value not in (None, ""))
        rows.append((run.label(arm), method, text))
    return rows


def _below(run: ReportedRun, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in run.settings.items()
        if name.startswith(f"{prefix}.")
    }


def _object(run: ReportedRun, prefix: str) -> str:
    """An object by its class and plain settings."""
    own = _below(run, prefix)
    kind = own.pop("class", "")
    plain = [f"{name} = {value}" for name, value in own.items() if value is not None and "." not in name]
    return f"{kind} ({', '.join(plain)})" if plain else str(kind)


def _command(record: dict[str, Any]) -> str:
    return shlex.join(record.get("command", []))


def _again(run: ReportedRun) -> str:
    text = how_to_repeat(run.directory)
    return text.partition("To make it again: ")[2].partition(";")[0].strip("`")


def _program(record: dict[str, Any]) -> str:
    parts = (
        [f"commit {record['commit']}{' with changes' if record.get('dirty') else ''}"]
        if record.get("commit")
        else []
    )
    packages = record.get("packages", {})
    parts += [f"{name} {version}" for name, version in packages.items() if version is not None]
    if record.get("python"):
        parts.append(f"Python {record['python']}")
    return ", ".join(parts)

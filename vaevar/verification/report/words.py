"""What a report says of a run in words: what was run, by which program, and how it is made again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaevar.runs.record import how_to_repeat, readable_record
from vaevar.verification.page.names import clock
from vaevar.verification.report.run import ReportedRun

_MANY = 20


def about(run: ReportedRun) -> tuple[str, str]:
    """What was run in a sentence, and the command that makes it again."""
    first = np.datetime_as_string(run.shared[0], "h").replace("T", " ")
    arms = f"{len(run.arms)} methods" if len(run.arms) > 1 else str(run.arms[0])
    name = f"{run.directory.absolute().name}: " if run.prefix else ""
    text = f"{name}{arms} cycled over {len(run.shared)} analyses from {first} UTC"
    if run.data is not None:
        network = object_text(run.settings, "data.network") or type(run.data.network).__name__
        text += (
            f", every {run.data.step_hours} h, with observations simulated from "
            f"{run.data.source.description}; network: {network}"
        )
    return f"{text}.", again_text(run.directory)


def facts(run: ReportedRun) -> list[tuple[str, str]]:
    """Name and value of what a reader must know of a run."""
    return [(name, text) for name, text in _facts(run) if text]


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    record, data = run.record, run.data
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
    yield "observations", object_text(run.settings, "data.network")
    yield "forecaster", object_text(run.settings, "forecaster")
    yield from facts_of_record(run.directory, record)


def facts_of_record(directory: Path, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what the record of any run says of its command, program, machine and time."""
    yield "command", shlex.join(record.get("command", []))
    yield "made again", again_text(directory)
    yield "program", _program(record)
    yield (
        "machine",
        ", ".join(str(record[name]) for name in ("host", "processor", "device") if record.get(name)),
    )
    began, until = clock(str(record.get("began", ""))), clock(str(record.get("until", "")))
    yield "time", f"{began} to {until}" if until else began
    yield "warnings", "; ".join(record.get("warnings", ()))


def settings_of_arms(run: ReportedRun) -> list[tuple[str, str, str]]:
    """Name, class and settings of each arm; those that were not given are left out."""
    rows = []
    for arm in run.arms:
        own = settings_below(run.settings, f"arms.{arm}")
        method = str(own.pop("class", ""))
        text = ", ".join(f"{name} = {value}" for name, value in brief(own).items())
        rows.append((run.label(arm), method, text))
    return rows


def brief(own: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an object's settings that fit a table.

    An object that a program has made brings all that it is made of, down to the names of its channels. Of
    parts with many settings the plain ones are kept.
    """
    parts = Counter(name.partition(".")[0] for name in own)
    return {
        name: value
        for name, value in own.items()
        if value not in (None, "") and (parts[name.partition(".")[0]] <= _MANY or name.count(".") == 1)
    }


def settings_below(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The settings of an object, by their names in it."""
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in settings.items()
        if name.startswith(f"{prefix}.")
    }


def object_text(settings: Mapping[str, Any], prefix: str) -> str:
    """An object by its class, its plain settings and its lists of such."""
    own = settings_below(settings, prefix)
    kind = own.pop("class", "")
    given: dict[str, Any] = {}
    for name, value in own.items():
        head, _, place = name.partition(".")
        if place.isdecimal():
            given.setdefault(head, []).append(value)
        elif not place and value is not None:
            given[name] = value
    plain = [f"{name} = {_listed(value)}" for name, value in given.items()]
    return f"{kind} ({', '.join(plain)})" if plain else str(kind)


def _listed(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def again_text(directory: Path) -> str:
    """The command that makes a run again; empty without a whole record and the config."""
    whole = readable_record(directory)[0] and (directory / "config.yaml").is_file()
    text = how_to_repeat(directory) if whole else ""
    return text.partition("To make it again: ")[2].partition(";")[0].strip("`")


def _program(record: Mapping[str, Any]) -> str:
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

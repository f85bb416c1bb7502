"""The record of a run, ``provenance.json``: what it was made of, by which program, and if it has ended."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.mistakes.notices import told
from vaevar.mistakes.words import words
from vaevar.provenance import provenance
from vaevar.runs.settings import FROM_PYTHON, Settings, files_of
from vaevar.shipped import typed

NAME = "provenance.json"
BEGUN, ENDED, MOVING = "begun", "ended", "moved aside"
_KINDS: dict[str, type] = {
    "status": str, "run": str, "aside": str, "settings": dict, "packages": dict, "files": dict, "made": list,
    "moving": list, "command": list, "earlier_commands": list, "warnings": list,
    "left": dict,
}  # fmt: skip


def read_record(directory: Path) -> dict[str, Any] | None:
    """The record in a run directory; None if there is none.

    Raises:
        UserError: when it is damaged.
    """
    path = directory / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not _is_whole(content):
        raise UserError(
            f"{path}: damaged, so nobody can tell what made the files beside it; {words().another}, or "
            f"{words().restart}, which moves them aside"
        )
    return content


def readable_record(directory: Path) -> tuple[dict[str, Any], str]:
    """The record for whoever only reads what lies beside it, and what is said of a damaged one.

    Args:
        directory: of a run.

    Returns:
        The record, empty where there is none or it is damaged; and a line, empty unless it is.
    """
    try:
        return read_record(directory) or {}, ""
    except UserError:
        return {}, f"{directory / NAME}: damaged, so it is not known what the run was made of"


def _is_whole(content: dict[str, Any]) -> bool:
    """Whether all that a later command relies on has the form in which it was written."""
    if not all(isinstance(content[name], kind) for name, kind in _KINDS.items() if name in content):
        return False
    settings = content.get("settings", {"command": ""})
    files = [value for value in settings.values() if isinstance(value, dict)]
    if not isinstance(settings.get("command"), str) or not all(
        {"file", "sha256"} <= file.keys() for file in files
    ):
        return False
    if content.get("status") == MOVING and not {"aside", "moving"} <= content.keys():
        return False
    texts = [*content.get("made", ()), *content.get("moving", ()), *content.get("command", ())]
    # Names in the directory, which must not lead out of it.
    names = [*content.get("made", ()), *content.get("moving", ()), content.get("aside", "old")]
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and os.sep not in name
        for name in names
    )


def write_record(directory: Path, content: Mapping[str, Any]) -> None:
    """Write the record of a run; it appears whole or not at all."""
    with replacing(directory / NAME) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def record_of(settings: Settings, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record of a run that begins now, or that another one goes on with.

    Args:
        settings: of the run.
        before: the record of the run that it goes on with.
    """
    before = before or {}
    values = settings.united(before.get("settings", {}))
    commands = [*before.get("earlier_commands", [])]
    if before:
        commands.append({name: before.get(name) for name in ("began", "command", "commit")})
    return provenance() | {
        "status": BEGUN,
        "run": before.get("run") or uuid4().hex,
        "began": now(),
        "earlier_commands": commands,
        "made": before.get("made", []),
        "warnings": list(dict.fromkeys([*before.get("warnings", []), *told()])),
        "files": files_of(values),
        "settings": values,
    }


def attributes(directory: Path) -> dict[str, str]:
    """What a file that a run writes says about its origin: command, commit and the run's number.

    Args:
        directory: of the run; empty for one that the command line has not begun.
    """
    record = read_record(directory)
    if record is None:
        return {}
    origin = {"command": shlex.join(record.get("command", [])), "commit": record.get("commit") or ""}
    return {name: text for name, text in (origin | {"run": record.get("run", "")}).items() if text}


def how_to_repeat(directory: Path) -> str:
    """How the result in a run directory is made again, for people; empty without a record."""
    record = read_record(directory)
    if record is None or "settings" not in record:
        return ""
    versions = record.get("packages", {})
    code = f"commit {record['commit']}" if record.get("commit") else f"vaevar {versions.get('vaevar')}"
    made_by = shlex.join(record.get("command", []))
    if record["settings"]["command"] == FROM_PYTHON:  # from Python, which has no config
        return f"Made from Python by `{made_by}` ({code}); `{NAME}` has what its objects were made of."
    again = shlex.join([record["settings"]["command"], "--config", str(directory / "config.yaml")])
    return (
        f"Made by `{made_by}` ({code}). To make it again: `{typed(again)} --name NAME`; `{NAME}` has "
        "the checksums of the files that it needs, and the versions of the packages."
    )


def now() -> str:
    """The time, to the second, with the offset of this machine's clock."""
    return datetime.now().astimezone().isoformat(" ", "seconds")

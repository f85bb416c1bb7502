"""The value of one setting, as it is recorded, compared and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vaevar.content.digest import content_digest
from vaevar.content.source import named_code, source_file
from vaevar.errors import UserError

ABSENT = "(not set)"
UNLIMITED = (None, -1)
_SHOWN = 3
_CODE = ".code of "


def recorded(value: Any) -> Any:
    """A file or a store that is there, with its digest; any other value as it is."""
    digest = content_digest(value) if isinstance(value, str) else None
    if digest is None:
        return value
    times = {} if digest.times is None else {"times": digest.times}
    return {"file": value, "sha256": digest.sha256, **times}


def recorded_code(name: str, path: Any) -> dict[str, str]:
    """Digests of somebody's own code, if the value of a setting names some; each is a setting of its own.

    Args:
        name: of the setting.
        path: its value, such as ``my_package.steady.step``.
    """
    if not isinstance(path, str):
        return {}
    return {f"{name}{_CODE}{module}": digest for module, digest in named_code(path).items()}


def is_less(value: Any, other: Any) -> bool:
    """Whether a value of a setting that may grow is smaller than another one."""
    return value not in UNLIMITED and (other in UNLIMITED or value < other)


def changed(before: Mapping[str, Any], asked: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Values of settings after a run that were others before it.

    Args:
        before: all values at the beginning.
        asked: for all values at the end; for none when they are as they were.
    """
    try:
        after = asked() or before
    except UserError:  # of what was made meanwhile; whoever begins with it is told
        after = before
    found = {name: after.get(name, ABSENT) for name in dict.fromkeys((*after, *before))}
    return {name: value for name, value in found.items() if value != before.get(name, ABSENT)}


def take_back(values: dict[str, Any], before: Mapping[str, Any], left: Mapping[str, Any]) -> None:
    """Let what a run has changed itself be as it was before that run.

    Args:
        values: of a run that begins; those that are as the other run has left them are replaced.
        before: values of the run that is there, at its beginning.
        left: those that it changed, as they were at its end.
    """
    for name, value in left.items():
        if values.get(name, ABSENT) == value:
            values.pop(name, None)
            values.update({name: before[name]} if name in before else {})


def is_unrecorded_code(name: str, before: Mapping[str, Any]) -> bool:
    """Whether a setting is code, and a run was made when none was recorded.

    Args:
        name: of a setting.
        before: all values of that run.
    """
    return _CODE in name and not any(_CODE in other for other in before)


def told_differences(found: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """A text for each setting that differs, with both values.

    Args:
        found: values before and now, by name.
    """
    # Another class has other code, which says nothing more.
    same = {name: pair for name, pair in found.items() if _CODE not in name or ABSENT not in pair}
    return [_difference(name, *pair) for name, pair in (same or found).items()]


def _difference(name: str, before: Any, now: Any) -> str:
    """Both values of a setting."""
    if _CODE in name:
        return f"{_shown_file(name.partition(_CODE)[2])}: its code has changed since the run began"
    if isinstance(before, dict) and isinstance(now, dict) and before.get("file") == now.get("file"):
        return f"{name}: {now['file']} has other content than it had"
    return f"{name}: {shown(before)} there, {shown(now)} now"


def explained(differences: list[str]) -> str:
    """The first few differences in one text."""
    found = list(dict.fromkeys(differences))
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A value, for people."""
    if isinstance(value, dict):
        return f"{value.get('file')} (sha256 {str(value.get('sha256'))[:8]})"
    return str(value)


def _shown_file(module: str) -> str:
    file, here = source_file(module), Path.cwd()
    if file is None:
        return module
    return str(file.relative_to(here) if file.is_relative_to(here) else file)

"""Where in a config a mistake lies. Only the parser's own stack frames tell."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import jsonargparse

COMMANDS = ("fit", "validate", "test", "predict")
_PARSER = Path(jsonargparse.__file__).parent


@dataclass
class Place:
    """A place in a config.

    Attributes:
        file: that is being read; None for the command line, and once all are read.
        keys: of the setting, such as ``data``, ``init_args``, ``spec``.
        cls: the class whose arguments they are.
        constructing: the class was being made: its arguments are of the right types.
        expected: the type of the setting; None if it is not known.
        value: of the setting, if ``given``.
        given: whether ``value`` is known.
        parser: of the innermost settings.
        option: of the command line that is being read, such as ``--data.init_args.analyses``; else empty.
    """

    file: Path | None = None
    keys: list[str] = field(default_factory=list)
    cls: type | None = None
    constructing: bool = False
    expected: Any = None
    value: Any = None
    given: bool = False
    parser: Any = None
    option: str = ""

    @property
    def name(self) -> str:
        """Such as ``data.init_args.spec``, or the option of the command line."""
        if self.option:
            return self.option
        keys = self.keys[1:] if self.keys[:1] and self.keys[0] in COMMANDS else self.keys
        return ".".join(keys)

    def enter(self, *keys: str) -> None:
        """Go to a setting inside this one."""
        self.keys += [part for key in keys for part in key.split(".")]
        self.expected, self.given = None, False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place_of(error: BaseException) -> Place:
    """Where the parser was, in its innermost settings, when an error was raised."""
    place, seen = Place(), set()
    for cause in causes(error):
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            # An error that another one came from was raised below a frame of that.
            if id(frame) not in seen:
                seen.add(id(frame))
                _follow(place, frame)
    return place


def _follow(place: Place, frame: FrameType) -> None:
    if not Path(frame.f_code.co_filename).is_relative_to(_PARSER):
        return
    known, name = frame.f_locals, frame.f_code.co_name
    if name == "call_without_instantiate_context":
        (place.cls, *_), place.constructing = known["args"] or (place.cls,), True
    elif name in ("parse_path", "adapt_subconfig_path"):
        path = known.get("fpath", known.get("path"))
        place.file = Path(str(path)) if path is not None else place.file
    elif name == "__call__" and isinstance(known.get("opt_str"), str):
        place.option = place.option or known["opt_str"]
    elif name == "_check_value_key":
        place.enter(str(known["key"]))
        place.value, place.given = known.get("value"), True
    elif name == "instantiate" and hasattr(known.get("component"), "dest"):
        place.enter(str(known["component"].dest))
    elif name == "adapt_class_type":
        place.enter("init_args")
        place.cls = known.get("val_class", place.cls)
    elif name == "check_values":
        place.parser = known.get("self", place.parser)
    elif name == "adapt_typehints":
        _into_container(place, known)


def _into_container(place: Place, known: dict[str, Any]) -> None:
    value = known.get("val")
    if place.expected is None:
        place.expected, place.value, place.given = known.get("typehint"), value, True
    for index, item in (("k", "v"), ("n", "v")):
        if index in known and item in known and isinstance(value, dict | list):
            place.enter(str(known[index]))
            place.value, place.given = known[item], True
            return

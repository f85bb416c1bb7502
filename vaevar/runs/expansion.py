"""``~`` and environment variables in the paths of settings, as in a shell."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from vaevar.errors import UserError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expand_paths(content: Any) -> Any:
    """A setting, or a config, in whose paths ``~``, ``$NAME`` and ``${NAME}`` stand for what they mean.

    A text is taken for a path when it begins with one of them, or has a slash.

    Args:
        content: mappings, lists and scalars.

    Raises:
        UserError: for an environment variable that is not set.
    """
    if isinstance(content, dict):
        return {key: expand_paths(item) for key, item in content.items()}
    if isinstance(content, list):
        return [expand_paths(item) for item in content]
    return expand_path(content) if isinstance(content, str) else content


def expand_arguments(args: Sequence[str] | None) -> list[str]:
    """The words of a command line, with the same in their values; options that are paths reach no loader.

    Args:
        args: None: those that this program was given.
    """
    expanded = []
    for word in sys.argv[1:] if args is None else args:
        option, equals, value = word.partition("=")
        is_option = word.startswith("-") and equals
        expanded.append(f"{option}={expand_path(value)}" if is_option else expand_path(word))
    return expanded


def expand_path(text: str) -> str:
    """One text, as :func:`expand_paths` says."""
    if "\n" in text:
        return text
    if text.startswith("~"):
        text = os.path.expanduser(text)
    if "/" not in text and not _VARIABLE.match(text):
        return text
    for name in (one or other for one, other in _VARIABLE.findall(text)):
        if not os.environ.get(name):
            raise UserError(
                f"{text}: the environment variable {name} is not set, or empty; set it, or write the path out"
            )
    return os.path.expandvars(text)

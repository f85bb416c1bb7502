"""Programs beside ``main.py``: modules that are run with ``python -m``, and those of benchmarks/."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import auto_cli

from vaevar.errors import UserError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(function: Callable[..., Any], args: list[str] | None = None) -> None:
    """Call it with what the command line says.

    Args:
        function: its parameters are the options.
        args: instead of the command line.
    """
    with one_line_errors():
        auto_cli(function, as_positional=False, args=args)

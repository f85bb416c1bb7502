"""Programs that are run with ``python -m``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import auto_cli

from vaevar.errors import UserError


def run(function: Callable[..., Any], args: list[str] | None = None) -> None:
    """Call it with what the command line says; a user's mistake is one line and exit code 2.

    Args:
        function: its parameters are the options.
        args: instead of the command line.
    """
    try:
        auto_cli(function, as_positional=False, args=args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

"""The error that a user can fix: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """An input is wrong: the message names it, and says what was found, what was expected and what to do."""

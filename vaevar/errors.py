"""The error that a user can mend: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something from outside is wrong: the message names it, what was found and what to do."""

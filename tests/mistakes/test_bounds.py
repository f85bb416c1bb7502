"""Bounds of settings, and the place in the config that a constructor's mistake gets."""

from __future__ import annotations

import math
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.scripts import mistake_of


@pytest.mark.parametrize("value", [0, -1, [2, 0], (1, math.inf), math.nan, math.inf])
def test_what_is_too_small_or_no_number(value: Any) -> None:
    shown = str(list(value) if isinstance(value, tuple) else value).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(UserError, match=f"^Net: widths is {shown}, must be at least 1$"):
        require_at_least("Net", 1, depth=3, widths=value)
    with pytest.raises(UserError, match=f"^Net: widths is {shown}, must be positive$"):
        require_positive("Net", depth=3, widths=value)


def test_what_is_in_bounds() -> None:
    require_at_least("Net", 0, depth=0, heads=[0, 2], rate=0.5)
    require_at_least("Net", 1, widths=[1], none=[])
    require_positive("Net", rate=1e-9)


class Part:
    """Refuses sizes, as our constructors do.

    Args:
        size: at least 1; 13 is unlucky.
    """

    def __init__(self, size: int = 1) -> None:
        require_at_least("Part", 1, size=size)
        if size == 13:
            raise UserError("part.zarr: no such store")
        if size == 14:
            raise ZeroDivisionError("division by zero")
        if size == 15:
            raise UserError("parts.sizes: 15 is not among them")


def refusal(size: int) -> str:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--parts", type=dict[str, Part] | None)
    part = {"class_path": f"{Part.__module__}.Part", "init_args": {"size": size}}
    settings = parser.parse_object({"parts": {"first": {"class_path": part["class_path"]}, "last": part}})
    try:
        parser.instantiate(settings)
    except Exception as error:  # the parser wraps what it catches
        return str(mistake_of(error))
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "parts.last: Part: size is 0, must be at least 1"),
        (13, "parts.last: Part: part.zarr: no such store"),
        (
            14,
            "parts.last: Part cannot be made: division by zero (ZeroDivisionError; VAEVAR_TRACEBACK=1 shows",
        ),
        (15, "parts.sizes: 15 is not among them"),
    ],
)
def test_a_constructors_mistake_says_where_its_object_stands(size: int, says: str) -> None:
    assert refusal(size).startswith(says)

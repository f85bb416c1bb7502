"""Labels of axes that a reader understands, and the buttons that make an axis logarithmic or linear."""

from __future__ import annotations

from typing import Any

from vaevar.verification.page.figures import buttons

_LINEAR: dict[str, Any] = {
    "type": "linear", "nticks": 8, "tickformat": "", "exponentformat": "power", "minor": {"ticks": ""},
}  # fmt: skip
_LOG: dict[str, Any] = {
    "type": "log", "nticks": 3, "tickformat": "~g",
    "minor": {"ticks": "outside", "ticklen": 3, "tickcolor": "#b8c2cc"},
}  # fmt: skip
_POWERS: dict[str, Any] = {"nticks": 4, "tickformat": "", "minorloglabels": "complete"}


def ticks(kind: str, powers: bool = False) -> dict[str, Any]:
    """Settings of an axis whose labels are whole numbers; left alone, Plotly calls 90 a bare 9.

    A logarithmic axis has labels at 1, 2 and 5 over one or two decades, at powers of ten over more, and
    evenly spaced ones over less. With more than some three each digit would have one, on top of the next.

    Args:
        kind: ``log`` or ``linear``.
        powers: whether numbers are so small or large that they read better as 10⁻⁷.
    """
    if kind == "linear":
        return _LINEAR
    return _LINEAR | _LOG | (_POWERS if powers else {})


def changed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the first vertical axis as a button changes them."""
    return {f"yaxis.{name}": value for name, value in settings.items()}


def scales(active: str, x: float, y: float, powers: bool = False, after: int = 0) -> dict[str, Any]:
    """Buttons that make the first vertical axis logarithmic or linear.

    Args:
        active: the kind that it is at first.
        x, y, after: as in :func:`vaevar.verification.page.figures.buttons`.
        powers: as in :func:`ticks`.
    """
    kinds = ("log", "linear")
    entries = [
        {"label": f"{kind} axis", "method": "relayout", "args": [changed(ticks(kind, powers))]}
        for kind in kinds
    ]
    return buttons(entries, x, y, kinds.index(active), after)

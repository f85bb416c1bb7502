"""What columns and times are called on a page."""

from __future__ import annotations

import re

_NAMES = {
    "j_b": "J_b", "j_o": "J_o", "j_o_initial": "J_o before", "chi2": "2J/p", "iterations": "iterations",
    "seconds": "seconds", "grad_norm": "|∇J|", "initial_grad_norm": "|∇J| before",
    "evaluations": "evaluations", "lambda": "λ", "lead_hours": "lead, h", "length_km": "length, km",
    "spread": "spread of samples", "abs_log_variance_ratio": "|ln| of zonal variances, samples / errors",
    "variance_ratio": "variance, samples / errors",
}  # fmt: skip
KNOWN = tuple(_NAMES)
_BAND = re.compile(r"spectrum_ratio_0*(\d+)_0*(\d+)")


def spoken(name: str) -> str:
    """A quantity as a reader sees it; a name that is not known here is kept, with spaces for underscores.

    Args:
        name: of a column, such as ``grad_norm``; what stands before a slash is kept.
    """
    place, slash, own = name.rpartition("/")
    if band := _BAND.fullmatch(own):
        text = f"power of wavenumbers {band[1]} to {band[2]}, samples / errors"
    else:
        text = _NAMES.get(own, own.replace("_", " "))
    return text if place in ("", "samples") else f"{place}{slash}{text}"


def clock(text: str) -> str:
    """A time of this machine's clock, as records have it, for readers: that of Greenwich by its name."""
    return text.replace("+00:00", " UTC")

"""Readers see what a column is, not how it is written."""

from __future__ import annotations

import pytest

from vaevar.verification.page.names import clock, spoken


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grad_norm", "|∇J|"),
        ("length_km", "length, km"),
        ("kl_per_number", "kl per number"),
        ("spectrum_ratio_01_05", "power of wavenumbers 1 to 5, samples / errors"),
        ("samples/variance_ratio", "variance, samples / errors"),
        ("gradient/0_norm", "gradient/0 norm"),
    ],
)
def test_names(name: str, text: str) -> None:
    assert spoken(name) == text


def test_times() -> None:
    assert clock("2026-01-02 03:04:05+00:00") == "2026-01-02 03:04:05 UTC"
    assert clock("2026-01-02 03:04:05+02:00") == "2026-01-02 03:04:05+02:00"

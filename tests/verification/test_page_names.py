"""Readers see what a column is, not how it is written."""

from __future__ import annotations

import pytest

from vaevar.verification.page.names import clock, spoken
from vaevar.verification.report.words import object_text


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


def test_an_object_with_lists() -> None:
    settings = {"model.class": "VAE", "model.nlat": 48, "model.widths.0": 96, "model.widths.1": 192}
    settings |= {"model.path": None, "model.part.class": "Other", "data.widths.0": 1}
    assert object_text(settings, "model") == "VAE (nlat = 48, widths = [96, 192])"

"""What models of errors show alike: what they draw beside errors that they have not learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from vaevar.models.held_out.samples import MAPS, Reduced, spread
from vaevar.models.held_out.views import Curves, Levels, Maps, View


def views_of_errors(
    reduced: Reduced, errors: Tensor, drawn: Tensor, panels: Mapping[str, Tensor], what: str
) -> list[View]:
    """Maps, standard deviations and spectra.

    Args:
        reduced: how fields are reduced.
        errors: [N, C, H, W], held out, reduced.
        drawn: [M, C, H, W], of the model, reduced.
        panels: what maps show of the same samples, [N, C, H, W] each, reduced.
        what: the drawn fields, in words.
    """
    chosen = spread(len(errors), MAPS)
    frames = [f"sample {number + 1}" for number in chosen]
    shown = {name: reduced.maps(fields[chosen]) for name, fields in panels.items()}
    maps = Maps(reduced.channels, reduced.grid, frames, shown, frozenset(panels))
    both = {"held-out errors": errors, what: drawn}
    views = [
        View(
            "samples", "Samples beside errors",
            "Samples should look like errors that the model has not learnt from: as large, as wide, and as "
            "rough. They are other errors, so patterns are not in the same places, unless the model knows "
            "the day. All maps of a variable have the same colours. Choose a variable, and a sample.",
            maps,
        ),
        View(
            "deviations", "Standard deviations",
            f"Root mean square over the sphere, of {len(errors)} held-out errors and {len(drawn)} drawn "
            "fields. An analysis gives observations their weight by these: a model with too little variance "
            "believes its background too much.",
            Levels({name: reduced.std(fields) for name, fields in both.items()}),
        ),
    ]  # fmt: skip
    spectra = {name: reduced.spectrum(fields) for name, fields in both.items()}
    known = {name: power for name, power in spectra.items() if power is not None}
    if known:
        places = np.arange(1, 1 + len(next(iter(known.values()))))
        views.append(
            View(
                "spectra", "Spectra",
                "Power by total wavenumber: large scales on the left, small ones on the right; the sum over "
                "wavenumbers is the variance. Less power of samples at small scales spreads an observation "
                "too far.",
                Curves("total wavenumber", places, known, logarithmic=True, power=2),
            )
        )  # fmt: skip
    return views


def use_of_latent(variance: np.ndarray, axis: str, text: str) -> View:
    """How much of each part of w the encoder makes use of.

    Args:
        variance: [X], of the posterior mean.
        axis: what the parts are.
        text: how to read it.
    """
    return View(
        "latent", "Use of the latent numbers", text,
        Curves(axis, np.arange(1, 1 + len(variance)), means={"posterior mean": variance}, values="variance"),
    )  # fmt: skip

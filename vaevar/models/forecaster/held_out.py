"""What the forecaster shows after its fit: forecasts beside the truth, and their error by lead time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vaevar.models.held_out.samples import Reduced, held_out_batch
from vaevar.models.held_out.views import Curves, HeldOut, Maps, View

_HOURS = 6


@torch.no_grad()
def held_out(module: Any, data: Any) -> HeldOut:
    """Numbers of a :class:`vaevar.models.forecaster.training.ForecasterModule`.

    Args:
        module: trained.
        data: of its fit, set up.
    """
    reduced = Reduced(module.spec, module.grid)
    length = 2 + data.validation_steps
    states = held_out_batch(data, module.spec, module.grid, module.row_weights.device, length)
    scale, mean = module.std[:, None, None].float(), module.mean[:, None, None].float()
    leads, count = _HOURS * np.arange(1, length - 1), len(module.spec)
    truth = reduced(states * scale + mean)  # [B, T, C, H, W]
    made, window = [], states[:, :2].flatten(1, 2)
    for _ in leads:
        following = module.network.next_state(window, module.network.change(window).float())
        made.append(reduced(following * scale + mean))
        window = torch.cat([window[:, count:], following], 1)
    forecast = torch.stack(made, 1)
    error, still = forecast - truth[:, 2:], truth[:, 1:2] - truth[:, 2:]
    rmse = {
        name: np.stack([reduced.std(fields[:, lead]) for lead in range(len(leads))])
        for name, fields in (("forecast", error), ("persistence", still))
    }
    shown = sorted({0, len(leads) // 2 - 1 if len(leads) > 2 else 0, len(leads) - 1})
    panels = {
        "truth": reduced.maps(truth[0, 2:][shown]),
        "forecast": reduced.maps(forecast[0][shown]),
        "forecast − truth": reduced.maps(error[0][shown]),
    }
    frames = [f"{leads[lead]} h" for lead in shown]
    maps = Maps(reduced.channels, reduced.grid, frames, panels, frozenset({"forecast − truth"}))
    views = [
        View(
            "forecasts", "Forecasts beside the truth",
            "From a state that the network has not learnt from, at a few lead times. Choose a variable and a "
            "lead time. Red is too much, blue too little.",
            maps,
        ),
        View(
            "leads", "Error by lead time",
            f"RMSE over {len(states)} held-out initial states. Persistence takes the initial state for the "
            "forecast: a network that is not below it has learnt nothing.",
            Curves("hours", leads, rmse),
        ),
    ]  # fmt: skip
    spectra = {"truth": reduced.spectrum(truth[:, -1])} | {
        f"forecast, {leads[lead]} h": reduced.spectrum(forecast[:, lead]) for lead in shown
    }
    known = {name: power for name, power in spectra.items() if power is not None}
    if known:
        places = np.arange(1, 1 + len(known["truth"]))
        views.append(
            View(
                "spectra", "Spectra",
                "Power by total wavenumber. A network that is trained to be right on average loses power at "
                "small scales with each step: its forecasts grow smooth.",
                Curves("total wavenumber", places, known, logarithmic=True, power=2),
            )
        )  # fmt: skip
    return HeldOut(module.spec, views)

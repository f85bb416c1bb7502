"""What the denoiser shows after its fit: residuals drawn from noise beside true ones, and errors by noise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaevar.models.held_out.errors import views_of_errors
from vaevar.models.held_out.samples import Reduced, held_out_batch, spread
from vaevar.models.held_out.views import Curves, HeldOut, View

_STEPS = 25  # of the drawing, as DiffDA has
_DRAWN = 8
_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # fractions of the schedule


@torch.no_grad()
def held_out(denoiser: Any, data: Any) -> HeldOut:
    """Numbers of a :class:`vaevar.models.diffusion.denoiser.Denoiser`.

    Args:
        denoiser: trained.
        data: of its fit, set up.
    """
    std, reduced = denoiser.residual_std, Reduced(denoiser.spec, denoiser.grid)
    condition, residual = held_out_batch(data, denoiser.spec, denoiser.grid, std.device, 2)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(residual.shape, generator=generator).to(residual)
    few = spread(len(residual), _DRAWN)
    drawn = reduced(drawn_from(denoiser, condition[few], noise[few]) * std)
    errors = reduced(residual * std)
    signal = denoiser.schedule.signal
    levels, rmse = [], []
    for fraction in _LEVELS:
        step = max(1, round(fraction * denoiser.schedule.steps))
        steps = torch.full((len(residual),), step, device=residual.device)
        clean = denoiser.clean(denoiser.schedule.noised(residual, steps, noise), condition, step).float()
        rmse.append(reduced.std(reduced((clean - residual) * std)))
        levels.append(float((1 - signal[step]).sqrt()))
    known = np.broadcast_to(reduced.std(errors), (len(levels), len(denoiser.spec)))
    curves = Curves(
        "share of noise √(1 − ᾱ)", np.array(levels),
        {"denoised": np.stack(rmse), "the error itself": np.array(known)},
    )  # fmt: skip
    half = denoiser.schedule.steps // 2 or 1
    steps = torch.full((len(drawn),), half, device=residual.device)
    noised = denoiser.schedule.noised(residual[few], steps, noise[few])
    cleaned = reduced(denoiser.clean(noised, condition[few], half).float() * std)
    panels = {"held-out error": errors[few], "denoised from half-way": cleaned, "drawn from noise": drawn}
    noisy = View(
        "noise", "Error by noise level",
        "RMSE of the clean error that the denoiser finds in a noisy one, by the share of noise. At pure "
        "noise, on the right, it has the forecast alone to go by: as far as it is below the error itself, it "
        "knows the error from the forecast.",
        curves,
    )  # fmt: skip
    views = views_of_errors(reduced, errors[few], drawn, panels, "drawn by the denoiser")
    return HeldOut(denoiser.spec, [*views, noisy], [("lead time", f"{int(denoiser.lead_hours)} h")])


def drawn_from(denoiser: Any, condition: Tensor, noise: Tensor) -> Tensor:
    """Residuals that the denoiser makes of noise, without further noise (DDIM, Song et al., ICLR 2021).

    Args:
        denoiser: with its schedule.
        condition: [B, C, H, W], normalised forecasts.
        noise: [B, C, H, W].
    """
    signal, x = denoiser.schedule.signal, noise
    steps = denoiser.schedule.inference_steps(min(_STEPS, denoiser.schedule.steps))
    for step, following in itertools.pairwise(steps):
        now, then = float(signal[step]), float(signal[following])
        clean = denoiser.clean(x, condition, step).float()
        remaining = (x - now**0.5 * clean) / (1 - now) ** 0.5
        x = then**0.5 * clean + (1 - then) ** 0.5 * remaining
    return x

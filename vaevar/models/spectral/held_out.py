"""What the VAE with B inside shows after its fit: samples for the days of held-out errors, beside those."""

from __future__ import annotations

from typing import Any

import torch

from vaevar.models.held_out.errors import use_of_latent, views_of_errors
from vaevar.models.held_out.samples import Reduced, held_out_batch
from vaevar.models.held_out.views import HeldOut

_EACH = 3  # samples for each held-out day


@torch.no_grad()
def held_out(vae: Any, data: Any) -> HeldOut:
    """Numbers of a :class:`vaevar.models.spectral.vae.SpectralVAE`.

    Args:
        vae: trained.
        data: of its fit, set up.
    """
    device, reduced = vae.scaling.device, Reduced(vae.spec, vae.grid)
    batch = held_out_batch(data, vae.spec, vae.grid, device, 1 if vae.day is None else 2)
    if vae.day is None:
        errors = batch * data.error_std.to(batch)
        days = [None] * len(errors)
    else:
        background, errors, coverage = batch
        days = [vae.scales(*of_day) for of_day in zip(background.split(1), coverage.split(1), strict=True)]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([reduced(vae.sample(1, generator, day)) for day in days for _ in range(_EACH)])
    means = torch.cat(
        [vae.encode(vae.standardised(one[None], day))[0] for one, day in zip(errors, days, strict=True)]
    )
    shown = reduced(errors)
    panels = {"held-out error": shown, "sample for its day": drawn[::_EACH], "another": drawn[1::_EACH]}
    by_degree = vae.linear.by_degree(means.square().mean(0))  # [n, lmax + 1], a sum over orders
    orders = 2 * torch.arange(by_degree.shape[1], device=device) + 1
    used = (by_degree / orders).mean(0).cpu().numpy()
    latent = use_of_latent(
        used[1:], "total wavenumber",
        "Mean square of the posterior mean of w over the held-out errors, by total wavenumber: near 1 where "
        "an error tells its w, small where it is below the noise of the model (sigma).",
    )  # fmt: skip
    views = [*views_of_errors(reduced, shown, drawn, panels, "samples of the VAE"), latent]
    return HeldOut(vae.spec, views)

"""What the VAE shows after its fit: samples beside held-out errors, and the latent numbers that it uses."""

from __future__ import annotations

from typing import Any

import torch

from vaevar.models.held_out.errors import use_of_latent, views_of_errors
from vaevar.models.held_out.samples import Reduced, held_out_batch
from vaevar.models.held_out.views import HeldOut

_DRAWN = 48
# Variance of its posterior mean from which a latent number counts as active (Burda et al., 2016).
ACTIVE = 0.01


@torch.no_grad()
def held_out(vae: Any, data: Any) -> HeldOut:
    """Numbers of a :class:`vaevar.models.vae.vae.VAE`.

    Args:
        vae: trained.
        data: of its fit, set up.
    """
    device, reduced = vae.error_std.device, Reduced(vae.spec, vae.grid)
    x = held_out_batch(data, vae.spec, vae.grid, device)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([reduced(vae.sample(1, generator) * vae.error_std) for _ in range(_DRAWN)])
    means = torch.cat([vae.encode(one[None])[0] for one in x])
    again = torch.cat([reduced(vae.decode(one[None]) * vae.error_std) for one in means])
    errors = reduced(x * vae.error_std)
    panels = {"held-out error": errors, "reconstructed": again, "sample": drawn[: len(errors)]}
    variance = means.var(0, unbiased=False).flatten(1).cpu()  # [Cz, h w]
    active = int((variance > ACTIVE).sum())
    ranked = variance.mean(1).sort(descending=True).values.numpy()
    latent = use_of_latent(
        ranked, "latent channel, the most used first",
        "Variance of the posterior mean over the held-out errors, a mean over each latent channel: near 1 "
        "where a channel tells what error it is, near 0 where the encoder leaves it to the prior. Of "
        f"{variance.numel()} latent numbers {active} are active, with a variance above {ACTIVE}.",
    )  # fmt: skip
    views = [*views_of_errors(reduced, errors, drawn, panels, "samples of the VAE"), latent]
    return HeldOut(vae.spec, views, [("active units", f"{active} of {variance.numel()}")])

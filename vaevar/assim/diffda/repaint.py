"""Sampling a residual with parts of it known: DDIM steps with RePaint's resampling.

Lugmayr et al., "RePaint: Inpainting using Denoising Diffusion Probabilistic Models", CVPR 2022, with
the deterministic steps (η = 0) of Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, and
DiffDA's soft mask m in place of a hard one. At each step, from noise level ᾱ to the lower ᾱ',

    r̂ = network(x),   ε̂ = (x − √ᾱ r̂) / √(1 − ᾱ),
    unknown = √ᾱ' r̂ + √(1 − ᾱ') ε̂,   known = √ᾱ' k + √(1 − ᾱ') ε,
    x ← m · known + (1 − m) · unknown,

After every ``jump_length`` steps x is noised again by as many steps and these are repeated, ``resamples``
times in all. This harmonises the known part with the rest of the sample.

Why this is not taken from a library: ``diffusers`` has a RePaint scheduler, but with a hard mask and
clipping of images to [−1, 1], and it brings a model hub's client along; ``azula`` needs torchvision, which
has no build for the CPU version of torch used here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def walk(steps: int, jump_length: int, resamples: int) -> Iterator[tuple[int, int]]:
    """Pairs (from, to) of places on the way from ``steps`` to 0: down by one, or up by a jump.

    With 300 steps, jumps of 10 and 10 resamples, 2910 of the pairs lead down: the published schedule. As
    published, there is a jump from every multiple of ``jump_length`` except the last before ``steps``.
    """
    left = dict.fromkeys(range(0, steps - jump_length, jump_length), resamples - 1)
    place = steps
    while place > 0:
        yield place, place - 1
        place -= 1
        if left.get(place, 0) > 0:
            left[place] -= 1
            yield place, place + jump_length
            place += jump_length


def repaint(
    clean: Callable[[Tensor, int], Tensor],
    signal: Tensor,
    known: Tensor,
    mask: Tensor,
    noise: Callable[[], Tensor],
    steps: Sequence[int],
    jump_length: int,
    resamples: int,
) -> Tensor:
    """Draw residuals given that they are ``known`` where ``mask`` is 1.

    Args:
        clean: the network: x_t [B, C, H, W] and step t -> its estimate r̂ of the clean residual.
        signal: [T + 1], ᾱ_t.
        known: [C, H, W] or [B, C, H, W], k.
        mask: [C, H, W], m in [0, 1].
        noise: makes standard normal fields [B, C, H, W].
        steps: the subset of the T steps that is taken, from T down to 0.
        jump_length, resamples: as in :func:`walk`; 1 resample is plain DDIM.

    Returns:
        [B, C, H, W].
    """
    levels = [float(signal[step]) for step in reversed(steps)]  # ᾱ by place, 1 at place 0
    numbers = list(reversed(steps))
    x = noise()
    for place, target in walk(len(levels) - 1, jump_length, resamples):
        now, then = levels[place], levels[target]
        if target > place:
            x = (then / now) ** 0.5 * x + (1 - then / now) ** 0.5 * noise()
            continue
        estimate = clean(x, numbers[place])
        remaining = (x - now**0.5 * estimate) / (1 - now) ** 0.5
        unknown = then**0.5 * estimate + (1 - then) ** 0.5 * remaining
        observed = then**0.5 * known + (1 - then) ** 0.5 * noise() if target else known
        x = mask * observed + (1 - mask) * unknown
    return x


def soft_mask(
    latitude: Tensor, longitude: Tensor, grid_latitude: Tensor, grid_longitude: Tensor, width: float
) -> Tensor:
    """The largest of the Gaussian bumps around observed places, on the grid: [H, W], 1 at a place.

    m = max_i exp(−(Δrow² + (cos φ Δcolumn)²) / (2 width²)), distances in grid cells, cyclic in longitude,
    with φ the latitude of the grid point, so that bumps are round on the sphere.

    Args:
        latitude, longitude: [N] degrees, of the places.
        grid_latitude, grid_longitude: [H] and [W] degrees; longitudes evenly spaced.
        width: cells; published 1.5.
    """
    cells = len(grid_longitude) / 360.0
    # Rows are not quite evenly spaced on a Gaussian grid: a cell is their mean spacing.
    height = float((grid_latitude[0] - grid_latitude[-1]) / (len(grid_latitude) - 1))
    rows = (grid_latitude[:, None] - latitude) / height  # [H, N]
    apart = torch.remainder(grid_longitude[:, None] - longitude + 180.0, 360.0) - 180.0
    columns = apart * cells  # [W, N]
    shrink = torch.deg2rad(grid_latitude).cos()
    mask = torch.zeros(len(grid_latitude), len(grid_longitude), dtype=latitude.dtype)
    for row in range(len(grid_latitude)):  # a row at a time: all at once would be H · W · N numbers
        squared = rows[row] ** 2 + (shrink[row] * columns) ** 2
        if squared.numel():
            mask[row] = torch.exp(-squared.amin(1) / (2 * width**2))
    return mask

"""A cheap assimilation cycle that trains a forecaster on states like analyses.

A network trained only on true states has never seen an analysis, with its small scales unlike the data and
its unobserved patterns. It keeps or amplifies them. FengWu's replay buffer trains on the network's own
forecasts; here the forecasts are also corrected towards the truth at random columns, by one pass of
successive corrections (Barnes, 1964),

    x_a(s) = x_b(s) + Σ_p w(s, p) d_p / (κ + Σ_p w(s, p)),
    w = exp(−½ (distance / L)²),   d_p = x(p) + ε_p − x_b(p),

so that errors stay as large as in a cycle, and the roll-out can continue for weeks.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import grid_vectors


class SuccessiveCorrections:
    """Successive corrections of B states, each with its own random network, L and κ.

    Args:
        grid: the H × W points.
        lanes: B.
        columns: smallest and largest number of observed columns.
        reach_degrees: smallest and largest L.
        trust: smallest and largest κ.
        noise: std of ε, in units of the normalised states.
    """

    def __init__(
        self,
        grid: Grid,
        lanes: int,
        columns: tuple[int, int] = (50, 1000),
        reach_degrees: tuple[float, float] = (3.0, 8.0),
        trust: tuple[float, float] = (0.3, 3.0),
        noise: float = 0.05,
    ) -> None:
        self.noise, self.moving = noise, (torch.rand(lanes) < 0.5).tolist()
        self.points = torch.from_numpy(grid_vectors(grid)).float()  # [H W, 3] on the unit sphere
        self.area = grid.area_weights.float().repeat_interleave(grid.shape[1])
        self.columns = [min(round(_between(*columns)), len(self.area)) for _ in range(lanes)]
        self.reach = [math.radians(_between(*reach_degrees)) for _ in range(lanes)]
        self.trust = [_between(*trust) for _ in range(lanes)]
        self.chosen: list[Tensor | None] = [None] * lanes

    def __call__(self, background: Tensor, truth: Tensor) -> Tensor:
        """Backgrounds and truth, [B, C, H, W] each, normalised -> analyses of the same shape."""
        pairs = enumerate(zip(background, truth, strict=True))
        return torch.stack([self._analyse(lane, *pair) for lane, pair in pairs])

    def _analyse(self, lane: int, background: Tensor, truth: Tensor) -> Tensor:
        chosen = self.chosen[lane]
        if chosen is None or self.moving[lane]:
            chosen = self.chosen[lane] = self.area.multinomial(self.columns[lane])
        innovation = (truth - background).flatten(1)[:, chosen]
        innovation = innovation + self.noise * torch.randn_like(innovation)
        points = self.points.to(background.device)
        # The chord stands for the arc: where they differ, w is almost 0.
        weight = (-0.5 * (torch.cdist(points, points[chosen]) / self.reach[lane]).square()).exp()
        increment = innovation @ (weight / (self.trust[lane] + weight.sum(1, keepdim=True))).T
        return background + increment.reshape(background.shape)


class TrainingCycle:
    """Keeps the lanes of a :class:`vaevar.data.sequences.LaneSampler` in an assimilation cycle.

    A lane continues if the first true state of its window is the second one of the window before.

    Args:
        grid: the H × W points.
        groups: number of batches that the lanes fill; a lane returns after as many steps.
        clean: fraction of the lanes that start every step from the truth.
    """

    def __init__(self, grid: Grid, groups: int, clean: float = 0.25) -> None:
        self.grid, self.groups, self.clean = grid, groups, clean
        self.waiting: deque[tuple[Tensor, Tensor, Tensor, SuccessiveCorrections]] = deque()

    @torch.no_grad()
    def start(self, batch: Tensor) -> Tensor:
        """The true windows [B, T, C, H, W], with the first two states taken from the lanes' cycles."""
        self._corrections = SuccessiveCorrections(self.grid, batch.shape[0])
        self._clean = torch.rand(batch.shape[0], device=batch.device) < self.clean
        if len(self.waiting) < self.groups:
            return batch
        truth, states, clean, corrections = self.waiting.popleft()
        follows = (truth == batch[:, 0]).flatten(1).all(1)
        if not follows.any():  # a new epoch: new networks too
            return batch
        # A lane that wraps around from the end of the period to its beginning starts from the truth.
        self._clean, self._corrections = clean, corrections
        window = torch.where((follows & ~clean)[:, None, None, None, None], states, batch[:, :2])
        return torch.cat([window, batch[:, 2:]], 1)

    @torch.no_grad()
    def proceed(self, batch: Tensor, current: Tensor, forecast: Tensor) -> None:
        """Analyse the forecasts and keep the analyses for the next step of the lanes.

        Args:
            batch: as given to :meth:`start`.
            current: [B, C, H, W], the states that the forecasts started from.
            forecast: [B, C, H, W], valid at the time of ``batch[:, 2]``.
        """
        analysis = self._corrections(forecast.float(), batch[:, 2].float())
        states = torch.stack([current, analysis], 1)
        self.waiting.append((batch[:, 1].clone(), states, self._clean, self._corrections))


def _between(low: float, high: float) -> float:
    """A random number whose logarithm is uniform."""
    return low * (high / low) ** float(torch.rand(()))

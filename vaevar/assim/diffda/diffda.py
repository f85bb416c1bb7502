"""DiffDA: the analysis as a sample of a diffusion model that is held to the observations.

Huang et al., "DiffDA: a Diffusion Model for Weather-scale Data Assimilation", ICML 2024:

    x_a = x_b + std · r,   r ~ p(residual | x_b), prescribed near the observations,

The denoiser p was trained on forecasts of one lead time, and :mod:`vaevar.assim.diffda.repaint` draws from
it. The known part is an interpolation of the observations to the grid, minus the background. Published
settings: 300 steps, jumps of 10, 10 resamples (2910 network evaluations), bumps 1.5 cells wide, and two
denoisers: one of 48 h forecasts for the first two analyses of a cycle, then one of 6 h forecasts.

Differences from the authors' code: the interpolation takes innovations, not values (they krige values with
9 neighbours, as :class:`~vaevar.assim.interpolation.kriging.Kriging` does with ``of="values"``, and subtract
the forecast afterwards, so that between observations the known part has the error of interpolating the
weather itself); bumps are cyclic in longitude; several samples may be drawn at once,
and their mean is the analysis.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vaevar.assim.assimilator import Analysis, Assimilator, add_increment
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.diffda.repaint import repaint, soft_mask, walk
from vaevar.assim.innovation import tell_of_none
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.assim.interpolation.places import group_by_places
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.mistakes.notices import notice
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.state import State, difference


class DiffDA(Assimilator):
    """Conditional diffusion with RePaint; the defaults are a fast preset.

    Args:
        checkpoint_48h: the denoiser of 48 h forecasts: a file, or a Denoiser in memory.
        checkpoint_6h: the denoiser of 6 h forecasts. None: use the first one throughout.
        first_analyses: number of analyses of a cycle that use the 48 h denoiser; published 2.
        steps: DDIM steps; published 300.
        jump_length, resamples: of RePaint; published 10 and 10.
        members: samples drawn at once; the analysis is their mean. Published 1.
        mask_width: width of the bumps in grid cells; published 1.5.
        interpolation: makes the known part, from the background and the observations. None:
            ``LinearInterpolation(2000.0)``.
        seed: of the noise, which depends on it, the number of the analysis and the observations alone.

    A denoiser of another lead time than its setting says is told in a notice.

    Raises:
        UserError: for a setting out of range, a checkpoint that is missing or of another model, or two that
            were exchanged.

    Example:
        >>> vaevar.pretrained("diffda").members
        4
    """

    def __init__(
        self,
        checkpoint_48h: str | Path | nn.Module,
        checkpoint_6h: str | Path | nn.Module | None = None,
        first_analyses: int = 2,
        steps: int = 25,
        jump_length: int = 5,
        resamples: int = 2,
        members: int = 4,
        mask_width: float = 1.5,
        interpolation: Assimilator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(jump_length, resamples, members) < 1 or first_analyses < 0 or seed < 0 or not mask_width > 0:
            raise UserError(
                f"DiffDA: jump_length {jump_length}, resamples {resamples}, members {members} and mask_width "
                f"{mask_width} must be positive, first_analyses {first_analyses} and seed {seed} not negative"
            )
        self.denoiser_48h = _denoiser(checkpoint_48h)
        self.denoiser_6h = self.denoiser_48h if checkpoint_6h is None else _denoiser(checkpoint_6h)
        for denoiser in (self.denoiser_48h, self.denoiser_6h):
            if not 1 <= steps <= denoiser.schedule.steps:
                raise UserError(f"DiffDA: steps {steps} are not within 1 to {denoiser.schedule.steps}")
        given = {"checkpoint_48h": checkpoint_48h, "checkpoint_6h": checkpoint_6h}
        _check_leads(given, self.denoiser_48h, self.denoiser_6h)
        self.first_analyses, self.steps, self.members = first_analyses, steps, members
        self.jump_length, self.resamples, self.mask_width = jump_length, resamples, mask_width
        self.interpolation = LinearInterpolation(2000.0) if interpolation is None else interpolation
        self.seed = seed

    @property
    def evaluations(self) -> int:
        """Network evaluations of one analysis, each of ``members`` fields."""
        return sum(target < place for place, target in walk(self.steps, self.jump_length, self.resamples))

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Sample; the same background, observations, number and seed give the same analysis.

        Without observations the background is the analysis: a sample that nothing holds would be some other
        forecast that the denoiser thinks as likely.

        Diagnostics: ``evaluations`` of the network, ``lead_hours`` of the denoiser used, ``spread``, the
        std of the members in units of the residual's (mean over channels and area), and ``seconds``.

        Raises:
            UserError: when the background has other channels or another grid than the denoiser, or an
                observation measures no channel of the state.
        """
        began = time.perf_counter()
        if not len(observations):
            tell_of_none()
            denoiser = self._denoiser_of(background, context)
            numbers = {"evaluations": 0.0, "lead_hours": float(denoiser.lead_hours), "spread": math.nan}
            return Analysis(background, numbers | {"seconds": 0.0})
        samples, denoiser = self.samples(background, observations, context)
        increment = samples.mean(0) * denoiser.residual_std
        variance = background.grid.area_mean(samples.var(0, unbiased=self.members > 1))
        diagnostics = {
            "evaluations": float(self.evaluations),
            "lead_hours": float(denoiser.lead_hours),
            "spread": float(variance.sqrt().mean()),
            "seconds": time.perf_counter() - began,
        }
        return Analysis(add_increment(background, increment), diagnostics)

    def samples(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> tuple[Tensor, Denoiser]:
        """The ensemble of residuals [members, C, H, W] in units of the residual's std, and its denoiser."""
        denoiser = self._denoiser_of(background, context)
        device = background.values.device
        with torch.inference_mode(False), torch.no_grad():
            values = background.values.float()
            condition = denoiser.condition(values)[None]
            interpolated = self.interpolation(background, observations, context).state.values
            known_part = (
                (interpolated.double() - background.values.double()) / denoiser.residual_std
            ).float()
            # Drawn on the host, so that all devices see the same noise.
            generator = torch.Generator().manual_seed(self._seed_of(context.index, observations))
            shape = (self.members, *values.shape)
            drawn = repaint(
                lambda x, step: denoiser.clean(x, condition, step).float(),
                denoiser.schedule.signal,
                known_part,
                self.mask(background, observations).to(device),
                lambda: torch.randn(shape, generator=generator).to(device),
                denoiser.schedule.inference_steps(self.steps),
                self.jump_length,
                self.resamples,
            )
        return drawn, denoiser

    def _denoiser_of(self, background: State, context: AnalysisContext) -> Denoiser:
        denoiser = self.denoiser_48h if context.index < self.first_analyses else self.denoiser_6h
        if background.spec != denoiser.spec or background.grid != denoiser.grid:
            fault = difference(denoiser.spec, denoiser.grid, background.spec, background.grid)
            raise UserError(
                f"the denoiser was made for another state than the background, {fault}: use weights of the "
                "same channels and grid"
            )
        return denoiser

    def mask(self, background: State, observations: Observations) -> Tensor:
        """m, [C, H, W]: bumps at the places of each channel, zero for a channel that is not observed."""
        grid = background.grid
        latitude, longitude = torch.tensor(grid.latitude.copy()), torch.tensor(grid.longitude.copy())
        mask = torch.zeros(len(background.spec), *grid.shape)
        for group in group_by_places(background, observations):
            places = torch.from_numpy(group.latitude), torch.from_numpy(group.longitude)
            bumps = soft_mask(*places, latitude, longitude, self.mask_width)
            mask[torch.from_numpy(group.channel)] = bumps.float()
        return mask

    def _seed_of(self, index: int, observations: Observations) -> int:
        """The seed of one analysis' noise."""
        digest = hashlib.sha256(f"{self.seed} {index}".encode())
        for array in (observations.value, observations.latitude, observations.longitude):
            digest.update(array.tobytes())
        return int.from_bytes(digest.digest()[:8], "little") >> 1


def _denoiser(checkpoint: str | Path | nn.Module) -> Denoiser:
    if isinstance(checkpoint, Denoiser):
        return checkpoint
    if isinstance(checkpoint, nn.Module):
        raise TypeError(f"DiffDA samples a Denoiser, not {type(checkpoint).__name__}")
    return Denoiser.load(checkpoint).eval().requires_grad_(False)


def _check_leads(given: Mapping[str, object], of_48h: Denoiser, of_6h: Denoiser) -> None:
    """Compare what denoisers were trained on with what they are used for.

    Args:
        given: the checkpoint of each setting; None stands for the other one.
        of_48h, of_6h: the denoisers. One in memory that was not fitted has no lead.

    Raises:
        UserError: when the first was trained on forecasts of a shorter lead than the second.
    """
    first, then = int(of_48h.lead_hours), int(of_6h.lead_hours)
    if 0 < first < then:
        raise UserError(
            f"DiffDA: checkpoint_48h ({_name(given['checkpoint_48h'])}) is of forecasts of {first} h, and "
            f"checkpoint_6h ({_name(given['checkpoint_6h'])}) of those of {then} h: exchange them"
        )
    for setting, lead, usual in (("checkpoint_48h", first, 48), ("checkpoint_6h", then, 6)):
        if given[setting] is not None and lead not in (0, usual):
            notice(
                f"DiffDA: {setting} ({_name(given[setting])}) was trained on forecasts of {lead} h, expected "
                f"{usual} h: it draws errors of the size that forecasts of {lead} h have; give the other "
                "weights if the backgrounds are of another age"
            )


def _name(checkpoint: object) -> str:
    return str(checkpoint) if isinstance(checkpoint, str | Path) else "in memory"

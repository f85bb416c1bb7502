"""The noise schedule of denoising diffusion models.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020: with β_t linear from 1e-4 to 0.02
over T = 1000 steps and ᾱ_t = Π (1 − β_s), a clean field r is noised to

    x_t = √ᾱ_t r + √(1 − ᾱ_t) ε,   ε ~ N(0, I).

Step 0 is the clean field (ᾱ_0 = 1), step T almost pure noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    """ᾱ_t for t = 0 ... T.

    Args:
        steps: T.
        first_beta, last_beta: β_1 and β_T.

    Raises:
        ValueError: when steps or betas are out of range.
    """

    signal: Tensor

    def __init__(self, steps: int = 1000, first_beta: float = 1e-4, last_beta: float = 0.02) -> None:
        super().__init__()
        if steps < 1 or not 0 < first_beta <= last_beta < 1:
            raise ValueError(
                f"steps {steps} must be positive, and betas rise within (0, 1), not "
                f"{first_beta} to {last_beta}"
            )
        beta = torch.linspace(first_beta, last_beta, steps, dtype=torch.float64)
        signal = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
        self.steps = steps
        self.register_buffer("signal", signal, persistent=False)

    def noised(self, clean: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """x_t of fields r and noise ε, [B, C, H, W], at steps t, [B]."""
        signal = self.signal[step].to(clean.dtype)[:, None, None, None]
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise

    def inference_steps(self, count: int) -> list[int]:
        """``count`` evenly spaced steps from T downwards, then 0: ``count + 1`` numbers.

        Raises:
            ValueError: for a count outside 1 ... T.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"{count} inference steps are not within 1 to {self.steps}")
        return torch.linspace(self.steps, 0, count + 1, dtype=torch.float64).round().long().tolist()

"""The linear Gaussian model inside: x = C^½ w + noise, degree by degree, with its exact posterior.

x are the standardised control variables of 3DVar, (S U_p M)⁻¹ δ, as real coefficients [n, (lmax + 1)²] in the
packing of :mod:`vaevar.models.covariance.transform`. Each degree l has the covariance C_l = E_l Λ_l E_lᵀ
between the variables, and white noise of variance τ². This is probabilistic principal component analysis
(Tipping and Bishop, 1999): with w ~ N(0, I),

    w | x ~ N(E Λ^½ (Λ + τ²)⁻¹ Eᵀ x,  E τ² (Λ + τ²)⁻¹ Eᵀ),      x ~ N(0, E (Λ + τ²) Eᵀ).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.models.covariance.statistics import CovarianceStatistics


class LinearGaussian(nn.Module):
    """Posterior and evidence of the linear model. Coefficients are [B, n, (lmax + 1)²].

    Args:
        statistics: of B.
        sigma: the noise, in units of the standardised variables as fields.

    Attributes:
        noise: τ = σ / (lmax + 1), the noise of one coefficient.
        posterior_log_variance: [n, L²], along the eigenvectors.
    """

    degree: Tensor
    vectors: Tensor
    values: Tensor
    posterior_log_variance: Tensor

    def __init__(self, statistics: CovarianceStatistics, sigma: float) -> None:
        super().__init__()
        size = statistics.lmax + 1
        self.noise = sigma / size
        degree = np.repeat(np.arange(size), 2 * np.arange(size) + 1)
        values, vectors = statistics.eigen()
        by_mode = torch.from_numpy(np.ascontiguousarray(values[degree].T)).float()
        log_variance = -torch.log1p(by_mode / self.noise**2)
        self.register_buffer("degree", torch.from_numpy(degree), persistent=False)
        self.register_buffer("vectors", torch.from_numpy(vectors.copy()).float(), persistent=False)
        self.register_buffer("values", by_mode, persistent=False)
        self.register_buffer("posterior_log_variance", log_variance, persistent=False)

    def along(self, x: Tensor) -> Tensor:
        """Eᵀ x, the coefficients along the eigenvectors."""
        return torch.einsum("pij,bip->bjp", self.vectors[self.degree], x)

    def back(self, x: Tensor) -> Tensor:
        """E x."""
        return torch.einsum("pij,bjp->bip", self.vectors[self.degree], x)

    def coloured(self, w: Tensor) -> Tensor:
        """C^½ w."""
        return self.back(self.values.sqrt() * self.along(w))

    def mean(self, x: Tensor) -> Tensor:
        """The mean of w | x."""
        return self.back(self.values.sqrt() / (self.values + self.noise**2) * self.along(x))

    def variance(self) -> Tensor:
        """The diagonal of C, [n, L²]."""
        return torch.einsum("pik,kp->ip", self.vectors[self.degree].square(), self.values)

    def by_degree(self, values: Tensor) -> Tensor:
        """Sums over the orders: [..., L²] -> [..., L]."""
        size = round(math.sqrt(values.shape[-1]))
        return values.new_zeros(*values.shape[:-1], size).index_add(-1, self.degree, values)

    def relative_power(self, x: Tensor) -> Tensor:
        """The power of x along the eigenvectors at each degree, over that expected: [B, n, L]."""
        squares = self.by_degree(self.along(x).square() / (self.values + self.noise**2))
        return squares / (2 * torch.arange(squares.shape[-1]).to(squares) + 1)

    def evidence(self, x: Tensor) -> Tensor:
        """log p(x), [B]."""
        variance = self.values + self.noise**2
        terms = self.along(x).square() / variance + variance.log() + math.log(2 * math.pi)
        return -0.5 * terms.flatten(1).sum(1)

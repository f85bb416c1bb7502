"""The distribution of a VAE's latent field, fitted to the encoded samples after training.

The loss drives the encoded samples as a whole towards N(0, I), but a finite training leaves them correlated
in space: a pattern that spans several latent points needs them to act together. With w drawn from N(0, I),
D(w) would lack variance and reach, and so would the increments. Ghosh et al., "From Variational to
Deterministic Autoencoders" (ICLR 2020), fit the density of the codes after training. Here it is a Gaussian
that is homogeneous in longitude,

    w = w̄ + L v,   v ~ N(0, I),   L_m L_mᴴ = E[(ŵ_m − w̄_m)(ŵ_m − w̄_m)ᴴ] ∘ K     for each zonal wavenumber
    m,

where ŵ_m are the Fourier coefficients of the encoder's means. The encoder's variances are added on the
diagonal. K, a Gaussian of the distance in latitude, removes the sampling noise of remote correlations.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vaevar.errors import UserError


class LatentPrior(nn.Module):
    """w = w̄ + L v; the identity until it is fitted.

    Args:
        shape: (Cz, h, w) of the latent field.
        rank: leading patterns kept for each m; the remaining variance is kept on the diagonal. With 0 the
            prior is N(0, I), as published.
        reach_degrees: standard deviation of K, in degrees of latitude.
    """

    mean: Tensor
    patterns: Tensor
    rest: Tensor

    def __init__(self, shape: tuple[int, int, int], rank: int, reach_degrees: float) -> None:
        super().__init__()
        channels, rows, columns = shape
        self.shape, self.reach_degrees = shape, reach_degrees
        size, waves = channels * rows, columns // 2 + 1
        self.rank = min(rank, size)
        self.register_buffer("mean", torch.zeros(channels, rows, 1))
        self.register_buffer("patterns", torch.zeros(waves, size, self.rank, 2))
        self.register_buffer("rest", torch.ones(waves, size))
        self._root: Tensor | None = None

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted, or needs not be, having rank 0."""
        return not self.rank or bool((self.rest != 1).any() or (self.patterns != 0).any())

    @torch.no_grad()
    def forget(self) -> None:
        """Be the identity again: a fit belongs to the weights that it was made with."""
        self.mean.zero_()
        self.patterns.zero_()
        self.rest.fill_(1.0)
        self._root = None

    @property
    def unfitted(self) -> str:
        """That it is not fitted, and what to do; empty if it is."""
        if self.fitted:
            return ""
        return (
            "its latent prior is not fitted, so D(w) would be too strong: fit it with "
            "vae.fit_prior(batches), take the weights that a fit exports, or train with prior_rank 0"
        )

    def require_fitted(self, name: str) -> None:
        """Check that it is fitted, where that is needed.

        Args:
            name: of the VAE or its file, for the message.

        Raises:
            UserError: when it is not.
        """
        if self.unfitted:
            raise UserError(f"{name}: {self.unfitted}")

    def forward(self, v: Tensor) -> Tensor:
        """White v [B, Cz, h, w] -> latent fields of the same shape."""
        if not self.rank:
            return v
        if self._root is None or self._root.device != v.device or self._root.real.dtype != v.dtype:
            self._root = self._new_root().to(v.device, torch.promote_types(v.dtype, torch.complex64))
        waves = torch.fft.rfft(v, norm="ortho").flatten(1, 2)
        shaped = torch.einsum("mij,bjm->bim", self._root, waves).unflatten(1, self.shape[:2])
        return self.mean.to(v) + torch.fft.irfft(shaped, n=self.shape[2], norm="ortho")

    @torch.no_grad()
    def covariance(self) -> Tensor:
        """[M, Cz·h, Cz·h], complex: the covariance of the Fourier coefficients of w."""
        channels, rows, _ = self.shape
        patterns = torch.view_as_complex(self.patterns.double().contiguous())
        covariance = patterns @ patterns.mH
        row = torch.arange(channels * rows, device=patterns.device) % rows
        apart = (row[:, None] - row).double() * (180.0 / rows / self.reach_degrees)
        return covariance * torch.exp(-0.5 * apart.square()) + torch.diag_embed(self.rest.double())

    def _new_root(self) -> Tensor:
        covariance = self.covariance()
        # In a real field the zonal mean is real, and so is the shortest wave on an even number of points.
        covariance[0] = covariance[0].real.to(covariance.dtype)
        if self.shape[2] % 2 == 0:
            covariance[-1] = covariance[-1].real.to(covariance.dtype)
        return torch.linalg.cholesky(covariance)

    @torch.no_grad()
    def fit(self, codes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Estimate the prior from encoded samples, batch by batch; with rank 0 do nothing.

        Args:
            codes: the encoder's means and variances, each [B, Cz, h, w].

        Raises:
            ValueError: when there are no samples.
        """
        if not self.rank:
            return
        count, products = 0, torch.zeros(())
        total, variance = torch.zeros(()), torch.zeros(())
        for means, variances in codes:
            waves = torch.fft.rfft(means.double(), norm="ortho").flatten(1, 2)
            products = products.to(waves) + torch.einsum("bim,bjm->mij", waves, waves.conj())
            total = total.to(waves) + waves[..., 0].sum(0)
            variance = variance.to(variances) + variances.sum(0)
            count += len(means)
        if not count:
            raise ValueError("there are no samples to fit the latent prior to")
        mean = (total / count).real
        covariance = products / count
        covariance[0] -= torch.outer(mean, mean)
        self.mean.copy_(mean.reshape(self.mean.shape) / self.shape[2] ** 0.5)
        values, vectors = torch.linalg.eigh(covariance)
        leading = vectors[..., -self.rank :] * values[:, None, -self.rank :].clamp_min(0).sqrt()
        remaining = covariance.diagonal(dim1=1, dim2=2).real - leading.abs().square().sum(2)
        self.patterns.copy_(torch.view_as_real(leading))
        self.rest.copy_(remaining.clamp_min(0) + (variance / count).mean(-1).flatten())
        self._root = None

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._root = None
        super()._load_from_state_dict(*args, **kwargs)

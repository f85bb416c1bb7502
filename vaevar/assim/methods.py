"""The two variational methods by name: each is the variational analysis with one control transform.

A config may also write any of them, and every other control transform, as a
:class:`~vaevar.assim.variational.VariationalAssimilator` with a ``control``; the numbers are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.spectral import SpectralControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.sphere.grid import GridFamily


class ThreeDVar(VariationalAssimilator):
    """3DVar: x_a = x_b + U w*, w* = argmin λ/2 ‖w‖² + ½ (y − H(x_b + U w))ᵀ R⁻¹ (y − H(x_b + U w)).

    The background-error covariance is B/λ, with B = U Uᵀ calibrated by ``configs/covariance.yaml``.

    Args:
        statistics: path of the netCDF file of B, or statistics already in memory.
        lambda_: λ. None: estimate λ from the innovations of each analysis.
        iterations: the most L-BFGS iterations.
        history: number of past steps that L-BFGS keeps.
        tolerance: stop when the norm of the gradient has fallen to this fraction of its first value.
        dtype: precision of U and of the minimisation.
        nlat, nlon: H and W of the increments' grid. None: the grid of the statistics.
        gaussian: the kind of that grid, as in :class:`CovarianceControl`.

    Raises:
        UserError: for a file that is missing or damaged, a grid that cannot carry the truncation, or a λ, a
            count or a tolerance out of range.

    Example:
        >>> statistics = vaevar.estimate_covariance(errors, lmax=7, band_centres=(1, 4))
        >>> vaevar.ThreeDVar(statistics, lambda_=4.0, iterations=40).control.shape
        (8, 64)
    """

    def __init__(
        self,
        statistics: str | Path | CovarianceStatistics,
        lambda_: float | None = 1.0,
        iterations: int = 30,
        history: int = 10,
        tolerance: float = 1e-3,
        dtype: Literal["float32", "float64"] = "float32",
        nlat: int | None = None,
        nlon: int | None = None,
        gaussian: GridFamily = False,
    ) -> None:
        control = CovarianceControl(statistics, nlat, nlon, gaussian, dtype)
        super().__init__(control, lambda_, iterations, history, tolerance, dtype)


class VAEVar(VariationalAssimilator):
    """VAE-Var: x_a = x_b + D(w*), w* = argmin λ/2 ‖w‖² + ½ (y − H(x_b + D(w)))ᵀ R⁻¹ (y − H(x_b + D(w))).

    D is the decoder of a VAE with 3DVar's B inside (:class:`~vaevar.assim.control.spectral.SpectralControl`).
    The decoder of Xiao et al., ICLR 2025, is :class:`~vaevar.assim.control.decoder.DecoderControl`
    (``configs/published.yaml``).

    Args:
        checkpoint: path of a checkpoint of :class:`~vaevar.models.spectral.vae.SpectralVAE`, or a model
            already in memory.
        lambda_: λ. None: estimate λ from the innovations of each analysis.
        iterations: the most L-BFGS iterations (the paper takes 20 to 40).
        history: number of past steps that L-BFGS keeps.
        tolerance: stop when the norm of the gradient has fallen to this fraction of its first value.
        dtype: precision of the minimisation; the decoder works in its own.
        strength: how far the VAE is trusted about the day, as in :class:`SpectralControl`.

    Raises:
        UserError: for a checkpoint that is missing or of another model, or a λ, a strength, a count or a
            tolerance out of range.

    Example:
        >>> vaevar.VAEVar(vaevar.pretrained("spectral_vae"), lambda_=4.0, strength=0.5).control.shape
        (69, 1024)
    """

    def __init__(
        self,
        checkpoint: str | Path | SpectralVAE,
        lambda_: float | None = 1.0,
        iterations: int = 30,
        history: int = 10,
        tolerance: float = 1e-3,
        dtype: Literal["float32", "float64"] = "float32",
        strength: float = 1.0,
    ) -> None:
        super().__init__(
            SpectralControl(checkpoint, strength), lambda_, iterations, history, tolerance, dtype
        )

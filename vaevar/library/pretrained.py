"""What the repository ships, made as its configs make it, from any working directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaevar.assim.assimilator import Assimilator
from vaevar.data.weather.climatology import load_climatological_std
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.models.covariance.published import PublishedStatistics
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.models.vae.vae import VAE
from vaevar.scripts import instantiate, read_contents
from vaevar.shipped import CONFIGS, REPOSITORY, missing_weights
from vaevar.state import StateSpec

# Parts of configs, whose settings were tuned on the validation period.
_PARTS: dict[str, type] = {
    "forecaster": Forecaster,
    "forecaster_torch": Forecaster,
    "interpolation": Assimilator,
    "threedvar": Assimilator,
    "threedvar_cycle": Assimilator,
    "vaevar": Assimilator,
    "diffda": Assimilator,
    "threedvar_published": Assimilator,
    "vaevar_published": Assimilator,
    "diffda_published": Assimilator,
}
_WEIGHTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "covariance": ("covariance.nc", CovarianceStatistics.load),
    "cycle_covariance": ("cycle_covariance.nc", CovarianceStatistics.load),
    "published_covariance": ("published_covariance.nc", PublishedStatistics.load),
    "vae": ("vae.ckpt", VAE.load),
    "spectral_vae": ("spectral_vae.ckpt", SpectralVAE.load),
    "diffda_48h": ("diffda_48h.ckpt", Denoiser.load),
    "climatological_std": ("climatological_std.npy", lambda path: load_climatological_std(path, StateSpec())),
}


def pretrained(name: str) -> Any:
    """A forecaster, a method or weights of the embedded world.

    Args:
        name: ``forecaster``, or ``forecaster_torch``, which has a gradient; a method with its tuned
            settings, ``interpolation``, ``threedvar``, ``threedvar_cycle``, ``vaevar``
            or ``diffda``; a published one, ``threedvar_published``,
            ``vaevar_published`` or ``diffda_published``; or what they are made of: ``covariance``,
            ``cycle_covariance``, ``published_covariance``, ``vae``, ``spectral_vae``,
            ``diffda_48h``, ``climatological_std``.

    Raises:
        UserError: for another name, or when the weights are not there: those of the clone that the package is
            used from or, when it is installed from a wheel, ``weights/`` here.

    Example:
        >>> vaevar.pretrained("threedvar").lambda_
        4.0
    """
    if name in _WEIGHTS:
        file, load = _WEIGHTS[name]
        return load(_there(f"weights/{file}"))
    if name not in _PARTS:
        raise UserError(f"nothing is called {name!r}; choose from {', '.join((*_PARTS, *_WEIGHTS))}")
    (content,) = read_contents([CONFIGS / "parts" / f"{name}.yaml"])
    return instantiate([{"part": _anchored(content)}], part=_PARTS[name]).part


def _there(name: str) -> Path:
    path = Path(name) if REPOSITORY is None else REPOSITORY / name
    if not path.is_file():
        raise UserError(f"{path}: no such file{missing_weights(name)}")
    return path


def _anchored(content: Any) -> Any:
    """Paths of the repository, whatever the working directory. Parts within parts are paths already."""
    if isinstance(content, dict):
        return {key: _anchored(value) for key, value in content.items()}
    if isinstance(content, str) and content.startswith("weights/"):
        return str(_there(content))
    return content

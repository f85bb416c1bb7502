"""What each file under weights/ computes, against numbers kept beside this test.

A change of the code must not change what a committed file means. After new weights are committed, write new
numbers: ``python tests/models/test_committed_weights.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from vaevar.assim.control.published_covariance import PublishedCovarianceControl
from vaevar.models.covariance.published import PublishedStatistics
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.forecaster.learned import LearnedForecaster
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.models.vae.vae import VAE

REFERENCE = Path(__file__).with_name("committed_weights.json")
WEIGHTS = Path("weights")
TOLERANCE = 2e-5  # of an output's rms: float32 on another processor


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def summary(x: Tensor) -> list[float]:
    """The rms of an output, and a few of its values in units of it."""
    values = x.detach().double().flatten()
    rms = values.square().mean().sqrt()
    places = torch.linspace(0, len(values) - 1, 7).long()
    return [float(rms), *(values[places] / rms).tolist()]


def vae(name: str) -> dict[str, Tensor]:
    model = VAE.load(WEIGHTS / name)
    mean, log_variance = model.encode(randn(0, 1, len(model.spec), *model.grid.shape))
    errors = model.decode(randn(1, 1, *model.latent_shape))
    return {"mean": mean, "log_variance": log_variance, "errors": errors, "error_std": model.error_std}


def spectral_vae(name: str) -> dict[str, Tensor]:
    model = SpectralVAE.load(WEIGHTS / name)
    assert model.day is not None
    mean, std = model.day.background_mean, model.day.background_std
    coverage = torch.rand(1, 4, *model.grid.shape, generator=torch.Generator().manual_seed(2))
    normalised = randn(3, 1, len(model.spec), *model.grid.shape)
    scales = model.scales(normalised * std + mean, coverage)
    assert scales is not None
    w = randn(4, 1, *model.latent_shape)
    mean_of_w, log_variance = model.encode(model.standardised(model.decode(w, scales), scales))
    return {
        "scales": scales,
        "increment": model.decode(w, scales) / std,
        "mean": mean_of_w,
        "log_variance": log_variance,
    }


def denoiser(name: str) -> dict[str, Tensor]:
    model = Denoiser.load(WEIGHTS / name)
    noised, condition = randn(5, 2, 1, len(model.spec), *model.grid.shape)
    return {f"step_{step}": model.clean(noised, condition, step) for step in (1, 300, 1000)}


def covariance(name: str) -> dict[str, Tensor]:
    statistics = CovarianceStatistics.load(WEIGHTS / name)
    transform = CovarianceTransform(statistics)
    increment = transform(randn(6, 1, *transform.shape))
    scaled = increment / torch.from_numpy(statistics.channel_std)[..., None]
    return {"increment": scaled, "projected": transform.project(increment)}


def published_covariance(name: str) -> dict[str, Tensor]:
    statistics = PublishedStatistics.load(WEIGHTS / name)
    control = PublishedCovarianceControl(statistics, length_km=700.0)
    increment = control(randn(8, *control.shape))
    return {"increment": increment / torch.from_numpy(statistics.channel_std)[:, None, None]}


def forecaster(name: str) -> dict[str, Tensor]:
    stem = WEIGHTS / Path(name).stem
    mean, std = f"{stem}_mean.npy", f"{stem}_std.npy"
    model = OnnxForecaster(WEIGHTS / name, mean, std, device="cpu", threads=1)
    centre, spread = (torch.from_numpy(np.load(path)).float()[:, None, None] for path in (mean, std))
    states = centre + 0.5 * spread * randn(7, 1, 2, len(model.spec), *model.grid.shape)
    return {"normalised": (model.step(states) - centre) / spread}


def learned_forecaster(name: str) -> dict[str, Tensor]:
    model = LearnedForecaster(WEIGHTS / name)
    centre, spread = model.normalizer.mean, model.normalizer.std
    states = centre + 0.5 * spread * randn(7, 1, 2, len(model.spec), *model.grid.shape)
    return {"normalised": (model.step(states) - centre) / spread}


FILES: dict[str, Callable[[str], dict[str, Tensor]]] = {
    "vae.ckpt": vae,
    "spectral_vae.ckpt": spectral_vae,
    "diffda_48h.ckpt": denoiser,
    "diffda_6h.ckpt": denoiser,
    "covariance.nc": covariance,
    "cycle_covariance.nc": covariance,
    "published_covariance.nc": published_covariance,
    "forecaster.onnx": forecaster,
    "forecaster.ckpt": learned_forecaster,
}


def outputs(name: str) -> dict[str, list[float]]:
    with torch.no_grad():
        return {output: summary(values) for output, values in FILES[name](name).items()}


def test_every_committed_file_is_checked() -> None:
    kinds = (".ckpt", ".nc", ".onnx")
    assert {path.name for path in WEIGHTS.iterdir() if path.suffix in kinds} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_committed_file_computes_what_it_did(name: str) -> None:
    expected = json.loads(REFERENCE.read_text())[name]
    computed = outputs(name)
    assert computed.keys() == expected.keys()
    for output, (rms, *values) in computed.items():
        assert rms == pytest.approx(expected[output][0], rel=TOLERANCE), output
        assert values == pytest.approx(expected[output][1:], abs=TOLERANCE), output


def test_the_forecaster_file_names_its_weights_as_the_network_does() -> None:
    """So weights can be taken out of the file; the exporter names all but what it transposes or folds."""
    model = onnx.load(str(WEIGHTS / "forecaster.onnx"))
    sizes = {node.name: tuple(node.dims) for node in model.graph.initializer}
    network = ForecasterModule(widths=(192, 256), depths=(3, 4), resolved_lmax=31).network
    expected = {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
    named = {name: size for name, size in sizes.items() if name.startswith("network.")}
    assert named.items() <= expected.items()
    nameless = {".".join(name.split(".")[-2:]) for name in expected.keys() - named.keys()}
    assert nameless == {"expand.weight", "reduce.weight", "resolved.mean"}


if __name__ == "__main__":
    REFERENCE.write_text(json.dumps({name: outputs(name) for name in FILES}, indent=1) + "\n")

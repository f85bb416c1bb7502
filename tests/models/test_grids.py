"""Every model takes every family of grids, by the same setting."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
from jsonargparse import ArgumentError

from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.models.vae.vae import VAE
from vaevar.scripts import instantiate
from vaevar.sphere.grid import Grid

CHANNELS = {"surface": ["t2m", "msl"], "upper": ["z", "u"], "levels": [500, 850]}
NETWORK = {"widths": [8, 8], "depths": [1, 1], "patch": 2}
MODELS: dict[str, dict[str, Any]] = {
    "VAE": {"heads": [0, 2], "window": 4, "stem_width": 4, "head_width": 4, "latent_channels": 4},
    "Denoiser": {"heads": [0, 2], "window": 4, "head_width": 4, "steps": 10},
    "ForecasterModule": {"resolved_lmax": 5},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("family", "grid"),
    [
        (True, Grid.gaussian(16)),
        (False, Grid.equiangular(16, 32)),
        ("cells", Grid.cells(16)),
        ("regular", Grid.regular(16, 32)),
    ],
    ids=str,
)
def test_a_model_of_a_config_has_the_grid_that_it_names(name: str, family: bool | str, grid: Grid) -> None:
    sizes = ("rows", "columns") if name == "ForecasterModule" else ("nlat", "nlon")
    init_args = dict(zip(sizes, grid.shape, strict=True)) | {"gaussian": family}
    content = {"model": {"class_path": name, "init_args": init_args | CHANNELS | NETWORK | MODELS[name]}}
    model = instantiate([content], model=L.LightningModule).model
    assert type(model) in (VAE, Denoiser, ForecasterModule)
    assert model.grid == grid


def test_another_name_is_refused() -> None:
    content = {"model": {"class_path": "VAE", "init_args": {"gaussian": "icosahedral"}}}
    with pytest.raises(ArgumentError, match="icosahedral"):
        instantiate([content], model=L.LightningModule)

"""The comparison of samples with errors, on fields whose variance and spectrum are known."""

from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.models.vae.diagnostics import SampleDiagnostics, compare
from vaevar.models.vae.vae import VAE
from vaevar.moments import FieldMoments
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.state import StateSpec

GRID = Grid.gaussian(16)


def _fields(seed: int, factors: dict[int, float]) -> Tensor:
    """[40, 2, H, W]: random fields whose coefficients of degree l have the std factors[l]."""
    harmonics = SphericalHarmonics(GRID, 15)
    generator = torch.Generator().manual_seed(seed)
    shape = (40, 2, 16, 16)
    coefficients = torch.complex(
        torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    ).tril()
    scale = torch.tensor([factors.get(degree, 0.0) for degree in range(16)])
    return harmonics.synthesise(coefficients * scale[:, None])


def _moments(fields: Tensor) -> FieldMoments:
    moments = FieldMoments(SphericalHarmonics(GRID, 15))
    moments.add(fields[:15])
    moments.add(fields[15:])
    return moments


def test_moments_are_those_of_all_fields_together() -> None:
    fields = 3.0 + _fields(0, {2: 1.0, 9: 0.5})
    moments = _moments(fields)
    torch.testing.assert_close(moments.mean.float(), fields.mean(0))
    torch.testing.assert_close(moments.variance.float(), fields.var(0, correction=0), rtol=1e-4, atol=1e-4)
    anomalies = fields - fields.mean(0)
    expected = SphericalHarmonics(GRID, 15).power(anomalies).mean(0)
    torch.testing.assert_close(moments.spectrum.float(), expected, rtol=1e-3, atol=1e-5)
    # Parseval: the spectrum adds up to the global variance.
    # (To 1e-3: areas of latitude bands and Gaussian weights differ a little on 16 latitudes.)
    torch.testing.assert_close(moments.spectrum.sum(-1), GRID.area_mean(moments.variance), rtol=1e-3, atol=0)


def test_scores_say_what_was_changed() -> None:
    errors = _moments(_fields(0, {2: 1.0, 9: 1.0}))
    same = compare(_moments(_fields(0, {2: 1.0, 9: 1.0})), errors, GRID)
    assert same["variance_ratio"] == pytest.approx(1)
    assert same["abs_log_variance_ratio"] < 1e-6
    half = compare(_moments(0.5 * _fields(0, {2: 1.0, 9: 1.0})), errors, GRID)
    assert half["variance_ratio"] == pytest.approx(0.25)
    assert half["abs_log_variance_ratio"] == pytest.approx(math.log(4), rel=1e-5)
    # Twice the amplitude in degree 9 alone: the band of 6 to 15 has 4 times the power.
    rough = compare(_moments(_fields(0, {2: 1.0, 9: 2.0})), errors, GRID)
    assert rough["spectrum_ratio_01_05"] == pytest.approx(1, rel=1e-4)
    assert rough["spectrum_ratio_06_15"] == pytest.approx(4, rel=1e-4)


class _Errors(L.LightningDataModule):
    spec, grid = StateSpec(upper=("z",), levels=(500, 850)), GRID
    error_std = torch.ones(6, 16, 1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.randn(8, 6, 16, 32), batch_size=4)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore")
def test_the_callback_logs_numbers_and_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    vae = VAE(
        nlat=16, nlon=32, upper=["z"], levels=[500, 850], widths=[8, 8], depths=[1, 1], heads=[0, 2],
        window=2, latent_channels=2,
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator=DEVICE, max_epochs=2, logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=[SampleDiagnostics(every_n_epochs=2, samples=3)], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(vae, datamodule=_Errors())
    assert 0 < trainer.callback_metrics["samples/variance_ratio"] < 10
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["images"]) == {"samples/maps", "samples/zonal_variance", "samples/spectra"}
    scalars = events.Tags()["scalars"]
    for name in (
        "samples/spectrum_ratio_01_05",
        "val/active_units",
        "val/kl",
        "val_explained/z",
        "train/loss",
    ):
        assert name in scalars
    assert len(events.Scalars("samples/variance_ratio")) == 1  # the second epoch of two

"""What cannot be exported is refused before the fit; what can carries its data's record."""

from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from vaevar.errors import UserError
from vaevar.models.training.export import ExportWeights
from vaevar.models.vae.vae import VAE

SMALL = {
    "nlat": 8, "nlon": 16, "surface": ("t2m",), "upper": (), "levels": (), "widths": (8,), "depths": (1,),
    "heads": (0,), "stem_width": 4, "head_width": 4, "latent_scale": 0, "latent_channels": 2,
}  # fmt: skip


def test_a_module_that_cannot_save_its_weights_is_refused_before_the_fit(tmp_path):
    callback = ExportWeights(str(tmp_path / "weights.ckpt"))
    with pytest.raises(UserError, match="a LightningModule cannot save its weights"):
        callback.setup(SimpleNamespace(), L.LightningModule(), "fit")


def test_the_last_state_is_written_where_there_is_no_best_one(tmp_path):
    torch.manual_seed(0)
    vae = VAE(**SMALL)
    path = tmp_path / "weights.ckpt"
    callback = ExportWeights(str(path))
    trainer = SimpleNamespace(
        callbacks=[],
        is_global_zero=True,
        checkpoint_callback=None,
        datamodule=None,
        callback_metrics={},
        current_epoch=3,
    )
    callback.setup(trainer, vae, "fit")
    callback.on_fit_end(trainer, vae)
    loaded = VAE.load(path)
    w = torch.randn(1, *vae.latent_shape)
    with torch.no_grad():
        torch.testing.assert_close(loaded.decode(w), vae.decode(w), atol=2e-2, rtol=2e-2)  # float16 on disk
    assert torch.load(path, weights_only=True)["provenance"]["epochs"] == 3
    other = SimpleNamespace(is_global_zero=False)
    ExportWeights(str(tmp_path / "other.ckpt")).on_fit_end(other, vae)
    assert not (tmp_path / "other.ckpt").exists()


def test_the_record_of_the_data_is_kept(tmp_path):
    trainer = SimpleNamespace(
        callbacks=[],
        is_global_zero=True,
        checkpoint_callback=None,
        datamodule=SimpleNamespace(record={"samples": 6}),
        callback_metrics={},
        current_epoch=1,
    )
    path = tmp_path / "weights.ckpt"
    ExportWeights(str(path)).on_fit_end(trainer, VAE(**SMALL))
    assert torch.load(path, weights_only=True)["provenance"]["data"] == {"samples": 6}

"""What users type, with `--trainer.accelerator gpu`: a cycle, and fits in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import vaevar
from tests.end_to_end.conftest import configs as configs  # the fixtures
from tests.end_to_end.conftest import world as world
from tests.end_to_end.test_diffda import diffda as diffda
from tests.gpu.conftest import TRUTH
from vaevar.cli import main
from vaevar.sphere.harmonics import SphericalHarmonics

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
ARMS = ("interpolation", "threedvar_cycle", "diffda", "vaevar", "fourdvar_24h", "vae4dvar")
BFLOAT16 = ["--trainer.accelerator", "gpu", "--trainer.devices", "1", "--trainer.precision", "bf16-mixed"]


def scores(name: str, accelerator: str) -> pd.Series:
    """RMSE / std of the analyses of a day, by arm."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "configs/quick.yaml").read_text())
    parts = ROOT / "configs/parts"
    content["name"] = name
    content["model"]["init_args"] = {
        "forecaster": str(parts / "forecaster_torch.yaml"),
        "arms": {"free": "FreeRun"} | {arm: str(parts / f"{arm}.yaml") for arm in ARMS},
    }
    content["data"]["init_args"]["analyses"] = 4
    content["trainer"]["callbacks"] = [{"class_path": "Scores", "init_args": {"skip": 0}}]
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    main(["predict", "--config", str(path), "--trainer.accelerator", accelerator])
    table = pd.read_csv(f"runs/{name}/scores.csv")
    std = vaevar.pretrained("climatological_std")
    by_channel = dict(zip(vaevar.StateSpec().names, np.asarray(std), strict=True))
    table = table[table.quantity == "analysis"]
    return (table.rmse / table.channel.map(by_channel)).groupby(table.arm).mean()


def test_a_cycle_of_the_gpu_scores_as_that_of_the_cpu(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not TRUTH.is_file():
        pytest.skip(f"{TRUTH} is not there")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    there, here = scores("there", "gpu"), scores("here", "cpu")
    assert set(there.index) == {"free", *ARMS}
    pd.testing.assert_series_equal(there, here, rtol=0.02)
    assert Path("runs/there/report.html").is_file()


def require_finite(file: str) -> None:
    weights = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    assert weights
    assert all(values.isfinite().all() for values in weights.values())


def test_the_published_vae_in_bfloat16(gpu: torch.device, configs: dict[str, Path]) -> None:
    words = [*BFLOAT16, "--model.init_args.checkpoint_activations", "true"]
    main(["fit", "--config", str(configs["fit"]), *words])
    require_finite("runs/vae/checkpoints/best.ckpt")
    assert Path("runs/vae/report.html").is_file()


def test_diffda_in_bfloat16(gpu: torch.device, diffda: dict[str, Path]) -> None:
    main(["fit", "--config", str(diffda["fit_48h"]), *BFLOAT16])
    require_finite("weights/48h.ckpt")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_vaevars_vae(
    precision: Any, gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, grid = vaevar.StateSpec(["t2m", "msl"], ["z", "u", "v"], [500, 850]), vaevar.Grid.gaussian(16)
    waves = torch.randn(24, len(spec), 8, 8, 2, dtype=torch.float64)
    errors = SphericalHarmonics(grid, 7, torch.float64).synthesise(torch.tril(torch.view_as_complex(waves)))
    data = vaevar.ErrorSamples(errors.float(), spec, grid, validation_fraction=0.25, batch_size=3)
    vaevar.estimate_covariance(data, lmax=6).save("b.nc")
    vae = vaevar.SpectralVAE("b.nc", widths=[8], variance_width=16, bands=[], warmup_steps=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    L.Trainer(accelerator="gpu", devices=1, max_epochs=2, precision=precision, **quiet).fit(vae, data)
    vae.save_weights("vae.ckpt", {"data": "waves"})
    w = torch.randn(1, *vae.latent_shape)
    expected = vaevar.SpectralVAE.load("vae.ckpt").decode(w)
    torch.testing.assert_close(vae.to(gpu).decode(w.to(gpu)).cpu(), expected, rtol=1e-3, atol=1e-3)

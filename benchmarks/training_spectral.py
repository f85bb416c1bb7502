"""The cost of a training step of VAE-Var's VAE: time, memory, floating-point operations.

    python benchmarks/training_spectral.py \
        --configs '[configs/spectral_vae.yaml,configs/era5_spectral_vae.yaml]' --batch_size 1

On a GPU add `--device cuda --precision bf16-mixed`. A step is forward, backward and optimiser, in Lightning's
trainer, with synthetic days and draws of B as errors. Peak memory is that of the process, and on a GPU what
torch has allocated there. Before the first step the fit is calibrated on draws of B, 16 at once, which takes
memory too: `peak_gb_before`.
"""

from __future__ import annotations

import statistics
from typing import Any, Literal

import lightning as L
import torch
from measuring import machine, peak_gb, try_results, work_of, write_results
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training import StepClock

from vaevar.data.observations.coverage import MAPS
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.scripts import instantiate, read_contents, run
from vaevar.standins.climate import typical_climate

Day = tuple[Tensor, Tensor, Tensor]


class SyntheticDays(L.LightningDataModule):
    """Equal batches of (background, error, coverage), physical units, [B, C or K, H, W] each.

    Args:
        vae: that they are for.
        batch_size: B.
        batches: how many.
    """

    coverage_maps = MAPS

    def __init__(self, vae: SpectralVAE, batch_size: int, batches: int) -> None:
        super().__init__()
        self.spec, self.grid, self.batches = vae.spec, vae.grid, batches
        self.background_mean, self.background_std = map(torch.from_numpy, typical_climate(vae.spec))
        random = torch.Generator().manual_seed(0)
        shape = (batch_size, len(vae.spec), *vae.grid.shape)
        std, mean = (x.float()[:, None, None] for x in (self.background_std, self.background_mean))
        self.day: Day = (
            mean + std * torch.randn(shape, generator=random),
            vae.sample(batch_size, random),
            torch.rand(batch_size, MAPS, *vae.grid.shape, generator=random),
        )

    def train_dataloader(self) -> DataLoader:
        return DataLoader(_Repeated(self.day, self.batches), batch_size=None)


class _Repeated(Dataset[Day]):
    def __init__(self, day: Day, times: int) -> None:
        self.day, self.times = day, times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> Day:
        return self.day


def main(
    configs: list[str],
    covariance: str | None = None,
    batch_size: int = 1,
    steps: int = 3,
    warm_up: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    json_path: str | None = None,
) -> None:
    """Measure, and print.

    Args:
        configs: of a fit, for its model; later files win.
        covariance: B's file, instead of the configs'.
        batch_size: samples in a step.
        steps: number of timed steps; the result is their median.
        warm_up: number of steps before them.
        device: cpu or cuda.
        precision: of Lightning's trainer.
        json_path: of the results.
    """
    try_results(json_path)
    contents = read_contents(configs)
    if covariance is not None:
        contents.append({"model": {"class_path": "SpectralVAE", "init_args": {"covariance": covariance}}})
    vae = instantiate(contents, model=SpectralVAE).model
    data, clock = SyntheticDays(vae, batch_size, warm_up + steps), StepClock(warm_up)
    trainer = L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu", devices=1, precision=precision,
        max_steps=warm_up + steps, limit_val_batches=0, logger=False, callbacks=[clock],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(vae, datamodule=data)
    peak = peak_gb()

    def step() -> None:
        background, errors, coverage = data.day
        scales = vae.day(background, coverage)
        y, score, _ = vae.day.scored(vae.transform.standardised(errors), scales)
        (score + vae.losses(vae._scaled(y.detach()))["loss"]).backward()

    work = work_of(step)
    timed = clock.timers[warm_up:]
    result: dict[str, Any] = {
        "config": configs,
        "covariance": vae.hparams["covariance"],
        "points": list(vae.grid.shape),
        "latent": list(vae.latent_shape),
        "parameters": sum(parameter.numel() for parameter in vae.parameters()),
        "batch_size": batch_size,
        "seconds": statistics.median(timer.seconds for timer in timed),
        "busy_seconds": statistics.median(timer.busy_seconds for timer in timed),
        "peak_gb": peak,
        "peak_gb_before": clock.before,
        "device_peak_gb": clock.device_peak,
        "precision": precision,
        "gflop": work.gflop,
        "gb_moved": work.gb,
        **machine(device),
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    write_results(json_path, result)


if __name__ == "__main__":
    run(main)

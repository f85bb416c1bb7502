"""The cost of a training step of the VAE: time, memory, floating-point operations, and its limit.

    python benchmarks/training.py --config configs/vae.yaml configs/era5_vae.yaml \
        --precision 32-true bf16-mixed --checkpoint_activations false true

At 0.25° add `configs/era5_vae_quarter_degree.yaml`; on a GPU add `--device cuda`. A step is forward, backward
and optimiser, in Lightning's trainer, with synthetic errors on the device. Each case runs in its own process.
Its time is compared with two lower limits: its matrix products and convolutions at the speed of one large
product in the same precision, and the bytes of all its operations at the speed of a copy. (A GPU uses
TensorFloat-32 for float32 convolutions by default, so their fraction can exceed 100 %.)
"""

from __future__ import annotations

import itertools
import json
import logging
import statistics
import sys
import warnings
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import ArgumentParser
from measuring import (
    Timer,
    Work,
    bandwidth_gb_per_s,
    device_peak_gb,
    forget_peak,
    in_own_process,
    machine,
    matmul_gflops,
    peak_gb,
    try_results,
    work_of,
    write_results,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vaevar.models.vae.vae import VAE
from vaevar.runs.stopping import install
from vaevar.scripts import instantiate, one_line_errors, read_contents
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

Precision = Literal["32-true", "bf16-mixed"]
DTYPES: dict[Precision, torch.dtype] = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def main(
    config: list[str],
    precision: list[Precision],
    checkpoint_activations: list[bool],
    compile: list[bool],
    batch_size: int | None = None,
    steps: int = 5,
    warm_up: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    json_path: str | None = None,
    alone: bool = False,
) -> None:
    """Measure each combination of precision, checkpointing and compilation.

    Args:
        config: of a fit, for its model and batch size; later files win.
        precision: of Lightning's trainer.
        checkpoint_activations: of the VAE.
        compile: of the VAE.
        batch_size: samples in a step, on each device.
        steps: number of timed steps; the result is their median.
        warm_up: number of steps before them.
        device: cpu or cuda.
        devices: number of GPUs, or of processes on a CPU, that train with DDP.
        json_path: of the results.
        alone: (for internal use) run the only combination in this process and print its result.
    """
    try_results(json_path)
    contents = read_contents(config)
    batches = [content.get("data", {}).get("init_args", {}).get("batch_size") for content in contents]
    size = batch_size or next((batch for batch in reversed(batches) if batch), 1)
    cases = list(itertools.product(precision, checkpoint_activations, compile))
    if alone:
        result = measure(contents, *cases[0], size, steps, warm_up, device, devices)
        print(json.dumps(result))
        return
    results = []
    for chosen, checkpointed, compiled in cases:
        arguments = ["--alone", True, "--config", *config, "--precision", chosen, "--batch_size", size]
        arguments += ["--checkpoint_activations", checkpointed, "--compile", compiled, "--steps", steps]
        arguments += ["--warm_up", warm_up, "--device", device, "--devices", devices]
        results.append(in_own_process(__file__, arguments))
        print(f"{label(results[-1])}: {results[-1]['seconds']:.3g} s a step", flush=True)
    report(results)
    write_results(json_path, {"config": config, "cases": results})


def measure(
    contents: list[dict[str, Any]],
    precision: Precision,
    checkpoint_activations: bool,
    compile: bool,
    batch_size: int,
    steps: int,
    warm_up: int,
    device: Literal["cpu", "cuda"],
    devices: int,
) -> dict[str, Any]:
    """Run one case in this process: seconds of a step, and peak memory of the process or its GPU."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    flags = {"checkpoint_activations": checkpoint_activations, "compile": compile}
    overlay = {"model": {"class_path": "vaevar.models.vae.vae.VAE", "init_args": flags}}
    vae = instantiate([*contents, overlay], model=VAE).model
    work = work_of_step(vae, DTYPES[precision], batch_size)
    clock = StepClock(warm_up)
    trainer = L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=precision,
        max_steps=warm_up + steps,
        limit_val_batches=0,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(vae, datamodule=SyntheticErrors(vae.spec, vae.grid, batch_size, devices * (warm_up + steps)))
    if not trainer.is_global_zero:
        sys.exit()
    timed = clock.timers[warm_up:]
    seconds = statistics.median(timer.seconds for timer in timed)
    busy = statistics.median(timer.busy_seconds for timer in timed)
    memory = {"peak_gb": peak_gb(), "peak_gb_before": clock.before, "device_peak_gb": clock.device_peak}
    # Use ``device``, since the trainer has moved the model back to the CPU.
    limits = {"matmul_gflops": matmul_gflops(device, DTYPES[precision])}
    limits["bandwidth_gb_per_s"] = bandwidth_gb_per_s(device)
    return {
        "points": list(vae.grid.shape),
        "latent": list(vae.latent_shape),
        "parameters": sum(parameter.numel() for parameter in vae.parameters()),
        "precision": precision,
        **flags,
        "batch_size": batch_size,
        "devices": devices,
        "seconds": seconds,
        "busy_seconds": busy,
        "first_seconds": clock.timers[0].seconds,
        "samples_per_s": devices * batch_size / seconds,
        **memory,
        "gflop": work.gflop,
        "gb_moved": work.gb,
        **limits,
        **work.shares(busy, *limits.values()),
        **machine(device),
    }


def work_of_step(vae: VAE, dtype: torch.dtype, batch_size: int) -> Work:
    """Work of a step, counted on the device "meta", as if in one precision and not compiled."""
    with torch.device("meta"):
        bare = VAE(**{**vae.hparams, "compile": False}).to(dtype).train()
        x = torch.empty(batch_size, len(bare.spec), *bare.grid.shape, dtype=dtype)

    def step() -> None:
        mean, log_variance = bare.encode(x)
        (bare.decode(mean.to(dtype)).sum() + log_variance.sum()).backward()

    return work_of(step)


class StepClock(L.Callback):
    """Times each step, and measures peak memory after the first ``warm_up`` steps.

    Attributes:
        timers: one for each step.
        before: peak memory of the process before the first step, in GB.
        device_peak: peak memory of a GPU, in GB.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.timers: list[Timer] = []
        self.before = 0.0
        self.device_peak: float | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.before = peak_gb()
        if batch_idx == self.warm_up:
            forget_peak(pl_module.device)
        self.timers.append(Timer(pl_module.device).__enter__())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.timers[-1].__exit__()
        self.device_peak = device_peak_gb(pl_module.device)


class SyntheticErrors(L.LightningDataModule):
    """White noise instead of normalised errors: ``batches`` equal batches, float32 [B, C, H, W]."""

    def __init__(self, spec: StateSpec, grid: Grid, batch_size: int, batches: int) -> None:
        super().__init__()
        self.spec, self.grid, self.batch_size, self.batches = spec, grid, batch_size, batches
        self.error_std = torch.ones(len(spec), grid.shape[0], 1)

    def train_dataloader(self) -> DataLoader:
        batch = torch.randn(self.batch_size, len(self.spec), *self.grid.shape)
        return DataLoader(_Repeated(batch, self.batches), batch_size=None)


class _Repeated(Dataset[Tensor]):
    def __init__(self, batch: Tensor, times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> Tensor:
        return self.batch


def label(result: dict[str, Any]) -> str:
    """The name of a case."""
    extras = [name for name in ("checkpoint_activations", "compile") if result[name]]
    return ", ".join([result["precision"], *extras])


def report(results: list[dict[str, Any]]) -> None:
    """Print the table, with ratios to the first case, and the limits."""
    first = results[0]
    clock = "processor s" if first["device"] == "cpu" else "busy s"
    table = Table(
        "case",
        "s / step",
        clock,
        "samples/s",
        "peak GB",
        "GFLOP",
        "of matmul",
        "of copy",
        "time ×",
        "memory ×",
    )
    for result in results:
        table.add_row(
            label(result),
            f"{result['seconds']:.3g}",
            f"{result['busy_seconds']:.3g}",
            f"{result['samples_per_s']:.3g}",
            f"{memory_of(result):.2f}",
            f"{result['gflop']:.4g}",
            f"{result['of_matmul']:.0%}",
            f"{result['of_bandwidth']:.0%}",
            f"{result['busy_seconds'] / first['busy_seconds']:.2f}",
            f"{memory_of(result) / memory_of(first):.2f}",
        )
    Console(width=120).print(table)
    points = " × ".join(map(str, first["points"]))
    print(
        f"{points} points, {first['batch_size']} samples a step, {first['parameters'] / 1e6:.1f} M parameters"
    )
    for result in results:
        print(f"{label(result)}: {limit(result)}")


def memory_of(result: dict[str, Any]) -> float:
    """Peak memory in GB, of the GPU if there is one, otherwise of the process."""
    return result["peak_gb"] if result["device_peak_gb"] is None else result["device_peak_gb"]


def limit(result: dict[str, Any]) -> str:
    """What limits a step, from the lower limits of its time."""
    calculating, moving = result["of_matmul"], result["of_bandwidth"]
    rest = 1 - max(calculating, moving)
    binding = "arithmetic" if calculating > moving else "memory bandwidth"
    text = f"the limit is {binding}: products take {calculating:.0%} of the time at the device's best speed, "
    text += f"moving the bytes of all operations {moving:.0%}"
    if rest > 0.5:
        text += "; more than half is something else: small products, launches, layouts"
    return text


if __name__ == "__main__":
    install()
    parser = ArgumentParser(description=__doc__)
    several: dict[str, tuple[Any, list[Any], str]] = {
        "config": (str, ["configs/vae.yaml"], "of a fit; later files win"),
        "precision": (Precision, ["32-true"], "of Lightning's trainer: 32-true, bf16-mixed"),
        "checkpoint_activations": (bool, [False], "of the VAE"),
        "compile": (bool, [False], "of the VAE"),
    }
    for name, (kind, default, text) in several.items():
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=default, help=text)
    parser.add_function_arguments(main, skip=set(several))
    with one_line_errors():
        main(**parser.instantiate(parser.parse_args()))

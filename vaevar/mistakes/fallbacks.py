"""A GPU that lies idle, and a precision that it lacks: said with the remedy, as results come anyhow."""

from __future__ import annotations

import os
from pathlib import Path

import lightning as L
import torch

from vaevar.mistakes.notices import notice
from vaevar.mistakes.words import setting

# Where the driver of NVIDIA's GPUs shows the first of them, whatever torch can do with it.
_GPU = Path("/dev/nvidia0")


def tell_fallbacks(trainer: L.Trainer) -> None:
    """Say what a trainer computes on or with less than it could.

    Args:
        trainer: just made.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    if _GPU.exists() and not hidden and not torch.cuda.is_available():
        if torch.version.cuda is None:
            cause, remedy = "is built for CPUs", "install a build for CUDA (pytorch.org/get-started)"
        else:
            cause, remedy = f"cannot use it with CUDA {torch.version.cuda}", "see nvidia-smi for the driver"
        notice(f"a GPU is there, but torch {torch.__version__} {cause}, and computes on the CPU: {remedy}")
    device, precision = trainer.strategy.root_device, str(trainer.precision)
    if device.type == "cuda" and precision.startswith("bf16") and not has_bfloat16(device):
        notice(
            f"{setting('trainer.precision')} is {precision}, which this GPU "
            f"({torch.cuda.get_device_name(device)}) only emulates: give 16-mixed, or leave it at 32-true"
        )


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, and so faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = getattr(torch.cpu, "get_capabilities", None)  # not in the oldest torch that will do
    if device.type != "cpu" or known is None:
        return False
    return any(known().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))

"""How many processes a command runs in: none that has nothing to do, or waits for others that never come."""

from __future__ import annotations

import os

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    LSFEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from vaevar.errors import UserError
from vaevar.mistakes.notices import notice

# They start the processes themselves, as many as their user said to them.
_LAUNCHERS = (SLURMEnvironment, TorchElasticEnvironment, LSFEnvironment)


def share_among(arms: int, trainer: Namespace) -> None:
    """Start no more processes than there are arms to share out: the others would only take memory.

    Args:
        arms: of the cycle.
        trainer: its settings; ``devices`` is changed in place, which is told.
    """
    devices = trainer.get("devices")
    # Lightning takes "0,3" for a list, too. What is no number is left to it.
    listed = devices if isinstance(devices, list) else str(devices).removesuffix(",").split(",")
    if arms < 1 or not all(str(device).strip().isdecimal() for device in listed):
        return
    numbers = [int(device) for device in listed]
    is_list = isinstance(devices, list) or "," in str(devices)
    asked = len(numbers) if is_list else numbers[0]
    if asked <= arms or any(launcher.detect() for launcher in _LAUNCHERS):
        return
    trainer.devices = numbers[:arms] if is_list else arms
    if "LOCAL_RANK" in os.environ:  # said by the process that has started this one
        return
    notice(
        f"trainer.devices is {devices}, but there are {arms} arms in model.init_args.arms, and each has one "
        f"process: {arms} are started; give --trainer.devices {arms}"
    )


def require_nodes(trainer: L.Trainer) -> None:
    """Check that a trainer of several nodes knows which one it is; it would wait for the others for long.

    Raises:
        UserError: when nothing in the environment says it.
    """
    cluster = trainer._accelerator_connector.cluster_environment
    ranked = "MASTER_ADDR" in os.environ and {"NODE_RANK", "GROUP_RANK"} & os.environ.keys()
    if trainer.num_nodes > 1 and isinstance(cluster, LightningEnvironment) and not ranked:
        raise UserError(
            f"trainer.num_nodes is {trainer.num_nodes}, but nothing says which node this is: start the "
            "command with srun or torchrun, set MASTER_ADDR and NODE_RANK on each node, or leave it out"
        )

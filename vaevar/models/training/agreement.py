"""Whether a checkpoint and the command that uses it agree: what differs is told, or refused where it is lost.

A model is made as the command says and then takes the weights of the checkpoint, and a fit its optimiser's
state. So settings of the loss, of the schedule, of callbacks and of the data are used as they are given, and
it is said where the checkpoint was trained with others. Sizes of a network, what the optimiser's state holds,
and the normalisation that the weights were trained for are the checkpoint's, and must be the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from vaevar.content.kinds import model_of

# What the state of an optimiser brings with it. The rate of the moment follows from the schedule.
_OF_AN_OPTIMISER = ("initial_lr", "weight_decay", "betas", "eps", "momentum", "amsgrad", "maximize")


def other_model(content: Mapping[str, Any], module: L.LightningModule) -> str:
    """The class whose checkpoint it is, if that is not the module's; else empty."""
    found = model_of(dict(content))
    return found if found is not None and found != type(module).__name__ else ""


def other_settings(content: Mapping[str, Any], module: L.LightningModule) -> list[str]:
    """Arguments of the module that are not those of the checkpoint, with both values."""
    there = {name: _plain(value) for name, value in (content.get("hyper_parameters") or {}).items()}
    now = {name: _plain(value) for name, value in module.hparams.items()}
    common = [name for name in now if name in there and not name.startswith("_")]
    return [_both(name, there[name], now[name]) for name in common if there[name] != now[name]]


def other_normalisation(module: L.LightningModule, data: L.LightningDataModule | None) -> list[str]:
    """What the module, with the weights of a checkpoint, and the data scale by, where it is not the same.

    Args:
        module: its buffers are named as the data module's attributes, or as those of its normaliser.
        data: set up.
    """
    holders = [data, getattr(data, "normalizer", None)]
    found = []
    for name, buffer in [*module.named_buffers(recurse=False), *_of_network(module)]:
        values = next((getattr(holder, name) for holder in holders if hasattr(holder, name)), None)
        if not isinstance(values, Tensor | int | float):
            continue
        mine, other = buffer.detach().cpu().double(), torch.as_tensor(values).detach().cpu().double()
        if mine.numel() != other.numel():
            found.append(f"{name}: {tuple(mine.shape)} in the checkpoint, {tuple(other.shape)} of the data")
            continue
        mine, other = mine.flatten(), other.flatten()
        differing = (~torch.isclose(mine, other, rtol=1e-5, atol=0.0)).nonzero()
        if len(differing):
            first = int(differing[0])
            place = f"[{first}]" if len(mine) > 1 else ""
            found.append(_both(f"{name}{place}", f"{mine[first]:.6g}", f"{other[first]:.6g}"))
    return found


def other_optimisers(there: Sequence[Mapping[str, Any]], now: Sequence[torch.optim.Optimizer]) -> list[str]:
    """Settings of optimisers that are not those of their states in a checkpoint, with both values."""
    found: dict[str, None] = {}
    for state, optimiser in zip(there, now, strict=False):
        for before, asked in zip(state.get("param_groups", []), optimiser.param_groups, strict=False):
            names = _OF_AN_OPTIMISER if "initial_lr" in asked else ("lr", *_OF_AN_OPTIMISER[1:])
            for name in names:
                if name in before and name in asked and _plain(before[name]) != _plain(asked[name]):
                    label = "learning rate" if name in ("initial_lr", "lr") else name
                    found[_both(label, before[name], asked[name])] = None
    return list(found)


def settings_of_callbacks(callbacks: Sequence[L.Callback]) -> list[dict[str, Any]]:
    """Arguments of the constructor of each, as far as they are plain values that it keeps by their names."""
    return [
        {name: value for name in inspect.signature(type(callback)).parameters
         if isinstance(value := getattr(callback, name, callback), int | float | str | None)}
        for callback in callbacks
    ]  # fmt: skip


def take_back(callbacks: Sequence[L.Callback], asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give callbacks the settings again that they had before a checkpoint brought others.

    Args:
        callbacks: with their state from the checkpoint, such as the patience of ``EarlyStopping``.
        asked: of :func:`settings_of_callbacks`, before.

    Returns:
        Those that differed, with both values.
    """
    found = []
    for callback, settings in zip(callbacks, asked, strict=True):
        for name, value in settings.items():
            if (there := getattr(callback, name)) != value:
                setattr(callback, name, value)
                found.append(_both(f"{name} of {type(callback).__name__}", there, value))
    return found


def _of_network(module: L.LightningModule) -> list[tuple[str, Tensor]]:
    network = getattr(module, "network", None)
    return list(network.named_buffers(recurse=False)) if isinstance(network, torch.nn.Module) else []


def _both(name: str, there: Any, now: Any) -> str:
    return f"{name}: {there} in the checkpoint, {now} now"


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

"""Whether a command line begins with a command, and whether the config is one for that command."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import lightning as L

from vaevar.errors import UserError

# What a command asks of its model, and of its data.
_NEEDS = {
    "fit": ("training_step", "train_dataloader"),
    "validate": ("validation_step", "val_dataloader"),
    "test": ("test_step", "test_dataloader"),
    "predict": ("predict_step", "predict_dataloader"),
}


def require_words(words: Sequence[str]) -> None:
    """Check that a command line begins with a command, or asks for help.

    Args:
        words: of the command line.

    Raises:
        UserError: when it begins with anything else; it says what was meant.
    """
    if words and words[0] not in (*_NEEDS, "-h", "--help"):
        known = (*_NEEDS, "init")
        if given := next((word for word in words if word in _NEEDS), None):
            raise UserError(f"{words[0]}: the command comes first: begin with `{given}`")
        near = difflib.get_close_matches(words[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(known)}"
        raise UserError(f"{words[0]}: no such command; {hint}")


def require_command(command: str, model: type, data: type | None) -> None:
    """Check that a model and its data can do what a command asks of them.

    Args:
        command: such as ``fit``.
        model: the class of the model.
        data: the class of the data module, if there is one.

    Raises:
        UserError: when one cannot; it names the commands that are possible.
    """
    step, loader = _NEEDS[command]
    if not _has_step(model, step):
        fault = f"{model.__name__} has no {step}"
    elif data is not None and not _has(data, loader):
        fault = f"{data.__name__} has no {loader}"
    elif data is None and not _has(model, loader):
        raise UserError(f"data is missing: {command} of {model.__name__} needs a data module with {loader}")
    else:
        return
    possible = [
        name
        for name, (other, loads) in _NEEDS.items()
        if _has_step(model, other) and (data is None or _has(data, loads))
    ]
    hint = f"it is one for `{possible[0]}`" if possible else "see the commands at the head of configs/*.yaml"
    raise UserError(f"this is no config for {command}: {fault}; {hint}")


def _has_step(model: type, name: str) -> bool:
    # Lightning's own predict_step calls the model, which is no cycle and makes no samples.
    inherited = name == "predict_step" and model.__module__.partition(".")[0] != "vaevar"
    return inherited or _has(model, name)


def _has(cls: type, name: str) -> bool:
    """Whether a class defines a hook that Lightning's base classes only declare."""
    hook = getattr(cls, name, None)
    bases = (L.LightningModule, L.LightningDataModule)
    return hook is not None and all(hook is not getattr(base, name, None) for base in bases)

"""What Lightning, torch or the machine refuse: said with the setting, and with what to do."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from vaevar.errors import one_line

_LIGHTNING = Path(lightning.__file__).parent
_REFUSALS = (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException)
# The function that a setting is given to, by its file and its name.
_SECTIONS = {
    ("trainer.py", "__init__"): "trainer",
    ("seed.py", "seed_everything"): "seed_everything",
    ("cli.py", "instantiate_class"): "optimizer, lr_scheduler",
}
_HINTS = {
    "No supported gpu backend": "torch finds no GPU here; leave trainer.accelerator out, or give cpu",
    "transformer_engine": "or leave trainer.precision at 32-true, or give bf16-mixed",
    "numpy accepts from": "give a number in these bounds",
    "is not a valid duration": "such as 00:03:00:00 for three hours",
    "requested gpu": "give fewer --trainer.devices, or leave it out",
    "could not find the monitored key": "give one of them as monitor in trainer.callbacks",
    "Early stopping conditioned on metric": "give one of them as monitor in trainer.callbacks",
    "barebones": "leave barebones out",
}
_MEMORY = "give a smaller data.init_args.batch_size, fewer arms, or a machine with more memory"


def refusal_of_machine(error: BaseException) -> str | None:
    """One line for what the machine, its packages or compilers cannot do; None for any other error."""
    module, text = type(error).__module__, one_line(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "vaevar").partition(".")[0]
        if package != "vaevar":
            return (
                f"this needs the package {package}, which is not installed: in a clone `make install` makes "
                ".venv with all that vaevar needs; elsewhere install it with pip"
            )
    if module == "torch.distributed":
        return f"the processes of this run cannot reach each other: {text}"
    if module.startswith(("torch._inductor", "torch._dynamo")):
        return f"torch.compile fails here ({text[:200]}); set model.init_args.compile to false"
    if isinstance(error, torch.OutOfMemoryError):
        return f"the memory of the GPU is full ({text[:200]}); {_MEMORY}"
    if isinstance(error, MemoryError):
        return f"the memory of this machine is full{f' ({text})' if str(error) else ''}; {_MEMORY}"
    return None


def refusal_of_trainer(error: BaseException) -> str | None:
    """One line for what Lightning raised about a setting or about its surroundings; None for any other."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [Path(frame.f_code.co_filename) for frame in frames]
    raised_in = [path for path in paths if path.name not in ("<frozen os>", "os.py")]
    if isinstance(error, MisconfigurationException) and not raised_in:
        return one_line(error)
    inside = [path.is_relative_to(_LIGHTNING) for path in paths]
    names = [(path.name, frame.f_code.co_name) for path, frame in zip(paths, frames, strict=True)]
    section = next(
        (_SECTIONS[name] for name, lightnings in zip(names, inside, strict=True)
         if lightnings and name in _SECTIONS), "",
    )  # fmt: skip
    if not section and not (raised_in and raised_in[-1].is_relative_to(_LIGHTNING)):
        return None
    if isinstance(error, KeyError):
        return f"Lightning found no {error} (an environment variable that a cluster's launcher sets?)"
    if not isinstance(error, _REFUSALS):
        return None
    text = re.sub(r" object at 0x[0-9a-f]+", "", one_line(error))
    hint = next((f"; {hint}" for sign, hint in _HINTS.items() if sign in text), "")
    return f"{section}: {text.rstrip('.!')}{hint}" if section else f"{text}{hint}"

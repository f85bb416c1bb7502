"""Weight files: hyperparameters, weights and provenance, without the optimiser's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import lightning as L
import numpy as np
from torch import Tensor

from vaevar.content.kinds import model_of, what_holds, what_is
from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError
from vaevar.files import save_tensors
from vaevar.models.training.shared_weights import KEY, with_shared
from vaevar.runs.expansion import expand_path
from vaevar.shipped import missing_weights, typed
from vaevar.state import StateSpec


class SavedModule(L.LightningModule):
    """A module whose weights are kept in a small file, from which it can be made again.

    Attributes:
        weights_format: the name of the file's format.
        kind: what the module is, for messages.
        training_config: the config that trains one.
        judged: entries of the state that are statistics of channels, and what judges them.
    """

    spec: StateSpec
    weights_format: ClassVar[str]
    kind: ClassVar[str]
    training_config: ClassVar[str]
    judged: ClassVar[Mapping[str, Callable[[str, np.ndarray, StateSpec], None]]] = {}

    @staticmethod
    def stored(name: str, values: Tensor) -> Tensor:
        """What is kept of an entry of the state, such as a lower precision; by default all."""
        return values

    def save_weights(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        """Write hyperparameters, weights and provenance.

        Args:
            path: the file.
            provenance: plain values (command, data, scores) to keep with the weights.
        """
        write_weights(path, self, self.weights_format, provenance, self.stored)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save_weights` wrote, or an ordinary checkpoint of a fit; on the CPU.

        Raises:
            UserError: when the file is missing, damaged, or of another model.
        """
        content = cls.read(path)
        try:
            model = cls(**cls.arguments(path, content))
        except TypeError as error:
            found = what_holds(content)
            raise UserError(f"{path}: not a checkpoint of this {cls.kind} but {found} ({error})") from None
        except (UserError, ValueError, ArithmeticError) as error:
            raise UserError(f"{path}: its hyperparameters make no {cls.kind}: {error}") from None
        model.take_weights(path, content)
        return model.eval()

    @classmethod
    def arguments(cls, path: str | Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a module is made again with; by default its hyperparameters.

        Args:
            path: of the file.
            content: of the file.
        """
        return dict(content["hyper_parameters"])

    @classmethod
    def read(cls, path: str | Path) -> dict[str, Any]:
        """The content of such a file, as :func:`read_weights` has it."""
        content = read_weights(path, cls.weights_format, cls.hint())
        if content.get("model", cls.__name__) != cls.__name__:
            raise UserError(
                f"{path}: is a checkpoint of {content['model']}, expected one of {cls.__name__}; {cls.hint()}"
            )
        return content

    @classmethod
    def hint(cls) -> str:
        """How to get such a file."""
        return f"train one with `{typed(f'fit --config {cls.training_config}')}`"

    def take_weights(self, path: str | Path, content: Mapping[str, Any]) -> None:
        """Load the weights of a file into this module.

        Raises:
            UserError: when they are of a module of another shape, or of other channels.
        """
        try:
            self.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: not a checkpoint of this {self.kind} ({reason})") from None
        self.require_finite(path)
        state = self.state_dict()
        statistics = {
            name: state[name].double().cpu().numpy().reshape(len(self.spec), -1)
            for name in self.judged
            if name in state
        }
        # Before a fit, means are 0 and stds 1.
        if all((x == (0.0 if name.endswith("mean") else 1.0)).all() for name, x in statistics.items()):
            return
        for name, values in statistics.items():
            for extreme in (values.min(1), values.max(1)):
                self.judged[name](f"{path}: {name}", extreme, self.spec)

    def require_finite(self, path: str | Path) -> None:
        """Refuse weights that are not numbers.

        Args:
            path: of their file, for the message.

        Raises:
            UserError: when one is not finite.
        """
        for name, weights in self.state_dict().items():
            if weights.is_floating_point() and not bool(weights.isfinite().all()):
                raise UserError(
                    f"{path}: {name} is not finite: the fit diverged (give a smaller learning rate), or a "
                    "sample or the file is damaged"
                )


def write_weights(
    path: str | Path,
    module: L.LightningModule,
    kind: str,
    provenance: Mapping[str, Any],
    convert: Callable[[str, Tensor], Tensor] = lambda name, values: values,
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Write a module's weights; the file appears whole or not at all.

    Args:
        path: the file.
        module: a module whose ``hparams`` are the arguments of its constructor.
        kind: the format that :func:`read_weights` expects in the file.
        provenance: plain values (command, data, scores) to keep with the weights.
        convert: from the name and values of an entry of the state to the values to write, such as float16.
        shared: what an ONNX file beside it holds, so that it need not
            (:mod:`vaevar.models.training.shared_weights`).
    """
    path = Path(path)
    elsewhere = shared["weights"] if shared else {}
    content = {
        "format": kind,
        "hyper_parameters": _plain(dict(module.hparams)),
        "state_dict": {
            name: convert(name, values.detach().cpu()).contiguous()
            for name, values in module.state_dict().items()
            if name not in elsewhere
        },
        "provenance": _plain(provenance),
    } | ({KEY: dict(shared)} if shared else {})
    save_tensors(path, content)


def read_weights(path: str | Path, kind: str, hint: str) -> dict[str, Any]:
    """Read a weight file, or an ordinary checkpoint of a fit, onto the CPU.

    Args:
        path: the file.
        kind: as in :func:`write_weights`.
        hint: what to do if the file is missing.

    Returns:
        ``hyper_parameters``, ``state_dict``, and what else the file holds; ``model``, the name of the class,
        if the file says it.

    Raises:
        UserError: when the file is missing, damaged or of another kind.
    """
    path = expand_path(str(path))
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint; {hint}{missing_weights(path)}")
    try:
        content = read_tensors(path)
    except Exception as error:  # unpickling raises exceptions of many kinds; each means "not a checkpoint"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: cannot be read as a checkpoint: it is {what_is(path)} ({reason}); {hint}"
        ) from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise UserError(f"{path}: not a checkpoint: it is {what_holds(content)}; {hint}")
    if content.get("format", kind) != kind:
        raise UserError(f"{path}: is a {content['format']}, {what_holds(content)}; expected a {kind}; {hint}")
    if model := model_of(content):
        content["model"] = model
    content["hyper_parameters"] = _plain(content["hyper_parameters"])
    return with_shared(path, content)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, without the keys that the command line adds."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if not key.startswith("_")
    }

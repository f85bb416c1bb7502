"""FengWu, or any ONNX forecaster with its contract, with a gradient: its network is converted to torch."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from vaevar.content.onnx_file import weights_beside
from vaevar.errors import UserError, first_line
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.forecaster.gradient import NetworkForecaster, beside, require_plain
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

# Between the converted network and ONNX Runtime, rms over the sphere by channel, in stds. A state changes by
# some tenths of a std in 6 h; float32 differs by 1e-6 of it, reduced precision on a GPU by 1e-4.
TOLERANCE = 1e-3
# The parts of onnx2torch that need torchvision: two operators of object detection.
_NEED_TORCHVISION = ("onnx2torch.node_converters.nms", "onnx2torch.node_converters.roialign")


class ConvertedForecaster(NetworkForecaster):
    """An ONNX model of FengWu's contract as a torch network, through the library onnx2torch.

    In its first step it is compared with ONNX Runtime, on the very states. The forecaster can be pickled; the
    new process converts the file again.

    Args:
        model, mean, std, spec, grid, shape, step_hours: as for
            :class:`~vaevar.models.forecaster.fengwu.OnnxForecaster`.
        checkpointing: keep only the states of a trajectory for its gradient, and make each step again on the
            way back: less memory, and a third more time. Needed at 721 × 1440.

    Raises:
        UserError: as for ``OnnxForecaster``; when onnx2torch is not installed, or cannot convert an operator.
    """

    def __init__(
        self,
        model: str | Path,
        mean: str | Path,
        std: str | Path,
        spec: StateSpec | None = None,
        grid: Literal["auto", "equiangular", "gaussian", "cells", "regular"] = "auto",
        shape: tuple[int, int] | None = None,
        step_hours: int = 6,
        checkpointing: bool = False,
    ) -> None:
        self._onnx = OnnxForecaster(model, mean, std, spec, grid, shape, step_hours)
        self.spec, self.grid, self.step_hours = self._onnx.spec, self._onnx.grid, step_hours
        self.normalizer = Normalizer.load(mean, std, self.spec)
        self.checkpointing = checkpointing
        self._network: nn.Module | None = converted(self._onnx.model)
        self._compared = False

    @property
    def description(self) -> str:
        """The file's name and checksum, which tell results of different forecasters apart."""
        return self._onnx.description

    @property
    def normalisation(self) -> str:
        """A digest of the mean and std files, which the description leaves out."""
        return self._onnx.normalisation

    def step(self, states: Tensor) -> Tensor:
        """One step forward, differentiable.

        Args:
            states: [B, 2, C, H, W], physical units, t − ``step_hours`` and then t.

        Returns:
            [B, C, H, W], physical units, t + ``step_hours``.

        Raises:
            ValueError: when ``states`` has another shape, and for a first step within ``torch.func``.
            UserError: when the network fails, or a forecast without gradient is not finite; in the first step
                also when it differs from ONNX Runtime's, or the mean and std files do not fit the states.
            FloatingPointError: on the way back, when the gradient is not finite.
        """
        if not self._compared:
            require_plain(states)
            self._compare(states.detach())
        forecast = super().step(states)
        if not forecast.requires_grad:  # a minimisation may try states from which it turns back
            self._onnx.check_finite(forecast, states)
        return forecast

    def following(self, normalised: Tensor) -> Tensor:
        if self._network is None:
            self._network = converted(self._onnx.model)
        network, count = beside(self._network, normalised), len(self.spec)
        at_once = self._onnx.at_once(normalised)
        try:
            parts = [network(part)[:, :count] for part in normalised.split(at_once)]
        except (RuntimeError, TypeError, ValueError, IndexError) as error:  # of whatever the operators call
            raise UserError(
                f"{self._onnx.model}: converted by onnx2torch, the forecast failed ({first_line(error)})"
            ) from None
        return torch.cat(parts)

    def _compare(self, states: Tensor) -> None:
        """Check that the network forecasts what ONNX Runtime does from the states [B, 2, C, H, W]."""
        expected = self._onnx.step(states)
        self._onnx.close()  # no memory for two networks
        with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
            difference = (super().step(states) - expected) / self.normalizer.std
        rms = difference.square().mean((0, 2, 3)).sqrt().nan_to_num(nan=torch.inf)
        worst = int(rms.argmax())
        name = self.spec.names[worst]
        if rms[worst] > TOLERANCE:
            raise UserError(
                f"{self._onnx.model}: converted by onnx2torch, its first forecast of {name} "
                f"differs from ONNX Runtime's by {float(rms[worst]):.2g} stds, expected at most "
                f"{TOLERANCE:g}: an operator is not converted as it is meant; export the model with another "
                "opset, or take OnnxForecaster, which has no gradient"
            )
        self._compared = True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_network": None}


def converted(path: Path) -> nn.Module:
    """An ONNX model as a torch module, in evaluation mode and without gradients of its weights.

    Args:
        path: of a file that ONNX Runtime opens.

    Raises:
        UserError: when onnx2torch is not installed or cannot convert the model; names the operators.
    """
    library = _onnx2torch(path)
    # By its path onnx2torch takes models of over 2 GB too, but needs to write beside them.
    model = str(path) if weights_beside(path) else onnx.load(str(path))
    try:
        network: nn.Module = library.convert(model)
    except Exception as error:  # converters raise exceptions of many kinds
        operators = _without_converter(model)
        what = f"the operators {', '.join(operators)}" if operators else "it"
        raise UserError(
            f"{path}: onnx2torch cannot convert {what} ({type(error).__name__}: {first_line(error)}); export "
            "the model with another opset (11 to 17), or take OnnxForecaster, which has no gradient"
        ) from None
    from onnx2torch.node_converters.slice import OnnxSlice

    slices = [name for name, module in network.named_modules() if isinstance(module, OnnxSlice)]
    for name in slices:
        network.set_submodule(name, _Slice())
    return network.eval().requires_grad_(False)


class _Slice(nn.Module):
    """ONNX's Slice, in place of onnx2torch's, which fails within ``torch.func`` and indexes as torch soon no
    longer will."""

    def forward(
        self, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        along = range(len(starts)) if axes is None else axes.tolist()
        strides = [1] * len(starts) if steps is None else steps.tolist()
        cut = [slice(None)] * x.ndim
        for axis, start, end, stride in zip(along, starts.tolist(), ends.tolist(), strides, strict=True):
            if stride < 0:
                x = x.flip(axis)
                start, end, stride = -start - 1, -end - 1, -stride
            cut[axis] = slice(start, end, stride)
        return x[tuple(cut)]


def _onnx2torch(path: Path) -> ModuleType:
    if find_spec("onnx2torch") is None:
        raise UserError(
            f'{path}: its gradient needs onnx2torch: pip install "vaevar[gradient]"; beside a CPU build of '
            "torch: pip install --no-deps onnx2torch"
        )
    if find_spec("torchvision") is None:
        # PyPI's torchvision beside a torch without CUDA fails on import, and takes Lightning along. Without
        # these two modules, whose operators no forecaster has, nothing else of onnx2torch asks for it.
        for name in _NEED_TORCHVISION:
            sys.modules.setdefault(name, ModuleType(name))
    return importlib.import_module("onnx2torch")


def _without_converter(source: str | onnx.ModelProto) -> list[str]:
    """The operators of a model that onnx2torch does not take, with their opset, each once."""
    from onnx2torch.node_converters import get_converter
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.utils.safe_shape_inference import safe_shape_inference

    try:
        model = safe_shape_inference(source)
    except Exception:  # which is then what is said of the model
        return []
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    failing: dict[str, None] = {}
    graph = OnnxGraph(model.graph)
    for node in graph.nodes.values():
        opset = opsets.get(node.domain, 1)
        try:
            get_converter(domain=node.domain, operation_type=node.operation_type, version=opset)(node, graph)
        except Exception:
            failing[f"{node.operation_type} of opset {opset}"] = None
    return list(failing)

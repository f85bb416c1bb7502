"""An ONNX model that reads and writes torch tensors in place, on a CPU or a GPU, through ONNX Runtime.

Nothing in this file depends on what the model computes: a forecaster with another contract than FengWu's
can use it as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from vaevar.content.kinds import ONNX_MODEL, what_is
from vaevar.content.onnx_file import weights_beside
from vaevar.errors import UserError, first_line
from vaevar.mistakes.notices import notice
from vaevar.shipped import missing_weights

_CUDA = "CUDAExecutionProvider"
_WITHOUT_CUDA = (
    f"this ONNX Runtime ({ort.__version__}) is built without CUDA: pip uninstall onnxruntime, and "
    "pip install onnxruntime-gpu"
)


@dataclass(frozen=True)
class Node:
    """An input or output of a model.

    Attributes:
        name: its name in the file.
        type: such as ``tensor(float)``.
        shape: one entry per axis; not an int where the file leaves the size open.
    """

    name: str
    type: str
    shape: tuple[Any, ...]


class OnnxSession:
    """An opened ONNX file.

    It can be pickled: the new process opens the file again at the first :meth:`run`.

    Args:
        path: the ``.onnx`` file.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": a GPU if there is one.
        threads: CPU threads of one run. None: as many as torch uses.

    Attributes:
        device: where the model reads and writes tensors.
        inputs, outputs: the nodes of the model.
        metadata: the custom metadata in the file.

    Raises:
        UserError: when the file is missing or no ONNX model, its weights are missing or lie outside of its
            folder, or the device cannot be used.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; give the path of the forecaster's .onnx file{missing_weights(path)}"
            )
        weights_beside(path)
        self.path = path
        self._threads = threads
        self._automatic = device == "auto"
        self.device = _choose_device(device)
        session = self._open()
        self._session: ort.InferenceSession | None = session
        self.inputs = [Node(node.name, node.type, tuple(node.shape)) for node in session.get_inputs()]
        self.outputs = [Node(node.name, node.type, tuple(node.shape)) for node in session.get_outputs()]
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def follow(self, device: torch.device) -> None:
        """Move to the GPU of the data, if the device was chosen automatically."""
        if self._automatic and device.type == self.device.type == "cuda" and device != self.device:
            self.device, self._session = device, None
        if self._session is None:
            self._session = self._open()

    def close(self) -> None:
        """Free the model's memory; the next run opens the file again."""
        self._session = None

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Let the model read ``inputs`` and write ``outputs`` in place.

        Args:
            inputs, outputs: contiguous float32 tensors on :attr:`device`, by the names of their nodes.

        Raises:
            UserError: when ONNX Runtime fails.
        """
        binding = self._bound(inputs)
        for name, tensor in outputs.items():
            self._bind(binding.bind_output, name, tensor)
        self._run(binding)

    def run_allocating(self, inputs: Mapping[str, Tensor], name: str) -> Tensor:
        """Let the model read ``inputs``, and make one output of a size that the file does not say.

        It comes by way of the CPU: once the size is known, :meth:`run` is faster.

        Args:
            inputs: as for :meth:`run`.
            name: of the output.

        Raises:
            UserError: when ONNX Runtime fails.
        """
        binding = self._bound(inputs)
        binding.bind_output(name, "cpu")
        self._run(binding)
        return torch.from_numpy(binding.copy_outputs_to_cpu()[0]).to(self.device)

    def _bound(self, inputs: Mapping[str, Tensor]) -> ort.IOBinding:
        if self._session is None:
            self._session = self._open()
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            self._bind(binding.bind_input, name, tensor)
        return binding

    def _bind(self, bind: Callable[..., None], name: str, tensor: Tensor) -> None:
        index = self.device.index or 0
        bind(name, self.device.type, index, np.float32, tuple(tensor.shape), tensor.data_ptr())

    def _run(self, binding: ort.IOBinding) -> None:
        assert self._session is not None
        if self.device.type == "cuda":
            # ONNX Runtime has its own stream: wait until torch has written the inputs.
            torch.cuda.current_stream(self.device).synchronize()
        try:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UserError(f"{self.path}: the forecast failed ({first_line(error)})") from None

    def _open(self) -> ort.InferenceSession:
        """Open the file on the device; on the CPU if an automatically chosen GPU fails."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait keep torch's, and other programs', from working.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.device.type == "cpu":
            # The arena grows by powers of two and is never released: gigabytes at 721 × 1440.
            options.enable_cpu_mem_arena = False
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device.type == "cuda":
            # Take no more GPU memory than needed: torch uses the same GPU.
            settings = {"device_id": self.device.index or 0, "arena_extend_strategy": "kSameAsRequested"}
            providers.insert(0, (_CUDA, settings))
        try:
            session = ort.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UserError(_not_opened(self.path, error)) from None
        if self.device.type == "cuda" and _CUDA not in session.get_providers():
            message = (
                f"{self.path}: ONNX Runtime {ort.__version__} cannot use this GPU; its CUDA major "
                f"version must be torch's ({torch.version.cuda})"
            )
            if not self._automatic:
                raise UserError(message)
            notice(f"{message}; the forecaster runs on the CPU")
            self.device, self._automatic = torch.device("cpu"), False
        return session

    def __getstate__(self) -> dict[str, Any]:
        # ONNX Runtime's session cannot be pickled.
        return self.__dict__ | {"_session": None}


def _not_opened(path: Path, error: Exception) -> str:
    kind = what_is(path)
    if kind != ONNX_MODEL:
        return f"{path}: an ONNX model is expected, it is {kind}"
    text = f"{path}: ONNX Runtime cannot open it as a model ({first_line(error)})"
    if "INVALID_PROTOBUF" in text:
        text += f"; it has {path.stat().st_size} bytes and is cut off or damaged: copy it again"
    return text


def _choose_device(device: str) -> torch.device:
    """The torch device of a name; for "auto" this process's GPU, or the CPU without one.

    ONNX Runtime's GPU build lists CUDA even where there is no GPU, so torch is asked too.
    """
    gpu, able = torch.cuda.is_available(), _CUDA in ort.get_available_providers()
    if device == "auto":
        if gpu and not able:
            notice(f"torch uses a GPU, but {_WITHOUT_CUDA}; the forecaster runs on the CPU")
        if not (gpu and able):
            return torch.device("cpu")
        # Lightning and torchrun number the processes of a machine, one to a GPU.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"device: {device!r} is no device; give auto, cpu, cuda or cuda:1") from None
    if chosen.type == "cuda" and gpu and not able:
        raise UserError(f"device: {device!r} cannot be used: {_WITHOUT_CUDA}; or give auto or cpu")
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cuda" and not gpu):
        raise UserError(f"device: {device!r} cannot be used on this machine; give auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: {device!r} is not there: {torch.cuda.device_count()} GPUs are, from cuda:0 on"
        )
    return torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen

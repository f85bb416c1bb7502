"""FengWu, or any ONNX forecaster of its contract, through ONNX Runtime.

The contract (github.com/OpenEarthLab/FengWu): one input named ``input``, float32
[B, 2C, H, W], holds two normalised states, t − 6 h and then t, each of C channels; of the one
output [B, ≥ C, H, W] the first C channels are the normalised state at t + 6 h. For FengWu itself
C is 69 and H × W is 721 × 1440. Two ``.npy`` files hold the mean and std of each channel.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.models.forecaster.normalised_range import check_normalised_range
from vaevar.normalizer import Normalizer
from vaevar.provenance import sha256
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

# Under this name a model that vaevar exported says which channels, grid and time step are its own.
METADATA_KEY = "vaevar"
_CUDA = "CUDAExecutionProvider"
_FAMILIES = {"equiangular": Grid.equiangular, "gaussian": Grid.gaussian}
# Of float32 input in one run, 1 GB: several small states together, but those of 721 × 1440 one by one.
VALUES_AT_ONCE = 2**28


class OnnxForecaster:
    """An ONNX model of FengWu's contract as a :class:`~vaevar.forecast.Forecaster`.

    On a GPU the session reads and writes torch tensors where they lie; on a CPU too. The result
    has no gradient. The object can be pickled: the session is opened again in the new process.

    Args:
        model: the ``.onnx`` file; relative paths start at the current directory.
        mean, std: ``.npy`` files of C values each, in physical units.
        spec: the C channels; FengWu's 69 by default.
        grid: the family of the model's grid. "auto" reads it from a file that vaevar exported,
            and otherwise takes H × 2(H − 1) points, such as 721 × 1440, as equiangular.
        shape: (H, W), needed only where the file leaves them open.
        step_hours: the time step.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": a GPU where there is one.
        threads: CPU threads of one step; as many as torch uses by default.

    Raises:
        UserError: for a file that is missing, is no ONNX model, or does not keep the contract.
    """

    history = 2

    def __init__(
        self,
        model: str | Path,
        mean: str | Path,
        std: str | Path,
        spec: StateSpec | None = None,
        grid: Literal["auto", "equiangular", "gaussian"] = "auto",
        shape: tuple[int, int] | None = None,
        step_hours: int = 6,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.model = Path(model)
        self.spec = StateSpec() if spec is None else spec
        self.step_hours = step_hours
        if not self.model.is_file():
            raise UserError(f"{self.model}: no such file; give the path of the forecaster's .onnx file")
        self._normalizer = Normalizer.load(mean, std, self.spec)
        self._threads = threads
        self._files, self._range_checked = f"{self.model}: {mean} and {std}", False
        self._follow_gpu = device == "auto"
        self._device = _choose_device(device)
        self._session: ort.InferenceSession | None = self._open()
        self._check_contract(self._session)
        metadata = self._read_metadata(self._session)
        self.grid = self._choose_grid(grid, shape, self._session.get_inputs()[0].shape[2:], metadata)

    @property
    def description(self) -> str:
        """The file's name and checksum: what was computed with another forecaster is told apart."""
        return f"{self.model.name} sha256:{sha256(self.model)}"

    def step(self, states: Tensor) -> Tensor:
        """One step forward.

        Args:
            states: [B, 2, C, H, W], physical units, t − ``step_hours`` and then t.

        Returns:
            [B, C, H, W], physical units, t + ``step_hours``, on the device of ``states``.

        Raises:
            ValueError: when the shape of ``states`` is another.
            UserError: when the forecast is not finite, or ONNX Runtime fails; at the first step also when
                the mean and std files do not suit the states.
        """
        expected = (self.history, len(self.spec), *self.grid.shape)
        if tuple(states.shape[1:]) != expected:
            raise ValueError(f"states are {tuple(states.shape)}, expected (B, 2, C, H, W) = (B, {expected})")
        session = self._session_for(states.device)
        normalizer = self._normalizer.to(self._device)
        count, chunk = len(self.spec), self._batch or max(1, VALUES_AT_ONCE // states[0].numel())
        with torch.no_grad():
            kind: dict[str, Any] = {"device": self._device, "dtype": torch.float32}
            forecast = torch.empty((len(states), count, *self.grid.shape), **kind)
            inputs = torch.empty((min(chunk, len(states)), *expected), **kind)
            outputs = torch.empty((len(inputs), self._output_channels, *self.grid.shape), **kind)
            for few, made in zip(states.split(chunk), forecast.split(chunk), strict=True):
                given, output = inputs[: len(few)], outputs[: len(few)]
                given.copy_(few).sub_(normalizer.mean).div_(normalizer.std)
                if not self._range_checked:
                    check_normalised_range(given, self.spec, self.grid, self._files)
                    self._range_checked = True
                self._run(session, given.flatten(1, 2), output)
                torch.mul(output[:, :count], normalizer.std, out=made).add_(normalizer.mean)
            self._check_finite(forecast, states)
            return forecast.to(states.device, states.dtype)

    def _run(self, session: ort.InferenceSession, inputs: Tensor, outputs: Tensor) -> None:
        """Let the session read ``inputs`` and write ``outputs`` in place, both contiguous."""
        binding = session.io_binding()
        bindings = (
            (binding.bind_input, session.get_inputs()[0].name, inputs),
            (binding.bind_output, session.get_outputs()[0].name, outputs),
        )
        for bind, name, tensor in bindings:
            index = self._device.index or 0
            bind(name, self._device.type, index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        if self._device.type == "cuda":
            # ONNX Runtime has a stream of its own: what torch queued must be done before.
            torch.cuda.current_stream(self._device).synchronize()
        try:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UserError(f"{self.model}: the forecast failed ({_first_line(error)})") from None

    def _check_finite(self, forecast: Tensor, states: Tensor) -> None:
        # Extremes pass NaN on and need no array; element by element only where something is wrong.
        if all(math.isfinite(float(extreme)) for extreme in forecast.aminmax()):
            return
        finite = torch.isfinite(forecast)
        per_channel = finite.transpose(0, 1).flatten(1).all(1).tolist()
        names = [name for name, good in zip(self.spec.names, per_channel, strict=True) if not good]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more channels" if len(names) > 5 else "")
        if bool(torch.isfinite(states).all()):
            cause = "the states it started from are finite, so the model itself has diverged"
        else:
            cause = "neither were the states it started from"
        raise UserError(f"{self.model}: the {self.step_hours} h forecast of {shown} is not finite; {cause}")

    def _open(self) -> ort.InferenceSession:
        """A session on the chosen device; on the CPU where a GPU that was not asked for fails."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        if self._device.type == "cpu":
            # The arena grows by powers of two and gives nothing back: gigabytes at 721 × 1440.
            options.enable_cpu_mem_arena = False
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._device.type == "cuda":
            # Take no more GPU memory than asked for: torch works beside us.
            settings = {"device_id": self._device.index or 0, "arena_extend_strategy": "kSameAsRequested"}
            providers.insert(0, (_CUDA, settings))
        try:
            session = ort.InferenceSession(str(self.model), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UserError(
                f"{self.model}: ONNX Runtime cannot open it as a model ({_first_line(error)})"
            ) from None
        if self._device.type == "cuda" and _CUDA not in session.get_providers():
            message = (
                f"{self.model}: ONNX Runtime {ort.__version__} cannot use this GPU; its CUDA major "
                f"version must be torch's ({torch.version.cuda})"
            )
            if not self._follow_gpu:
                raise UserError(message)
            warnings.warn(f"{message}; the forecaster runs on the CPU", stacklevel=3)
            self._device, self._follow_gpu = torch.device("cpu"), False
        return session

    def _session_for(self, device: torch.device) -> ort.InferenceSession:
        """The session, on the states' own GPU if the device was left to us."""
        if self._follow_gpu and device.type == self._device.type == "cuda" and device != self._device:
            self._device, self._session = device, None
        if self._session is None:
            self._session = self._open()
        return self._session

    def _check_contract(self, session: ort.InferenceSession) -> None:
        """Inputs and outputs against the contract; keeps the batch size and the output channels."""
        inputs, outputs, count = session.get_inputs(), session.get_outputs(), len(self.spec)
        names = [node.name for node in inputs]
        if names != ["input"]:
            raise UserError(f"{self.model}: its inputs are {names}, expected one named 'input'")
        if len(outputs) != 1:
            raise UserError(f"{self.model}: it has {len(outputs)} outputs, expected one")
        for role, node in (("input", inputs[0]), ("output", outputs[0])):
            if node.type != "tensor(float)":
                raise UserError(f"{self.model}: its {role} is {node.type}, expected tensor(float), float32")
            if len(node.shape) != 4:
                raise UserError(f"{self.model}: its {role} is {node.shape}, expected [B, channels, H, W]")
        batch, channels, *_ = inputs[0].shape
        if isinstance(channels, int) and channels != 2 * count:
            raise UserError(
                f"{self.model}: its input has {channels} channels, expected {2 * count}: "
                f"2 states of {count} channels ({', '.join(self.spec.names[:5])}, ...)"
            )
        if isinstance(batch, int) and batch != 1:
            raise UserError(f"{self.model}: its batch size is fixed to {batch}, expected 1 or an open one")
        self._batch: int | None = batch if isinstance(batch, int) else None
        forecast = outputs[0].shape[1]
        # An exporter may leave the output's size open; then it is what the contract says.
        self._output_channels = forecast if isinstance(forecast, int) else 2 * count
        if self._output_channels < count:
            raise UserError(
                f"{self.model}: its output has {forecast} channels, expected {2 * count}, "
                f"and {count} at the least: the next state"
            )
        for given, made in zip(inputs[0].shape[2:], outputs[0].shape[2:], strict=True):
            if isinstance(given, int) and isinstance(made, int) and given != made:
                raise UserError(
                    f"{self.model}: its output is {outputs[0].shape}, on another grid than its "
                    f"input, {inputs[0].shape}"
                )

    def _read_metadata(self, session: ort.InferenceSession) -> dict[str, Any]:
        """What a model that vaevar exported says of itself, checked; empty for any other."""
        metadata = json.loads(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "{}"))
        channels = tuple(metadata.get("channels", self.spec.names))
        if channels != self.spec.names:
            at = next(i for i, (a, b) in enumerate(zip(channels, self.spec.names, strict=True)) if a != b)
            raise UserError(
                f"{self.model}: its channel {at} is {channels[at]}, but the config's is {self.spec.names[at]}"
            )
        hours = metadata.get("step_hours", self.step_hours)
        if hours != self.step_hours:
            raise UserError(f"{self.model}: its time step is {hours} h, but step_hours is {self.step_hours}")
        return metadata

    def _choose_grid(
        self, family: str, shape: tuple[int, int] | None, in_file: list[Any], metadata: dict[str, Any]
    ) -> Grid:
        """The model's grid, from its own metadata, the file's H and W, and the arguments."""
        own = Grid(metadata["latitude"], metadata["longitude"]) if "latitude" in metadata else None
        sizes = [size if isinstance(size, int) else None for size in in_file]
        rows, columns = shape or (own.shape if own else sizes)
        if rows is None or columns is None:
            raise UserError(f"{self.model}: it leaves H and W open; give shape, such as [721, 1440]")
        if any(size not in (None, wanted) for size, wanted in zip(sizes, (rows, columns), strict=True)):
            raise UserError(f"{self.model}: its grid is {sizes}, but shape says {[rows, columns]}")
        if family == "auto" and own is not None:
            return own
        if family == "auto" and columns != 2 * (rows - 1):
            raise UserError(
                f"{self.model}: its {rows} × {columns} points are no equiangular grid with both poles "
                f"({rows} × {2 * (rows - 1)}); say grid: gaussian, if that is what they are"
            )
        grid = _FAMILIES["equiangular" if family == "auto" else family](rows, columns)
        if own is not None and grid != own:
            raise UserError(f"{self.model}: its own grid is {own}, but the config says {grid}")
        return grid

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot cross processes; the first step opens another.
        return self.__dict__ | {"_session": None}


def _choose_device(device: str) -> torch.device:
    """The torch device of a name; for "auto" this process's GPU, or the CPU without one.

    ONNX Runtime's GPU build lists CUDA also where there is no GPU, so torch is asked too.
    """
    gpu = torch.cuda.is_available() and _CUDA in ort.get_available_providers()
    if device == "auto":
        if not gpu:
            return torch.device("cpu")
        # Lightning and torchrun number the processes of a machine, one to a GPU.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"device: {device!r} is none; say auto, cpu, cuda or cuda:1") from None
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cuda" and not gpu):
        raise UserError(f"device: {device!r} cannot be used here; say auto or cpu")
    return torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).strip()

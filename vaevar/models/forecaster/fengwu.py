"""FengWu, or any ONNX forecaster with its contract.

The contract (github.com/OpenEarthLab/FengWu): the one input is named ``input``, float32 [B, 2C, H, W], and
holds two normalised states of C channels, t − 6 h and then t. The first C channels of the one output
[B, ≥ C, H, W] are the normalised state at t + 6 h. FengWu itself has C = 69 and H × W = 721 × 1440. Two
``.npy`` files hold the mean and std of each channel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vaevar.content.digest import combined, file_digest
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.first_step import check_follows, check_normalised_range
from vaevar.models.forecaster.gradient import not_finite, require_window
from vaevar.models.forecaster.onnx_session import Node, OnnxSession
from vaevar.runs.expansion import expand_path
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

# The key of the metadata in which a model exported by vaevar names its channels, grid and time step.
METADATA_KEY = "vaevar"
# Values of float32 input per run, 1 GB: several small states together, but those of 721 × 1440 one by one.
VALUES_AT_ONCE = 2**28


class OnnxForecaster(Forecaster):
    """An ONNX model of FengWu's contract as a :class:`~vaevar.forecast.Forecaster`.

    The model reads and writes torch tensors in place, on a CPU or a GPU. The forecast has no gradient. The
    forecaster can be pickled; the new process opens the file again.

    Args:
        model: the ``.onnx`` file; relative paths start at the current directory.
        mean, std: ``.npy`` files of C values each, in physical units.
        spec: the C channels; FengWu's 69 by default.
        grid: the kind of grid: "equiangular", with both poles; "gaussian"; "cells", whose centres leave both
            poles out; "regular", in steps from the north pole, such as 720 × 1440 without the south pole.
            "auto" reads it from a file that vaevar exported; for other files it takes H × 2(H − 1) points,
            such as 721 × 1440, as equiangular.
        shape: (H, W), needed only if the file leaves them open.
        step_hours: the time step.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": a GPU if there is one.
        threads: CPU threads of one step. None: as many as torch uses.

    Raises:
        UserError: for a file that is missing, is no ONNX model, or breaks the contract.

    Example:
        >>> forecaster = vaevar.OnnxForecaster(
        ...     weights / "forecaster.onnx", weights / "forecaster_mean.npy", weights / "forecaster_std.npy"
        ... )
        >>> forecaster.history, forecaster.step_hours, forecaster.grid
        (2, 6, Grid(48 × 96, Gaussian))
    """

    history = 2

    without_effect: ClassVar = ("device", "threads")

    def __init__(
        self,
        model: str | Path,
        mean: str | Path,
        std: str | Path,
        spec: StateSpec | None = None,
        grid: Literal["auto", "equiangular", "gaussian", "cells", "regular"] = "auto",
        shape: tuple[int, int] | None = None,
        step_hours: int = 6,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.model, mean, std = (Path(expand_path(str(path))) for path in (model, mean, std))
        self.spec = StateSpec() if spec is None else spec
        self.step_hours = step_hours
        self._session = OnnxSession(self.model, device, threads)
        self._normalizer = Normalizer.load(mean, std, self.spec)
        self._normalisation = (mean, std)
        self._files, self._checked = f"{self.model}: {mean} and {std}", False
        self._output_channels: int | None = None
        self._check_contract(self._session.inputs, self._session.outputs)
        metadata = self._read_metadata()
        self.grid = self._choose_grid(grid, shape, self._session.inputs[0].shape[2:], metadata)

    @property
    def description(self) -> str:
        """The file's name and checksum, which tell results of different forecasters apart."""
        return f"{self.model.name} sha256:{file_digest(self.model)}"

    @property
    def normalisation(self) -> str:
        """A digest of the mean and std files, which the description leaves out."""
        return combined(map(file_digest, self._normalisation))

    def step(self, states: Tensor) -> Tensor:
        """One step forward.

        Args:
            states: [B, 2, C, H, W], physical units, t − ``step_hours`` and then t.

        Returns:
            [B, C, H, W], physical units, t + ``step_hours``, on the device of ``states``.

        Raises:
            ValueError: when ``states`` has another shape.
            UserError: when the forecast is not finite or ONNX Runtime fails; in the first step also when the
                mean and std files do not fit the states.
        """
        require_window(states, self)
        self._session.follow(states.device)
        device = self._session.device
        normalizer = self._normalizer.to(device)
        count, chunk = len(self.spec), self.at_once(states)
        with torch.no_grad():
            kind: dict[str, Any] = {"device": device, "dtype": torch.float32}
            forecast = torch.empty((len(states), count, *self.grid.shape), **kind)
            inputs = torch.empty((min(chunk, len(states)), *states.shape[1:]), **kind)
            channels = self._output_channels
            outputs = torch.empty((len(inputs), channels, *self.grid.shape), **kind) if channels else None
            for start, end in zip(states.split(chunk), forecast.split(chunk), strict=True):
                normalised = inputs[: len(start)]
                normalised.copy_(start).sub_(normalizer.mean).div_(normalizer.std)
                if not self._checked:
                    check_normalised_range(normalised, self.spec, self.grid, self._files)
                output = self._output(normalised, outputs)
                if not self._checked:
                    check_follows(output[:, :count], normalised[:, -1], self.grid, str(self.model))
                    self._checked = True
                torch.mul(output[:, :count], normalizer.std, out=end).add_(normalizer.mean)
            self.check_finite(forecast, states)
            return forecast.to(states.device, states.dtype)

    def at_once(self, states: Tensor) -> int:
        """How many of the states [B, 2, C, H, W] one run of the model takes."""
        return self._batch or max(1, VALUES_AT_ONCE // states[0].numel())

    def close(self) -> None:
        """Free the model's memory; the next step opens the file again."""
        self._session.close()

    def _output(self, normalised: Tensor, memory: Tensor | None) -> Tensor:
        """The model's output, in ``memory`` or, while its size is not known, in new memory."""
        inputs, name = {"input": normalised.flatten(1, 2)}, self._session.outputs[0].name
        if memory is not None:
            output = memory[: len(normalised)]
            self._session.run(inputs, {name: output})
            return output
        output = self._session.run_allocating(inputs, name)
        expected = (len(normalised), len(self.spec), *self.grid.shape)
        if output.ndim != 4 or output.shape[1] < expected[1] or output[:, : expected[1]].shape != expected:
            raise UserError(
                f"{self.model}: its output is {list(output.shape)}, expected [B, at least C, H, W] = "
                f"{list(expected)}"
            )
        self._output_channels = output.shape[1]
        return output

    def check_finite(self, forecast: Tensor, states: Tensor) -> None:
        """Check a forecast.

        Args:
            forecast: [B, C, H, W].
            states: which it started from.

        Raises:
            UserError: when it is not finite; names the channels, and whose fault it is.
        """
        channels = not_finite(forecast, self.spec)
        if not channels:
            return
        if bool(torch.isfinite(states).all()):
            cause = "the states it started from are finite, so the model itself has diverged"
        else:
            cause = "the states it started from were not finite either"
        raise UserError(
            f"{self.model}: the {self.step_hours} h forecast of {channels} is not finite; {cause}"
        )

    def _check_contract(self, inputs: list[Node], outputs: list[Node]) -> None:
        """Check inputs and outputs against the contract; keep the batch size and the output channels."""
        count = len(self.spec)
        names = [node.name for node in inputs]
        if names != ["input"]:
            raise UserError(f"{self.model}: its inputs are {names}, expected one named 'input'")
        if len(outputs) != 1:
            raise UserError(f"{self.model}: it has {len(outputs)} outputs, expected one")
        # An exporter may leave the output's size open, even its number of axes; the first step shows it.
        open_output = [None] * 4
        output_shape = outputs[0].shape or open_output
        for role, node, shape in (
            ("input", inputs[0], inputs[0].shape),
            ("output", outputs[0], output_shape),
        ):
            if node.type != "tensor(float)":
                raise UserError(f"{self.model}: its {role} is {node.type}, expected tensor(float), float32")
            if len(shape) != 4:
                raise UserError(f"{self.model}: its {role} is {list(shape)}, expected [B, channels, H, W]")
        batch, channels, *_ = inputs[0].shape
        if isinstance(channels, int) and channels != 2 * count:
            raise UserError(
                f"{self.model}: its input has {channels} channels, expected {2 * count}: "
                f"2 states of the {count} channels of `spec` ({', '.join(self.spec.names[:5])}, ...)"
            )
        if isinstance(batch, int) and batch != 1:
            raise UserError(f"{self.model}: its batch size is fixed to {batch}, expected 1 or an open one")
        self._batch: int | None = batch if isinstance(batch, int) else None
        channels = output_shape[1]
        self._output_channels = channels if isinstance(channels, int) else None
        if self._output_channels is not None and self._output_channels < count:
            raise UserError(
                f"{self.model}: its output has {channels} channels, expected {2 * count}, "
                f"and at least {count}: the next state"
            )
        for size, output_size in zip(inputs[0].shape[2:], output_shape[2:], strict=True):
            if isinstance(size, int) and isinstance(output_size, int) and size != output_size:
                raise UserError(
                    f"{self.model}: its output is {list(output_shape)}, on another grid than its "
                    f"input, {list(inputs[0].shape)}"
                )

    def _read_metadata(self) -> dict[str, Any]:
        """The metadata of a model that vaevar exported, checked; empty for any other model."""
        try:
            metadata = json.loads(self._session.metadata.get(METADATA_KEY, "{}"))
            channels = tuple(metadata.get("channels", self.spec.names))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{self.model}: its metadata {METADATA_KEY!r} are damaged ({error})") from None
        if len(channels) != len(self.spec):
            raise UserError(
                f"{self.model}: it has {len(channels)} channels, but the config's spec {len(self.spec)}"
            )
        if channels != self.spec.names:
            pairs = enumerate(zip(channels, self.spec.names, strict=True))
            number, (name, expected) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
            raise UserError(f"{self.model}: its channel {number} is {name}, but the config's is {expected}")
        hours = metadata.get("step_hours", self.step_hours)
        if hours != self.step_hours:
            raise UserError(f"{self.model}: its time step is {hours} h, but step_hours is {self.step_hours}")
        return metadata

    def _choose_grid(
        self, family: str, shape: tuple[int, int] | None, in_file: Sequence[Any], metadata: dict[str, Any]
    ) -> Grid:
        """The model's grid, from its metadata, the file's H and W, and the arguments."""
        try:
            exported = Grid(metadata["latitude"], metadata["longitude"]) if "latitude" in metadata else None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.model}: the grid in its metadata is damaged ({error})") from None
        sizes = [size if isinstance(size, int) else None for size in in_file]
        rows, columns = shape or (exported.shape if exported else sizes)
        if rows is None or columns is None:
            raise UserError(f"{self.model}: it leaves H and W open; give shape, such as [721, 1440]")
        if any(size not in (None, expected) for size, expected in zip(sizes, (rows, columns), strict=True)):
            raise UserError(f"{self.model}: its grid is {sizes}, but shape says {[rows, columns]}")
        if family == "auto" and exported is not None:
            return exported
        if family == "auto" and columns != 2 * (rows - 1):
            raise UserError(
                f"{self.model}: its {rows} × {columns} points are no equiangular grid with both poles "
                f"({rows} × {2 * (rows - 1)}); say which grid they are: grid: gaussian, cells (neither "
                "pole) or regular (from the north pole, without the south pole)"
            )
        try:
            grid = Grid.of_family("equiangular" if family == "auto" else family, rows, columns)
        except ValueError as error:
            raise UserError(f"{self.model}: {rows} × {columns} points, grid: {family}: {error}") from None
        if exported is not None and grid != exported:
            raise UserError(f"{self.model}: its own grid is {exported}, but the config says {grid}")
        return grid

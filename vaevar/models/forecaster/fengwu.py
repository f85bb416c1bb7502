"""FengWu, or any ONNX forecaster with its contract.

The contract (github.com/OpenEarthLab/FengWu): the one input is named ``input``, float32 [B, 2C, H, W], and
holds two normalised states of C channels, t − 6 h and then t. The first C channels of the one output
[B, ≥ C, H, W] are the normalised state at t + 6 h. FengWu itself has C = 69 and H × W = 721 × 1440. Two
``.npy`` files hold the mean and std of each channel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vaevar.content.digest import combined, file_digest
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.onnx_session import Node, OnnxSession
from vaevar.normalizer import Normalizer
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

# The key of the metadata in which a model exported by vaevar names its channels, grid and time step.
METADATA_KEY = "vaevar"
_FAMILIES = {"equiangular": Grid.equiangular, "gaussian": Grid.gaussian}
# Values of float32 input per run, 1 GB: several small states together, but those of 721 × 1440 one by one.
VALUES_AT_ONCE = 2**28

# Limits on a channel's normalised states, over the sphere. In the embedded world with its own files the mean
# stays within 1.6 and the std below 1.7; with the files of another climate, within 2 and below 4.5. A t2m in
# degrees Celsius has a mean of −13, an msl in hPa of −75. A small std is no fault: that of q50 is small.
MEAN_LIMIT, STD_LIMIT = 6.0, 10.0
ROWS_CHECKED, CHANNELS_NAMED = 90, 4


class OnnxForecaster(Forecaster):
    """An ONNX model of FengWu's contract as a :class:`~vaevar.forecast.Forecaster`.

    The model reads and writes torch tensors in place, on a CPU or a GPU. The forecast has no gradient. The
    forecaster can be pickled; the new process opens the file again.

    Args:
        model: the ``.onnx`` file; relative paths start at the current directory.
        mean, std: ``.npy`` files of C values each, in physical units.
        spec: the C channels; FengWu's 69 by default.
        grid: the kind of grid. "auto" reads it from a file that vaevar exported; for other files it takes
            H × 2(H − 1) points, such as 721 × 1440, as equiangular.
        shape: (H, W), needed only if the file leaves them open.
        step_hours: the time step.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": a GPU if there is one.
        threads: CPU threads of one step. None: as many as torch uses.

    Raises:
        UserError: for a file that is missing, is no ONNX model, or breaks the contract.
    """

    history = 2

    without_effect: ClassVar = ("device", "threads")

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
        self._session = OnnxSession(self.model, device, threads)
        self._normalizer = Normalizer.load(mean, std, self.spec)
        self._normalisation = (Path(mean), Path(std))
        self._files, self._range_checked = f"{self.model}: {mean} and {std}", False
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
        expected = (self.history, len(self.spec), *self.grid.shape)
        if tuple(states.shape[1:]) != expected:
            raise ValueError(f"states are {tuple(states.shape)}, expected (B, 2, C, H, W) = (B, {expected})")
        self._session.follow(states.device)
        device, output_name = self._session.device, self._session.outputs[0].name
        normalizer = self._normalizer.to(device)
        count, chunk = len(self.spec), self._batch or max(1, VALUES_AT_ONCE // states[0].numel())
        with torch.no_grad():
            kind: dict[str, Any] = {"device": device, "dtype": torch.float32}
            forecast = torch.empty((len(states), count, *self.grid.shape), **kind)
            inputs = torch.empty((min(chunk, len(states)), *expected), **kind)
            outputs = torch.empty((len(inputs), self._output_channels, *self.grid.shape), **kind)
            for start, end in zip(states.split(chunk), forecast.split(chunk), strict=True):
                normalised, output = inputs[: len(start)], outputs[: len(start)]
                normalised.copy_(start).sub_(normalizer.mean).div_(normalizer.std)
                if not self._range_checked:
                    check_normalised_range(normalised, self.spec, self.grid, self._files)
                    self._range_checked = True
                self._session.run({"input": normalised.flatten(1, 2)}, {output_name: output})
                torch.mul(output[:, :count], normalizer.std, out=end).add_(normalizer.mean)
            self._check_finite(forecast, states)
            return forecast.to(states.device, states.dtype)

    def _check_finite(self, forecast: Tensor, states: Tensor) -> None:
        # The extremes pass NaN on and need no array; look at each element only if something is wrong.
        if all(math.isfinite(float(extreme)) for extreme in forecast.aminmax()):
            return
        per_channel = torch.isfinite(forecast).transpose(0, 1).flatten(1).all(1).tolist()
        names = [name for name, finite in zip(self.spec.names, per_channel, strict=True) if not finite]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more channels" if len(names) > 5 else "")
        if bool(torch.isfinite(states).all()):
            cause = "the states it started from are finite, so the model itself has diverged"
        else:
            cause = "the states it started from were not finite either"
        raise UserError(f"{self.model}: the {self.step_hours} h forecast of {shown} is not finite; {cause}")

    def _check_contract(self, inputs: list[Node], outputs: list[Node]) -> None:
        """Check inputs and outputs against the contract; keep the batch size and the output channels."""
        count = len(self.spec)
        names = [node.name for node in inputs]
        if names != ["input"]:
            raise UserError(f"{self.model}: its inputs are {names}, expected one named 'input'")
        if len(outputs) != 1:
            raise UserError(f"{self.model}: it has {len(outputs)} outputs, expected one")
        for role, node in (("input", inputs[0]), ("output", outputs[0])):
            if node.type != "tensor(float)":
                raise UserError(f"{self.model}: its {role} is {node.type}, expected tensor(float), float32")
            if len(node.shape) != 4:
                raise UserError(
                    f"{self.model}: its {role} is {list(node.shape)}, expected [B, channels, H, W]"
                )
        batch, channels, *_ = inputs[0].shape
        if isinstance(channels, int) and channels != 2 * count:
            raise UserError(
                f"{self.model}: its input has {channels} channels, expected {2 * count}: "
                f"2 states of {count} channels ({', '.join(self.spec.names[:5])}, ...)"
            )
        if isinstance(batch, int) and batch != 1:
            raise UserError(f"{self.model}: its batch size is fixed to {batch}, expected 1 or an open one")
        self._batch: int | None = batch if isinstance(batch, int) else None
        output_channels = outputs[0].shape[1]
        # An exporter may leave the output's size open; then it is what the contract says.
        self._output_channels = output_channels if isinstance(output_channels, int) else 2 * count
        if self._output_channels < count:
            raise UserError(
                f"{self.model}: its output has {output_channels} channels, expected {2 * count}, "
                f"and at least {count}: the next state"
            )
        for size, output_size in zip(inputs[0].shape[2:], outputs[0].shape[2:], strict=True):
            if isinstance(size, int) and isinstance(output_size, int) and size != output_size:
                raise UserError(
                    f"{self.model}: its output is {list(outputs[0].shape)}, on another grid than its "
                    f"input, {list(inputs[0].shape)}"
                )

    def _read_metadata(self) -> dict[str, Any]:
        """The metadata of a model that vaevar exported, checked; empty for any other model."""
        metadata = json.loads(self._session.metadata.get(METADATA_KEY, "{}"))
        channels = tuple(metadata.get("channels", self.spec.names))
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
        exported = Grid(metadata["latitude"], metadata["longitude"]) if "latitude" in metadata else None
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
                f"({rows} × {2 * (rows - 1)}); if it is a Gaussian grid, say grid: gaussian"
            )
        grid = _FAMILIES["equiangular" if family == "auto" else family](rows, columns)
        if exported is not None and grid != exported:
            raise UserError(f"{self.model}: its own grid is {exported}, but the config says {grid}")
        return grid


def check_normalised_range(states: Tensor, spec: StateSpec, grid: Grid, files: str) -> None:
    """Check that states and normalisation files belong together.

    FengWu v1 (ERA5) and v2 (operational analyses) each have a mean and a std file, of the same shape. Files
    with other variables, order or units, and states in other units, show in the normalised states. Two sets
    of files that differ by less than the weather varies cannot be told apart. The check uses every n-th row
    and column, about ``ROWS_CHECKED`` rows, so that it costs almost nothing.

    Args:
        states: [..., C, H, W], normalised. Values that are not finite are ignored.
        spec: the C channels.
        grid: the H × W points.
        files: names of the mean and std files, for the message.

    Raises:
        UserError: when a channel's mean over the sphere is beyond ``MEAN_LIMIT``, or its std about that mean
            beyond ``STD_LIMIT``; it names the worst channels.
    """
    stride = max(1, grid.shape[0] // ROWS_CHECKED)
    sampled = states[..., ::stride, ::stride].flatten(0, -4).double()
    weight = grid.area_weights[::stride, None].to(sampled)
    weight = weight / (weight.mean() * sampled.shape[0])
    mean = (sampled * weight).mean((-2, -1)).sum(0)
    std = ((sampled - mean[:, None, None]).square() * weight).mean((-2, -1)).sum(0).sqrt()
    excess = torch.maximum(mean.abs() / MEAN_LIMIT, std / STD_LIMIT).nan_to_num(0.0).tolist()
    wrong = sorted((i for i, value in enumerate(excess) if value > 1), key=lambda i: -excess[i])
    if wrong:
        named = wrong[:CHANNELS_NAMED]
        shown = ", ".join(f"{spec.names[i]} (mean {mean[i]:.3g}, std {std[i]:.3g})" for i in named)
        rest = f" and {len(wrong) - len(named)} more channels" if len(wrong) > len(named) else ""
        raise UserError(
            f"{files}: they normalise the first states to {shown}{rest}, expected means within "
            f"±{MEAN_LIMIT:g} and stds below {STD_LIMIT:g}; use the files that belong to this model "
            "(FengWu's v1 with v1, v2 with v2), and a store in WeatherBench 2's units"
        )

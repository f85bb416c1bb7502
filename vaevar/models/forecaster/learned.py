"""A network trained here as a forecaster: it has a gradient, for 4DVar."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vaevar.content.digest import file_digest
from vaevar.errors import UserError
from vaevar.mistakes.fallbacks import has_bfloat16
from vaevar.models.forecaster.gradient import NetworkForecaster, beside
from vaevar.models.forecaster.network import ForecastNetwork
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.runs.expansion import expand_path
from vaevar.state.normalizer import Normalizer

PRECISIONS = ("float32", "bfloat16", "auto")


class LearnedForecaster(NetworkForecaster):
    """The network of a fit of ``configs/forecaster.yaml``, with the numbers of its ONNX file, and a gradient.

    Args:
        checkpoint: path of the weights, or a module in memory; relative paths start at the current directory.
        step_hours: the time step of the data that it was trained on.
        checkpointing: keep only the states of a trajectory for its gradient, and make each step again on the
            way back: less memory, and a third more time.
        precision: of the network's layers; what comes in, what goes out and the change from one to the other
            stay in float32. auto: bfloat16 where the hardware has it, float32 elsewhere.

    Raises:
        UserError: for a file that is missing, damaged or of another model, or a setting out of range.

    Example:
        >>> vaevar.pretrained("forecaster_torch").differentiable
        True
    """

    def __init__(
        self,
        checkpoint: str | Path | ForecasterModule,
        step_hours: int = 6,
        checkpointing: bool = False,
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
    ) -> None:
        if step_hours < 1:
            raise UserError(f"LearnedForecaster: step_hours is {step_hours}, must be at least 1")
        if precision not in PRECISIONS:
            raise UserError(f"LearnedForecaster: precision is {precision!r}, must be one of {PRECISIONS}")
        module = checkpoint if isinstance(checkpoint, ForecasterModule) else ForecasterModule.load(checkpoint)
        self._file = None if isinstance(checkpoint, ForecasterModule) else Path(expand_path(str(checkpoint)))
        self.network = module.network.eval().requires_grad_(False)
        self.spec, self.grid = module.spec, module.grid
        self.step_hours, self.checkpointing, self.precision = step_hours, checkpointing, precision
        self.normalizer = Normalizer(module.mean, module.std)

    @property
    def description(self) -> str:
        """The file's name and checksum, which tell results of different forecasters apart."""
        return f"{self._file.name} sha256:{file_digest(self._file)}" if self._file else "network in memory"

    def following(self, normalised: Tensor) -> Tensor:
        network: ForecastNetwork = beside(self.network, normalised)
        with self._arithmetic(normalised.device):
            change = network.change(normalised)
        return network.next_state(normalised, change.float())

    def _arithmetic(self, device: torch.device) -> AbstractContextManager[object]:
        reduced = self.precision == "bfloat16" or (self.precision == "auto" and has_bfloat16(device))
        return torch.autocast(device.type, torch.bfloat16) if reduced else nullcontext()

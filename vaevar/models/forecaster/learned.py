"""A network trained here as a forecaster: it has a gradient, for 4DVar."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vaevar.content.digest import file_digest
from vaevar.errors import UserError
from vaevar.models.forecaster.gradient import NetworkForecaster, beside
from vaevar.models.forecaster.network import ForecastNetwork
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.normalizer import Normalizer
from vaevar.runs.expansion import expand_path


class LearnedForecaster(NetworkForecaster):
    """The network of a fit of ``configs/forecaster.yaml``, with the numbers of its ONNX file, and a gradient.

    Args:
        checkpoint: path of the weights, or a module in memory; relative paths start at the current directory.
        step_hours: the time step of the data that it was trained on.
        checkpointing: keep only the states of a trajectory for its gradient, and make each step again on the
            way back: less memory, and a third more time.

    Raises:
        UserError: for a file that is missing, damaged or of another model.

    Example:
        >>> vaevar.pretrained("forecaster_torch").differentiable
        True
    """

    def __init__(
        self, checkpoint: str | Path | ForecasterModule, step_hours: int = 6, checkpointing: bool = False
    ) -> None:
        if step_hours < 1:
            raise UserError(f"LearnedForecaster: step_hours is {step_hours}, must be at least 1")
        module = checkpoint if isinstance(checkpoint, ForecasterModule) else ForecasterModule.load(checkpoint)
        self._file = None if isinstance(checkpoint, ForecasterModule) else Path(expand_path(str(checkpoint)))
        self.network = module.network.eval().requires_grad_(False)
        self.spec, self.grid = module.spec, module.grid
        self.step_hours, self.checkpointing = step_hours, checkpointing
        self.normalizer = Normalizer(module.mean, module.std)

    @property
    def description(self) -> str:
        """The file's name and checksum, which tell results of different forecasters apart."""
        return f"{self._file.name} sha256:{file_digest(self._file)}" if self._file else "network in memory"

    def following(self, normalised: Tensor) -> Tensor:
        network: ForecastNetwork = beside(self.network, normalised)
        return network.next_state(normalised, network.change(normalised).float())

"""Models that are built on the statistics of a covariance, whose file is not part of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaevar.content.digest import sha256
from vaevar.errors import UserError
from vaevar.models.training.checkpoint import SavedModule


class BasedOnCovariance(SavedModule):
    """A module whose argument ``covariance`` is the path of a file of statistics.

    Its weights keep the checksum of that file. It is looked for at its path and beside the weights.
    """

    covariance_sha256: Tensor

    def keep_digest(self, covariance: str | Path) -> None:
        """Keep the checksum of the statistics: a constructor calls it.

        Args:
            covariance: path of the file.
        """
        self.register_buffer("covariance_sha256", _digest(covariance))

    @classmethod
    def arguments(cls, path: str | Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """With the statistics that it was trained with, at their path or beside the file.

        Raises:
            UserError: when they are missing or have changed.
        """
        arguments, wanted = super().arguments(path, content), content["state_dict"].get("covariance_sha256")
        named = Path(str(arguments["covariance"]))
        places = [file for file in (named, Path(path).parent / named.name) if file.is_file()]
        for file in places:
            if wanted is None or torch.equal(_digest(file), wanted):
                return arguments | {"covariance": str(file)}
        found = f"{places[0]} holds others" if places else f"{named} is not there"
        raise UserError(
            f"{path}: needs the statistics that it was trained with, and {found}: restore that file, there "
            "or beside the checkpoint"
        )


def _digest(path: str | Path) -> Tensor:
    """SHA-256 of a file, [32] uint8."""
    return torch.tensor(list(bytes.fromhex(sha256(Path(path)))), dtype=torch.uint8)

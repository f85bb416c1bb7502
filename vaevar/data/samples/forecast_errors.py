"""Forecasts and their errors for DiffDA: a LightningDataModule, its store built on first need.

The published training data (Huang et al., ICML 2024) are forecasts of one lead time, 48 h or 6 h, with
the truth they were made for. float16 fields go to the device as they are, and become a normalised
forecast and the residual r = (truth − forecast) / std there.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.data.samples.layout import ForecastPairMaking
from vaevar.data.samples.module import ForecastSamples, SampleStore
from vaevar.data.samples.reader import HeldItems, ItemReader
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid

_PER_CHANNEL = ("offset", "scale")
_PER_LEAD = ("residual_scale", "forecast_mean", "forecast_std", "residual_std")


class ForecastPairStore(SampleStore[tuple[Tensor, Tensor]]):
    """One lead time of a store made by :func:`vaevar.data.samples.layout.ForecastPairMaking`.

    Args:
        path: the zarr store.
        lead_hours: which lead time.
        in_memory: read everything now; otherwise each sample when it is asked for.

    Attributes:
        names, grid: of the fields.
        times: [N] datetime64[ns], initial times.
        statistics: [C] float32 each, of that lead: ``offset``, ``scale``, ``residual_scale``,
            ``forecast_mean``, ``forecast_std``, ``residual_std``.

    Raises:
        UserError: when it is missing, unreadable, no such store, or without that lead.
    """

    def __init__(self, path: str | Path, lead_hours: int, in_memory: bool = False) -> None:
        if not Path(path).is_dir():
            raise UserError(f"{path}: no such store of forecasts and their errors")
        try:
            dataset = xr.open_zarr(path, chunks=None)
        except Exception as error:  # zarr raises many kinds; each means "not readable"
            raise UserError(f"{path}: cannot be opened as a zarr store ({error})") from None
        needed = ("forecast", "residual", *_PER_CHANNEL, *_PER_LEAD, "channel", "time", "lead")
        missing = [name for name in needed if name not in dataset.variables]
        if missing:
            raise UserError(f"{path}: lacks {', '.join(missing)}; it is no store of forecasts and errors")
        leads = dataset["lead"].values.tolist()
        if lead_hours not in leads:
            raise UserError(f"{path}: holds leads of {leads} h, not {lead_hours} h")
        self.lead = leads.index(lead_hours)
        self.names = tuple(str(name) for name in dataset["channel"].values)
        self.grid = Grid(dataset["latitude"].values, dataset["longitude"].values)
        self.times = dataset["time"].values.astype("datetime64[ns]")
        values = {name: dataset[name].values for name in _PER_CHANNEL}
        values |= {name: dataset[name].values[self.lead] for name in _PER_LEAD}
        self.statistics = {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}
        for name, value in self.statistics.items():
            if not bool(value.isfinite().all()) or (
                name.endswith(("scale", "std")) and bool((value <= 0).any())
            ):
                raise UserError(
                    f"{path}: {name} is not finite and positive; delete the store to make it anew"
                )
        readers = (ItemReader(f"{path}/{name}", (self.lead,)) for name in ("forecast", "residual"))
        self._forecasts, self._residuals = (HeldItems(r) if in_memory else r for r in readers)

    def __getitems__(self, indexes: list[int]) -> tuple[Tensor, Tensor]:
        """Forecasts and residuals, [B, C, H, W] float16, in the store's scales."""
        return self._forecasts.read(indexes), self._residuals.read(indexes)


class ForecastPairs(ForecastSamples[ForecastPairStore]):
    """Batches of (normalised forecast, residual), each [B, C, H, W] float32.

    Args:
        source: the truth, and what forecasts start from.
        forecaster: makes the forecasts; its channels and grid are those of the pairs.
        path: where the store of all leads is, or will be built on first need.
        start, end: first and last state used, such as ``2019-12-01T00``.
        lead_hours: age of the forecasts of this training, one of ``leads``.
        leads: ages of those in the store; one roll-out gives all.
        every_hours: between initial times.
        rollout_batch_size: initial times rolled out together while building.
        validation_fraction: of the samples, kept for validation: one block at the end.
        gap_hours: between the last training and the first validation sample.
        batch_size: samples per batch (and per device).
        workers: threads that read ahead; 0 reads when a batch is asked for.
        in_memory: hold all samples of the lead in memory (1.3 MB each on 48 × 96 with 69 channels).
        seed: of the shuffling.

    Attributes:
        residual_std, forecast_mean, forecast_std: [C] float32, physical units (after ``setup``).

    Raises:
        UserError: for a setting out of range.
    """

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        path: str,
        start: str,
        end: str,
        lead_hours: int = 48,
        leads: tuple[int, ...] = (6, 48),
        every_hours: int = 24,
        rollout_batch_size: int = 8,
        validation_fraction: float = 0.1,
        gap_hours: int = 48,
        batch_size: int = 8,
        workers: int = 0,
        in_memory: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            source, forecaster, path, start, end, validation_fraction, gap_hours, batch_size, workers, seed
        )
        if lead_hours not in leads:
            raise UserError(f"lead_hours {lead_hours} is not among leads {list(leads)}")
        self.lead_hours, self.leads = lead_hours, tuple(leads)
        self.every_hours, self.rollout_batch_size = every_hours, rollout_batch_size
        self.in_memory = in_memory

    @property
    def residual_std(self) -> Tensor:
        return self.store.statistics["residual_std"]

    @property
    def forecast_mean(self) -> Tensor:
        return self.store.statistics["forecast_mean"]

    @property
    def forecast_std(self) -> Tensor:
        return self.store.statistics["forecast_std"]

    @cached_property
    def making(self) -> ForecastPairMaking:
        return ForecastPairMaking(
            Path(self.path), self.source, self.forecaster, self.start, self.end, self.leads, self.every_hours,
            self.rollout_batch_size,
        )  # fmt: skip

    def open_store(self) -> ForecastPairStore:
        return ForecastPairStore(self.path, self.lead_hours, self.in_memory)

    @property
    def record(self) -> dict[str, Any]:
        return super().record | {"lead_hours": self.lead_hours}

    def normalise(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Stored values to (forecast − mean)/std and (truth − forecast)/std."""
        known = {
            name: value.to(batch[0].device)[:, None, None] for name, value in self.store.statistics.items()
        }
        forecast = batch[0].float() * (known["scale"] / known["forecast_std"])
        forecast = forecast + (known["offset"] - known["forecast_mean"]) / known["forecast_std"]
        return forecast, batch[1].float() * (known["residual_scale"] / known["residual_std"])

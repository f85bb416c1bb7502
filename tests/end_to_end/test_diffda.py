"""DiffDA and the interpolations by the very commands users type: a fit of each lead, then a cycle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tests.end_to_end.reading import numbers, picture, section
from vaevar.cli import main

OBSERVED = {"steps": 4, "jump_length": 2, "members": 2, "first_analyses": 2}


@pytest.fixture
def diffda(configs: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Configs of the two fits, and of a cycle with DiffDA and both interpolations as arms."""
    fit = yaml.safe_load(configs["fit"].read_text())
    nmc = fit["data"]["init_args"]["making"]["init_args"]
    channels = {name: fit["model"]["init_args"][name] for name in ("surface", "upper", "levels")}
    fit["model"] = {
        "class_path": "vaevar.models.diffusion.denoiser.Denoiser",
        "init_args": {
            "nlat": 16, "nlon": 32, **channels, "widths": [8, 8], "depths": [1, 1], "heads": [0, 2],
            "window": 4, "head_width": 4, "embedding": 8, "warmup_steps": 2,
        },
    }  # fmt: skip
    fit["data"] = {
        "class_path": "vaevar.data.samples.background_errors.BackgroundErrorPairs",
        "init_args": {
            "path": "data/forecasts.zarr",
            "making": {
                "class_path": "vaevar.data.samples.forecast_errors.ForecastErrors",
                "init_args": {**nmc, "leads": [6, 48]},
            },
            "lead_hours": 48, "validation_fraction": 0.2, "batch_size": 4,
        },
    }  # fmt: skip
    fit["trainer"]["callbacks"] = callbacks("48h")
    second = {
        "model": {"init_args": {"start_from": "weights/48h.ckpt"}},
        "data": {"init_args": {"lead_hours": 6}},
        "trainer": {"max_epochs": 1, "callbacks": callbacks("6h")},
    }
    cycle = yaml.safe_load(configs["predict"].read_text())
    interpolation = "vaevar.assim.interpolation.linear.LinearInterpolation"
    optimal = "vaevar.assim.interpolation.optimal.OptimalInterpolation"
    cycle["model"]["init_args"]["arms"] = {
        "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
        "linear": {"class_path": interpolation, "init_args": {"range_km": 3000.0}},
        "optimal": {"class_path": optimal, "init_args": {"length_km": None}},
        "by_variable": {
            "class_path": optimal,
            "init_args": {"length_km": {"t2m": 900.0, "msl": 900.0, "z": 900.0, "u": 500.0}},
        },
        "diffda": {
            "class_path": "vaevar.assim.diffda.diffda.DiffDA",
            "init_args": {
                "checkpoint_48h": "weights/48h.ckpt", "checkpoint_6h": "weights/6h.ckpt", **OBSERVED,
                "interpolation": {"class_path": optimal, "init_args": {"length_km": 900.0}},
            },
        },
    }  # fmt: skip
    paths = {name: tmp_path / f"{name}.yaml" for name in ("fit_48h", "fit_6h", "cycle")}
    for path, content in zip(paths.values(), (fit, second, cycle), strict=True):
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return paths


def callbacks(name: str) -> list[dict[str, Any]]:
    checkpoint = {"filename": "best", "monitor": "val/loss"}
    return [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoint},
        {
            "class_path": "vaevar.models.training.export.ExportWeights",
            "init_args": {"path": f"weights/{name}.ckpt"},
        },
    ]


@pytest.mark.slow
def test_fit_both_leads_then_cycle(
    diffda: dict[str, Path], killed_in_the_third_analysis: Callable[[Callable[[], None]], None]
) -> None:
    main(["fit", "--config", str(diffda["fit_48h"])])
    main(["fit", "--config", str(diffda["fit_48h"]), "--config", str(diffda["fit_6h"]), "--name", "6h"])
    for lead in (48, 6):
        content = torch.load(f"weights/{lead}h.ckpt", weights_only=True)
        assert int(content["state_dict"]["lead_hours"]) == lead
        assert content["provenance"]["data"]["lead_hours"] == lead
        assert "truth.zarr" in content["provenance"]["data"]["source"]
    report = Path("runs/6h/report.html")
    assert not section(report, "missing")
    lines = {trace["name"]: numbers(trace["y"]) for trace in picture(report, "noise-0").data[:2]}
    assert (np.diff(lines["denoised"]) > 0).mean() > 0.5  # the more noise, the larger the error
    assert np.ptp(lines["the error itself"]) == 0
    assert picture(report, "samples-0").frames

    cycle = ["predict", "--config", str(diffda["cycle"])]
    main(cycle)
    whole = pd.read_csv("runs/cycle/scores.csv")
    made = pd.read_csv("runs/cycle/diffda/diagnostics.csv")
    assert made["lead_hours"].tolist() == [48, 48, 6, 6]
    mean = whole.query("quantity == 'analysis' and channel == 'z500'").groupby("arm")["rmse"].mean()
    assert mean["linear"] < mean["free"]
    assert mean["optimal"] < mean["free"]
    assert mean["by_variable"] < mean["free"]

    # Killed in the third analysis, the cycle goes on with the 6 h denoiser and to the same numbers.
    shutil.rmtree("runs/cycle")
    killed_in_the_third_analysis(lambda: main(cycle))
    main(cycle)
    pd.testing.assert_frame_equal(pd.read_csv("runs/cycle/scores.csv"), whole)

"""Calibration of 3DVar's covariance from the command line, in one process and in two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vaevar.cli import main
from vaevar.models.covariance.statistics import CovarianceStatistics

PROGRAM = Path(__file__).parents[2] / "main.py"


@pytest.mark.slow
def test_two_processes_find_what_one_finds(configs: dict[str, Path]) -> None:
    config = yaml.safe_load(configs["fit"].read_text())
    config["model"] = {
        "class_path": "vaevar.models.covariance.calibration.CovarianceCalibration",
        "init_args": {"path": "alone.nc", "lmax": 6},
    }
    # Batches of one: none is dropped as incomplete, in one process or in two.
    config["data"]["init_args"] |= {"batch_size": 1, "flip_sign": False}
    trainer = config["trainer"] | {"callbacks": [], "enable_checkpointing": False, "num_sanity_val_steps": 0}
    config["trainer"] = trainer
    Path("covariance.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "covariance.yaml"])
    alone = CovarianceStatistics.load("alone.nc")
    assert alone.spec.names == ("t2m", "msl", "z500", "z850", "u500", "u850")

    command = [sys.executable, str(PROGRAM), "fit", "--config", "covariance.yaml"]
    command += [
        "--model.init_args.path",
        "together.nc",
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    together = CovarianceStatistics.load("together.nc")
    # Of an odd number of samples one is left out.
    assert alone.provenance["samples"] - together.provenance["samples"] in (0, 1)
    np.testing.assert_allclose(together.channel_std, alone.channel_std, rtol=0.05)
    np.testing.assert_allclose(together.spectral, alone.spectral, atol=0.05)

"""The published 3DVar from its commands: B calibrated on samples, then as an arm of a cycle."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vaevar.assim.cycle.restart import analyses_made
from vaevar.cli import main
from vaevar.models.covariance.published import PublishedStatistics


def test_calibrated_by_a_command_and_run_as_an_arm(
    configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fit = yaml.safe_load(configs["fit"].read_text(encoding="utf-8"))
    fit["trainer"] |= {"max_epochs": 1, "callbacks": [], "enable_checkpointing": False}
    fit["data"]["init_args"] |= {"flip_sign": False}
    b = "published.nc"
    fit["model"] = {"class_path": "PublishedCalibration", "init_args": {"path": b, "lmax": 6}}
    Path("b.yaml").write_text(yaml.safe_dump(fit), encoding="utf-8")
    main(["fit", "--config", "b.yaml"])
    found = PublishedStatistics.load(b)
    assert found.spec.names == ("t2m", "msl", "z500", "z850", "u500", "u850")
    assert found.provenance["data"]["path"] == "data/errors.zarr"
    assert "variance / held-out" in capsys.readouterr().out

    predict = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    control = {"class_path": "PublishedCovarianceControl", "init_args": {"statistics": b, "length_km": 900.0}}
    predict["model"]["init_args"]["arms"] = {
        "threedvar_published": {"class_path": "VariationalAssimilator", "init_args": {"control": control}},
        "kriging": {"class_path": "Kriging", "init_args": {"neighbours": 5}},
    }
    configs["predict"].write_text(yaml.safe_dump(predict), encoding="utf-8")
    main(["predict", "--config", str(configs["predict"])])
    arms = Path("runs/cycle")
    assert [analyses_made(arms / name) for name in ("threedvar_published", "kriging")] == [4, 4]

    # Another kind of statistics is refused in one line that names the file and what makes it.
    control["init_args"]["statistics"] = "data/errors.zarr"
    configs["predict"].write_text(yaml.safe_dump(predict), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--config", str(configs["predict"])])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "data/errors.zarr" in line
    assert "published_covariance.yaml" in line

"""A store of background errors made by ``predict``: in one process, and in two after one was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.device import DEVICE
from tests.end_to_end.test_two_processes import run
from vaevar.cli import main

MAKING = "--data.init_args.making.init_args"


@pytest.fixture
def making(configs: dict[str, Path]) -> Path:
    """The config that makes what the fit of the other one needs."""
    content = yaml.safe_load(configs["fit"].read_text())
    content["model"] = {"class_path": "vaevar.data.samples.predict_loop.StoreMaking"}
    content["return_predictions"] = False
    content["data"]["init_args"]["workers"] = 2
    content["data"]["init_args"]["making"]["init_args"] |= {"samples_per_file": 4, "rollout_batch_size": 3}
    content["trainer"] = {
        "accelerator": DEVICE, "devices": 1, "enable_progress_bar": False,
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "runs", "name": "errors", "version": ""},
        },
    }  # fmt: skip
    path = configs["fit"].with_name("errors.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def content(path: str) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


@pytest.mark.slow
def test_one_process_two_processes_and_a_fit_make_the_same_store(
    making: Path, configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ["predict", "--config", str(making)]
    main(predict)
    assert "samples to make, at most" in capsys.readouterr().out
    alone = content("data/errors.zarr")
    assert sum(name.startswith("error/c/") for name in alone) == 13

    # One that stops after three batches; then two that go on to the end.
    path = "--data.init_args.path"
    main([*predict, path, "data/two.zarr", "--trainer.limit_predict_batches", "3"])
    assert not Path("data/two.zarr").exists()
    done = len(list(Path("data/two.zarr.progress").glob("*.npy")))
    assert 0 < done < 13
    run(*predict, path, "data/two.zarr")
    assert content("data/two.zarr") == alone

    # The fit finds it, or makes the same.
    fit = ["fit", "--config", str(configs["fit"]), "--trainer.max_epochs", "1"]
    fit += [f"{MAKING}.rollout_batch_size", "3", f"{MAKING}.samples_per_file", "4"]
    before = Path("data/errors.zarr").stat().st_mtime_ns
    main(fit)
    assert Path("data/errors.zarr").stat().st_mtime_ns == before
    shutil.rmtree("data/errors.zarr")
    main([*fit, "--trainer.logger.init_args.name", "again"])
    assert content("data/errors.zarr") == alone
    assert sorted(p.name for p in Path("data").iterdir() if p.is_dir()) == ["errors.zarr", "two.zarr"]


def test_a_store_that_is_there_is_left_alone(making: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "--config", str(making)])
    before = content("data/errors.zarr")
    main(["predict", "--config", str(making)])
    assert "is there already" in capsys.readouterr().out
    assert content("data/errors.zarr") == before
    with pytest.raises(SystemExit):
        main(["predict", "--config", str(making), f"{MAKING}.every_hours", "12"])
    assert "every_hours = 6, but the config now says 12" in capsys.readouterr().err
    # Neither keeps the lock: the same process may go on.
    main(["predict", "--config", str(making), "--data.init_args.path", "data/other.zarr"])


@pytest.mark.slow
def test_more_processes_than_there_is_left_to_make(making: Path) -> None:
    predict = ["predict", "--config", str(making), f"{MAKING}.samples_per_file", "100"]
    run(*predict)
    assert Path("data/errors.zarr/error/c/0/0/0/0/0").is_file()

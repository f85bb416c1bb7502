"""What a run is made of, and which other settings may go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import zarr

from vaevar.runs.settings import explained, files_of, settings_of


class Model:
    without_effect: ClassVar = ("threads",)
    outputs: ClassVar = ("path",)
    independent: ClassVar = ("arms",)


class Data:
    may_grow: ClassVar = ("analyses",)


class Averaging:
    """A callback that changes results."""

    without_effect: ClassVar = ("every",)


class Bar:
    """A callback that does not."""


def spec(cls: type, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": arguments}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"trained")
    return path


@pytest.fixture
def config(weights: Path) -> dict[str, Any]:
    arms = {"oi": spec(object, length_km=800.0), "vae": spec(object, checkpoint=str(weights))}
    return {
        "name": "one",
        "seed_everything": 1,
        "model": spec(Model, arms=arms, threads=1, path="out.nc", levels=[500, 850], nothing=None),
        "data": spec(Data, analyses=3, batch_size=8),
        "trainer": {
            "precision": "32-true", "max_epochs": 4, "devices": 1, "limit_train_batches": None,
            "callbacks": [spec(Averaging, decay=0.9, every=1), spec(Bar, width=3)],
        },
    }  # fmt: skip


def arguments(config: dict[str, Any], section: str = "model") -> dict[str, Any]:
    return config[section]["init_args"]


def compare(config: dict[str, Any], change: Callable[[dict], Any], command: str = "fit") -> list[str]:
    """Differences that stand in the way of going on with ``config`` after a change."""
    before = json.loads(json.dumps(settings_of(config, command).values))
    change(config)
    return settings_of(config, command).differences(before)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: None,
        lambda c: c.update(name="two"),
        lambda c: arguments(c).update(threads=8),
        lambda c: c["trainer"].update(devices=4, accelerator="gpu", strategy="ddp"),
        lambda c: arguments(c, "data").update(analyses=5),
        lambda c: c["trainer"].update(max_epochs=8),
        lambda c: c["trainer"].update(max_epochs=-1),
        lambda c: c["trainer"].update(max_epochs=1),
        lambda c: arguments(c, "data").update(analyses=2),
        lambda c: c["trainer"]["callbacks"].pop(),
        lambda c: c["trainer"]["callbacks"][0]["init_args"].update(every=7),
        lambda c: arguments(c)["arms"].update(new=spec(object, length_km=1.0)),
        lambda c: arguments(c)["arms"].pop("oi"),
    ],
)  # fmt: skip
def test_a_run_goes_on(config: dict[str, Any], change: Callable[[dict], Any]) -> None:
    assert compare(config, change) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda c: arguments(c)["arms"]["oi"]["init_args"].update(length_km=900.0),
            "model.init_args.arms.oi.init_args.length_km: 800.0 there, 900.0 now",
        ),
        (
            lambda c: arguments(c)["arms"].update(oi=spec(Bar, length_km=800.0)),
            "arms.oi.class_path: object there, Bar now",
        ),
        (
            lambda c: c["trainer"].update(limit_train_batches=1),
            "trainer.limit_train_batches: None there, 1 now",
        ),
        (
            lambda c: c["trainer"].update(precision="16-mixed"),
            "trainer.precision: 32-true there, 16-mixed now",
        ),
        (lambda c: c.update(seed_everything=2), "seed_everything: 1 there, 2 now"),
        (lambda c: arguments(c).update(path="other.nc"), "path: out.nc there, other.nc now"),
        (lambda c: arguments(c).update(more=1), "model.init_args.more: (not set) there, 1 now"),
        (lambda c: arguments(c)["levels"].append(1000), "levels.2: (not set) there, 1000 now"),
        (lambda c: c["trainer"]["callbacks"][0]["init_args"].update(decay=0.5), "decay: 0.9 there, 0.5 now"),
    ],
)
def test_a_run_does_not_go_on_and_the_setting_is_named(
    config: dict[str, Any], change: Callable[[dict], Any], told: str
) -> None:
    (line,) = compare(config, change)
    assert told in line


def test_files_count_by_content_wherever_they_lie(
    config: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    def moved(config: dict[str, Any]) -> None:
        other = tmp_path / "elsewhere" / "other.ckpt"
        other.parent.mkdir()
        weights.rename(other)
        arguments(config)["arms"]["vae"]["init_args"]["checkpoint"] = str(other)

    assert compare(config, moved) == []


def test_a_file_with_other_content_is_named(config: dict[str, Any], weights: Path) -> None:
    (line,) = compare(config, lambda config: weights.write_bytes(b"trained again"))
    assert f"checkpoint: {weights} has other content" in line


@pytest.mark.parametrize(
    ("fault", "goes_on"),
    [("{}: cannot be read; repair it", True), ("", False), ("other.npy: is damaged, as is {}", False)],
)
def test_a_file_that_stopped_a_run_may_be_repaired(
    config: dict[str, Any], weights: Path, fault: str, goes_on: bool
) -> None:
    before = settings_of(config, "fit")
    weights.write_bytes(b"repaired")
    record = {"settings": before.values, "fault": fault.format(weights)}
    now = settings_of(config, "fit")
    assert bool(now.repaired(record)) == goes_on
    assert (now.refusal(before.values | now.repaired(record)) == "") == goes_on


def test_what_a_run_makes_for_itself_does_not_stop_it(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "samples.zarr"
    arguments(config, "data")["path"] = str(path)

    def make(shape: tuple[int, ...]) -> None:
        zarr.open_group(path, mode="w").create_array("error", data=np.ones(shape), chunks=(1, 4))

    settings = settings_of(config, "fit")
    make((3, 4))
    assert settings_of(config, "fit").differences(settings.values) == []
    made = settings.with_files(settings.values)
    # The store grows, and is the same; then it is another one.
    make((9, 4))
    assert settings_of(config, "fit").differences(made) == []
    make((9, 5))
    (line,) = settings_of(config, "fit").differences(made)
    assert "samples.zarr has other content" in line


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_counts_by_its_values_and_may_grow(
    config: dict[str, Any], tmp_path: Path, zarr_format: Literal[2, 3]
) -> None:
    """Two stores of one layout, such as two members of an ensemble, are not the same."""

    def store(name: str, times: int, offset: float) -> None:
        values = offset + np.arange(12.0 * times).reshape(times, 3, 4)
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=zarr_format)
        group.create_array("t2m", data=values, chunks=(1, 3, 4))
        group.create_array("time", data=np.arange(times), chunks=(times,))
        group.create_array("latitude", data=np.arange(3.0))

    store("one.zarr", 2, 0.0)
    store("longer.zarr", 3, 0.0)
    store("other.zarr", 2, 1.0)
    config["data"]["init_args"]["path"] = str(tmp_path / "one.zarr")
    before = settings_of(config, "predict").values
    config["data"]["init_args"]["path"] = str(tmp_path / "longer.zarr")
    assert settings_of(config, "predict").differences(before) == []
    config["data"]["init_args"]["path"] = str(tmp_path / "other.zarr")
    (line,) = settings_of(config, "predict").differences(before)
    assert "one.zarr (sha256" in line
    assert "other.zarr (sha256" in line


def test_nothing_set_is_no_file(config: dict[str, Any]) -> None:
    config["data"]["init_args"]["options"] = {}
    settings = settings_of(config, "predict")
    assert settings.differences(settings.values) == []
    assert files_of(settings.values)


def test_arms_that_are_left_out_are_remembered(config: dict[str, Any]) -> None:
    before = settings_of(config, "predict").values
    oi = arguments(config)["arms"].pop("oi")
    shorter = settings_of(config, "predict")
    kept = shorter.united(before)
    oi["init_args"]["length_km"] = 1.0
    arguments(config)["arms"]["oi"] = oi
    (line,) = settings_of(config, "predict").differences(kept)
    assert "800.0 there, 1.0 now" in line


def test_a_longer_run_is_noticed(config: dict[str, Any]) -> None:
    before = settings_of(config, "fit").values
    assert not settings_of(config, "fit").grown(before)
    config["trainer"]["max_epochs"] = 5
    assert settings_of(config, "fit").grown(before)
    assert not settings_of(config, "fit").shrunk(before)
    config["trainer"]["max_epochs"] = 3
    assert not settings_of(config, "fit").grown(before)
    assert settings_of(config, "fit").shrunk(before)
    config["trainer"]["max_epochs"] = -1
    assert settings_of(config, "fit").grown(before)


def test_a_word_is_no_directory(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments(config)["period"] = "test"
    assert compare(config, lambda config: Path("test").mkdir()) == []
    assert settings_of(config, "fit").values["model.init_args.period"] == "test"


def test_another_kind_of_run_is_told_alone(config: dict[str, Any]) -> None:
    before = settings_of(config, "predict").values
    assert settings_of(config, "fit").refusal(before) == "holds a predict, this is a fit"
    config["model"] = spec(Bar, width=3)
    assert settings_of(config, "predict").refusal(before) == (
        "holds a predict of Model, this is a predict of Bar"
    )


def test_a_fit_may_go_on_from_what_it_began_with_and_no_other(
    config: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    without = settings_of(config, "fit").values
    config["ckpt_path"] = str(weights)
    before = settings_of(config, "fit").values
    assert "began without --ckpt_path, now --ckpt_path is" in settings_of(config, "fit").refusal(without)
    config["ckpt_path"] = str(weights.rename(tmp_path / "moved.ckpt"))
    arguments(config)["arms"]["vae"]["init_args"]["checkpoint"] = config["ckpt_path"]
    assert settings_of(config, "fit").refusal(before) == ""
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"of another fit")
    config["ckpt_path"] = str(other)
    refusal = settings_of(config, "fit").refusal(before)
    assert f"began from {weights} (sha256" in refusal
    assert f"now --ckpt_path is {other} (sha256" in refusal
    del config["ckpt_path"]
    later = settings_of(config, "fit")
    assert later.refusal(before) == ""
    assert later.united(before)["ckpt_path"] == before["ckpt_path"]


def test_a_few_differences_are_enough() -> None:
    assert explained(["a", "b"]) == "a; b"
    assert explained(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"

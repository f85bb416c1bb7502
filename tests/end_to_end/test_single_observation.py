"""``predict`` with the single-observation experiment, with a world and controls of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.device import DEVICE
from tests.end_to_end.commands import refused
from vaevar.cli import main
from vaevar.data.weather.writer import create_store, write_states
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC = {"surface": [], "upper": ["z", "u", "v", "t"], "levels": [500, 850]}
PLACES = [{"latitude": 45, "longitude": 129}, {"latitude": -45, "longitude": 129}]

# Height and wind from one streamfunction of Gaussian bumps: u, v = k × ∇ψ and Φ = f ψ.
CONTROLS = """
import numpy as np
import torch

from vaevar.assim.control.base import LinearControl
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km
from vaevar.state import StateSpec

RADIUS = 6.371e6


class Balanced(LinearControl):
    def __init__(self, curvature: float = 0.0) -> None:
        spec, grid = StateSpec([], ["z", "u", "v", "t"], [500, 850]), Grid.gaussian(24)
        rows, columns = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
        centres = Grid.gaussian(12)
        lat, lon = (part.ravel() for part in np.meshgrid(centres.latitude, centres.longitude, indexing="ij"))
        distance = great_circle_km(rows[None], columns[None], lat[:, None, None], lon[:, None, None])
        psi = 4e6 * np.exp(-0.5 * (distance / 1200.0) ** 2)
        phi = np.radians(grid.latitude)
        u = -np.gradient(psi, phi, axis=1) / RADIUS
        v = (np.roll(psi, -1, 2) - np.roll(psi, 1, 2)) / (2 * np.radians(7.5)) / RADIUS
        v = v / np.cos(phi)[:, None]
        z = 2 * 7.292e-5 * np.sin(phi)[:, None] * psi
        fields = np.stack([z, 0.6 * z, u, 0.6 * u, v, 0.6 * v, z / 300, z / 300], 1)
        matrix = torch.from_numpy(fields.reshape(len(lat), -1).T.copy()).float()
        super().__init__(matrix, spec, grid)
        self.curvature = curvature

    def forward(self, w):
        return super().forward(w + self.curvature * w**2)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of a state that changes a little, on the controls' grid."""
    directory = tmp_path_factory.mktemp("world")
    spec, grid = StateSpec(**SPEC), Grid.gaussian(24)
    times = np.datetime64("2021-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(8)
    means = np.array([55_000.0, 15_000.0, 7.0, 3.0, 0.0, 0.0, 255.0, 280.0])[:, None, None]
    noise = np.random.default_rng(0).normal(size=(8, len(spec), *grid.shape))
    create_store(directory / "truth.zarr", times, spec, grid, {"source": "test"})
    write_states(directory / "truth.zarr", 0, means + noise, spec)
    return directory


@pytest.fixture
def config(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed config, made small."""
    committed = Path(__file__).parents[2] / "configs" / "single_observation.yaml"
    content = yaml.safe_load(committed.read_text())
    (tmp_path / "single_observation_controls.py").write_text(CONTROLS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def arm(curvature: float) -> dict:
        control = {
            "class_path": "single_observation_controls.Balanced",
            "init_args": {"curvature": curvature},
        }
        inner = {"control": control, "iterations": 40, "tolerance": 1e-5}
        return {"class_path": "vaevar.assim.variational.VariationalAssimilator", "init_args": inner}

    content["model"]["init_args"]["arms"] = {"linear": arm(0.0), "bent": arm(0.1)}
    source = {
        "class_path": "vaevar.data.weather.store.StoreSource",
        "init_args": {"path": str(world / "truth.zarr")},
    }
    content["data"]["init_args"] |= {
        "source": source,
        "dates": ["2021-01-01T06", "2021-01-02T00"],
        "places": PLACES,
        "departures": [500.0, -1000.0],
        "spec": SPEC,
    }
    content["trainer"] |= {"accelerator": DEVICE, "enable_progress_bar": False}
    path = tmp_path / "single_observation.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_predict_makes_figures_and_tables(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "--config", str(config)])
    run = Path("runs/single_observation")
    labels = ["45N129E", "45S129E"]
    names = [
        f"{kind}_{label}.png" for kind in ("increment", "section", "dates", "departures") for label in labels
    ]
    assert sorted(path.name for path in run.glob("*.png")) == sorted(names)
    assert all(path.stat().st_size > 10_000 for path in run.glob("*.png"))
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {name.removesuffix(".png").replace("_", "/") for name in names}
    assert (run / "provenance.json").is_file()

    cases = pd.read_csv(run / "cases.csv")
    assert len(cases) == 2 * 2 * 2 * 2
    linear = cases[cases["arm"] == "linear"]
    np.testing.assert_allclose(linear["increment"], linear["optimal"], rtol=1e-3)
    # Balanced by construction: geostrophic in both hemispheres.
    assert (linear["correlation"] > 0.8).all()
    assert (linear["wind_max"] > 1).all()

    summary, printed = (run / "summary.md").read_text(), capsys.readouterr().out
    lines = [line for line in summary.splitlines() if line.startswith("| ")]
    assert len(lines) == 3 * 2 + 2 * 2 * (1 + 1 + 2)  # heads and rules, then rows of the three tables
    assert "Background date" in summary
    assert "Background date" in printed
    assert "geostrophic" in printed
    dates = [line for line in lines if line.endswith("| no |")]
    assert len(dates) == 4
    last = {tuple(line.split(" | ")[:3]): float(line.split(" | ")[4]) for line in lines if "-1000" in line}
    assert last["| linear", "45N129E", "-1000"] < 1e-3 < 0.05 < last["| bent", "45N129E", "-1000"]


def test_mistakes_are_one_line_each(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = config.read_text()

    def data(**settings: object) -> Callable[[dict], None]:
        return lambda content: content["data"]["init_args"].update(settings)

    def inference(content: dict) -> None:
        content["trainer"]["inference_mode"] = True

    def level(content: dict) -> None:
        content["trainer"]["callbacks"][0]["init_args"]["level"] = 300

    def nobody(content: dict) -> None:
        content["model"]["init_args"]["arms"] = {}

    changes: list[tuple[Callable[[dict], None], str]] = [
        (data(dates=["2021-01-05T00"]), "2021-01-05"),
        (data(dates=["2021-01-01T01"]), "2021-01-01T01"),
        (data(places=[{"latitude": 95, "longitude": 0}]), "latitudes"),
        (inference, "inference_mode"),
        (level, "z300"),
        (nobody, "arm"),
    ]
    for change, expected in changes:
        content = yaml.safe_load(original)
        change(content)
        config.write_text(yaml.safe_dump(content, sort_keys=False))
        assert expected in refused(config, capsys)
        assert not Path("runs/single_observation/summary.md").exists()

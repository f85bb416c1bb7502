"""``predict`` with the sensitivity experiment, with a world, a forecaster and controls of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.end_to_end.commands import refused
from vaevar.cli import main
from vaevar.data.weather.writer import create_store, write_states
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km
from vaevar.state import StateSpec

SPEC = {"surface": [], "upper": ["z", "t"], "levels": [500, 850]}
STD = np.array([900.0, 500.0, 6.0, 8.0])
MEANS = np.array([55_000.0, 15_000.0, 255.0, 280.0])
GRID = Grid.gaussian(12)

TOYS = """
import numpy as np
import torch

from vaevar.assim.control.base import LinearControl
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km
from vaevar.state import StateSpec

SPEC, GRID = StateSpec([], ["z", "t"], [500, 850]), Grid.gaussian(12)
MEANS = torch.tensor([55_000.0, 15_000.0, 255.0, 280.0])[:, None, None]
STD = torch.tensor([900.0, 500.0, 6.0, 8.0])[:, None, None]


class Drifting(Forecaster):
    def __init__(self, differentiable: bool = True, broken: bool = False) -> None:
        self.history, self.step_hours, self.spec, self.grid = 2, 6, SPEC, GRID
        self.differentiable, self.broken = differentiable, broken

    def step(self, states):
        before, now = ((states[:, number] - MEANS) / STD for number in (0, 1))
        following = 0.9 * now.roll(1, -1) + 0.1 * torch.tanh(now) + 0.02 * before
        if self.broken:
            following = following + 0 * torch.sqrt(now * 0)
        return MEANS + STD * following


class Bumps(LinearControl):
    def __init__(self) -> None:
        rows, columns = np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij")
        lat, lon = (part[::2, ::2].ravel() for part in (rows, columns))
        distance = great_circle_km(rows[None], columns[None], lat[:, None, None], lon[:, None, None])
        bumps = 0.25 * np.exp(-0.5 * (distance / 2000.0) ** 2)
        fields = bumps[:, None] * STD.numpy()
        super().__init__(torch.from_numpy(fields.reshape(len(lat), -1).T.copy()).float(), SPEC, GRID)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of a smooth state that drifts eastward, a column a step, and is disturbed."""
    directory = tmp_path_factory.mktemp("world")
    times = np.datetime64("2021-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(16)
    rows, columns = (part.ravel() for part in np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij"))
    bumps = np.exp(-0.5 * (great_circle_km(rows[:, None], columns[:, None], rows, columns) / 2000.0) ** 2)
    generator, state, states = np.random.default_rng(0), np.zeros((4, *GRID.shape)), []
    for _ in times:
        disturbance = generator.normal(0, 0.06, (4, rows.size)) @ bumps
        state = 0.97 * np.roll(state, 1, -1) + disturbance.reshape(state.shape)
        states.append(MEANS[:, None, None] + STD[:, None, None] * state)
    spec = StateSpec(**SPEC)  # type: ignore[arg-type]
    create_store(directory / "truth.zarr", times, spec, GRID, {"source": "test"})
    write_states(directory / "truth.zarr", 0, np.stack(states), spec)
    np.save(directory / "std.npy", STD)
    return directory


@pytest.fixture
def config(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed config, made small."""
    committed = Path(__file__).parents[2] / "configs" / "sensitivity.yaml"
    content = yaml.safe_load(committed.read_text())
    (tmp_path / "sensitivity_toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    control = {"class_path": "sensitivity_toys.Bumps"}
    settings = {"control": control, "lambda_": 1.0, "tolerance": 1e-4}
    content["model"]["init_args"] |= {
        "forecaster": {"class_path": "sensitivity_toys.Drifting"},
        "arms": {
            "instant": {"class_path": "VariationalAssimilator", "init_args": settings},
            "window": {"class_path": "FourDVar", "init_args": settings | {"window": 2}},
        },
        "tolerance": 1e-4,
    }
    source = {"class_path": "StoreSource", "init_args": {"path": str(world / "truth.zarr")}}
    content["data"]["init_args"] |= {
        "source": source,
        "dates": ["2021-01-02T18", "2021-01-03T00"],
        "analyses": 4,
        "lead_hours": 12,
        "background_hours": 12,
        "region": {"south": 20, "north": 80, "west": -60, "east": 60},
        "climatology": str(world / "std.npy"),
        "spec": SPEC,
    }
    content["data"]["init_args"]["network"]["init_args"]["count"] = 25
    content["trainer"] |= {"accelerator": "cpu", "enable_progress_bar": False}
    content["trainer"]["callbacks"][0]["init_args"] = {"channels": ["z500", "t850"]}
    path = tmp_path / "sensitivity.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_predict_makes_figures_and_tables(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "--config", str(config)])
    run = Path("runs/sensitivity")
    labels = [f"{arm}_2021-01-{hour}" for arm in ("instant", "window") for hour in ("02T18", "03T00")]
    names = {f"{kind}_{label}.png" for kind in ("impact", "sensitivity") for label in labels}
    assert {path.name for path in run.glob("*.png")} == names
    assert all(path.stat().st_size > 10_000 for path in run.glob("*.png"))
    assert (run / "provenance.json").is_file()

    impacts = pd.read_csv(run / "impacts.csv")
    counts = impacts.groupby(["arm", "date"]).size()
    assert counts["instant"].tolist() == [25 * 4] * 2
    assert counts["window"].tolist() == [25 * 4 * 2] * 2
    late = impacts[(impacts["arm"] == "window") & (impacts["date"] == "2021-01-03T00")]
    assert late["time"].unique().tolist() == ["2021-01-02T18:00:00", "2021-01-03T00:00:00"]
    assert (impacts.groupby("arm")["impact"].sum() < 0).all()
    assert 0.4 < (impacts["impact"] < 0).mean() < 1.0

    # The weakly nonlinear forecaster lets the gradients say almost all.
    summary, printed = (run / "summary.md").read_text(), capsys.readouterr().out
    assert "sum / change" in printed
    assert "per cent" in summary
    lines = [line.strip("| ").split(" | ") for line in summary.splitlines() if line.startswith("| ")]
    ratios = [float(line[7]) for line in lines if len(line) == 12 and line[0] in ("instant", "window")]
    assert len(ratios) == 4
    np.testing.assert_allclose(ratios, 1.0, atol=0.1)
    errors = [float(line[5]) for line in lines if len(line) == 7 and line[2] in ("0.01", "0.1")]
    assert len(errors) == 8
    assert max(errors) < 0.05

    channels = pd.read_csv(run / "sensitivity.csv")
    assert len(channels) == 2 * 2 * 2 * 4
    np.testing.assert_allclose(channels.groupby(["arm", "date"])["share"].sum(), 1.0)
    # The last state is nearly all that this forecaster steps from.
    assert channels.groupby("steps_before")["norm"].sum().pipe(lambda norm: norm[0] > 10 * norm[1])


def test_channels_that_are_not_judged_do_not_matter_where_nothing_mixes_them(config: Path) -> None:
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= {"channels": ["t850"], "dates": ["2021-01-02T18"]}
    del content["model"]["init_args"]["arms"]["window"]
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    main(["predict", "--config", str(config)])
    channels = pd.read_csv("runs/sensitivity/sensitivity.csv")
    assert set(channels[channels["norm"] > 0]["channel"]) == {"t850"}
    assert "mean over t850" in Path("runs/sensitivity/summary.md").read_text()


def test_mistakes_are_one_line_each(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = config.read_text()

    def data(**settings: object) -> Callable[[dict], None]:
        return lambda content: content["data"]["init_args"].update(settings)

    def model(**settings: object) -> Callable[[dict], None]:
        return lambda content: content["model"]["init_args"].update(settings)

    def toy(**settings: object) -> Callable[[dict], None]:
        return model(forecaster={"class_path": "sensitivity_toys.Drifting", "init_args": settings})

    def inference(content: dict) -> None:
        content["trainer"]["inference_mode"] = True

    def shown(content: dict) -> None:
        content["trainer"]["callbacks"][0]["init_args"]["channels"] = ["q700"]

    changes: list[tuple[Callable[[dict], None], str]] = [
        (data(region={"south": 46, "north": 47, "west": 1, "east": 5}), "holds no point of the Grid(12 × 24"),
        (data(region={"south": 60, "north": 20, "west": 0, "east": 5}), "south 60 and north 20"),
        (data(lead_hours=15), "data.lead_hours: 15"),
        (data(lead_hours=240), "to 2021-01-13T00 is needed"),
        (data(background_hours=9), "data.background_hours: 9"),
        (data(step_hours=0), "step_hours 0"),
        (data(dates=[]), "data.dates"),
        (data(dates=["2021-01-02T18", "2021-01-02T18"]), "data.dates"),
        (data(channels=["z300"]), "data.channels: z300"),
        (data(analyses=3), "data.analyses is 3, and arm window"),
        (data(step_hours=12, analyses=2), "data.init_args.step_hours to 6"),
        (model(arms={}), "arm"),
        (model(arms={"free": {"class_path": "FreeRun"}}), "free is FreeRun, whose adjoint is not known"),
        (model(tolerance=1.5), "tolerance 1.5"),
        (toy(differentiable=False), "Drifting has no gradient"),
        (toy(broken=True), "is not finite in z500"),
        (inference, "inference_mode"),
        (shown, "q700"),
    ]
    for change, expected in changes:
        content = yaml.safe_load(original)
        change(content)
        config.write_text(yaml.safe_dump(content, sort_keys=False))
        assert expected in refused(config, capsys)
        assert not Path("runs/sensitivity/summary.md").exists()

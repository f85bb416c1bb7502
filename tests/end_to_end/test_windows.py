"""Arms that analyse windows beside one that does not: a cycle, its interruptions, its faults, its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr
from torch import Tensor

import vaevar
from tests.device import DEVICE
from tests.library.conftest import tiny as tiny  # the fixtures
from tests.library.conftest import world as world
from vaevar.assim.control.base import LinearControl
from vaevar.assim.cycle.callback import CycleCallback
from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.error_recorder import CycleErrorRecorder
from vaevar.assim.cycle.faults import IncrementLimit
from vaevar.assim.cycle.restart import analyses_made
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.verification.dashboards import Dashboards
from vaevar.verification.forecasts import Forecasts
from vaevar.verification.scores import Scores

ANALYSES = 8


def fading(states: Tensor) -> Tensor:
    now = states[:, -1]
    return now + 0.1 * (now.mean((-2, -1), keepdim=True) - now) + 0.05 * (now - states[:, 0])


@pytest.fixture
def forecaster(tiny: Any) -> vaevar.Forecaster:
    return vaevar.Forecaster.from_function(
        fading, tiny.store.spec, tiny.store.grid, history=2, differentiable=True
    )


@pytest.fixture
def method(tiny: Any) -> Callable[..., FourDVar]:
    """4DVar whose increments are made of what the first states differ from their mean by."""
    states = torch.from_numpy(tiny.store.read(tiny.store.times[:9])).double()
    differences = (states - states.mean(0)).flatten(1).T / 6
    control = LinearControl(differences.float(), tiny.store.spec, tiny.store.grid)

    def make(window: int, **settings: Any) -> FourDVar:
        return FourDVar(control, **{"window": window, "lambda_": 2.0, "iterations": 6} | settings)

    return make


Run = Callable[..., None]


@pytest.fixture
def run(tiny: Any, forecaster: vaevar.Forecaster, method: Callable[..., FourDVar]) -> Run:
    """A run of arms with windows of 1, 2 and 4, and every callback that follows a cycle."""

    def run(
        name: str,
        arms: dict[str, vaevar.Assimilator] | None = None,
        model: vaevar.Forecaster = forecaster,
        callbacks: tuple[Any, ...] = (),
        maps_every: int = 0,
        accelerator: str = DEVICE,
        **data: Any,
    ) -> None:
        own = arms or {
            "single": method(1),
            "pair": method(2, model_error_scale=0.3),
            "four": method(4, dtype="float64"),
        }
        followers = [
            Forecasts(every=2, lead_hours=[6, 12]),
            Dashboards(channels=["z500"], maps=["z500"], maps_every=maps_every),
            Scores(skip=0),
            *callbacks,
        ]
        vaevar.run(
            model, own, tiny.data(**{"analyses": ANALYSES} | data), f"runs/{name}", callbacks=followers,
            accelerator=accelerator,
        )  # fmt: skip

    return run


def table(name: str, file: str = "scores.csv") -> pd.DataFrame:
    return pd.read_csv(Path("runs", name, file))


def states(name: str, arm: str, kind: str) -> xr.Dataset:
    return xr.open_zarr(f"runs/{name}/{arm}/{kind}.zarr", chunks=None)


def geopotential(name: str, arm: str, kind: str) -> np.ndarray:
    """At 500 hPa, [T, H, W]."""
    found: np.ndarray = states(name, arm, kind)["geopotential"].sel(level=500).squeeze(drop=True).values
    return found


def same(name: str, other: str, arms: tuple[str, ...]) -> None:
    for file in ("scores.csv", "forecasts.csv"):
        for arm in arms:
            pd.testing.assert_frame_equal(table(f"{name}/{arm}", file), table(f"{other}/{arm}", file))
    for arm in arms:
        left, right = (
            table(f"{run}/{arm}", "diagnostics.csv").drop(columns="seconds") for run in (name, other)
        )
        pd.testing.assert_frame_equal(left, right)
        for kind in ("background", "analysis"):
            left, right = (states(run, arm, kind).drop_attrs() for run in (name, other))
            xr.testing.assert_identical(left, right)


ARMS = ("single", "pair", "four")


def test_arms_with_windows_beside_one_without(run: Run) -> None:
    """The same times, each with its place in its window; forecasts from where nothing later was seen."""
    run("whole", maps_every=3)
    scores = table("whole")
    assert scores.groupby("arm")["time"].nunique().to_dict() == dict.fromkeys(ARMS, ANALYSES)
    for arm, window in zip(ARMS, (1, 2, 4), strict=True):
        rows = scores[scores["arm"] == arm]
        assert set(rows["window"]) == {window}
        position = rows.groupby("time")["position"].agg(["min", "max"]).to_numpy().T.tolist()
        assert position == [[number % window for number in range(ANALYSES)]] * 2
        # The background at a window's beginning is one step old: the forecast from the last two analyses.
        field = {kind: geopotential("whole", arm, kind) for kind in ("analysis", "background")}
        for number in range(max(2, window), ANALYSES, window):
            made = fading(torch.from_numpy(field["analysis"][number - 2 : number])[None])[0].numpy()
            np.testing.assert_allclose(field["background"][number], made, rtol=1e-6)
        assert not np.allclose(field["analysis"], field["background"], rtol=1e-7)
    lead = {arm: states("whole", arm, "background").attrs.get("background_lead") for arm in ARMS}
    assert lead["single"] is None
    assert str(lead["four"]).startswith("6 to 24 h")
    summary = Path("runs/whole/summary.md").read_text(encoding="utf-8")
    assert "last time" in summary
    assert "next background" in summary
    starts = table("whole", "forecasts.csv").groupby("arm")["time"].unique()
    times = scores["time"].unique()
    wanted = {"single": times[::2], "pair": times[1::2], "four": times[3::4]}
    assert {arm: list(starts[arm]) for arm in ARMS} == {arm: list(wanted[arm]) for arm in ARMS}
    # A 6 h forecast from the end of a window is the background of the next.
    forecasts = table("whole", "forecasts.csv")
    made = forecasts.query("arm == 'four' and lead_hours == 6").iloc[:6]["rmse"]
    background = scores.query(f"arm == 'four' and quantity == 'background' and time == '{times[4]}'")["rmse"]
    np.testing.assert_allclose(made, background, rtol=1e-6)


def test_the_loop_has_the_numbers_of_predict(
    run: Run, tiny: Any, forecaster: vaevar.Forecaster, method: Callable[..., FourDVar]
) -> None:
    """To the last bit, with and without model error."""
    run("whole", accelerator="cpu")  # where the loop is
    first = forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    times = tiny.first + np.timedelta64(6, "h") * np.arange(ANALYSES)
    limit = IncrementLimit(25.0, tiny.climatology)
    for arm, own in {"pair": method(2, model_error_scale=0.3), "four": method(4, dtype="float64")}.items():
        steps = list(vaevar.cycle(forecaster, own, first, times, tiny.observe, limit))
        assert [step.index for step in steps] == list(range(ANALYSES))
        for step in steps:
            for kind, state in (("analysis", step.analysis), ("background", step.background)):
                written = states("whole", arm, kind)
                valid = written.assign_coords(time=times.astype("datetime64[ns]")).sel(time=step.time)
                there = vaevar.State.from_xarray(valid.squeeze(drop=True), tiny.store.spec)
                assert torch.equal(there.values, state.values)
            assert step.observations.to_dataframe().equals(tiny.observe(step.time).to_dataframe())


def killed(run: Callable[[], None], patch: pytest.MonkeyPatch, analysis: int) -> None:
    real, calls = Dashboards.on_predict_batch_end, []

    def dies(self: Dashboards, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == analysis:
            raise KeyboardInterrupt
        real(self, *args, **kwargs)

    with patch.context() as inner:
        inner.setattr(Dashboards, "on_predict_batch_end", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run()


@pytest.mark.parametrize("analysis", [3, 7])
def test_a_run_killed_in_mid_window_resumes_to_the_same_numbers(
    run: Run, analysis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arm from the beginning of the window that it was in."""
    run("whole")
    killed(lambda: run("again"), monkeypatch, analysis)
    made = {arm: analyses_made(Path("runs/again", arm)) for arm in ARMS}
    assert made["single"] in (analysis - 1, analysis)
    assert (made["pair"], made["four"]) == (analysis // 2 * 2, analysis // 4 * 4)
    run("again")
    same("again", "whole", ARMS)


def test_cycles_made_longer_and_short_looks(run: Run, tiny: Any) -> None:
    """A cycle grows by whole windows; a look may end in the middle of one."""
    run("whole")
    run("grown", analyses=4)
    run("grown")
    same("grown", "whole", ARMS)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"analyses": 6},
            r"analyses is 6, and arm four .* every 4 times: give whole ones, 4 or 8",
        ),
        ({"analyses": 3}, r"arm pair has a new window every 2 times: give whole ones, 2 or 4"),
        ({"cycle": Cycle(new_cycle_every=2)}, r"new_cycle_every is 2, and arm four .* every 4 times.*, 4$"),
    ],
)
def test_cycles_that_are_not_whole_windows_are_refused(run: Run, settings: dict[str, Any], says: str) -> None:
    callbacks = (settings.pop("cycle"),) if "cycle" in settings else ()
    with pytest.raises(vaevar.UserError, match=says):
        run("refused", callbacks=callbacks, **settings)
    assert not list(Path("runs").rglob("*.zarr"))


def test_new_cycles_begin_with_new_windows(run: Run) -> None:
    run("short", analyses=4)
    run("several", callbacks=(Cycle(new_cycle_every=4),))
    for arm in ARMS:
        first = states("several", arm, "analysis").isel(time=slice(4))
        xr.testing.assert_identical(first.drop_attrs(), states("short", arm, "analysis").drop_attrs())
    # The second cycle begins with a forecast from the truth again, of all arms alike.
    begun = [states("several", arm, "background")["geopotential"].values[4] for arm in ARMS]
    assert np.array_equal(begun[0], begun[1])
    assert np.array_equal(begun[0], begun[2])


def test_a_time_without_truth_within_a_window(run: Run, tiny: Any, tmp_path: Path) -> None:
    """Nothing is observed then and nothing judged; the window's other times go on, if it is the first too."""
    truth = xr.open_zarr(tiny.path, chunks=None).load()
    times = tiny.first + np.timedelta64(6, "h") * np.arange(ANALYSES)
    lacking = times[[2, 4]].astype("datetime64[ns]")
    truth = truth.sel(time=~truth["time"].isin(lacking))
    encoding = {name: {"chunks": (1, *array.shape[1:])} for name, array in truth.data_vars.items()}
    truth.to_zarr(tmp_path / "holed.zarr", zarr_format=2, encoding=encoding)
    source = vaevar.StoreSource(str(tmp_path / "holed.zarr"))
    run("holed", callbacks=(Cycle(on_missing_truth="skip"),), source=source)
    scores = table("holed")
    for arm in ARMS:
        known = scores[scores["arm"] == arm].groupby("time")["rmse"].apply(lambda rmse: rmse.notna().all())
        assert known.tolist() == [number not in (2, 4) for number in range(ANALYSES)]
        failed = table(f"holed/{arm}", "diagnostics.csv")["failed"]
        assert (failed.dropna() == 0).all()
    # In a window other observations tell of that time too; an arm without windows keeps its background.
    moved = {
        arm: float(np.abs(states("holed", arm, "analysis")["geopotential"].values[2]
                          - states("holed", arm, "background")["geopotential"].values[2]).max())
        for arm in ARMS
    }  # fmt: skip
    assert moved["single"] == 0
    assert moved["four"] > 1.0


def stop(name: str, arm: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs", name, arm, "stopped.json").read_text(encoding="utf-8"))
    return found


class Torn(torch.autograd.Function):
    """Identity, whose gradient is not finite in u500."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        return states.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[..., 4, 2, 2] = torch.nan
        return gradient


def beside(tiny: Any, step: Callable[[Tensor], Tensor], **settings: Any) -> vaevar.Forecaster:
    return vaevar.Forecaster.from_function(
        step, tiny.store.spec, tiny.store.grid, **{"history": 2, "differentiable": True} | settings
    )


def test_a_gradient_that_is_not_finite_ends_its_arm_alone(
    run: Run, tiny: Any, method: Callable[..., FourDVar], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that names step and channel; its restart is saved, and once that is mended it goes on."""
    run("whole", arms={"single": method(1), "four": method(4)})
    torn = [False]
    own = beside(tiny, lambda states: fading(Torn.apply(states) if torn[0] else states))
    arms = {"single": method(1), "four": method(4, forecaster=own)}

    class Tears(CycleCallback):
        def before_analysis(self, module: Any, data: Any, time: Any) -> None:
            torn[0] = time.index == 4

    capsys.readouterr()
    with pytest.raises(vaevar.UserError, match=r"1 of 2 arms had to stop: four at .*gradient"):
        run("again", arms=arms, callbacks=(Tears(),))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("arm four stops")]
    assert "gradient through step 3 of _Function" in line
    assert "is not finite in u500" in line
    assert (stop("again", "four")["index"], analyses_made(Path("runs/again/four"))) == (4, 4)
    assert table("again/single")["time"].nunique() == ANALYSES
    torn[0] = False
    run("again", arms=arms)
    same("again", "whole", ("single", "four"))


@pytest.mark.parametrize("wrong", ["nan", "error"])
def test_a_forecast_that_fails_within_a_window_ends_its_arm_alone(
    run: Run, tiny: Any, method: Callable[..., FourDVar], wrong: str
) -> None:
    """Where the arm's own forecaster does, and where the cycle's."""
    calls = [0]

    def step(states: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] <= 3:
            return fading(states)
        if wrong == "error":
            raise vaevar.UserError("the session is gone")
        return fading(states) * torch.nan

    arms = {"single": method(1), "four": method(4, forecaster=beside(tiny, step))}
    said = "the session is gone" if wrong == "error" else "not finite"
    with pytest.raises(vaevar.UserError, match=rf"1 of 2 arms had to stop: four at .*{said}"):
        run("own", arms=arms)
    assert table("own/single")["time"].nunique() == ANALYSES
    assert stop("own", "four")["index"] == 0


@pytest.mark.slow
def test_a_window_that_fails_keeps_its_forecast_and_the_arm_goes_on(
    run: Run, method: Callable[..., FourDVar], capsys: pytest.CaptureFixture[str]
) -> None:
    """A window is one failure, however many times it has; too many windows in a row are too many."""

    class Sometimes(FourDVar):
        failing = (0, 8)

        def analyse_window(self, start: Any, observations: Any, forecaster: Any, context: Any) -> Any:
            if context.index in self.failing:
                raise FloatingPointError("the cost is not finite")
            return super().analyse_window(start, observations, forecaster, context)

    made = method(4)
    own = Sometimes(made.control, window=4, lambda_=2.0, iterations=6)
    arms = {"single": method(1), "four": own}
    run("whole", arms=arms, callbacks=(Cycle(failures_in_a_row=2),), analyses=16)
    assert capsys.readouterr().out.count("the analysis failed, the background is kept") == 2
    failed = table("whole/four", "diagnostics.csv")["failed"].tolist()
    assert failed == [1] * 4 + [0] * 4 + [1] * 4 + [0] * 4
    field = {
        kind: states("whole", "four", kind)["geopotential"].values for kind in ("background", "analysis")
    }
    assert np.array_equal(field["analysis"][:4], field["background"][:4])
    assert not np.array_equal(field["analysis"][4:8], field["background"][4:8])
    own.failing = (4, 8)
    with pytest.raises(vaevar.UserError, match=r"four at .*: 2 analyses in a row failed, the last because"):
        run("stops", arms=arms, callbacks=(Cycle(failures_in_a_row=2),), analyses=16)
    assert (stop("stops", "four")["index"], analyses_made(Path("runs/stops/four"))) == (8, 8)
    own.failing = (0,)
    with pytest.raises(vaevar.UserError, match=r"four at .*: 1 analyses in a row failed"):
        run("none", arms=arms, analyses=4)  # no analysis succeeds


def test_what_cannot_work_is_refused_before_the_first_forecast(
    run: Run, tiny: Any, method: Callable[..., FourDVar]
) -> None:
    stepped: list[int] = []

    def counted(states: Tensor) -> Tensor:
        stepped.append(1)
        return fading(states)

    with pytest.raises(vaevar.UserError, match=r"arm single: FourDVar: _Function has no gradient"):
        run("none", model=beside(tiny, counted, differentiable=False))
    other = beside(tiny, fading, history=1)
    with pytest.raises(vaevar.UserError, match=r"arm four: FourDVar: its own forecaster .* history 1 inst"):
        run("other", arms={"single": method(1), "four": method(4, forecaster=other)})
    recorder = CycleErrorRecorder("errors.zarr", "four")
    with pytest.raises(vaevar.UserError, match=r"arm four analyses windows of 4 times, .* up to 24 h old"):
        run("recorded", callbacks=(recorder,))
    assert not stepped
    assert not list(Path("runs").rglob("*.zarr"))


def test_an_arm_without_windows_is_recorded_beside_one_with(run: Run) -> None:
    run("recorded", callbacks=(CycleErrorRecorder("errors.zarr", "single"),))
    assert zarr.open_group("errors.zarr", mode="r")["error"].shape[0] == ANALYSES


def test_a_run_of_an_earlier_version_goes_on(run: Run, method: Callable[..., FourDVar]) -> None:
    """Its scores lack position and window."""
    arms = {"single": method(1)}
    run("whole", arms=arms)
    run("old", arms=arms, analyses=4)
    for path in Path("runs/old").rglob("scores.csv"):
        pd.read_csv(path).drop(columns=["position", "window"]).to_csv(path, index=False)
    run("old", arms=arms)
    columns = ["time", "arm", "channel", "quantity", "rmse", "bias"]
    pd.testing.assert_frame_equal(table("old")[columns], table("whole")[columns])
    rows = [Path("runs", name, "summary.md").read_text("utf-8").splitlines()[2] for name in ("old", "whole")]
    assert rows[0] == rows[1]
    shutil.rmtree("runs/old")

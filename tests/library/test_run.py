"""A run from Python: what it writes, and that it never returns another run's numbers."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import vaevar
from tests.device import DEVICE
from vaevar.assim.control.base import LinearControl
from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.mistakes.notices import Notice
from vaevar.verification.scores import Scores


def oi(length: float = 1500.0) -> Any:
    return vaevar.OptimalInterpolation(length_km=length)


def run(tiny: Any, arms: Any = None, **settings: Any) -> Any:
    options = {name: settings.pop(name) for name in ("restart", "callbacks") if name in settings}
    arms = arms or {"oi": oi()}
    return vaevar.run(
        tiny.forecaster, arms, tiny.data(**settings), "runs/mine", accelerator=DEVICE, **options
    )


def test_results(tiny: Any) -> None:
    results = run(tiny, {"free": vaevar.FreeRun(), "oi": oi()})
    assert results.arms == ("free", "oi")
    table = results.scores
    assert set(table.arm) == {"free", "oi"}
    assert table.time.dtype.kind == "M"
    one = table.query("arm == 'oi' and channel == 'z500' and quantity == 'analysis'")
    assert (one.time.to_numpy() == tiny.times).all()
    # What is subtracted by time is of that time: the backgrounds' RMSE is that of the scores.
    background = results["oi"].background
    state = vaevar.State.from_xarray(background.isel(time=2), tiny.store.spec)
    error = (state - tiny.store.state(background.time.values[2])).rmse()
    wanted = table.query("arm == 'oi' and channel == 'z500' and quantity == 'background'").rmse.iloc[2]
    assert float(error.sel(channel="z500")) == pytest.approx(wanted, rel=1e-6)
    hours = (background.time - background.initial_time).values / np.timedelta64(1, "h")
    assert hours.tolist() == [6.0] * 5
    assert set(results["oi"].diagnostics.columns) >= {"time", "failed", "seconds"}
    assert "analysis rmse / std" in results.summary
    assert results.record["status"] == "ended"
    with pytest.raises(vaevar.UserError, match="has no arm 'threedvar'; it has free, oi"):
        results["threedvar"]
    with pytest.raises(vaevar.UserError, match="holds no results of a cycle"):
        vaevar.RunResults("nowhere")
    with pytest.raises(vaevar.UserError, match="holds runs; give the directory of one, such as "):
        vaevar.RunResults(results.directory.parent)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arms": {"oi": oi(700.0)}}, r"arms\.oi\.length_km: 1500.0 there, 700.0 now"),
        ({"start": "2021-01-03T12"}, r"data\.start: 2021-01-03T06 there, 2021-01-03T12 now"),
        ({"network": vaevar.ColumnNetwork(count=21)}, r"data\.network\.count: 20 there, 21 now"),
        ({"seed": 1}, r"data\.seed: 0 there, 1 now"),
    ],
)
def test_another_experiment_in_the_same_directory_is_refused(tiny: Any, change: Any, says: str) -> None:
    first = run(tiny)
    before = first.scores
    with pytest.raises(vaevar.UserError, match=rf"runs/mine holds another experiment: {says}.*restart=True"):
        run(tiny, **dict(change))
    assert run(tiny).scores.equals(before)  # nothing was changed, and the same goes on
    again = run(tiny, restart=True, **dict(change))
    assert not again.scores.rmse.equals(before.rmse)
    assert list(Path("runs/mine/.old").iterdir())


def test_another_forecaster_is_another_experiment(tiny: Any) -> None:
    run(tiny)
    other = vaevar.Forecaster.from_function(
        lambda states: states[:, -1], tiny.store.spec, tiny.store.grid, history=2
    )
    with pytest.raises(vaevar.UserError, match=r"forecaster\.function"):
        vaevar.run(other, {"oi": oi()}, tiny.data(), "runs/mine", accelerator=DEVICE)


def test_weights_of_a_method_belong_to_it(tiny: Any) -> None:
    """A network with other numbers is another one, whatever it is called."""

    def method(scale: float) -> Any:
        size = len(tiny.store.spec) * int(np.prod(tiny.store.grid.shape))
        matrix = scale * torch.ones(size, 1)
        return vaevar.VariationalAssimilator(LinearControl(matrix, tiny.store.spec, tiny.store.grid))

    run(tiny, {"mine": method(1e-3)})
    with pytest.raises(vaevar.UserError, match=r"arms\.mine\.control\.weights"):
        run(tiny, {"mine": method(2e-3)})


def test_more_analyses_and_more_arms_go_on(tiny: Any) -> None:
    short = run(tiny, analyses=3).scores
    longer = run(tiny, {"oi": oi(), "free": vaevar.FreeRun()}, analyses=5).scores
    assert set(longer.arm) == {"free", "oi"}
    same = longer.query("arm == 'oi'").iloc[: len(short)]
    assert same.rmse.tolist() == short.rmse.tolist()


def test_predict_alone_is_as_safe(tiny: Any) -> None:
    """Lightning's own way to the same cycle."""

    def predict(method: Any, directory: str) -> None:
        trainer = L.Trainer(
            accelerator=DEVICE, logger=False, inference_mode=False, default_root_dir=directory,
            callbacks=[Cycle(), Scores()], enable_progress_bar=False,
        )  # fmt: skip
        module = AssimilationModule(tiny.forecaster, {"oi": method})
        trainer.predict(module, datamodule=tiny.data(), return_predictions=False)

    predict(oi(), "runs/own")
    before = vaevar.RunResults("runs/own").scores
    with pytest.raises(vaevar.UserError, match="length_km"):
        predict(oi(700.0), "runs/own")
    assert vaevar.RunResults("runs/own").scores.equals(before)
    with pytest.raises(vaevar.UserError, match="nothing says where to write"):
        predict(oi(), ".")
    assert sorted(os.listdir()) == ["runs"]


def test_predict_without_the_cycle_is_refused(tiny: Any) -> None:
    trainer = L.Trainer(
        accelerator=DEVICE, logger=False, inference_mode=False, default_root_dir="runs/own",
        enable_progress_bar=False,
    )  # fmt: skip
    with pytest.raises(vaevar.UserError, match=r"no arm has a background: add .*Cycle"):
        trainer.predict(AssimilationModule(tiny.forecaster, {"oi": oi()}), datamodule=tiny.data())


def test_a_run_that_is_interrupted_goes_on(tiny: Any) -> None:
    whole = run(tiny).scores

    class Interruption(L.Callback):
        def on_predict_batch_start(self, *args: Any) -> None:
            if args[3] == 3:
                raise RuntimeError("somebody stumbles over the cable")

    def part(**options: Any) -> Any:
        return vaevar.run(
            tiny.forecaster, {"oi": oi()}, tiny.data(), "runs/part", accelerator=DEVICE, **options
        )

    with pytest.raises(RuntimeError):
        part(callbacks=[Interruption()])
    assert vaevar.RunResults("runs/part").record["status"] == "begun"
    assert not Path("runs/part/.lock").exists()
    assert part().scores.rmse.equals(whole.rmse)
    assert vaevar.RunResults("runs/part").record["status"] == "ended"


def test_an_interruption_is_one(tiny: Any) -> None:
    """And the next one counts too: in a notebook the program goes on."""

    class Interruption(L.Callback):
        def on_predict_batch_start(self, *args: Any) -> None:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, callbacks=[Interruption()])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(run(tiny)["oi"].diagnostics) == 5


FADING = 0.1


def fading(states: torch.Tensor) -> torch.Tensor:
    return states[:, -1] + FADING * (states[:, -1].mean(-1, keepdim=True) - states[:, -1])


def test_what_a_function_has_from_around_it_belongs_to_it(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = vaevar.Forecaster.from_function(fading, tiny.store.spec, tiny.store.grid)

    def go_on(analyses: int) -> None:
        vaevar.run(own, {"oi": oi()}, tiny.data(analyses), "runs/own", accelerator=DEVICE)

    go_on(2)
    go_on(3)
    monkeypatch.setitem(globals(), "FADING", 0.3)
    with pytest.raises(vaevar.UserError, match=r"forecaster\.function"):
        go_on(4)


def network_at(pressure: float) -> Any:
    """Of one name, with other code: as when a notebook's cell is changed and run again."""
    text = "class Mine(vaevar.Network):\n    def points(self, spec, time):\n        return vaevar.Points("
    text += f"variable='z', latitude=[10.0], longitude=[10.0], pressure={pressure})\n"
    names: dict[str, Any] = {"vaevar": vaevar, "__name__": "__main__"}
    exec(text, names)
    return names["Mine"]()


def test_a_class_of_the_same_name_is_another(tiny: Any) -> None:
    run(tiny, network=network_at(500.0))
    run(tiny, network=network_at(500.0))
    with pytest.raises(vaevar.UserError, match=r"data\.network\.code"):
        run(tiny, network=network_at(850.0))


def test_weights_that_were_edited_are_others(tiny: Any) -> None:
    class Mine(vaevar.Forecaster):
        history, step_hours = 1, 6

        def __init__(self) -> None:
            self.spec, self.grid = tiny.store.spec, tiny.store.grid
            self.network = torch.nn.Conv1d(1, 1, 1)

        @torch.no_grad()
        def step(self, states: torch.Tensor) -> torch.Tensor:
            now = states[:, -1]
            return now + self.network.weight.item() * (now.mean(-1, keepdim=True) - now)

    mine = Mine()
    torch.nn.init.constant_(mine.network.weight, 0.02)
    vaevar.run(mine, {"oi": oi()}, tiny.data(2), "runs/own", accelerator=DEVICE)
    torch.nn.init.constant_(mine.network.weight, 0.3)
    with pytest.raises(vaevar.UserError, match=r"forecaster\.network\.weights"):
        vaevar.run(mine, {"oi": oi()}, tiny.data(3), "runs/own", accelerator=DEVICE)


def test_a_restart_is_not_passed_over(tiny: Any) -> None:
    with pytest.raises(vaevar.UserError, match=r"give Cycle\(resume=False\) instead"):
        run(tiny, restart=True, callbacks=[Cycle()])


def test_one_cycle_at_a_time(tiny: Any) -> None:
    with pytest.raises(vaevar.UserError, match="Cycle is there 2 times"):
        run(tiny, callbacks=[Cycle(), Cycle()])


def test_results_of_a_run_that_is_going_on(tiny: Any) -> None:
    """What is written by now, and that it is so."""
    found = {}

    class Look(L.Callback):
        def on_predict_batch_start(self, *args: Any) -> None:
            if args[3] == 3:
                with pytest.warns(Notice, match=r"analysis\.zarr: 3 of 5 times are written by now"):
                    found["analysis"] = vaevar.RunResults("runs/mine")["oi"].analysis.load()
                with Path("runs/mine/oi/diagnostics.csv").open("a") as file:
                    file.write("2021-01-04T00:00:00,0.0,0.1")  # a row that is being written
                found["diagnostics"] = vaevar.RunResults("runs/mine")["oi"].diagnostics

    run(tiny, callbacks=[Look()])
    analyses = found["analysis"]
    assert (analyses.time.values == tiny.times[:3]).all()
    assert all(bool(np.isfinite(analyses[name]).all()) for name in analyses.data_vars)
    assert (found["diagnostics"].time.to_numpy() == tiny.times[:3]).all()
    assert vaevar.RunResults("runs/mine")["oi"].analysis.sizes["time"] == 5


def test_what_is_said_is_in_the_words_of_python(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny)
    with pytest.raises(vaevar.UserError, match=r"choose another directory, or begin again \(restart=True"):
        run(tiny, seed=1)
    Path("runs/mine/oi/scores.csv").unlink()
    with pytest.raises(vaevar.UserError, match=r"have no scores; begin again \(restart=True, or Cycle"):
        run(tiny)
    run(tiny, restart=True)
    run(tiny)
    done = []

    def running_away(states: torch.Tensor) -> torch.Tensor:
        done.append(1)
        return states[:, -1] * (1 if len(done) < 4 else 3)

    own = vaevar.Forecaster.from_function(running_away, tiny.store.spec, tiny.store.grid)
    with pytest.raises(vaevar.UserError) as error:
        vaevar.run(own, {"oi": oi()}, tiny.data(), "runs/other", accelerator=DEVICE)
    said = " ".join((capsys.readouterr().out + str(error.value)).split())
    assert "nothing was computed. More analyses go on with it" in said
    assert "--" not in said
    assert "same command" not in said
    assert "others did is complete; the same call tries again from there" in said


@pytest.mark.parametrize("given", [vaevar.FreeRun, "threedvar", lambda background, observations: background])
def test_what_is_no_method_is_refused(tiny: Any, given: Any) -> None:
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    with pytest.raises(vaevar.UserError, match=r"^arms: 'mine': is .*, expected an Assimilator: an object"):
        vaevar.run(tiny.forecaster, {"mine": given}, tiny.data(), "runs/mine")
    with pytest.raises(vaevar.UserError, match=r"^method: is .*, expected an Assimilator: an object"):
        next(vaevar.cycle(tiny.forecaster, given, first, tiny.times, tiny.observe))


def test_a_trainer_in_python_is_spoken_of_in_its_words(tiny: Any) -> None:
    """And its predict needs no return_predictions=False."""
    module = AssimilationModule(tiny.forecaster, {"free": vaevar.FreeRun()})
    settings: dict[str, Any] = {"accelerator": DEVICE, "logger": False, "default_root_dir": "runs/hand"}
    with pytest.raises(vaevar.UserError, match=r"need gradients: give Trainer\(inference_mode=False\)"):
        L.Trainer(callbacks=[Cycle()], **settings).predict(module, datamodule=tiny.data())
    trainer = L.Trainer(callbacks=[Cycle(), Scores()], inference_mode=False, **settings)
    assert trainer.predict(module, datamodule=tiny.data()) is None
    assert len(vaevar.RunResults("runs/hand").scores) > 0


def test_two_runs_of_one_process_tell_the_same(tiny: Any) -> None:
    """And each has it in its record."""
    nothing = vaevar.Observations.concatenate([])

    class Nowhere(vaevar.Network):
        def points(self, spec: Any, time: Any) -> Any:
            return nothing

    method = vaevar.LinearInterpolation()
    for name in ("one", "other"):
        with pytest.warns(Notice, match="an analysis has no observations") as told:
            results = vaevar.run(
                tiny.forecaster, {"mine": method}, tiny.data(network=Nowhere()), f"runs/{name}"
            )
        assert sum("no observations" in str(warning.message) for warning in told) == 1
        assert any("no observations" in text for text in results.record["warnings"])


class Remembering(vaevar.Forecaster):
    """Changes while it runs, as a forecaster with a memory does."""

    history, step_hours = 1, 6

    def __init__(self, tiny: Any, rate: float = 0.1) -> None:
        self.spec, self.grid, self._rate = tiny.store.spec, tiny.store.grid, rate
        self._steps: dict[str, int] = {}

    def step(self, states: torch.Tensor) -> torch.Tensor:
        self._steps[f"step {len(self._steps)}"] = len(self._steps)
        return states[:, -1] + self._rate * (states[:, -1].mean(-1, keepdim=True) - states[:, -1])


def test_what_changes_while_it_runs_does_not_keep_a_run_from_going_on(tiny: Any) -> None:
    def go_on(forecaster: Any, analyses: int) -> Any:
        return vaevar.run(forecaster, {"oi": oi()}, tiny.data(analyses), "runs/own", accelerator=DEVICE)

    mine = Remembering(tiny)
    go_on(mine, 2)
    go_on(mine, 3)
    go_on(mine, 4)
    assert len(go_on(Remembering(tiny), 5)["oi"].diagnostics) == 5  # as another process makes it
    mine._rate = 0.3
    with pytest.raises(vaevar.UserError, match=r"forecaster\._rate: 0\.1 there, 0\.3 now"):
        go_on(mine, 5)
    with pytest.raises(vaevar.UserError, match=r"forecaster\._rate: 0\.1 there, 0\.3 now"):
        go_on(Remembering(tiny, 0.3), 5)


def test_the_home_directory_in_a_path(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.path.parent))
    truth = vaevar.StoreSource(f"~/{tiny.path.name}")
    assert vaevar.WeatherStore(f"~/{tiny.path.name}", tiny.store.spec).times.size == tiny.store.times.size
    data = tiny.data(1, source=truth, climatology="~/climatological_std.npy")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    results = vaevar.run(tiny.forecaster, {"oi": oi()}, data, "~/mine", accelerator=DEVICE)
    assert results.directory == Path.cwd() / "mine"
    assert vaevar.RunResults("~/mine").arms == ("oi",)
    assert sorted(os.listdir()) == ["mine"]


def test_two_threads_do_not_share_a_directory(tiny: Any) -> None:
    refused = []

    class Other(L.Callback):
        def on_predict_batch_start(self, *args: Any) -> None:
            def other() -> None:
                try:
                    run(tiny)
                except vaevar.UserError as error:
                    refused.append(str(error))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    results = run(tiny, analyses=1, callbacks=[Other()])
    assert "another thread of this process has been writing into this run" in refused[0]
    assert len(results["oi"].diagnostics) == 1


def test_an_arm_is_no_place_for_another_run(tiny: Any) -> None:
    run(tiny, analyses=1)
    for place in ("runs/mine/oi", "runs/mine/oi/more"):
        with pytest.raises(vaevar.UserError, match="belongs to an arm of the run runs/mine; choose another"):
            vaevar.run(tiny.forecaster, {"oi": oi()}, tiny.data(1), place, accelerator=DEVICE)
    assert not Path("runs/mine/oi/more").exists()
    vaevar.run(tiny.forecaster, {"oi": oi()}, tiny.data(1), "runs/mine/beside", accelerator=DEVICE)

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from tests.device import DEVICE
from vaevar.data.sequences import StateSequences
from vaevar.data.times import six_hourly
from vaevar.data.weather.store import StoreSource
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.models.forecaster.export import export
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.forecaster.network import ForecastNetwork
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.models.forecaster.training_cycle import TrainingCycle
from vaevar.models.held_out.samples import spread
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

SPEC = StateSpec(surface=("t2m",), upper=("z",), levels=(500,))
GRID = Grid.gaussian(8)
SMALL = {
    "rows": 8,
    "columns": 16,
    "surface": ("t2m",),
    "upper": ("z",),
    "levels": (500,),
    "widths": (8, 12),
    "depths": (1, 1),
    "kernel_size": 3,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other are slow where the tests share their cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def awake(network: ForecastNetwork) -> ForecastNetwork:
    """With a head that does something (it begins at zero), and a change_std by channel."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter is not network.ground:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        network.change_std.copy_(torch.tensor([0.3, 0.5])[:, None, None])
        network.log_variance.copy_(torch.tensor([-2.0, -3.0])[:, None, None])
    return network


@pytest.fixture
def network() -> ForecastNetwork:
    torch.manual_seed(0)
    return awake(ForecastNetwork(2, 8, 16, (8, 12), (1, 1), kernel_size=3)).eval()


# --- the network ----------------------------------------------------------------------------------


def test_the_output_is_the_next_state_and_its_log_variance(network):
    states = torch.randn(3, 4, 8, 16)
    with torch.no_grad():
        made = network(states)
        change = network.change(states)
    assert made.shape == (3, 4, 8, 16)
    expected = states[:, 2:] + torch.tensor([0.3, 0.5])[:, None, None] * change
    torch.testing.assert_close(made[:, :2], expected)
    assert change.abs().mean() > 0.01
    assert (made[:, 2] == -2).all()
    assert (made[:, 3] == -3).all()


def test_untrained_it_persists():
    fresh = ForecastNetwork(2, 8, 16, (8, 12), (1, 1), kernel_size=3)
    states = torch.randn(1, 4, 8, 16)
    torch.testing.assert_close(fresh(states)[:, :2], states[:, 2:], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("rows", "columns", "widths", "patch"),
    [(8, 16, (8,), 2), (9, 16, (8, 8), 2), (7, 24, (8, 8, 8), 1), (13, 24, (8, 8), 4)],
)
def test_other_sizes(rows, columns, widths, patch):
    other = awake(ForecastNetwork(2, rows, columns, widths, (1,) * len(widths), kernel_size=3, patch=patch))
    assert other(torch.randn(1, 4, rows, columns)).shape == (1, 4, rows, columns)


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="differ in length"):
        ForecastNetwork(2, 8, 16, (8, 12), (1,))
    with pytest.raises(ValueError, match=r"20 longitudes are no multiple of .* = 8"):
        ForecastNetwork(2, 8, 20, (8, 8, 8), (1, 1, 1))


@pytest.mark.parametrize("shift", [4, 8, -4])
def test_without_its_ground_it_is_cyclic_in_longitude(network, shift):
    # By whole patches of its coarsest scale: 2 points a patch, 2 patches a point below.
    states = torch.randn(2, 4, 8, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            network(states.roll(shift, -1)), network(states).roll(shift, -1), atol=1e-5, rtol=1e-5
        )
        # The ground, once learned, is what ties it to places.
        network.ground.copy_(torch.randn_like(network.ground))
        assert (network(states.roll(shift, -1)) - network(states).roll(shift, -1)).abs().max() > 1e-3


def test_it_sees_across_the_date_line(network):
    states = torch.zeros(1, 4, 8, 16)
    nudged = states.clone()
    nudged[..., 4, 15] = 1.0
    with torch.no_grad():
        difference = (network(nudged) - network(states)).abs()
    assert difference[0, :2, 4, 0].max() > 1e-6


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_file_forecasts_as_the_network(network, tmp_path: Path):
    path = export(network, tmp_path / "forecaster.onnx", SPEC, GRID)
    mean, std = np.array([280.0, 54_000.0]), np.array([20.0, 3000.0])
    np.save(tmp_path / "mean.npy", mean)
    np.save(tmp_path / "std.npy", std)
    forecaster = OnnxForecaster(path, tmp_path / "mean.npy", tmp_path / "std.npy", spec=SPEC)
    assert forecaster.grid == GRID
    normalizer = Normalizer(mean, std)
    normalized = torch.randn(2, 2, 2, 8, 16)
    with torch.no_grad():
        expected = network(normalized.flatten(1, 2))[:, :2]
    made = normalizer.normalize(forecaster.step(normalizer.denormalize(normalized)))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


# --- the loss -------------------------------------------------------------------------------------


def test_errors_of_a_roll_out_by_hand():
    module = ForecasterModule(**SMALL)
    awake(module.network)
    states = torch.randn(2, 5, 2, 8, 16)
    std = torch.tensor([0.3, 0.5])[:, None, None]
    with torch.no_grad():
        first = module.network(torch.cat([states[:, 0], states[:, 1]], 1))[:, :2]
        second = module.network(torch.cat([states[:, 1], first], 1))[:, :2]
        third = module.network(torch.cat([first, second], 1))[:, :2]
        expected = torch.stack(
            [(made - states[:, 2 + i]) / std for i, made in enumerate((first, second, third))], 1
        )
        torch.testing.assert_close(module.errors(states, 3), expected, atol=1e-4, rtol=1e-4)
    # With gradients each step is checkpointed, to the same numbers and through the whole roll-out.
    errors = module.errors(states, 3)
    torch.testing.assert_close(errors.detach(), expected, atol=1e-4, rtol=1e-4)
    errors[:, 2].square().sum().backward()
    assert module.network.stem.patch.weight.grad.abs().sum() > 0


def test_the_mean_square_is_weighted_by_area():
    module = ForecasterModule(**SMALL)
    errors = torch.zeros(3, 2, 2, 8, 16)
    errors[:, 1, 0] = torch.linspace(-1, 1, 8)[:, None]
    errors[:, :, 1] = 2.0
    area = GRID.area_weights / GRID.area_weights.sum()
    polar = float((torch.linspace(-1, 1, 8).double() ** 2 * area).sum())
    expected = torch.tensor([[0.0, 4.0], [polar, 4.0]])
    torch.testing.assert_close(module.mean_square(errors), expected)


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear world: waves that travel eastward by one point in 6 hours, over a fixed ground."""
    times = six_hourly("2020-01-01", "2020-01-09T18")
    generator = np.random.default_rng(0)
    longitude = np.radians(GRID.longitude)
    fields = []
    for step in range(times.size):
        waves = [np.cos(k * (longitude - step * 2 * np.pi / 16) + k) for k in (1, 2, 3)]
        fields.append(sum(np.cos(np.radians(GRID.latitude))[:, None] * wave for wave in waves))
    wave = np.stack(fields)[:, None]
    ground = generator.normal(size=(1, 2, *GRID.shape))
    scale, centre = np.array([8.0, 800.0])[:, None, None], np.array([285.0, 54_000.0])[:, None, None]
    # It warms a little: a state that is there twice, number for number, is refused.
    warming = 1e-3 * np.arange(times.size)[:, None, None, None]
    values = (centre + scale * (wave + 0.5 * ground + warming)).astype(np.float32)
    path = tmp_path_factory.mktemp("forecaster") / "world.zarr"
    create_store(path, times, SPEC, GRID, {})
    write_states(path, 0, values, SPEC)
    return path


def sequences(world: Path, spec: StateSpec = SPEC, **arguments) -> StateSequences:
    source = StoreSource(str(world))
    defaults = {"validation_steps": 2, "validation_every": 12, "batch_size": 8, "spec": spec}
    periods = ("2020-01-01", "2020-01-07T18", "2020-01-08", "2020-01-09T18")
    return StateSequences(source, source, *periods, **(defaults | arguments))


class Losses(L.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))


def trainer(tmp_path: Path, *callbacks: L.Callback, **arguments) -> L.Trainer:
    defaults = {
        "accelerator": DEVICE,
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": tmp_path,
        "callbacks": list(callbacks),
    }
    return L.Trainer(**(defaults | arguments))


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory) -> tuple[ForecasterModule, L.Trainer, Losses, Path]:
    L.seed_everything(0, verbose=False)
    module = ForecasterModule(**SMALL, learning_rate=1e-2, warmup_steps=5, rollout_steps=2)
    losses, directory = Losses(), tmp_path_factory.mktemp("fit")
    run = trainer(directory, losses, max_epochs=40, check_val_every_n_epoch=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit(module, datamodule=sequences(world, rollout_steps=2))
        run.save_checkpoint(directory / "last.ckpt")
    return module, run, losses, directory


def test_it_learns_a_linear_world(fitted):
    _, _, losses, _ = fitted
    assert losses.values[0] > 1.0  # persistence: 1 for the first step, more for the second
    assert np.mean(losses.values[-5:]) < 0.15 * losses.values[0]


def test_it_beats_persistence_where_it_was_not_trained(fitted):
    _, run, _, _ = fitted
    data = run.datamodule
    for step, hours in ((1, 6), (2, 12)):
        windows = torch.cat(list(data.val_dataloader()))
        persistence = (data.grid.area_mean((windows[:, 1 + step] - windows[:, 1]) ** 2)).mean(0).sqrt()
        for index, name in enumerate(("t2m", "z500")):
            assert run.callback_metrics[f"val/rmse_{name}_{hours}h"] < 0.6 * persistence[index]


def test_logged_rmse_is_the_root_of_the_mean_over_all_windows_in_physical_units(fitted):
    module, run, _, _ = fitted
    data = run.datamodule
    batches = list(data.val_dataloader())
    assert len(batches) == 1
    data.batch_size = 3  # more than one batch, the last one smaller
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (metrics,) = run.validate(module, datamodule=data, verbose=False)
    windows = batches[0]
    window = data.normalizer.normalize(windows[:, :2]).flatten(1, 2)
    for step, hours in ((1, 6), (2, 12)):
        with torch.no_grad():
            following = module.network(window)[:, :2]
        window = torch.cat([window[:, 2:], following], 1)
        error = data.normalizer.denormalize(following) - windows[:, 1 + step]
        rmse = data.grid.area_mean(error.double().square()).mean(0).sqrt()
        assert metrics[f"val/rmse_t2m_{hours}h"] == pytest.approx(rmse[0].item(), rel=1e-3)
        assert metrics[f"val/rmse_z500_{hours}h"] == pytest.approx(rmse[1].item(), rel=1e-3)


def test_what_it_shows_of_itself_by_hand(fitted):
    """The RMSE by lead time is that of the roll-outs, and persistence that of the initial states."""
    module, trainer, *_ = fitted
    data = trainer.datamodule
    shown = module.held_out(data)
    leads = next(view.content for view in shown.views if view.anchor == "leads")
    chosen = data.val_dataloader().dataset
    states = data.normalise(torch.stack([chosen[index] for index in spread(len(chosen), 16)]))
    with torch.no_grad():
        square = module.mean_square(module.errors(states, states.shape[1] - 2))  # [T, C]
    scale = module.network.change_std.flatten() * module.std
    expected = square.double().sqrt() * scale
    np.testing.assert_allclose(leads.lines["forecast"], expected, rtol=1e-3)
    still = (states[:, 1:2] - states[:, 2:]).double().square().mean((0, 4))
    expected = (still * module.row_weights[:, 0].double()).mean(-1).sqrt() * module.std
    np.testing.assert_allclose(leads.lines["persistence"], expected, rtol=1e-3)
    assert (leads.lines["forecast"] < leads.lines["persistence"]).all()


def test_the_log_variance_is_that_of_the_training_errors(fitted):
    module, run, _, _ = fitted
    # An exponential mean over the last hundred steps, in units of the normalised state.
    windows = torch.stack([run.datamodule.train_set[i] for i in range(len(run.datamodule.train_set))])
    with torch.no_grad():
        errors = module.errors(run.datamodule.normalizer.normalize(windows), 1)
    final = (module.mean_square(errors)[0] * module.network.change_std.flatten() ** 2).log()
    learned = module.network.log_variance.flatten()
    assert (learned < 0).all()
    assert (learned >= final - 0.5).all()  # earlier errors were larger


def test_the_checkpoint_holds_what_a_forecast_needs(fitted, world):
    module, run, _, directory = fitted
    loaded = ForecasterModule.load_from_checkpoint(directory / "last.ckpt", map_location="cpu").eval()
    states = torch.randn(1, 4, 8, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(states), module.network.eval()(states))
    torch.testing.assert_close(loaded.network.change_std.flatten(), run.datamodule.change_std)
    torch.testing.assert_close(loaded.mean.float(), run.datamodule.normalizer.mean.flatten())
    torch.testing.assert_close(loaded.std.float(), run.datamodule.normalizer.std.flatten())
    assert loaded.hparams.rollout_steps == 2
    # Fine-tuning starts from the same network, with settings of its own.
    tuned = ForecasterModule(**SMALL, rollout_steps=4, start_from=str(directory / "last.ckpt"))
    with torch.no_grad():
        torch.testing.assert_close(tuned.network(states), loaded.network(states))


def test_training_in_a_cheap_cycle(world, tmp_path):
    torch.manual_seed(3)  # no lane reaches the period's end in the first epoch, where its cycle would restart
    module = ForecasterModule(**SMALL, learning_rate=1e-2, warmup_steps=5, cycled=True)
    losses, starts = Losses(), []

    class Starts(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            starts.append(len(pl_module._cycle.waiting))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trainer(tmp_path, losses, Starts(), max_epochs=30, check_val_every_n_epoch=30)
        run.fit(module, datamodule=sequences(world, lanes=8, batch_size=4))
    assert starts[:4] == [1, 2, 2, 2]  # two groups of lanes
    assert np.mean(losses.values[-5:]) < 0.3 * losses.values[0]


def test_a_cheap_cycle_needs_lanes_and_single_steps(world, tmp_path):
    with pytest.raises(UserError, match="cycled trains single steps; set rollout_steps to 1"):
        ForecasterModule(**SMALL, cycled=True, rollout_steps=2)
    module = ForecasterModule(**SMALL, cycled=True)
    with pytest.raises(UserError, match="needs data in lanes; set lanes of the data module"):
        trainer(tmp_path, max_steps=1).fit(module, datamodule=sequences(world))


def test_starts_with_errors_count_by_what_they_leave_possible():
    module = ForecasterModule(**SMALL, cycled=True)
    module._cycle = TrainingCycle(GRID, groups=1, clean=0.0)
    batch = torch.randn(2, 3, 2, 8, 16)
    module._cycle.start(batch)
    module._cycle.proceed(batch, batch[:, 1], batch[:, 2] + 1.0)
    ((_, states, _, _),) = module._cycle.waiting
    following = torch.stack([batch[:, 1], batch[:, 2], torch.randn(2, 2, 8, 16)], 1)
    errors = module._cycled_errors(following)
    # Untrained it persists, with unit change_std and log-variance 0.
    start = ((states[:, 1] - following[:, 1]) ** 2).mean(1)
    square = GRID.area_mean(start)
    plain = states[:, 1] - following[:, 2]
    expected = plain / (1 + square[:, None, None, None]).sqrt()
    torch.testing.assert_close(errors[:, 0], expected)


def test_checkpoints_that_are_none(tmp_path: Path):
    (tmp_path / "junk.ckpt").write_bytes(b"junk")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    torch.save({"state_dict": {"encoder.weight": torch.ones(1)}}, tmp_path / "vae.ckpt")
    torch.save(
        {"state_dict": ForecasterModule(**SMALL | {"widths": (4, 8)}).state_dict()}, tmp_path / "thin.ckpt"
    )
    for name in ("missing.ckpt", "junk.ckpt", "other.ckpt", "vae.ckpt", "thin.ckpt"):
        with pytest.raises(UserError, match=rf"{name}: not a checkpoint of") as caught:
            ForecasterModule(**SMALL, start_from=str(tmp_path / name))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change",
    [{"levels": (850,)}, {"surface": ("u10",)}, {"gaussian": False}, {"columns": 32}, {"rows": 4}],
    ids=str,
)
def test_data_of_other_channels_or_another_grid(world, tmp_path, change):
    module = ForecasterModule(**(SMALL | change))
    (name,) = change
    with pytest.raises(UserError, match=rf": {name} is .*, that of the data"):
        trainer(tmp_path, max_steps=1).fit(module, datamodule=sequences(world))


def test_the_rate_warms_up_and_decays_and_the_ground_does_not(world, tmp_path):
    module = ForecasterModule(**SMALL, learning_rate=0.1, warmup_steps=4, weight_decay=0.3)
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    run = trainer(tmp_path, Rates(), max_steps=9, limit_val_batches=0)
    run.fit(module, datamodule=sequences(world))
    np.testing.assert_allclose(rates[:4], [0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rates[4:], 0.05 * (1 + np.cos(np.pi * np.arange(4, 9) / 9)), rtol=1e-6)
    decayed, plain = run.optimizers[0].param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert any(parameter is module.network.ground for parameter in plain["params"])
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(module.parameters()))

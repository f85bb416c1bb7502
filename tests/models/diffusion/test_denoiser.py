"""The denoiser: its loss, sizes, files, and that a fit makes it better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.batch_random import shared_randn, shared_spread, step_generator
from vaevar.errors import UserError
from vaevar.models.diffusion.denoiser import Denoiser
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.state import StateSpec

SMALL = {
    "nlat": 16, "nlon": 32, "surface": ["t2m"], "upper": ["z"], "levels": [500, 850], "widths": [16, 24],
    "depths": [1, 1], "heads": [0, 2], "window": 4, "head_width": 8, "embedding": 16, "warmup_steps": 2,
    "learning_rate": 3e-3,
}  # fmt: skip
SPEC, GRID = StateSpec(["t2m"], ["z"], [500, 850]), Grid.gaussian(16)


class Pairs(L.LightningDataModule):
    """Smooth forecasts, and residuals that are half known from them."""

    residual_std = torch.full((3,), 2.0)
    forecast_mean, forecast_std = torch.tensor([[280.0, 55_000.0, 14_000.0], [20.0, 3000.0, 1500.0]])
    lead_hours, spec, grid = 48, SPEC, GRID

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(0)
        harmonics = SphericalHarmonics(GRID, 5)
        wave = torch.tril(torch.view_as_complex(torch.randn(2, 64, 3, 6, 6, 2, generator=generator)))
        forecast, rest = harmonics.synthesise(wave) / 4
        self.pairs = list(zip(forecast, 0.7 * forecast + 0.7 * rest, strict=True))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.pairs[:48], 8)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.pairs[48:], 8)  # type: ignore[arg-type]


def trainer(tmp_path: Path, epochs: int, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator=DEVICE, max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, **settings,
    )  # fmt: skip


def test_a_fit_reduces_the_loss_and_the_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = Denoiser(**SMALL), Pairs()
    data.setup("fit")
    fit = trainer(tmp_path, 10)
    before = trainer(tmp_path, 1).validate(model, data, verbose=False)[0]
    fit.fit(model, data)
    after = fit.validate(model, data, verbose=False)[0]
    assert after["val/loss"] < 0.8 * before["val/loss"]
    # Half of the residual's variance is known from the forecast; at T nothing else is.
    assert after["val/mse_T"] < 0.85 * before["val/mse_T"]
    model.save_weights(tmp_path / "denoiser.ckpt", {"command": "test"})
    loaded = Denoiser.load(tmp_path / "denoiser.ckpt")
    assert int(loaded.lead_hours) == 48
    assert loaded.residual_std.flatten().tolist() == [2.0] * 3
    x, forecast = torch.randn(2, 3, 16, 32), torch.randn(1, 3, 16, 32)
    # The network is stored in float16.
    torch.testing.assert_close(
        loaded.clean(x, forecast, 300), model.eval().clean(x, forecast, 300), atol=3e-3, rtol=0
    )
    further = Denoiser(**SMALL, start_from=str(tmp_path / "denoiser.ckpt")).eval()
    torch.testing.assert_close(further.clean(x, forecast, 300), loaded.clean(x, forecast, 300))
    assert "start_from" not in further.hparams


def test_gradients_are_clipped_in_mixed_bfloat16(tmp_path: Path) -> None:
    """Clipped to far below Adam's epsilon, gradients move nothing; else a step is as long as the rate."""
    moved = []
    for limit in (1e-12, None):
        torch.manual_seed(0)
        model = Denoiser(**{**SMALL, "warmup_steps": 0}, weight_decay=0.0)
        before = {name: value.clone() for name, value in model.named_parameters()}
        trainer(tmp_path, 1, precision="bf16-mixed", gradient_clip_val=limit, limit_train_batches=1).fit(
            model, Pairs()
        )
        moved.append(
            max(
                float((value.detach() - before[name]).abs().max()) for name, value in model.named_parameters()
            )
        )
    assert moved[0] < 0.01 * moved[1]


def test_steps_and_noise_of_a_training_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn from two streams of the step's number, so that they are independent and a fit can resume."""
    model, taken = Denoiser(**SMALL), {}

    def losses(condition: Tensor, residual: Tensor, step: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        taken.update(step=step, noise=noise)
        return torch.full((4,), 3.0), torch.full((4,), 2.0)

    monkeypatch.setattr(model, "losses", losses)
    monkeypatch.setattr(model, "log_dict", lambda scores, **_: taken.update(scores))
    monkeypatch.setattr(Denoiser, "global_step", 7)
    residual = torch.zeros(4, 3, 16, 32)
    assert float(model.training_step((residual, residual), 0)) == 3.0
    assert float(taken["train/mse"]) == 2.0
    host = torch.device("cpu")
    spread = shared_spread(residual, step_generator(7, 0, host))
    assert torch.equal(taken["step"], 1 + (1000 * spread).long())
    assert torch.equal((taken["step"] - 1) // 250, torch.arange(4))
    assert torch.equal(taken["noise"], shared_randn(residual, step_generator(7, 1, host)))


@pytest.mark.parametrize(("steps", "expected"), [(1000, [20, 100, 250, 500, 1000]), (10, [1, 1, 2, 5, 10])])
def test_validation_is_at_fixed_steps_with_fixed_noise(
    steps: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, taken = Denoiser(**SMALL, steps=steps), []
    logged: dict[str, float] = {}

    def losses(condition: Tensor, residual: Tensor, step: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        taken.append((step.tolist(), noise))
        return step * 3.0, step * 2.0

    monkeypatch.setattr(model, "losses", losses)
    monkeypatch.setattr(model, "log", lambda name, value, *_, **__: logged.update({name: float(value)}))
    residual = torch.zeros(2, 3, 16, 32)
    model.validation_step((residual, residual), 5)
    assert [step for step, _ in taken] == [[number] * 2 for number in expected]
    noise = torch.randn(residual.shape, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(given, noise) for _, given in taken)
    assert logged["val/loss"] == pytest.approx(3 * sum(expected) / 5)
    names = ["val/mse_0.02T", "val/mse_0.1T", "val/mse_0.25T", "val/mse_0.5T", "val/mse_T"]
    assert [logged[name] for name in names] == [2 * number for number in expected]


def test_weights_of_the_loss() -> None:
    torch.manual_seed(0)
    model = Denoiser(**SMALL).eval()
    residual = torch.randn(3, 3, 16, 32)
    loss, square = model.losses(residual, residual, torch.tensor([1, 500, 1000]), torch.randn_like(residual))
    signal = model.schedule.signal[[1, 500, 1000]].float()
    expected = torch.tensor([5.0, float(1 + signal[1] / (1 - signal[1])), 1.0])
    torch.testing.assert_close(loss / square, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.condition(torch.full((3, 1, 1), 5.0)), torch.full((3, 1, 1), 5.0))


def test_little_noise_leaves_little_to_estimate() -> None:
    # The copied part alone: at step 1 the answer is x itself, less than its learned share.
    model = Denoiser(**SMALL).eval()
    torch.nn.init.zeros_(model.network.finish.bias)
    torch.nn.init.constant_(model.network.copied.bias, 20.0)
    x = torch.randn(2, 3, 16, 32)
    torch.testing.assert_close(model.clean(x, x, 1), x * (1 - 1e-4) ** 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sizes", [{}, {"nlat": 17, "gaussian": False}, {"surface": [], "patch": 1, "window": 8}]
)
def test_shapes_and_cyclic_in_longitude(sizes: dict) -> None:
    torch.manual_seed(0)
    model = Denoiser(**{**SMALL, **sizes}).eval()
    torch.nn.init.normal_(model.network.finish.weight)
    shape = (2, len(model.spec), *model.grid.shape)
    x, forecast = torch.randn(shape), torch.randn(shape)
    clean = model.clean(x, forecast, 500)
    assert clean.shape == shape
    rolled: Tensor = model.clean(x.roll(16, -1), forecast.roll(16, -1), 500)
    torch.testing.assert_close(rolled, clean.roll(16, -1), atol=1e-4, rtol=1e-4)


def test_mistakes(tmp_path: Path) -> None:
    for settings in (
        {"depths": [1]}, {"heads": [0]}, {"widths": [], "depths": [], "heads": []}, {"nlon": 36},
        {"window": 5}, {"window": 3}, {"window": 8}, {"heads": [0, 5]}, {"max_weight": 0.5},
        {"learning_rate": 0.0}, {"first_beta": 0.5}, {"first_beta": 0.0}, {"last_beta": 1.0}, {"steps": 0},
    ):  # fmt: skip
        with pytest.raises(UserError):
            Denoiser(**{**SMALL, **settings})
    with pytest.raises(UserError, match="no such checkpoint"):
        Denoiser.load(tmp_path / "nowhere.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        Denoiser.load(tmp_path / "broken.ckpt")
    torch.save({"format": "vaevar-vae-1", "hyper_parameters": {}, "state_dict": {}}, tmp_path / "vae.ckpt")
    with pytest.raises(UserError, match="vaevar-vae-1"):
        Denoiser.load(tmp_path / "vae.ckpt")
    Denoiser(**SMALL).save_weights(tmp_path / "small.ckpt", {})
    with pytest.raises(UserError, match="not a checkpoint of this denoiser"):
        Denoiser(**{**SMALL, "widths": [8, 24]}, start_from=str(tmp_path / "small.ckpt"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("forecast_mean", 0.0, "forecast_mean: the mean of t2m is 0"),
        ("forecast_std", 1.0, "forecast_std: the std of z500 is 1"),
        ("residual_std", 1e5, "residual_std: the error std of t2m is 1e\\+05"),
    ],
)
def test_statistics_of_nothing_are_refused(tmp_path: Path, name: str, value: float, said: str) -> None:
    """Also in a checkpoint without a digest. One that was not fitted has 0 and 1 in all of them."""
    model, path = Denoiser(**SMALL), tmp_path / "x.ckpt"
    model.save_weights(path, {})
    Denoiser.load(path)
    for buffer in ("residual_std", "forecast_mean", "forecast_std"):
        getattr(model, buffer).copy_(getattr(Pairs, buffer)[:, None, None])
    model.save_weights(path, {})
    Denoiser.load(path)
    getattr(model, name).fill_(value)
    model.save_weights(path, {})
    with pytest.raises(UserError, match=said):
        Denoiser.load(path)

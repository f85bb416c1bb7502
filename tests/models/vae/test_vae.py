"""The VAE: loss, symmetry, sizes, files."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.batch_random import step_generator
from vaevar.content.seal import sealed
from vaevar.errors import UserError
from vaevar.models.vae.vae import VAE, kl_divergence
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SMALL = {
    "nlat": 16,
    "nlon": 32,
    "upper": ["z", "t"],
    "levels": [500, 850],
    "stem_width": 4,
    "head_width": 4,
    "widths": [8, 12, 16],
    "depths": [1, 1, 2],
    "heads": [0, 2, 2],
    "window": 2,
    "latent_channels": 5,
}


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(**SMALL).eval()


@pytest.mark.parametrize(
    ("sizes", "latent"),
    [
        ({"nlat": 16, "nlon": 32}, (5, 4, 8)),
        ({"nlat": 17, "nlon": 32, "gaussian": False}, (5, 5, 8)),
        ({"nlat": 25, "nlon": 48, "gaussian": False, "patch": 3, "latent_scale": 0}, (5, 9, 16)),
        ({"nlat": 33, "nlon": 64, "gaussian": False, "latent_scale": 2, "surface": []}, (5, 5, 8)),
    ],
)
def test_shapes_follow_the_config_also_for_odd_rows(sizes: dict, latent: tuple[int, ...]) -> None:
    model = VAE(**{**SMALL, **sizes})
    x = torch.randn(2, len(model.spec), *model.grid.shape)
    mean, log_variance = model.encode(x)
    assert model.latent_shape == latent
    assert mean.shape == log_variance.shape == (2, *latent)
    assert model.decode(mean).shape == x.shape


def test_the_full_resolution_config_is_possible() -> None:
    with torch.device("meta"):
        model = VAE(nlat=721, nlon=1440, gaussian=False, patch=6, window=6)
        assert model.latent_shape == (32, 61, 120)
        assert model(torch.empty(1, 69, 721, 1440)).shape == (1, 69, 721, 1440)


def test_cyclic_in_longitude(vae: VAE) -> None:
    # The pattern of patches and windows repeats every patch · 2^scale · window columns.
    x = torch.randn(1, len(vae.spec), *vae.grid.shape)
    torch.testing.assert_close(vae(x.roll(16, -1)), vae(x).roll(16, -1), atol=1e-5, rtol=1e-4)


def test_kl_is_the_closed_form() -> None:
    mean, log_variance = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).sum((1, 2, 3))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


@pytest.mark.parametrize("area_weighted", [False, True])
def test_loss_is_the_published_sum(area_weighted: bool) -> None:
    model = VAE(**SMALL, sigma=0.7, kl_weight=0.5, area_weighted=area_weighted)
    x = torch.randn(3, len(model.spec), *model.grid.shape)
    losses = model.losses(x, step=3)
    mean, log_variance = model.encode(x)
    noise = torch.randn(mean.shape, generator=step_generator(3, 0, mean.device))
    found = model.decode(mean + noise * log_variance.mul(0.5).exp())
    squared = (found - x).detach().numpy().astype(np.float64) ** 2
    if area_weighted:
        squared *= model.grid.area_weights.numpy()[:, None]
    reconstruction = squared.sum() / 3 / (2 * 0.7**2)
    mu, v = mean.detach().numpy(), log_variance.detach().numpy()
    kl = 0.5 * (mu**2 + np.exp(v) - v - 1).sum() / 3
    assert losses["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-5)
    assert losses["kl"].item() == pytest.approx(kl, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(reconstruction + 0.5 * kl, rel=1e-5)


def test_validation_by_hand(vae: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explained variance of each variable, and latent units whose posterior mean varies by more than 0.01."""
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(vae, "log_dict", lambda scores, **_: logged.update(scores))
    monkeypatch.setattr(vae, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(vae, "all_gather", lambda moments: torch.stack([moments] * 2))
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(n, len(vae.spec), *vae.grid.shape, generator=random) for n in (2, 5)]
    with torch.no_grad():
        vae.on_validation_epoch_start()
        for number, part in enumerate(parts):
            vae.validation_step(part, number)
        vae.on_validation_epoch_end()
        residual = (vae(parts[1]) - parts[1]).square().mean((0, 2, 3))
        explained = 1 - residual / parts[1].square().mean((0, 2, 3))
        codes = vae.encode(torch.cat(parts))[0]
    assert float(logged["val/explained_variance"]) == pytest.approx(float(explained.mean()), rel=1e-5)
    assert float(logged["val_explained/t"]) == pytest.approx(float(explained[-2:].mean()), rel=1e-5)
    assert float(logged["val_explained/u10"]) == pytest.approx(float(explained[0]), rel=1e-5)
    active = codes.var(0, unbiased=False) > 0.01
    assert float(logged["val/active_units"]) == float(active.sum())
    assert float(logged["val/active_fraction"]) == pytest.approx(float(active.float().mean()))
    # Units on both sides of the limit, so that it matters.
    for std, expected in ((0.09, 0.0), (0.11, 1.0)):
        means = std * torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, *vae.latent_shape)
        vae._latent_moments = [
            torch.cat([torch.full_like(means[:1], 2.0), means.sum(0)[None], means.square().sum(0)[None]])
        ]
        vae.on_validation_epoch_end()
        assert float(logged["val/active_fraction"]) == expected


@pytest.mark.parametrize(("bias", "bound"), [(50.0, 10.0), (-50.0, -20.0), (3.0, 3.0)])
def test_an_outlying_log_variance_is_bounded(vae: VAE, bias: float, bound: float) -> None:
    torch.nn.init.zeros_(vae.encoder.log_variance.weight)
    torch.nn.init.constant_(vae.encoder.log_variance.bias, bias)
    _, log_variance = vae.encode(torch.randn(1, len(vae.spec), *vae.grid.shape))
    assert log_variance.unique().tolist() == [bound]


def test_every_parameter_takes_part(vae: VAE) -> None:
    # DDP refuses a model whose loss leaves parameters without a gradient.
    vae.losses(torch.randn(2, len(vae.spec), *vae.grid.shape))["loss"].backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None] == []


def _step(model: VAE, precision: torch.dtype) -> tuple[float, list[Tensor], int]:
    """Loss and gradients of a training step, and the bytes that its forward pass keeps."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    x = torch.randn(2, len(model.spec), *model.grid.shape, generator=torch.Generator().manual_seed(1))
    reduced = precision != torch.float32
    with (
        torch.autocast("cpu", precision, enabled=reduced),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        loss = model.losses(x, step=1)["loss"]
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("latent_scale", [0, 1])
def test_checkpointed_activations_change_memory_alone(precision: torch.dtype, latent_scale: int) -> None:
    sizes = {**SMALL, "latent_scale": latent_scale}
    model, thrifty = VAE(**sizes), VAE(**sizes, checkpoint_activations=True)
    thrifty.load_state_dict(model.state_dict())
    loss, gradients, kept = _step(model.train(), precision)
    thrifty_loss, thrifty_gradients, thrifty_kept = _step(thrifty.train(), precision)
    assert thrifty_loss == loss
    assert len(gradients) == len(list(model.parameters()))
    torch.testing.assert_close(thrifty_gradients, gradients, rtol=0, atol=0)
    assert thrifty_kept < 0.5 * kept
    # An analysis does not compute its decoder twice.
    assert _step(thrifty.eval(), precision)[2] == _step(model.eval(), precision)[2]


def test_samples_are_decoded_and_the_decoder_has_the_gradient_of_its_values(vae: VAE) -> None:
    double = VAE(**SMALL).double().eval()
    w = torch.randn(1, *double.latent_shape, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(w)
    (gradient,) = torch.autograd.grad(double.decode(w).square().sum(), w)
    with torch.no_grad():
        step = 1e-5
        ahead, behind = (double.decode(w + s * step * direction).square().sum() for s in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx(
        (gradient * direction).sum().item(), rel=1e-6
    )
    with torch.no_grad():
        samples = vae.sample(3, torch.Generator().manual_seed(0))
        w = torch.randn(3, *vae.latent_shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(samples, vae.decode(w))


class _Errors(L.LightningDataModule):
    """Smooth random fields on the small grid, already normalised."""

    def __init__(self, levels: tuple[int, ...] = (500, 850)) -> None:
        super().__init__()
        self.spec = StateSpec(upper=("z", "t"), levels=levels)
        self.grid = Grid.gaussian(16)
        self.error_std = torch.arange(1.0, len(self.spec) + 1)[:, None, None].repeat(1, 16, 1)
        torch.manual_seed(0)
        waves = torch.sin(torch.arange(32) * 2 * torch.pi / 32 + 2 * torch.pi * torch.rand(32, 8, 1, 1))
        self.fields = waves.expand(32, 8, 16, 32).contiguous()

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.fields, batch_size=8)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def _fit(model: VAE, data: L.LightningDataModule, tmp_path: Path, **kwargs) -> L.Trainer:
    trainer = L.Trainer(
        accelerator=DEVICE, default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
        enable_model_summary=False, **kwargs,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_fit_learns_and_both_kinds_of_checkpoint_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = VAE(**SMALL, sigma=0.1, learning_rate=1e-2, warmup_steps=1), _Errors()
    trainer = _fit(model, data, tmp_path, max_epochs=25, precision="bf16-mixed", check_val_every_n_epoch=25)
    assert trainer.callback_metrics["val/explained_variance"] > 0.35
    assert 0 < trainer.callback_metrics["val/active_units"] <= 5 * 4 * 8
    full, slim = tmp_path / "full.ckpt", tmp_path / "slim.ckpt"
    trainer.save_checkpoint(full)
    model.save_weights(slim, {"command": "a test", "epochs": 25})
    assert slim.stat().st_size < 0.4 * full.stat().st_size
    x = data.fields[:2]
    expected = model.eval()(x)
    for path, tolerance in ((full, 1e-5), (slim, 1e-2)):  # half precision in the slim one
        loaded = VAE.load(path)
        torch.testing.assert_close(loaded(x), expected, atol=tolerance, rtol=tolerance)
        assert loaded.error_std.tolist() == data.error_std.tolist()
        assert loaded.spec == data.spec
        assert loaded.grid == data.grid
    assert torch.load(slim, weights_only=True)["provenance"]["command"] == "a test"


@pytest.mark.slow
def test_compiled_and_checkpointed_training_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced and differentiated ahead of time, but not translated to C++, which takes minutes.
    compiled = partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", compiled)
    sizes = {**SMALL, "widths": [8, 12], "depths": [1, 1], "heads": [0, 2]}
    weights = VAE(**sizes).state_dict()
    losses = []
    for flags in ({}, {"compile": True, "checkpoint_activations": True}):
        model = VAE(**sizes, **flags)
        model.load_state_dict(weights)
        L.seed_everything(0, verbose=False)
        trainer = _fit(
            model,
            _Errors(),
            tmp_path,
            max_epochs=1,
            limit_val_batches=0,
            precision="bf16-mixed",
            enable_checkpointing=False,
        )
        losses.append(float(trainer.callback_metrics["train/loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_errors_of_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^VAE: .* data: \w+ is .*; make them agree"):
        _fit(VAE(**SMALL), _Errors(levels=(300, 850)), tmp_path, fast_dev_run=True)


def test_unusable_files_are_refused_in_one_line(vae: VAE, tmp_path: Path) -> None:
    good = tmp_path / "good.ckpt"
    vae.save_weights(good, {})
    truncated, other, text = tmp_path / "cut.ckpt", tmp_path / "other.ckpt", tmp_path / "text.ckpt"
    truncated.write_bytes(good.read_bytes()[:5000])
    text.write_text("not a checkpoint")
    torch.save({"weights": torch.ones(2)}, other)
    changed, content = tmp_path / "changed.ckpt", torch.load(good, weights_only=True)
    content["hyper_parameters"]["latent_channels"] = 7
    torch.save(sealed(content), changed)
    surface_last, content = tmp_path / "surface_last.ckpt", torch.load(good, weights_only=True)
    std = content["state_dict"]["error_std"]
    std.copy_(torch.linspace(1e3, 1e4, len(std))[:, None, None].expand_as(std))
    torch.save(sealed(content), surface_last)
    for path in (tmp_path / "none.ckpt", truncated, text, other, changed, surface_last):
        with pytest.raises(UserError, match=path.name) as error:
            VAE.load(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nlon": 36}, "even number of patches"),
        ({"window": 3}, "windows of 3"),
        ({"heads": [0, 5, 2]}, "multiple of 5 heads"),
        ({"depths": [1]}, "one entry per scale"),
        ({"latent_scale": 3}, "latent_scale"),
        ({"sigma": 0.0}, "sigma"),
        ({"surface": ["rain"]}, "unknown variables"),
    ],
)
def test_sizes_that_do_not_fit_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        VAE(**{**SMALL, **settings})

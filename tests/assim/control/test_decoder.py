from __future__ import annotations

from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaevar.assim.assimilator import Assimilator
from vaevar.assim.control.latent import CentredLatentControl, LatentControl, PublishedLatentControl
from vaevar.assim.control.published_latent import DecoderControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(surface=["u10", "t2m"], upper=[], levels=[])
GRID = Grid.gaussian(4)


class StandIn(nn.Module):
    """A decoder whose output at zero is far from zero, and which counts its calls."""

    error_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.grid, self.latent_shape = SPEC, GRID, (3, 2, 2)
        self.linear = nn.Linear(12, 2 * 4 * 8)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
        nn.init.constant_(self.linear.bias, 5.0)
        self.register_buffer("error_std", torch.tensor([2.0, 0.5])[:, None, None])
        self.calls = 0

    def generate(self, w: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.linear(w.flatten(1))).unflatten(1, (2, 4, 8)) + self.linear.bias[0]


def test_increment_is_odd_and_physical() -> None:
    decoder = StandIn()
    control = LatentControl(decoder)
    assert control.shape == (3, 2, 2)
    assert control.spec == SPEC
    assert control.grid == GRID
    w = torch.randn(control.shape)
    odd = (decoder.generate(w[None])[0] - decoder.generate(-w[None])[0]) / 2
    torch.testing.assert_close(control(w), torch.tensor([2.0, 0.5])[:, None, None] * odd)
    torch.testing.assert_close(control(-w), -control(w))
    assert control(torch.zeros(control.shape)).abs().max() == 0


def test_centred_is_the_departure_from_the_origin() -> None:
    decoder = StandIn()
    control = CentredLatentControl(decoder)
    w = torch.randn(control.shape)
    departure = decoder.generate(w[None])[0] - decoder.generate(torch.zeros(1, 3, 2, 2))[0]
    torch.testing.assert_close(control(w), torch.tensor([2.0, 0.5])[:, None, None] * departure)
    assert control(torch.zeros(control.shape)).abs().max() == 0


def test_uncentred_is_the_published_transform() -> None:
    decoder = StandIn()
    control = PublishedLatentControl(decoder)
    w = torch.randn(control.shape)
    torch.testing.assert_close(control(w), decoder.error_std * decoder.generate(w[None])[0])
    assert control(torch.zeros(control.shape)).abs().min() > 1


def test_the_origin_is_decoded_once_for_each_precision() -> None:
    decoder = StandIn()
    control = CentredLatentControl(decoder)
    zero = torch.zeros(control.shape)
    with torch.inference_mode():
        control(zero)
    control(zero), control(zero)
    assert decoder.calls == 4
    # In bfloat16 D(0) differs from that in float32; the centre must still be exactly zero.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = control(zero)
        assert reduced.abs().max() == 0
        assert reduced.dtype == torch.float32
    assert decoder.calls == 6
    assert control(zero).abs().max() == 0


@pytest.mark.parametrize("kind", [LatentControl, CentredLatentControl, PublishedLatentControl])
def test_differentiable_in_w_alone(kind: type[LatentControl]) -> None:
    control = kind(StandIn()).double()
    w = torch.randn(control.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(control, (w,))
    # A minimisation in float64 with a decoder in float32 keeps working.
    single = kind(StandIn())
    assert single(torch.randn(single.shape, dtype=torch.float64)).dtype == torch.float32


def one_wind(value: float) -> Observations:
    return Observations(
        variable=np.array(["u10"]),
        latitude=np.array([10.0]),
        longitude=np.array([20.0]),
        pressure=np.array(np.nan),
        value=np.array([value]),
        error_std=np.array([1.0]),
    )


def test_analysis_with_a_decoder() -> None:
    background = State(torch.tensor([4.0, 280.0])[:, None, None].expand(2, 4, 8).clone(), SPEC, GRID)
    variational = VariationalAssimilator(LatentControl(StandIn()))
    drawn = variational(background, one_wind(6.0))
    assert drawn.diagnostics["j_b"] + drawn.diagnostics["j_o"] < drawn.diagnostics["j_o_initial"]
    # An observation that agrees with the background leaves it as it is.
    agreed = variational(background, one_wind(4.0))
    torch.testing.assert_close(agreed.state.values, background.values, rtol=0, atol=1e-4)
    published = VariationalAssimilator(PublishedLatentControl(StandIn()))
    assert (published(background, one_wind(4.0)).state.values - background.values).abs().max() > 1


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vae = VAE(
        nlat=8, nlon=16, surface=["u10", "t2m"], upper=["t"], levels=[500, 850], stem_width=4, head_width=4,
        widths=[8, 12], depths=[1, 1], heads=[0, 2], window=2, latent_channels=3,
    )  # fmt: skip
    vae.error_std.copy_(torch.tensor([2.0, 3.0, 1.0, 1.5])[:, None, None])
    vae.fit_prior([torch.randn(6, len(vae.spec), 8, 16)])
    vae.save_weights(tmp_path / "vae.pt", {})
    return tmp_path / "vae.pt"


def test_from_a_checkpoint(checkpoint: Path) -> None:
    control = LatentControl(str(checkpoint))
    vae = VAE.load(checkpoint)
    w = torch.randn(control.shape)
    with torch.no_grad():
        expected = vae.error_std * (vae.generate(w[None]) - vae.generate(-w[None]))[0] / 2
        torch.testing.assert_close(control(w), expected)
    assert control.spec == vae.spec
    assert control.grid == vae.grid
    assert not any(parameter.requires_grad for parameter in control.parameters())


def test_a_prior_that_was_not_fitted_is_refused(checkpoint: Path) -> None:
    """D(w) of w ~ N(0, I) is not what the decoder was trained on."""
    content = torch.load(checkpoint, weights_only=True)
    settings = content["hyper_parameters"]
    with pytest.raises(UserError, match=r"this VAE: its latent prior is not fitted.*prior_rank 0"):
        LatentControl(VAE(**settings))
    LatentControl(VAE(**settings | {"prior_rank": 0}))


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pt"):
        LatentControl(tmp_path / "absent.pt")


def test_a_background_of_other_channels_is_refused(checkpoint: Path) -> None:
    values = torch.tensor([4.0, 280.0])[:, None, None].expand(2, 8, 16).clone()
    background = State(values, SPEC, Grid.gaussian(8))
    with pytest.raises(UserError, match=r"made for other channels than the background's, with t500"):
        VariationalAssimilator(LatentControl(checkpoint))(background, one_wind(5.0))


def test_chosen_by_class_path_in_a_config(checkpoint: Path) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--arms", type=dict[str, Assimilator])
    control = {
        "class_path": "vaevar.assim.control.latent.LatentControl",
        "init_args": {"checkpoint": str(checkpoint)},
    }
    arms = {
        "vae-var": {
            "class_path": "vaevar.assim.variational.VariationalAssimilator",
            "init_args": {"control": control, "lambda_": 16.0, "dtype": "float64"},
        },
        "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
    }
    made = parser.instantiate(parser.parse_object({"arms": arms})).arms
    assert isinstance(made["vae-var"].control, LatentControl)
    assert made["vae-var"].dtype == torch.float64
    assert made["vae-var"].lambda_ == 16.0
    assert isinstance(made["free"], Assimilator)


def test_the_published_decoder_takes_codes_whatever_the_prior() -> None:
    """The prior of the published VAE is N(0, I); a fitted one changes nothing, and need not be there."""
    vae = VAE(
        nlat=8, nlon=16, gaussian=True, surface=["u10", "t2m"], upper=[], levels=[], patch=2, widths=[8],
        depths=[1], heads=[0], latent_scale=0, latent_channels=3, prior_rank=4,
    )  # fmt: skip
    with pytest.raises(UserError, match="prior is not fitted"):
        PublishedLatentControl(vae)
    control = DecoderControl(vae)
    w = torch.randn(control.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.decode(w[None])[0] * vae.error_std
        torch.testing.assert_close(control(w), expected)
        vae.prior.mean.fill_(1.0)
        vae.prior.rest.fill_(2.0)
        torch.testing.assert_close(control(w), expected)
        assert not torch.allclose(PublishedLatentControl(vae)(w), expected)

from __future__ import annotations

from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaevar.assim.assimilator import Assimilator, FreeRun
from vaevar.assim.control.decoder import DecoderControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(surface=["u10", "t2m"], upper=[], levels=[])
GRID = Grid.gaussian(4)


class StandIn(nn.Module):
    """A decoder whose output at zero is far from zero."""

    error_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.grid, self.latent_shape = SPEC, GRID, (3, 2, 2)
        self.linear = nn.Linear(12, 2 * 4 * 8)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
        nn.init.constant_(self.linear.bias, 5.0)
        self.register_buffer("error_std", torch.tensor([2.0, 0.5])[:, None, None])

    def decode(self, w: Tensor) -> Tensor:
        return torch.tanh(self.linear(w.flatten(1))).unflatten(1, (2, 4, 8)) + self.linear.bias[0]


def test_increment_is_the_decoders_output_in_physical_units() -> None:
    decoder = StandIn()
    control = DecoderControl(decoder)
    assert control.shape == (3, 2, 2)
    assert control.spec == SPEC
    assert control.grid == GRID
    w = torch.randn(control.shape)
    expected = torch.tensor([2.0, 0.5])[:, None, None] * decoder.decode(w[None])[0]
    torch.testing.assert_close(control(w), expected)
    # As published, it is not zero at the origin.
    assert control(torch.zeros(control.shape)).abs().min() > 1


def test_reduced_precision_stays_in_the_decoder() -> None:
    control = DecoderControl(StandIn())
    w = torch.randn(control.shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = control(w)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, control(w), atol=0.1, rtol=0.02)


def test_differentiable_in_w() -> None:
    control = DecoderControl(StandIn()).double()
    w = torch.randn(control.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(control, (w,))
    # A minimisation in float64 with a decoder in float32 keeps working.
    single = DecoderControl(StandIn())
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
    variational = VariationalAssimilator(DecoderControl(StandIn()))
    drawn = variational(background, one_wind(6.0))
    assert drawn.diagnostics["j_b"] + drawn.diagnostics["j_o"] < drawn.diagnostics["j_o_initial"]
    # D(0) is added even where an observation agrees with the background.
    agreed = variational(background, one_wind(4.0))
    assert (agreed.state.values - background.values).abs().max() > 1


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vae = VAE(
        nlat=8, nlon=16, surface=["u10", "t2m"], upper=["t"], levels=[500, 850], stem_width=4, head_width=4,
        widths=[8, 12], depths=[1, 1], heads=[0, 2], window=2, latent_channels=3,
    )  # fmt: skip
    vae.error_std.copy_(torch.tensor([2.0, 3.0, 1.0, 1.5])[:, None, None])
    vae.save_weights(tmp_path / "vae.pt", {})
    return tmp_path / "vae.pt"


def test_from_a_checkpoint(checkpoint: Path) -> None:
    control = DecoderControl(str(checkpoint))
    vae = VAE.load(checkpoint)
    w = torch.randn(control.shape)
    with torch.no_grad():
        torch.testing.assert_close(control(w), vae.error_std * vae.decode(w[None])[0])
    assert control.spec == vae.spec
    assert control.grid == vae.grid
    assert not any(parameter.requires_grad for parameter in control.parameters())


@pytest.mark.parametrize("model", [nn.Linear(2, 2), FreeRun()], ids=["a layer", "an assimilator"])
def test_another_model_is_no_vae(model: nn.Module) -> None:
    says = rf"DecoderControl: a {type(model).__name__} is no VAE, it lacks spec, grid, error_std"
    with pytest.raises(UserError, match=says):
        DecoderControl(model)


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pt"):
        DecoderControl(tmp_path / "absent.pt")


def test_a_background_of_other_channels_is_refused(checkpoint: Path) -> None:
    values = torch.tensor([4.0, 280.0])[:, None, None].expand(2, 8, 16).clone()
    background = State(values, SPEC, Grid.gaussian(8))
    with pytest.raises(UserError, match=r"made for other channels than the background's, with t500"):
        VariationalAssimilator(DecoderControl(checkpoint))(background, one_wind(5.0))


def test_chosen_by_class_path_in_a_config(checkpoint: Path) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--arms", type=dict[str, Assimilator])
    control = {
        "class_path": "vaevar.assim.control.decoder.DecoderControl",
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
    assert isinstance(made["vae-var"].control, DecoderControl)
    assert made["vae-var"].dtype == torch.float64
    assert made["vae-var"].lambda_ == 16.0
    assert isinstance(made["free"], Assimilator)

"""The spectral VAE against 3DVar, where it begins, and against the dense Gaussian that it begins as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.covariance.test_covariance import SPECS
from tests.models.covariance.test_covariance import statistics as statistics_of
from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.spectral import SpectralControl
from vaevar.errors import UserError
from vaevar.models.spectral.vae import SpectralVAE

SPEC = SPECS["surface and upper air"]
SETTINGS = {"widths": (8, 12), "variance_width": 6, "bands": ()}


@pytest.fixture(scope="module")
def covariance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "covariance.nc"
    statistics_of(SPEC).save(path)
    return path


def model(covariance: Path, awake: bool = False, **changes: object) -> SpectralVAE:
    """One with the weights it begins with; or, awake, with weights that do something."""
    torch.manual_seed(0)
    vae = SpectralVAE(str(covariance), **(SETTINGS | changes)).eval()  # type: ignore[arg-type]
    if awake:
        for head in (vae.nonlinear.head.expand, vae.encoder_mean.head.expand, vae.encoder_variance.write):
            torch.nn.init.normal_(head.weight, std=0.3)
            torch.nn.init.normal_(head.bias, std=0.3)
        for name, parameter in vae.named_parameters():
            if name.endswith(".scale"):  # of a residual branch
                torch.nn.init.ones_(parameter)
    return vae


def white(vae: SpectralVAE, count: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(count, *vae.latent_shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in stds of the channel."""
    size = expected.detach().std((0, 2, 3), keepdim=True)
    return float(((found - expected) / size).detach().abs().max())


def test_it_begins_as_3dvar(covariance: Path) -> None:
    vae, threedvar = model(covariance), CovarianceControl(covariance)
    w = white(vae)
    assert relative(vae.decode(w), threedvar(w)) < 1e-5
    control = SpectralControl(vae)
    assert control.shape == threedvar.shape
    assert relative(control(w[0])[None], threedvar(w[:1])) < 1e-5


def test_the_decoder_is_odd_smooth_at_zero_and_not_linear(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    w = white(vae)
    assert not vae.decode(torch.zeros_like(w)).any()
    assert relative(vae.decode(-w), -vae.decode(w)) < 1e-4
    assert relative(vae.decode(w), vae.transform(w)) > 0.05
    assert relative(vae.decode(2 * w), 2 * vae.decode(w)) > 0.01
    # A derivative at w = 0: a norm that divides by the size of what it is given would have none.
    _, slope = torch.func.jvp(vae.decode, (torch.zeros_like(w),), (w,))
    for size in (1e-1, 1e-2):
        assert relative(vae.decode(size * w) / size, slope) < size


def dense(vae: SpectralVAE) -> tuple[Tensor, Tensor]:
    """C^½ for all coefficients at once, and noise variance, [N, N] and []; in float64."""
    count = int(torch.tensor(vae.latent_shape).prod())
    unit = torch.eye(count, dtype=torch.float64).reshape(count, *vae.latent_shape)
    root = vae.linear.double().coloured(unit).reshape(count, count).T
    return root, torch.tensor(vae.linear.noise**2, dtype=torch.float64)


def test_the_encoder_begins_as_the_exact_posterior(covariance: Path) -> None:
    vae = model(covariance)
    vae.double()
    root, noise = dense(vae)
    count = len(root)
    x = (root @ torch.randn(count, 3, dtype=torch.float64)).T.reshape(3, *vae.latent_shape)
    x = x + vae.linear.noise * torch.randn_like(x)
    precision = root.T @ root / noise + torch.eye(count, dtype=torch.float64)
    mean = torch.linalg.solve(precision, root.T @ x.flatten(1).T / noise).T
    torch.testing.assert_close(vae.linear.mean(x).flatten(1), mean, rtol=1e-5, atol=1e-6)
    spread = torch.linalg.inv(precision)
    along = vae.linear.along(torch.eye(count, dtype=torch.float64).reshape(count, *vae.latent_shape))
    rotation = along.reshape(count, count)  # row: a coefficient; column: an eigenvector
    rotated = rotation.T @ spread @ rotation
    expected = vae.linear.posterior_log_variance.exp().flatten()
    torch.testing.assert_close(rotated.diagonal(), expected, rtol=1e-4, atol=1e-7)
    assert (rotated - torch.diag(rotated.diagonal())).abs().max() < 1e-6
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(count, dtype=torch.float64), root @ root.T + noise * torch.eye(count, dtype=torch.float64)
    )
    torch.testing.assert_close(vae.linear.evidence(x), normal.log_prob(x.flatten(1)), rtol=1e-5, atol=1e-2)


def test_the_bound_begins_at_the_evidence_of_the_linear_model(covariance: Path) -> None:
    """Whatever w is drawn, where the posterior is exact: log p(x, w) − log q(w | x) is log p(x)."""
    vae = model(covariance)
    x = vae.linear.coloured(white(vae, 4))
    with torch.no_grad():
        gains = [float(vae.losses(x, step)["gain"]) for step in range(40)]
    mean = torch.tensor(gains).mean()
    # The KL term is taken in closed form and not for the w that was drawn, so single draws scatter.
    assert abs(float(mean)) < 4 * float(torch.tensor(gains).std()) / len(gains) ** 0.5
    assert abs(float(mean)) < 0.01
    losses = vae.losses(x, 0)
    assert float(losses["loss"]) == pytest.approx(float(losses["reconstruction"] + losses["kl"]), rel=1e-5)


def test_another_decoder_is_told_by_a_lower_bound(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    x = vae.linear.coloured(white(vae, 4))
    assert float(vae.losses(x, 0)["gain"]) < -0.01


def test_calibration_gives_draws_of_u_the_variances_of_c(covariance: Path) -> None:
    vae = model(covariance)
    vae.calibrate(64)
    x = vae.standardised(vae.transform(white(vae, 64, seed=8)))
    found, expected = x.square().mean(0).sum(-1), vae.variance.sum(-1)
    torch.testing.assert_close(found / expected, torch.ones_like(found), rtol=0.1, atol=0)


def test_training_learns_what_another_decoder_made(covariance: Path) -> None:
    truth, vae = model(covariance, awake=True), model(covariance).train()
    with torch.no_grad():
        x = truth.linear.coloured(truth.bent(white(truth, 96)))
    optimiser = torch.optim.Adam(vae.parameters(), lr=3e-3)

    def gain() -> float:
        """On what it is not trained on."""
        with torch.no_grad():
            return float(torch.stack([vae.losses(x[80:], step)["gain"] for step in range(8)]).mean())

    before = gain()
    for step in range(120):
        first = step * 8 % 80
        optimiser.zero_grad()
        vae.losses(x[first : first + 8], step)["loss"].backward()
        optimiser.step()
    assert gain() > before + 0.002


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"widths": ()}, "must have one entry or more"),
        ({"sigma": 0.0}, "sigma"),
        ({"variance_width": 0}, "variance_width"),
    ],
)
def test_settings_out_of_range_are_refused(covariance: Path, settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        model(covariance, **settings)


def test_weights_come_back(covariance: Path, tmp_path: Path) -> None:
    vae = model(covariance, awake=True)
    vae.calibrate(16)
    vae.save_weights(tmp_path / "vae.ckpt", {"command": "test"})
    again = SpectralControl(tmp_path / "vae.ckpt")
    w = white(vae, 1)
    assert relative(again(w[0])[None], vae.decode(w)) < 0.01  # networks are stored in half precision
    assert not any(parameter.requires_grad for parameter in again.parameters())

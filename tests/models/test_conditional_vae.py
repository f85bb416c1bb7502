"""The conditional VAE against 3DVar, where it begins, and against dense Gaussians."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.test_covariance import SPECS, samples
from tests.models.test_covariance import statistics as statistics_of
from vaevar.data.coverage import MAPS
from vaevar.errors import UserError
from vaevar.models.conditional_network import Coupling, Modulation
from vaevar.models.conditional_vae import ConditionalVAE
from vaevar.sphere import Grid, SphericalHarmonics

SPEC = SPECS["surface and upper air"]
SETTINGS = {"widths": (8, 12), "maps": 2, "features": 6, "dropout": 0.0}


@pytest.fixture(scope="module")
def covariance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "covariance.nc"
    statistics_of(SPEC).save(path)
    return path


def model(covariance: Path, seed: int = 0, awake: bool = False, **changes: object) -> ConditionalVAE:
    """One with the weights it begins with; or, awake, with weights that do something."""
    torch.manual_seed(seed)
    vae = ConditionalVAE(str(covariance), **(SETTINGS | changes)).eval()  # type: ignore[arg-type]
    if awake:
        for coupling in vae.modulation.couplings:
            torch.nn.init.normal_(coupling.leave.weight, std=0.3)
        for head in (vae.modulation.log_scale, vae.modulation.mean):
            torch.nn.init.normal_(head.weight, std=0.1)
            torch.nn.init.normal_(head.bias, std=0.1)
    return vae


def day(vae: ConditionalVAE, count: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    background = torch.randn(count, len(vae.spec), *vae.grid.shape, generator=random)
    return background, torch.rand(count, MAPS, *vae.grid.shape, generator=random)


def test_it_begins_as_3dvar(covariance: Path) -> None:
    vae = model(covariance)
    w = torch.randn(2, *vae.latent_shape)
    heads = vae.heads(*day(vae))
    expected = vae.transform(w)
    size = expected.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(vae.decode(w, heads) / size, expected / size, atol=2e-5, rtol=0)
    assert vae.mean(heads).abs().max() == 0


def test_it_is_linear_in_w_and_depends_on_the_day(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    heads = vae.heads(*day(vae))
    one, other = torch.randn(2, *vae.latent_shape), torch.randn(2, *vae.latent_shape)
    both = vae.decode(2 * one - 3 * other, heads)
    size = both.std((0, 2, 3), keepdim=True)
    apart = 2 * vae.decode(one, heads) - 3 * vae.decode(other, heads)
    torch.testing.assert_close(both / size, apart / size, atol=1e-5, rtol=0)
    same = vae.decode(one[:1].expand(2, -1, -1), heads)
    assert ((same[0] - same[1]) / size[0]).abs().max() > 0.05


def test_the_modulation_is_undone_exactly_and_couplings_keep_volumes(covariance: Path) -> None:
    vae = model(covariance, awake=True).double()
    heads = vae.modulation.heads(torch.randn(1, 8, *vae.grid.shape, dtype=torch.float64))
    y = torch.randn(1, len(SPEC), *vae.grid.shape, dtype=torch.float64)
    torch.testing.assert_close(vae.modulation.inverse(vae.modulation(y, heads), heads), y)
    torch.manual_seed(0)
    coupling = Coupling(torch.tensor([True, False, True]), 4).double()
    torch.nn.init.normal_(coupling.leave.weight)
    gate, shape = torch.randn(1, 4, 4, 6, dtype=torch.float64), (3, 4, 6)

    def apply(flat: Tensor) -> Tensor:
        field = flat.reshape(1, *shape)
        return (field + coupling(field, gate)).flatten()

    jacobian = torch.autograd.functional.jacobian(apply, torch.randn(72, dtype=torch.float64))
    assert isinstance(jacobian, Tensor)
    assert (jacobian - torch.eye(72)).abs().max() > 0.1
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(0, abs=1e-10)


def test_the_loss_is_that_of_the_gaussian_written_down(covariance: Path) -> None:
    """Of fields y = e^{-s}(x − m) with s constant for each variable: a Gaussian over coefficients."""
    sigma = 0.3
    vae = model(covariance, sigma=sigma)
    found = statistics_of(SPEC)
    errors = samples(SPEC)[:3].float()
    x = vae._variables(errors)
    scale = torch.linspace(-0.5, 0.4, len(SPEC))[:, None, None].expand_as(x[0])
    heads = vae.heads(*day(vae, 3))
    loss = vae.evidence(x, (scale.expand_as(x), torch.zeros_like(x), [g * 0 for g in heads[2]]))
    transform = vae.transform
    w = transform.pack(transform.standardised(errors)).double().numpy()  # [B, n, (lmax + 1)²]
    numbers, factor = (found.lmax + 1) ** 2, np.exp(scale[:, 0, 0].numpy().astype(np.float64))
    expected = np.zeros(3)
    for degree in range(found.lmax + 1):
        covariance_l = found.spectral[degree] + sigma**2 / numbers * np.eye(len(SPEC))
        scaled = covariance_l * np.outer(factor, factor)
        here = w[:, :, degree**2 : (degree + 1) ** 2]
        expected += 0.5 * np.einsum("bim,ij,bjm->b", here, np.linalg.inv(scaled), here)
        expected += 0.5 * (2 * degree + 1) * np.linalg.slogdet(scaled)[1]
        expected -= 0.5 * (2 * degree + 1) * np.linalg.slogdet(covariance_l)[1]
    np.testing.assert_allclose(loss.detach().numpy(), expected / numbers / len(SPEC), rtol=2e-3)


def test_the_volume_of_a_smooth_scale_is_its_mean() -> None:
    """log det of multiplying band-limited fields with e^s, s smooth, is near (lmax + 1)² ⟨s⟩."""
    lmax, grid = 15, Grid.gaussian(32)
    harmonics = SphericalHarmonics(grid, lmax, torch.float64)
    latitude = torch.from_numpy(np.radians(grid.latitude.copy()))[:, None]
    longitude = torch.from_numpy(np.radians(grid.longitude.copy()))[None]
    scale = 0.4 * latitude.sin() ** 2 - 0.3 * latitude.cos() * longitude.cos() + 0.2
    basis = []
    for degree in range(lmax + 1):
        for order in range(degree + 1):
            for part in (1, 1j) if order else (1,):
                one = torch.zeros(lmax + 1, lmax + 1, dtype=torch.complex128)
                one[degree, order] = part / (2**0.5 if order else 1)
                basis.append(harmonics.synthesise(one).flatten())
    matrix = torch.stack(basis)  # orthonormal under the mean over the sphere
    nodes = torch.from_numpy(np.polynomial.legendre.leggauss(32)[1][::-1].copy()) / 2 / grid.shape[1]
    weight = nodes[:, None].expand(grid.shape).flatten()
    gram = (matrix * weight * scale.exp().flatten()) @ matrix.T
    log_det = float(torch.linalg.slogdet(gram)[1])
    mean = float((weight * scale.flatten()).sum())
    assert log_det == pytest.approx((lmax + 1) ** 2 * mean, rel=0.03)


def test_training_finds_the_scale_of_a_day(covariance: Path) -> None:
    """Errors twice as large where the background says so."""
    torch.manual_seed(0)
    vae = model(covariance, with_mean=True)
    base = samples(SPEC)[:24].float()
    flag = torch.arange(24) % 2
    background = torch.zeros(24, len(SPEC), *vae.grid.shape) + (flag * 2.0 - 1)[:, None, None, None]
    errors = base * torch.where(flag == 1, 2.0, 1.0)[:, None, None, None]
    coverage = torch.zeros(24, MAPS, *vae.grid.shape)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-2)
    first = None
    for _ in range(60):
        loss, static = vae._losses((background, errors, coverage))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = loss.item() if first is None else first
    assert first == pytest.approx(static.item(), rel=1e-5)
    assert loss.item() < 0.95 * static.item()
    scale = vae.heads(background, coverage)[0].mean((1, 2, 3))
    assert float(scale[flag == 1].mean() - scale[flag == 0].mean()) == pytest.approx(np.log(2), abs=0.2)


def test_checkpoints(covariance: Path, tmp_path: Path) -> None:
    vae = model(covariance, awake=True)
    vae.background_std.fill_(3.0)
    path = tmp_path / "vae.ckpt"
    vae.save_weights(path, {"command": "test"})
    again = ConditionalVAE.load(path)
    w, context = torch.randn(2, *vae.latent_shape), day(vae)
    torch.testing.assert_close(again.decode(w, again.heads(*context)), vae.decode(w, vae.heads(*context)))
    with pytest.raises(UserError, match="no such checkpoint"):
        ConditionalVAE.load(tmp_path / "none.ckpt")
    other = tmp_path / "covariance.nc"
    statistics_of(SPECS["wind alone"]).save(other)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["covariance"] = str(other)
    torch.save(content, path)
    with pytest.raises(UserError, match="not a checkpoint of this conditional VAE"):
        ConditionalVAE.load(path)
    dataclasses.replace(statistics_of(SPEC), provenance={"other": 1}).save(other)
    with pytest.raises(UserError, match="other statistics"):
        ConditionalVAE.load(path)
    with pytest.raises(UserError, match="must be positive"):
        model(covariance, sigma=0.0)


def test_a_mask_without_a_rest_makes_no_coupling() -> None:
    assert len(Modulation(["psi500", "chi500"], 4, 4, 2).couplings) == 2  # winds alone: only every second
    assert len(Modulation(["z500"], 4, 4, 2).couplings) == 0

"""The scales of the day against 3DVar, where they begin, and against dense Gaussians."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.covariance.test_covariance import SPECS, samples
from tests.models.covariance.test_covariance import statistics as statistics_of
from vaevar.assim.context import AnalysisContext
from vaevar.assim.control.spectral import SpectralControl
from vaevar.content.seal import sealed
from vaevar.data.observations.coverage import MAPS
from vaevar.errors import UserError
from vaevar.models.spectral.day import DayScales
from vaevar.models.spectral.modulation import Modulation
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.standins.climate import typical_climate
from vaevar.state import State

SPEC = SPECS["surface and upper air"]
SETTINGS = {"widths": (8,), "variance_width": 6, "context_widths": (8, 12), "maps": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def covariance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "covariance.nc"
    statistics_of(SPEC).save(path)
    return path


def model(covariance: Path, seed: int = 0, awake: bool = False, **changes: object) -> SpectralVAE:
    """One with the weights it begins with; or, awake, with weights that do something."""
    torch.manual_seed(seed)
    vae = SpectralVAE(str(covariance), **(SETTINGS | changes)).eval()  # type: ignore[arg-type]
    if awake:
        for head in day_of(vae).modulation.log_scales:
            torch.nn.init.normal_(head.weight, std=0.1)
            torch.nn.init.normal_(head.bias, std=0.1)
    return vae


def day_of(vae: SpectralVAE) -> DayScales:
    assert vae.day is not None
    return vae.day


def score(vae: SpectralVAE, errors: Tensor, scales: Tensor) -> Tensor:
    with torch.no_grad():
        x = vae.transform.standardised(errors)
    return day_of(vae).score(day_of(vae).modulation.inverse(x, scales), scales)


def day(vae: SpectralVAE, count: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    background = torch.randn(count, len(vae.spec), *vae.grid.shape, generator=random)
    return background, torch.rand(count, MAPS, *vae.grid.shape, generator=random)


def test_it_begins_as_3dvar(covariance: Path) -> None:
    vae = model(covariance)
    w = torch.randn(2, *vae.latent_shape)
    expected = vae.transform(w)
    size = expected.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(
        vae.decode(w, day_of(vae)(*day(vae))) / size, expected / size, atol=2e-5, rtol=0
    )


def test_it_is_linear_in_w_and_depends_on_the_day(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    scales = day_of(vae)(*day(vae))
    one, other = torch.randn(2, *vae.latent_shape), torch.randn(2, *vae.latent_shape)
    both = vae.decode(2 * one - 3 * other, scales)
    size = both.std((0, 2, 3), keepdim=True)
    apart = 2 * vae.decode(one, scales) - 3 * vae.decode(other, scales)
    torch.testing.assert_close(both / size, apart / size, atol=1e-5, rtol=0)
    same = vae.decode(one[:1].expand(2, -1, -1), scales)
    assert ((same[0] - same[1]) / size[0]).abs().max() > 0.05


def modulation(bands: tuple[int, ...] = (0, 3, 8), lmax: int = 15) -> Modulation:
    return Modulation(SphericalHarmonics(Grid.gaussian(32), lmax, torch.float64), 2, 3, bands).double()


def coefficients(harmonics: SphericalHarmonics, low: int, high: int, seed: int = 0) -> Tensor:
    """Of two random fields with total wavenumbers from ``low`` to before ``high``, in parts."""
    random = torch.Generator().manual_seed(seed)
    field = torch.randn(1, 2, *harmonics.grid.shape, generator=random, dtype=torch.float64)
    parts = torch.view_as_real(harmonics.analyse(field)).clone()
    parts[..., :low, :, :] = 0
    parts[..., high:, :, :] = 0
    return parts


def test_each_band_has_its_own_scale() -> None:
    """Scales that are the same everywhere: bands are multiplied, and divided, exactly."""
    changes = modulation()
    assert changes.spans == [(0, 3), (3, 8), (8, 16)]
    assert changes.modes == [9, 55, 192]  # (2l + 1), summed
    scales = torch.tensor([0.5, -0.3, 0.1], dtype=torch.float64)[None, :, None, None, None].expand(
        1, 3, 2, *changes.harmonics.grid.shape
    )
    for band, (low, high) in enumerate(changes.spans):
        y = coefficients(changes.harmonics, low, high)
        torch.testing.assert_close(changes(y, scales), y * scales[:, band].exp().mean(), atol=1e-12, rtol=0)
    y = coefficients(changes.harmonics, 0, 16)
    torch.testing.assert_close(changes.inverse(changes(y, scales), scales), y, atol=1e-12, rtol=0)


def test_scales_are_smooth_beside_their_band_and_bounded() -> None:
    changes = modulation()
    for head in changes.log_scales:
        torch.nn.init.normal_(head.weight, std=0.05)
    random = torch.Generator().manual_seed(1)
    context = torch.randn(1, 3, *changes.harmonics.grid.shape, generator=random, dtype=torch.float64)
    scales = changes.scales(context)
    for band, limit in enumerate((1, 3, 8)):  # tanh(s) is s to third order, so that little is beyond
        power = changes.harmonics.power(scales[0, band].detach()).sum(0)
        assert float(power[limit + 1 :].sum() / power.sum()) < 1e-3
    for head in changes.log_scales:
        torch.nn.init.normal_(head.weight, std=50.0)
    assert float(changes.scales(context).detach().abs().max()) <= 2.0


def test_the_inverse_undoes_a_smooth_modulation_to_second_order() -> None:
    changes = modulation()
    random = torch.Generator().manual_seed(2)
    context = torch.randn(1, 3, *changes.harmonics.grid.shape, generator=random, dtype=torch.float64)
    y = coefficients(changes.harmonics, 0, 16)

    def error(size: float) -> float:
        torch.manual_seed(0)
        for head in changes.log_scales:
            torch.nn.init.normal_(head.weight, std=size)
        scales = changes.scales(context)
        return float((changes.inverse(changes(y, scales), scales) - y).detach().norm() / y.norm())

    small, large = error(0.1), error(0.4)
    assert large < 0.05
    assert small < large / 8  # second order: sixteen times smaller, and what is of higher order


def test_the_loss_is_that_of_the_gaussian_written_down(covariance: Path) -> None:
    """With s constant for each variable and band: a Gaussian over coefficients."""
    sigma = 0.3
    vae = model(covariance, sigma=sigma)
    found = statistics_of(SPEC)
    errors = samples(SPEC)[:3].float()
    bands = len(day_of(vae).modulation.spans)
    assert bands > 1
    values = torch.linspace(-0.5, 0.4, bands * len(SPEC)).reshape(bands, len(SPEC))
    scales = values[None, :, :, None, None].expand(3, -1, -1, *vae.grid.shape)
    loss = score(vae, errors, scales)
    transform = vae.transform
    w = transform.pack(transform.standardised(errors)).double().numpy()  # [B, n, (lmax + 1)²]
    numbers = (found.lmax + 1) ** 2
    for band, (low, high) in enumerate(day_of(vae).modulation.spans):
        factor = np.exp(values[band].numpy().astype(np.float64))
        expected = np.zeros(3)
        for degree in range(low, high):
            covariance_l = found.spectral[degree] + sigma**2 / numbers * np.eye(len(SPEC))
            scaled = covariance_l * np.outer(factor, factor)
            here = w[:, :, degree**2 : (degree + 1) ** 2]
            expected += 0.5 * np.einsum("bim,ij,bjm->b", here, np.linalg.inv(scaled), here)
            expected += 0.5 * (2 * degree + 1) * np.linalg.slogdet(scaled)[1]
            expected -= 0.5 * (2 * degree + 1) * np.linalg.slogdet(covariance_l)[1]
        expected /= day_of(vae).modulation.modes[band] * len(SPEC)
        np.testing.assert_allclose(loss[:, band].detach().numpy(), expected, rtol=2e-3)


def test_errors_that_are_as_3dvar_says_want_no_scale(covariance: Path) -> None:
    """The slope of the loss along a scale of each band vanishes in the mean over U's own draws."""
    vae = model(covariance, sigma=0.5)
    w = torch.randn(64, *vae.latent_shape, generator=torch.Generator().manual_seed(7))
    errors = vae.transform(w)

    def slope() -> Tensor:
        scales = torch.zeros(
            64, len(day_of(vae).modulation.spans), len(SPEC), *vae.grid.shape, requires_grad=True
        )
        score(vae, errors, scales).sum(1).mean().backward()
        assert scales.grad is not None
        return scales.grad.sum((0, 2, 3, 4)).abs()

    assert float(slope().min()) > 0.15  # σ is noise that these errors do not have
    vae.calibrate()
    assert float(slope().max()) < 0.05


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
    vae = model(covariance)
    base = samples(SPEC)[:24].float()
    flag = torch.arange(24) % 2
    background = torch.zeros(24, len(SPEC), *vae.grid.shape) + (flag * 2.0 - 1)[:, None, None, None]
    errors = base * torch.where(flag == 1, 2.0, 1.0)[:, None, None, None]
    coverage = torch.zeros(24, MAPS, *vae.grid.shape)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-2)
    first = None
    none = torch.zeros_like(day_of(vae)(background, coverage))
    static = day_of(vae).mean_over_bands(score(vae, errors, none).mean(0))
    for _ in range(60):
        loss = vae.training_step((background, errors, coverage), 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = loss.item() if first is None else first
    assert first == pytest.approx(static.item(), abs=0.01)  # the rest is the noise of the gain of F
    assert loss.item() < 0.95 * static.item()
    scales = day_of(vae)(background, coverage).mean((2, 3, 4))
    apart = scales[flag == 1].mean(0) - scales[flag == 0].mean(0)
    np.testing.assert_allclose(apart.detach().numpy(), np.log(2), atol=0.25)  # in every band


def test_the_control_believes_as_much_of_the_day_as_it_is_told(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    climate = [torch.from_numpy(values).float()[:, None, None] for values in typical_climate(SPEC)]
    day_of(vae).background_mean.copy_(climate[0])
    day_of(vae).background_std.copy_(climate[1])
    background, coverage = (field[0] for field in day(vae, 1))
    background = climate[0] + climate[1] * background
    w = torch.randn(vae.latent_shape)
    found = {}
    for strength in (0.0, 0.5, 1.0):
        control = SpectralControl(vae, strength)
        context = AnalysisContext(coverage=coverage)
        found[strength] = control.for_analysis(State(background, SPEC, vae.grid), context)(w).detach()
        # Of no particular day it is the B that the VAE started from.
        torch.testing.assert_close(control(w), vae.transform(w))
    static, scales = vae.transform(w), day_of(vae)(background[None], coverage[None])
    size = static.std((1, 2), keepdim=True)
    torch.testing.assert_close(found[0.0] / size, static / size, atol=2e-5, rtol=0)
    torch.testing.assert_close(found[1.0], vae.decode(w[None], scales)[0].detach())
    torch.testing.assert_close(found[0.5], vae.decode(w[None], scales / 2)[0].detach())
    assert float(((found[1.0] - found[0.0]) / size).abs().max()) > 0.1
    for strength in (-1.0, -1e-9, float("nan"), float("inf")):
        with pytest.raises(UserError, match="strength is"):
            SpectralControl(vae, strength)


def test_the_control_has_the_day_of_finer_states_as_its_samples_are_kept(covariance: Path) -> None:
    vae = model(covariance, awake=True)
    mean, std = (torch.from_numpy(values).float()[:, None, None] for values in typical_climate(SPEC))
    day_of(vae).background_mean.copy_(mean)
    day_of(vae).background_std.copy_(std)
    fine = Grid.equiangular(2 * vae.grid.shape[0] + 5)
    background, coverage = mean + std * torch.randn(len(SPEC), *fine.shape), torch.rand(MAPS, *fine.shape)
    w = torch.randn(vae.latent_shape)
    coarsening = Coarsening(fine, vae.grid)
    for given, kept in ((coverage, coarsening(coverage)), (None, torch.zeros(MAPS, *vae.grid.shape))):
        control = SpectralControl(vae).for_analysis(
            State(background, SPEC, fine), AnalysisContext(coverage=given)
        )
        assert control.grid == vae.grid
        scales = day_of(vae)(coarsening(background)[None], kept[None])
        torch.testing.assert_close(control(w), vae.decode(w[None], scales)[0])
    coarse = Grid.equiangular(vae.grid.shape[0] - 1, vae.grid.shape[1])
    background = mean.expand(-1, *coarse.shape).contiguous()
    with pytest.raises(UserError, match=r"was trained on .* the background is on .* is finer than"):
        SpectralControl(vae).for_analysis(State(background, SPEC, coarse), AnalysisContext())
    # One of no particular day needs neither.
    still = SpectralControl(model(covariance, bands=[]))
    assert still.for_analysis(State(background, SPEC, coarse), AnalysisContext()) is still


def test_coverage_maps_are_those_of_the_samples(covariance: Path) -> None:
    vae = model(covariance, coverage_maps=3)
    data = SimpleNamespace(
        spec=vae.spec, grid=vae.grid, background_mean=torch.arange(len(SPEC)) * 1.0,
        background_std=torch.arange(len(SPEC)) + 0.5, coverage_maps=MAPS,
    )  # fmt: skip
    vae._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    with pytest.raises(UserError, match=f"samples have {MAPS} coverage maps, but the model expects 3"):
        vae.setup("fit")
    background, coverage = day(vae)
    assert day_of(vae)(background, coverage[:, :3]).shape[:2] == (2, len(day_of(vae).modulation.spans))
    vae = model(covariance)
    vae._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    vae.setup("fit")
    assert day_of(vae).background_mean.flatten().tolist() == data.background_mean.tolist()
    assert day_of(vae).background_std.flatten().tolist() == data.background_std.tolist()
    # What the scales depend on are backgrounds in these units.
    units = model(covariance, awake=True)
    scales = day_of(units)(background, coverage)
    vae.load_state_dict(
        units.state_dict() | {key: value for key, value in vae.state_dict().items() if "background" in key}
    )
    again = day_of(vae)(background * day_of(vae).background_std + day_of(vae).background_mean, coverage)
    torch.testing.assert_close(again, scales, rtol=1e-3, atol=1e-4)


def test_statistics_are_found_beside_the_checkpoint(
    covariance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whatever directory: a relative path may lead to another file, or to none."""
    place = tmp_path / "weights"
    place.mkdir()
    shutil.copy(covariance, place / covariance.name)
    monkeypatch.chdir(covariance.parent)
    model(Path(covariance.name)).save_weights(place / "vae.ckpt", {})
    for elsewhere in (tmp_path / "other", tmp_path / "none"):
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        if elsewhere.name == "other":
            dataclasses.replace(statistics_of(SPEC), provenance={"a": 1}).save(Path(covariance.name))
        assert SpectralVAE.load(place / "vae.ckpt").spec == SPEC
    (place / covariance.name).unlink()
    with pytest.raises(UserError, match="is not there: restore that file, there or beside the checkpoint"):
        SpectralVAE.load(place / "vae.ckpt")


def test_checkpoints(covariance: Path, tmp_path: Path) -> None:
    vae = model(covariance, awake=True)
    for buffer, values in zip(
        (day_of(vae).background_mean, day_of(vae).background_std), typical_climate(SPEC), strict=True
    ):
        buffer.copy_(torch.tensor(values).reshape(buffer.shape))
    path = tmp_path / "vae.ckpt"
    vae.save_weights(path, {"command": "test"})
    control = SpectralControl(path)
    assert control.strength == 1.0
    assert not any(parameter.requires_grad for parameter in control.parameters())
    again = SpectralVAE.load(path)
    w, context = torch.randn(2, *vae.latent_shape), day(vae)
    expected = vae.decode(w, day_of(vae)(*context))
    apart = (again.decode(w, day_of(again)(*context)) - expected) / expected.std((0, 2, 3), keepdim=True)
    assert float(apart.detach().abs().max()) < 0.01  # networks are stored in half precision
    with pytest.raises(UserError, match="no such checkpoint"):
        SpectralVAE.load(tmp_path / "none.ckpt")
    other = tmp_path / "covariance.nc"
    statistics_of(SPECS["wind alone"]).save(other)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["covariance"] = str(other)
    torch.save(sealed(content), path)
    with pytest.raises(UserError, match=r"needs the statistics .*covariance\.nc holds others"):
        SpectralVAE.load(path)
    dataclasses.replace(statistics_of(SPEC), provenance={"other": 1}).save(other)
    with pytest.raises(UserError, match=r"covariance\.nc holds others: restore that file"):
        SpectralVAE.load(path)
    with pytest.raises(UserError, match="must be positive"):
        model(covariance, sigma=0.0)
    with pytest.raises(UserError, match="must ascend from 0"):
        model(covariance, bands=(3, 6))

"""Atmospheres with a closed form: isothermal, and with a constant lapse rate."""

from __future__ import annotations

import numpy as np
import pytest

from vaevar.constants import LAPSE_RATE
from vaevar.data.weather.sigma_levels import (
    SPEEDY_GAS_CONSTANT,
    SPEEDY_GRAVITY,
    SigmaState,
    mean_sea_level_pressure,
    to_pressure_levels,
)
from vaevar.state import PRESSURE_LEVELS

LEVELS = np.array(PRESSURE_LEVELS)
SPEEDY = np.array([0.025, 0.095, 0.20, 0.34, 0.51, 0.685, 0.835, 0.95])
FINE = np.geomspace(0.03, 0.9999, 400)
ALPHA = SPEEDY_GAS_CONSTANT * LAPSE_RATE / SPEEDY_GRAVITY


def column(
    surface_temperature: float,
    surface_pressure: float = 1.0e5,
    surface_geopotential: float = 0.0,
    lapse_rate: float = 0.0,
    sigma: np.ndarray = SPEEDY,
) -> SigmaState:
    """T = T_s (p/p_s)^(RΓ/g) and its hydrostatic geopotential, as [1, K, 1] fields."""
    if lapse_rate:
        t = surface_temperature * sigma ** (SPEEDY_GAS_CONSTANT * lapse_rate / SPEEDY_GRAVITY)
        phi = surface_geopotential + SPEEDY_GRAVITY / lapse_rate * (surface_temperature - t)
    else:
        t = np.full_like(sigma, surface_temperature)
        phi = surface_geopotential - SPEEDY_GAS_CONSTANT * surface_temperature * np.log(sigma)

    def field(values: np.ndarray) -> np.ndarray:
        return values[None, :, None]

    return SigmaState(
        sigma=sigma,
        u=field(10 + 20 * np.log(sigma)),
        v=field(-5 * np.log(sigma)),
        t=field(t),
        q=field(0.01 * sigma**3),
        geopotential=field(phi),
        surface_pressure=np.full((1, 1), surface_pressure),
    )


# --- above the ground -----------------------------------------------------------------------------


@pytest.mark.parametrize("ground", [0.0, 3000.0])
def test_an_isothermal_atmosphere_is_recovered_exactly(ground):
    # With Γ = 0 in the model the surface temperature still follows the standard lapse rate, so the
    # layer between the lowest level and the ground is left out.
    state = column(260.0, 1.0e5, ground)
    made = to_pressure_levels(state, LEVELS)
    free = LEVELS < 950
    np.testing.assert_allclose(made["t"][0, free, 0], 260.0, rtol=1e-14)
    expected = ground - SPEEDY_GAS_CONSTANT * 260.0 * np.log(LEVELS / 1000)
    np.testing.assert_allclose(made["z"][0, free, 0], expected[free], rtol=1e-12)
    assert state.surface_geopotential.item() == pytest.approx(ground, abs=1e-9)


def test_wind_linear_in_log_pressure_is_recovered_exactly():
    made = to_pressure_levels(column(260.0, 0.98e5), LEVELS)
    free = LEVELS < 0.95 * 980
    ln_sigma = np.log(LEVELS[free] / 980)
    np.testing.assert_allclose(made["u"][0, free, 0], 10 + 20 * ln_sigma, rtol=1e-12)
    np.testing.assert_allclose(made["v"][0, free, 0], -5 * ln_sigma, rtol=1e-12)


def test_a_constant_lapse_rate_is_recovered():
    state = column(285.0, lapse_rate=LAPSE_RATE, sigma=FINE)
    made = to_pressure_levels(state, LEVELS)
    t = 285.0 * (LEVELS / 1000) ** ALPHA
    z = SPEEDY_GRAVITY / LAPSE_RATE * (285.0 - t)
    np.testing.assert_allclose(made["t"][0, :, 0], t, atol=1e-3)
    np.testing.assert_allclose(made["z"][0, :, 0], z, atol=0.1)


def test_eight_levels_are_enough_for_a_metre():
    # Geopotential bends between levels as the temperature says: linear would be 400 m² s⁻² off.
    state = column(285.0, lapse_rate=LAPSE_RATE)
    made = to_pressure_levels(state, LEVELS[LEVELS < 950])["z"][0, :, 0]
    levels = LEVELS[LEVELS < 950]
    exact = SPEEDY_GRAVITY / LAPSE_RATE * (285.0 - 285.0 * (levels / 1000) ** ALPHA)
    np.testing.assert_allclose(made[levels >= 200], exact[levels >= 200], atol=20)
    linear = np.interp(np.log(levels / 1000), np.log(SPEEDY), state.geopotential[0, :, 0])
    assert np.abs(linear - exact).max() > 300
    assert np.abs(made - exact).max() < 0.25 * np.abs(linear - exact).max()


def test_temperature_and_geopotential_are_hydrostatic_together():
    state = column(285.0, lapse_rate=LAPSE_RATE)
    # Within one model layer, dφ/d(ln p) = -R T to the accuracy of a centred difference.
    ln_p = np.linspace(np.log(360), np.log(500), 41)
    made = to_pressure_levels(state, np.exp(ln_p))
    slope = np.gradient(made["z"][0, :, 0], ln_p)[1:-1]
    difference = slope + SPEEDY_GAS_CONSTANT * made["t"][0, 1:-1, 0]
    # What is left is one constant in the layer: its thickness is the model's own.
    assert np.ptp(difference) < 1e-3 * SPEEDY_GAS_CONSTANT * 285
    assert np.abs(difference).max() < 0.01 * SPEEDY_GAS_CONSTANT * 285


@pytest.mark.parametrize("name", ["z", "q", "u", "v", "t"])
def test_fields_are_continuous_across_model_levels_and_at_the_ground(name):
    state = column(281.0, 0.9e5, 9000.0, lapse_rate=0.006)
    for border in (*(SPEEDY[1:] * 900), 900.0):
        below, above = to_pressure_levels(state, np.array([border * (1 - 1e-9), border * (1 + 1e-9)]))[name][
            0, :, 0
        ]
        assert below == pytest.approx(above, rel=1e-6, abs=1e-6)
    # At each level it is the model's own value.
    made = to_pressure_levels(state, SPEEDY[1:] * 900)[name][0, :, 0]
    own = {"z": state.geopotential, "q": state.q, "u": state.u, "v": state.v, "t": state.t}[name]
    np.testing.assert_allclose(made, own[0, 1:, 0], rtol=1e-9, atol=1e-9)


def test_a_level_above_the_model_is_refused():
    with pytest.raises(ValueError, match="10 hPa lies above the model's top"):
        to_pressure_levels(column(260.0), np.array([10, 500]))


def test_columns_do_not_mix():
    low, high = column(285.0, 1.0e5), column(250.0, 0.7e5, 20_000.0)
    both = SigmaState(
        SPEEDY,
        **{
            name: np.stack([getattr(low, name), getattr(high, name)], axis=-1).repeat(2, axis=0)
            for name in ("u", "v", "t", "q", "geopotential", "surface_pressure")
        },
    )
    assert both.t.shape == (2, 8, 1, 2)
    made = to_pressure_levels(both, LEVELS)
    for index, state in enumerate((low, high)):
        alone = to_pressure_levels(state, LEVELS)
        for name, field in made.items():
            np.testing.assert_array_equal(field[1, ..., index], alone[name][0])
        np.testing.assert_array_equal(
            mean_sea_level_pressure(both)[1, :, index], mean_sea_level_pressure(state)[0]
        )


# --- below the ground -----------------------------------------------------------------------------


def test_standard_lapse_rate_to_the_ground():
    state = column(270.0)  # T_K = 270 at σ = 0.95
    expected = 270.0 * (1 + 0.190163 * (1 / 0.95 - 1))
    assert state.surface_temperature.item() == pytest.approx(expected, rel=1e-6)
    assert state.surface_temperature.item() == pytest.approx(272.7023, abs=1e-3)


def test_below_the_ground_by_hand():
    # 1000 m high, T_s = 280 K, p_s = 890 hPa; 1000 hPa lies at y = ln(1000/890) = 0.116534.
    # αy = 0.190163 · 0.116534 = 0.0221604
    # T = 280 (1 + 0.0221604 + 0.00024554 + 0.00000181) = 286.2742
    # φ = 9810 − 287 · 280 · 0.116534 (1 + 0.0110802 + 0.0000818) = 340.9
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(280.0, 0.89e5, 9810.0, lapse_rate=LAPSE_RATE, sigma=sigma)
    made = to_pressure_levels(state, np.array([1000]))
    assert made["t"].item() == pytest.approx(286.2742, abs=1e-3)
    assert made["z"].item() == pytest.approx(340.9, abs=0.2)
    # Wind and humidity keep the lowest level's value.
    assert made["u"].item() == pytest.approx(10.0, abs=1e-6)
    assert made["q"].item() == pytest.approx(0.01, abs=1e-9)


def test_a_high_plateau_uses_298_kelvin_at_sea_level():
    # 4000 m, T_s = 285: the standard rate would give 311 K at sea level; γ = (298 − 285)/4000.
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(285.0, 0.62e5, 4000 * SPEEDY_GRAVITY, lapse_rate=LAPSE_RATE, sigma=sigma)
    ay = SPEEDY_GAS_CONSTANT * (13.0 / 4000) / SPEEDY_GRAVITY * np.log(1000 / 620)
    made = to_pressure_levels(state, np.array([1000]))["t"].item()
    assert made == pytest.approx(285 * (1 + ay + ay**2 / 2 + ay**3 / 6), abs=1e-3)
    # On ground of 2250 m the two rates are mixed in halves: sea level at (299.625 + 298)/2.
    state = column(285.0, 0.77e5, 2250 * SPEEDY_GRAVITY, lapse_rate=LAPSE_RATE, sigma=sigma)
    gamma = ((285 + 0.0065 * 2250 + 298.0) / 2 - 285) / 2250
    ay = SPEEDY_GAS_CONSTANT * gamma / SPEEDY_GRAVITY * np.log(1000 / 770)
    made = to_pressure_levels(state, np.array([1000]))["t"].item()
    assert made == pytest.approx(285 * (1 + ay + ay**2 / 2 + ay**3 / 6), abs=1e-3)


def test_ground_hotter_than_the_cap_stays_isothermal_below():
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(300.0, 0.62e5, 4000 * SPEEDY_GRAVITY, lapse_rate=LAPSE_RATE, sigma=sigma)
    assert to_pressure_levels(state, np.array([1000]))["t"].item() == pytest.approx(300.0, abs=1e-6)


# --- mean sea level -------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [240.0, 275.0, 310.0])
@pytest.mark.parametrize("ground", [0.0, 0.9, -0.9])
def test_on_the_sea_it_is_the_surface_pressure(temperature, ground):
    state = column(temperature, 1.013e5, ground, sigma=FINE)
    assert mean_sea_level_pressure(state).item() == pytest.approx(1.013e5, rel=2e-4)
    assert mean_sea_level_pressure(column(temperature, 1.013e5)).item() == 1.013e5


@pytest.mark.parametrize("temperature", [275.0, 289.0, 295.0])
@pytest.mark.parametrize(("ground", "counts"), [(0.9, False), (-0.9, False), (1.1, True), (-1.1, True)])
def test_only_ground_of_less_than_a_handbreadth_is_taken_for_the_sea(temperature, ground, counts):
    """1 m² s⁻² is 10 cm. A few Pa tell the two apart, so the tolerance has to be smaller."""
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(temperature, 1.013e5, ground, lapse_rate=LAPSE_RATE, sigma=sigma)
    start = 0.5 * (290.5 + temperature) if temperature > 290.5 else temperature
    alpha = 0.0 if temperature > 290.5 else ALPHA
    expected = reduced(temperature, start, alpha, ground, 1.013e5) if counts else 1.013e5
    assert mean_sea_level_pressure(state).item() == pytest.approx(expected, abs=1e-3)


def test_the_lapse_rate_of_a_plateau_begins_at_2000_metres():
    """T_s = 297 K at 2000.5 m: a thousandth of the way from the standard rate to the one of 298 K."""
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    for height, share in ((1999.5, 0.0), (2000.5, 0.001), (2499.5, 0.999), (2500.5, 1.0)):
        state = column(297.0, 0.78e5, height * SPEEDY_GRAVITY, lapse_rate=LAPSE_RATE, sigma=sigma)
        sea_level = (1 - share) * (297.0 + LAPSE_RATE * height) + share * 298.0
        gamma = (sea_level - 297.0) / height
        ay = SPEEDY_GAS_CONSTANT * gamma / SPEEDY_GRAVITY * np.log(1000 / 780)
        made = to_pressure_levels(state, np.array([1000]))["t"].item()
        assert made == pytest.approx(297 * (1 + ay + ay**2 / 2 + ay**3 / 6), abs=2e-4)


def test_the_standard_atmosphere_on_a_hill_has_1013_hpa():
    # 1500 m of the ICAO standard atmosphere: 278.4 K, 845.56 hPa (R and g of the tables differ a little).
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(278.4, 0.84556e5, 1500 * SPEEDY_GRAVITY, lapse_rate=LAPSE_RATE, sigma=sigma)
    assert mean_sea_level_pressure(state).item() == pytest.approx(101_325, abs=60)
    # The closed form of a constant lapse rate, p_s (T_0/T_s)^(1/α), to the order of the series.
    exact = 0.84556e5 * ((278.4 + 9.75) / 278.4) ** (1 / ALPHA)
    assert mean_sea_level_pressure(state).item() == pytest.approx(exact, rel=2e-5)


def reduced(surface: float, start: float, alpha: float, phi: float, ps: float) -> float:
    x = alpha * phi / (SPEEDY_GAS_CONSTANT * start)
    return ps * np.exp(phi / (SPEEDY_GAS_CONSTANT * start) * (1 - x / 2 + x**2 / 3))


@pytest.mark.parametrize(
    ("temperature", "start", "kind"),
    [
        (278.0, 278.0, "standard"),
        (245.0, 250.0, "standard"),  # cold: halfway to 255 K
        (287.0, 287.0, "limited"),  # sea level would be 296.75 K: the rate ends at 290.5 K
        (300.0, 295.25, "none"),  # hot ground: halfway to 290.5 K, isothermal below
    ],
)
def test_cold_and_warm_corrections(temperature, start, kind):
    phi, ps = 1500 * SPEEDY_GRAVITY, 0.85e5
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    state = column(temperature, ps, phi, lapse_rate=LAPSE_RATE, sigma=sigma)
    alphas = {"standard": ALPHA, "limited": SPEEDY_GAS_CONSTANT * (290.5 - temperature) / phi, "none": 0.0}
    expected = reduced(temperature, start, alphas[kind], phi, ps)
    assert mean_sea_level_pressure(state).item() == pytest.approx(expected, rel=1e-6)
    # Geopotential below the ground follows the same corrections: sea level lies where msl says.
    below = to_pressure_levels(state, np.array([mean_sea_level_pressure(state).item() / 100]))["z"].item()
    assert below == pytest.approx(0.0, abs=30.0)
    y = np.log(1000.0 / 850.0)
    ay = alphas[kind] * y
    expected = phi - SPEEDY_GAS_CONSTANT * start * y * (1 + ay / 2 + ay**2 / 6)
    assert to_pressure_levels(state, np.array([1000]))["z"].item() == pytest.approx(expected, abs=1e-3)


def test_the_corrections_join_smoothly():
    phi, ps = 800 * SPEEDY_GRAVITY, 0.92e5
    sigma = np.array([0.05, 0.5, 1 - 1e-12])
    temperatures = np.arange(248.0, 300.0, 0.05)
    reductions = [
        mean_sea_level_pressure(column(t, ps, phi, lapse_rate=LAPSE_RATE, sigma=sigma)).item()
        for t in temperatures
    ]
    assert np.abs(np.diff(reductions)).max() < 5.0  # Pa per 0.05 K: no jump where a rule takes over


# --- checks ---------------------------------------------------------------------------------------


def test_a_state_must_fit_together():
    good = column(260.0)
    fields = {name: getattr(good, name) for name in ("u", "v", "t", "q", "geopotential", "surface_pressure")}
    with pytest.raises(ValueError, match="sigma levels must ascend"):
        SigmaState(SPEEDY[::-1], **fields)
    with pytest.raises(ValueError, match=r"t \(1, 7, 1\) does not fit"):
        SigmaState(SPEEDY, **(fields | {"t": good.t[:, 1:]}))
    with pytest.raises(ValueError, match=r"u \(1, 8, 1\) does not fit"):
        SigmaState(SPEEDY, **(fields | {"surface_pressure": np.ones((2, 1))}))

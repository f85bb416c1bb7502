"""The report in a real browser: nothing is complained of, every control works, and it is there soon.

It needs Chromium with its driver, such as Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import vaevar
from tests.device import DEVICE
from tests.library.conftest import oi as oi  # the fixtures
from tests.library.conftest import tiny as tiny
from tests.library.conftest import world as world
from vaevar.models.training.history import FitHistory
from vaevar.verification.fits.callback import FitReport
from vaevar.verification.forecasts import Forecasts

webdriver = pytest.importorskip("selenium.webdriver")
_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (_CHROMIUM and _DRIVER), reason="Chromium or its driver is not installed"),
    pytest.mark.slow,
]
# What is shown of a figure: what a control may change.
_SHOWN = """
const figure = document.getElementById(arguments[0]);
return JSON.stringify([
  figure._fullData.map(t => [t.visible, t.opacity, t.meta, t.visible === true && t.text,
                             t.visible === true && Array.from(t.y || []).flat(),
                             t.visible === true && t.type === 'heatmap' &&
                              Array.from(t.z, row => Array.from(row))]),
  ['yaxis', 'yaxis2'].map(name => (figure._fullLayout[name] || {}).type)]);
"""
# Labels of the first vertical axis of a figure, between two powers of ten.
_LABELS = """
const [name, low, high, done] = arguments, figure = document.getElementById(name);
Plotly.relayout(figure, {'yaxis.range': [low, high]}).then(
  () => done(Array.from(figure.querySelectorAll('.ytick text'), one => one.textContent)));
"""
_CHOSEN = """
const layout = document.getElementById(arguments[0])._fullLayout;
return layout.updatemenus.map(menu => menu.buttons[menu.active].label);
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--window-size=1300,1000", f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    yield driver
    driver.quit()


def until_changed(browser: Any, figure: str, before: str) -> str:
    """What a figure shows once that is something else; as before after two seconds."""
    for _ in range(20):
        now: str = browser.execute_script(_SHOWN, figure)
        if now != before:
            return now
        time.sleep(0.1)
    return before


def show(browser: Any, element: Any) -> None:
    """Bring a control into sight, at once: a click would come before the end of a smooth way there."""
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)


def press_all_buttons(browser: Any, name: str) -> Any:
    """Press each button of a figure: it changes what is shown, unless it is chosen already. The figure."""
    from selenium.webdriver.common.by import By

    figure = browser.find_element(By.ID, name)
    for number in range(len(figure.find_elements(By.CSS_SELECTOR, ".updatemenu-button"))):
        button = figure.find_elements(By.CSS_SELECTOR, ".updatemenu-button")[number]
        label, chosen = button.text, browser.execute_script(_CHOSEN, name)
        before = browser.execute_script(_SHOWN, name)
        show(browser, button)
        button.click()
        after = until_changed(browser, name, before)
        assert (after != before) == (label not in chosen), (name, label)
        assert label in browser.execute_script(_CHOSEN, name)
    return figure


def test_a_report_in_a_browser(tiny: Any, oi: Any, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    forecasts = Forecasts(every=2, lead_hours=[6, 12])
    arms = {"free": vaevar.FreeRun(), "oi": oi}
    vaevar.run(tiny.forecaster, arms, tiny.data(), "runs/mine", callbacks=[forecasts], accelerator=DEVICE)
    # The time that the page itself takes, on a busy machine too.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(Path("runs/mine/report.html").absolute().as_uri())
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    (seconds,) = [one["value"] for one in metrics if one["name"] == "TaskDuration"]
    assert 0 < seconds <= 3
    for low, high in ((1.8, 2.7), (1.8, 2.9), (-0.3, 1.2), (0.5, 4.5)):
        labels = browser.execute_async_script(_LABELS, "errors-1", low, high)
        assert 2 <= len(labels) <= 7, labels
        assert all(low - 0.01 <= np.log10(float(label)) <= high + 0.01 for label in labels), labels
    browser.execute_script("Plotly.relayout('errors-1', {'yaxis.autorange': true})")
    figures = [one.get_attribute("id") for one in browser.find_elements(By.CLASS_NAME, "js-plotly-plot")]
    names = ("errors-0", "errors-1", "profiles-0", "maps-0", "spectra-0", "innovations-0")
    assert figures == [*names, "minimisation-0", "forecasts-0"]
    for name in figures:
        figure = press_all_buttons(browser, name)
        sliders = figure.find_elements(By.CSS_SELECTOR, ".slider-rail-touch-rect")
        assert len(sliders) == (name in ("errors-1", "maps-0", "forecasts-0"))
        for slider in sliders:
            # A variable that has levels.
            (z,) = [
                button
                for button in figure.find_elements(By.CSS_SELECTOR, ".updatemenu-button")
                if button.text in ("z", "z500")
            ]
            show(browser, z)
            z.click()
            seen = set()
            for place in (-0.45, 0.45):
                show(browser, slider)
                where = int(place * slider.size["width"])
                ActionChains(browser).move_to_element_with_offset(slider, where, 0).click().perform()
                time.sleep(0.5)
                seen.add(browser.execute_script(_SHOWN, name))
            assert len(seen) == 2, name
    assert not browser.get_log("browser")


def test_the_report_of_a_fit_in_a_browser(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    spec, grid = vaevar.StateSpec(["t2m"], ["z", "u"], [500, 850]), vaevar.Grid.gaussian(16)
    errors = torch.randn(24, len(spec), 16, 32, generator=torch.Generator().manual_seed(0))
    data = vaevar.ErrorSamples(errors, spec, grid, validation_fraction=0.25, batch_size=4)
    sizes: dict[str, Any] = {"widths": [8], "depths": [1], "heads": [0], "latent_scale": 0}
    vae = vaevar.VAE.for_data(data, **sizes, warmup_steps=1)
    trainer = L.Trainer(
        max_epochs=3, accelerator=DEVICE, logger=False, default_root_dir=tmp_path / "fit",
        callbacks=[FitHistory(), FitReport()], enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(vae, data)
    browser.get((tmp_path / "fit" / "report.html").as_uri())
    figures = [one.get_attribute("id") for one in browser.find_elements(By.CLASS_NAME, "js-plotly-plot")]
    assert figures == ["losses-0", "samples-0", "deviations-0", "spectra-0", "latent-0"]
    for name in figures:
        press_all_buttons(browser, name)
    assert not browser.get_log("browser")

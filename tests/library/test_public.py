"""What is public: that it is there, explains itself, and costs nothing before it is used."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaevar
from tests.device import DEVICE
from tests.end_to_end.conftest import SPEC


def test_importing_loads_nothing() -> None:
    program = (
        "import time; began = time.perf_counter(); import vaevar; took = time.perf_counter() - began;"
        "import sys; print(took, [name for name in ('torch', 'xarray', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    took, _, loaded = done.stdout.strip().partition(" ")
    assert float(took) < 0.3
    assert loaded == "[]"


@pytest.mark.parametrize("name", vaevar.__all__)
def test_what_is_public_explains_itself(name: str) -> None:
    public = getattr(vaevar, name)
    assert len(public.__doc__) > 20
    assert name in dir(vaevar)


def test_nothing_else_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Newcomer'"):
        getattr(vaevar, "Newcomer")  # noqa: B009


@pytest.mark.parametrize("name", vaevar.__all__)
def test_examples(name: str, tiny: Any, oi: Any) -> None:
    """The examples of ``help()`` run, with the objects that they are about."""
    vaevar.run(tiny.forecaster, {"threedvar": oi}, tiny.data(), "runs/cycle_sparse", accelerator=DEVICE)
    spec = vaevar.StateSpec(**SPEC | {"upper": ["z", "u", "v"]})
    noise = np.random.default_rng(0).normal(size=(40, len(spec), *tiny.store.grid.shape))
    objects = {
        "vaevar": vaevar, "np": np, "Grid": vaevar.Grid, "StateSpec": vaevar.StateSpec,
        "Forecaster": vaevar.Forecaster, "ErrorSamples": vaevar.ErrorSamples, "store": tiny.store,
        "forecaster": tiny.forecaster, "method": oi, "free": vaevar.FreeRun(), "mine": oi,
        "data": tiny.data(), "times": tiny.times[:2], "observe": tiny.observe, "time": tiny.first,
        "first": tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h"))),
        "state": tiny.store.state(tiny.first), "truth": lambda time: tiny.store.state(time),
        "observations": tiny.observe(tiny.first), "errors": vaevar.ErrorSamples(noise, spec, tiny.store.grid),
        "climatology": tiny.climatology, "weights": Path(__file__).parents[2] / "weights",
    }  # fmt: skip
    public = getattr(vaevar, name)
    finder = doctest.DocTestFinder(recurse=True)
    tests = [test for test in finder.find(public, name, globs=objects) if test.examples]
    assert tests, f"{name} has no example"
    for test in tests:
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)
        assert results.failed == 0, f"{name}: an example does not do what it says"


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, on the embedded world, in a directory of its own."""
    page = Path(__file__).parents[2] / "docs" / "library.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    program = "import matplotlib\nmatplotlib.use('Agg')\n"
    program += "\n".join(block.partition("```")[0] for block in blocks)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(page.parents[1]))
    done = subprocess.run([sys.executable, "page.py"], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs" / "mine" / "summary.md").is_file()

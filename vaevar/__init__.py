"""Data assimilation with AI weather models: VAE-Var and its rivals in one cycle."""

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"

# What is public, and where it is defined. All else may change without notice. Nothing is imported before it
# is asked for: torch and xarray take seconds.
_PUBLIC = {
    "Analysis": "vaevar.assim.assimilator",
    "AnalysisContext": "vaevar.assim.context",
    "AnalysisTimes": "vaevar.data.analysis_times",
    "Assimilator": "vaevar.assim.assimilator",
    "ColumnNetwork": "vaevar.data.observations.networks",
    "ControlTransform": "vaevar.assim.control.base",
    "CovarianceControl": "vaevar.assim.control.covariance",
    "CovarianceStatistics": "vaevar.models.covariance.statistics",
    "CycleStep": "vaevar.assim.cycle.loop",
    "DecoderControl": "vaevar.assim.control.decoder",
    "DiffDA": "vaevar.assim.diffda.diffda",
    "ErrorSamples": "vaevar.data.error_samples",
    "FGAT": "vaevar.assim.window.fgat",
    "Fields": "vaevar.state",
    "Forecaster": "vaevar.forecast",
    "FourDVar": "vaevar.assim.window.fourdvar",
    "FreeRun": "vaevar.assim.assimilator",
    "Grid": "vaevar.sphere.grid",
    "LearnedForecaster": "vaevar.models.forecaster.learned",
    "LinearInterpolation": "vaevar.assim.interpolation.linear",
    "Network": "vaevar.data.observations.networks",
    "ObservationErrors": "vaevar.data.observations.errors",
    "Observations": "vaevar.data.observations.points",
    "OnnxForecaster": "vaevar.models.forecaster.fengwu",
    "OptimalInterpolation": "vaevar.assim.interpolation.optimal",
    "Points": "vaevar.data.observations.points",
    "RunResults": "vaevar.verification.results",
    "SpeedyWorld": "vaevar.data.weather.speedy",
    "SpectralControl": "vaevar.assim.control.spectral",
    "SpectralVAE": "vaevar.models.spectral.vae",
    "SpreadInTime": "vaevar.data.observations.spread",
    "State": "vaevar.state",
    "StateSpec": "vaevar.state",
    "StoreSource": "vaevar.data.weather.store",
    "ThreeDVar": "vaevar.assim.methods",
    "Trajectory": "vaevar.forecast",
    "UserError": "vaevar.errors",
    "VAE": "vaevar.models.vae.vae",
    "VAEVar": "vaevar.assim.methods",
    "VariationalAssimilator": "vaevar.assim.variational",
    "WeatherStore": "vaevar.data.weather.store",
    "cycle": "vaevar.assim.cycle.loop",
    "estimate_covariance": "vaevar.models.covariance.estimation",
    "pretrained": "vaevar.library.pretrained",
    "run": "vaevar.library.run",
    "simulate": "vaevar.data.observations.simulate",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vaevar' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


# How long a thread of torch's spins before it sleeps, when it waits for the others. By default it is
# milliseconds, in which it keeps a busy neighbour's process, or the very thread it waits for, off the core.
# The library reads this once, when torch is imported.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# A program of the package, `python -m vaevar....`, whose libraries take seconds to import: Ctrl-C ends it
# with a line. It calls vaevar.scripts.run, which sees to stops from then on.
if sys.argv[:1] == ["-m"]:
    from vaevar.runs.stopping import install

    install(importing=True)

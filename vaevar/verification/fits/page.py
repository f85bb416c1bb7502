"""Puts the report of a fit together."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L

from vaevar.files import replacing
from vaevar.verification.fits.losses import loss_figure, loss_table
from vaevar.verification.fits.run import FittedRun, open_fit
from vaevar.verification.fits.views import sections_of
from vaevar.verification.page.render import Page, config_text, render
from vaevar.verification.page.sections import section
from vaevar.verification.report.page import NAME
from vaevar.verification.report.words import again_text, facts_of_record, object_text, settings_below

_MEANS = (
    "Training values are means over the steps since the previous point, so they lag behind the validation "
    "values, which are of one moment. `history.csv` has all of them."
)


def write_fit_report(
    directory: Path, module: L.LightningModule | None = None, data: Any = None, ended: bool | None = None
) -> Path:
    """Write ``report.html`` into the directory of a fit.

    Args:
        directory: of the run.
        module: its model; None: as the best checkpoint has it, or the latest.
        data: its data module, set up; None: as its config says.
        ended: whether it has come to its end; None: as its record says.

    Returns:
        Where it is.

    Raises:
        UserError: when there is nothing to report.
    """
    run = open_fit(directory, module, data, ended)
    path = directory / NAME
    text = page(run)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def page(run: FittedRun) -> str:
    """The page about a fit."""
    name = run.directory.absolute().name
    head, table = ([], []) if run.history is None else loss_table(run.history)
    sections = [
        section(
            "losses", "Losses",
            "What the fit makes small, and its parts, over epochs. A validation that rises while the "
            "training falls is overfitting. Choose what is shown; drag to zoom, double-click to come back.",
            None if run.history is None else loss_figure(run.history), missing="No losses were written.",
        )
    ]  # fmt: skip
    if run.shown is not None:
        sections += sections_of(run.shown)
    return render(
        Page(
            title=name,
            about=[(_sentence(run), again_text(run.directory))],
            runs=[(name, [(fact, text) for fact, text in _facts(run) if text], config_text(run.directory))],
            head=head,
            table=table,
            notes=[_MEANS],
            sections=sections,
            faults=list(dict.fromkeys(run.faults)),
        )
    )


def _sentence(run: FittedRun) -> str:
    """What was fitted to what, and how far it has come."""
    settings = run.settings
    model, data = settings.get("model.class") or "A model", settings.get("data.class")
    text = f"{model} fitted to {data}" if data else f"{model}, fitted"
    place = settings.get("data.path")
    text += f" in {place}" if place else ""
    if run.history is not None and len(run.history):
        last = run.history.iloc[-1]
        asked = settings.get("trainer.max_epochs")
        of = f" of {asked}" if asked not in (None, -1) and not run.ended else ""
        text += f": {last['epoch']:.4g}{of} epochs, {int(last['step'])} steps"
        text += "" if run.ended else " so far"
    return f"{text}."


def _facts(run: FittedRun) -> Iterator[tuple[str, str]]:
    settings = run.settings
    yield "config", ", ".join(_configs(run.record.get("command", [])))
    yield "model", object_text(settings, "model")
    yield "data", object_text(settings, "data")
    data = settings_below(settings, "data")
    period = [f"{name} {value}" for name, value in data.items() if name.endswith(("start", "end"))]
    yield "period", ", ".join(period)
    if run.history is not None and len(run.history):
        seconds = float(run.history["seconds"].iloc[-1])
        yield "time of training", str(datetime.timedelta(seconds=round(seconds)))
    yield "weights", ", ".join(_weights(run))
    yield "pictures are of", run.model_from
    if run.shown is not None:
        yield from run.shown.facts
    yield "precision", str(settings.get("trainer.precision") or "32-true")
    yield from facts_of_record(run.directory, run.record)


def _weights(run: FittedRun) -> Iterator[str]:
    """The files that came out, and those that are still to come."""
    for path in run.outputs:
        yield f"{path} ({path.stat().st_size / 1e6:.3g} MB)" if path.is_file() else f"{path} (not there)"
    for place in run.checkpoints:
        for path in sorted(place.glob("*.ckpt")):
            yield f"{path} ({path.stat().st_size / 1e6:.3g} MB)"


def _configs(command: list[str]) -> Iterator[str]:
    """Paths that a command gives as configs."""
    for word, following in itertools.pairwise([*command, ""]):
        if word in ("-c", "--config"):
            yield following
        elif word.startswith("--config="):
            yield word.partition("=")[2]

"""Small changes of meaning in every kind of input: each is refused by name, told, or does no harm.

    python benchmarks/changed_inputs.py
    python benchmarks/changed_inputs.py --only "truth.zarr: levels" --output null

A tiny world is made: weather, a forecaster with its mean and std, B, a VAE, a denoiser, stores of samples, a
climatology, observations, configs, and a cycle that has begun. Then one input after the other is changed, as
people and disks change them, and the command that takes it is given. What it does is

- *refused*: a line that names the input, and nothing is computed;
- *harmless*: the result is what it would have been, but for rounding;
- *told*: there is another result, and a line that names the input;
- *silently other*: there is another result. Where nobody can know, the reason is given.

A refusal that does not name the input, and an error with a traceback, count as silently other.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from changes import (
    chunks,
    coordinates,
    covariances,
    forecasters,
    numbers,
    observed,
    runs,
    samples,
    settings,
    stores,
    weights,
)
from changes.kinds import Case, Result
from changes.probes import Prober
from changes.world import world

from vaevar.errors import UserError
from vaevar.files import require_writable, save_text
from vaevar.scripts import run
from vaevar.verification.tables import markdown_table

KINDS = (
    stores, coordinates, chunks, forecasters, numbers, weights, covariances, samples, runs, observed,
    settings,
)  # fmt: skip
INPUTS = {
    "truth.zarr": "store of weather", "drift.onnx": "ONNX forecaster", "drift_mean.npy": "its mean",
    "drift_std.npy": "its std", "climatology.npy": "climatology", "vae.ckpt": "checkpoint of a VAE",
    "denoiser.ckpt": "checkpoint of a denoiser", "covariance.nc": "B", "errors.zarr": "samples of errors",
    "pairs.zarr": "samples with backgrounds", "runs": "a cycle that goes on",
    "observations.npz": "observations", "cycle.yaml": "config of a cycle", "vae.yaml": "config of a fit",
}  # fmt: skip


def main(
    only: str = "", directory: str | None = None, output: str | None = "benchmarks/results/changed_inputs.md"
) -> None:
    """Try every change, and write a table, with a file of all changes and their messages beside it.

    Args:
        only: a pattern of what to try.
        directory: of the world, made if it is missing, which stays. None: a temporary one.
        output: the table. None: it is printed only.

    Raises:
        UserError: when a change was neither refused by name, nor harmless, nor told, nor unknowable.
    """
    if output is not None:
        require_writable(Path(output))
    place = Path(directory or tempfile.mkdtemp(prefix="changed-inputs-")).absolute()
    try:
        if not (place / "world").is_dir():
            world(place / "world")
        results = list(tried(place, [case for case in all_cases() if re.search(only, case.title)]))
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)
    text = text_of(results)
    print(text)
    if output is not None:
        save_text(Path(output), text)
        # Where the world lay says nothing to a reader.
        save_text(Path(output).with_suffix(".csv"), listing(results).replace(f"{place}/", ""))
    wrong = [result for result in results if not result.right]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(results)} changes: {'; '.join(r.case.title for r in wrong)}")


def all_cases() -> Iterator[Case]:
    """Every change of every input."""
    for kind in KINDS:
        yield from kind.cases()


def tried(place: Path, cases: Sequence[Case]) -> Iterator[Result]:
    """What comes of each change; those that are wrong are printed at once."""
    prober = Prober(place / "world", place / f"changed-{os.getpid()}")
    for number, case in enumerate(cases, start=1):
        result = prober(case)
        if not result.right:
            print(f"{case.title} [{case.probe}]: {result.outcome}: {result.line[:300]}", flush=True)
        if number % 50 == 0:
            print(f"{number} of {len(cases)}", flush=True)
        yield result


def text_of(results: Sequence[Result]) -> str:
    """The page: counts by input, and the changes that nobody can know."""
    head = ["input", "changes", "refused", "harmless", "told", "nobody can know", "silently other"]
    rows = []
    for target, what in INPUTS.items():
        mine = [result for result in results if result.case.target == target]
        if mine:
            rows.append([f"{what} (`{target}`)", *_counts(mine)])
    rows.append(["all", *_counts(results)])
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "other" and result.right:
            reasons.setdefault(result.case.unknowable, []).append(result.case.title)
    listed = "\n".join(f"- {reason}: {'; '.join(titles)}." for reason, titles in reasons.items())
    return (
        "# Inputs changed in meaning\n\nCommand: `python benchmarks/changed_inputs.py`, on a CPU. Each "
        "change, and what was said of it, is in [changed_inputs.csv](changed_inputs.csv).\n\n"
        f"{markdown_table(head, rows)}\n\n## What nobody can know\n\n{listed}\n"
    )


def _counts(results: Sequence[Result]) -> list[str]:
    outcomes = [result.outcome if result.right else "wrong" for result in results]
    kinds = ("refused", "harmless", "told", "other", "wrong")
    return [str(len(results)), *(str(outcomes.count(kind)) for kind in kinds)]


def listing(results: Sequence[Result]) -> str:
    """A row for each change."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["input", "change", "command", "outcome", "message"])
    for result in results:
        case = result.case
        reason = case.unknowable if result.outcome == "other" else ""
        writer.writerow([case.target, case.change, case.probe, result.outcome, reason or result.line])
    return file.getvalue()


if __name__ == "__main__":
    run(main)

"""The record of a comparison: a small CSV for each case, from which any clone goes on.

A case is one network with one seed; each of its arms is a cycle over the same truth, observations and
forecaster. A row of the CSV is one number, and says by a fingerprint which settings and weights it is
of: when an arm's config, a file it names, or what all arms share has changed since, its rows are stale
and count as missing. Changes of the code are not seen; the rows say of which commit they are.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.provenance import fingerprint
from vaevar.verification.scores import HEADLINE_CHANNELS, Scores, time_mean_rmse
from vaevar.verification.tables import gather_rows, time_text

RESULT_COLUMNS = [
    "case", "network", "columns", "seed", "arm", "quantity", "channel", "value", "fingerprint", "commit",
]  # fmt: skip
MEAN = "mean over channels of rmse/std"
NETWORKS = ("fixed", "moving")


@dataclass(frozen=True)
class Case:
    """One network of columns; ``seed`` is that of its positions and of the observation noise."""

    network: str
    columns: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.network}_{self.columns}_seed{self.seed}"

    def config(self, config: dict[str, Any], arm: str) -> dict[str, Any]:
        """A resolved config of a cycle, made one of this case with a single arm."""
        changed = copy.deepcopy(config)
        data, model = changed["data"]["init_args"], changed["model"]["init_args"]
        data["network"]["init_args"] |= {
            "count": self.columns, "moving": self.network == "moving", "seed": self.seed
        }  # fmt: skip
        data["seed"] = self.seed
        model["arms"] = {arm: model["arms"][arm]}
        return changed


def fingerprints(config: dict[str, Any]) -> dict[str, str]:
    """What each arm's numbers depend on besides the case, as 12 hexadecimal digits.

    Args:
        config: the resolved config of the comparison.
    """
    keys = ("seed_everything", "model", "data")
    shared: dict[str, Any] = copy.deepcopy({key: config.get(key) for key in keys})
    arms = shared["model"]["init_args"].pop("arms")
    data = shared["data"]["init_args"]
    del data["seed"]
    for key in ("count", "moving", "seed"):
        data["network"]["init_args"].pop(key)
    shared["precision"] = config["trainer"].get("precision")
    shared["scores"] = callback_settings(config, "Scores")
    shared["forecasts"] = callback_settings(config, "Forecasts")
    common = fingerprint(_without_modules(shared))
    return {
        name: hashlib.sha256(f"{common} {fingerprint(_without_modules(arm))}".encode()).hexdigest()[:12]
        for name, arm in arms.items()
    }


def _without_modules(config: Any) -> Any:
    """A config that names classes without their modules, so that a class may move."""
    if isinstance(config, list):
        return [_without_modules(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: value.rpartition(".")[2] if key == "class_path" else _without_modules(value)
        for key, value in config.items()
    }


def callback_settings(config: dict[str, Any], name: str) -> dict[str, Any]:
    """``init_args`` of the trainer's callback of class ``name``; all its defaults stand in a resolved config.

    Raises:
        UserError: when the config has no such callback.
    """
    for callback in config["trainer"]["callbacks"] or []:
        if callback["class_path"].rpartition(".")[2] == name:
            return callback.get("init_args", {})
    raise UserError(f"the config of a comparison needs {name} among its trainer.callbacks")


def measure(directory: Path, arm: str, data: AnalysisTimes, skip: int) -> pd.DataFrame:
    """The numbers of one arm's finished run: ``quantity``, ``channel``, ``value``.

    RMSE in physical units of the headline channels and its mean over all channels after division by
    climatological std, of ``analysis``, ``background`` and ``forecast_24h``, ...; and, without a
    channel, ``improved``, ``drift %/day``, ``2J/p``, ``iterations``, ``evaluations`` and ``seconds``
    per analysis, where the arm has them, and the CPU ``threads`` of this process.

    Args:
        directory: of the run.
        arm: its one arm.
        data: of the run.
        skip: analyses left out at the beginning, as in :class:`vaevar.verification.scores.Scores`.
    """
    scores = gather_rows(directory, [arm], "scores.csv")
    forecasts = gather_rows(directory, [arm], "forecasts.csv")
    skip = skip if skip < data.times.size else 0
    forecasts = forecasts[forecasts["time"] >= time_text(data.times[skip])]
    forecasts = forecasts.assign(quantity=[f"forecast_{lead}h" for lead in forecasts["lead_hours"]])
    rows: list[tuple[str, str, float]] = []
    for table, skipped in ((scores, skip), (forecasts, 0)):
        for quantity in table["quantity"].unique():
            rmse = time_mean_rmse(table, arm, quantity, data.spec, skipped)
            rows.append((quantity, MEAN, float((rmse / data.climatological_std).mean())))
            held = [name for name in HEADLINE_CHANNELS if data.spec.has(name)]
            rows += [(quantity, name, float(rmse[data.spec.index(name)])) for name in held]
    summary = Scores(skip).table(directory, [arm], data).iloc[0]
    made = pd.read_csv(directory / arm / "diagnostics.csv").iloc[skip:]
    numbers = {name: summary[name] for name in ("improved", "drift %/day", "2J/p", "iterations", "seconds")}
    numbers["evaluations"] = made["evaluations"].mean() if "evaluations" in made else float("nan")
    numbers["threads"] = torch.get_num_threads()
    rows += [(name, "", float(value)) for name, value in numbers.items()]
    table = pd.DataFrame(rows, columns=["quantity", "channel", "value"])
    return table.dropna(subset="value")


def record(path: Path, case: Case, arm: str, rows: pd.DataFrame, of: str, commit: str) -> None:
    """Put the rows of one arm into a case's file in place of older ones; one process at a time may.

    Args:
        path: the case's CSV.
        case: which.
        arm: whose ``rows`` these are, from :func:`measure`.
        rows: ``quantity``, ``channel``, ``value``.
        of: the arm's fingerprint.
        commit: of the code.
    """
    labels = {"case": case.name, "network": case.network, "columns": case.columns, "seed": case.seed}
    rows = rows.assign(**labels, arm=arm, fingerprint=of, commit=commit)[RESULT_COLUMNS]
    before = read(path)
    if len(before):
        rows = pd.concat([before[before["arm"] != arm], rows], ignore_index=True)
    with replacing(path) as partial:
        rows.sort_values("arm", kind="stable").to_csv(partial, index=False, float_format="%.6g")


def read(path: Path) -> pd.DataFrame:
    """The rows of one case's file, of whatever settings they are; none when there is no file yet.

    Raises:
        UserError: when it is not such a file.
    """
    numbers = {"columns": int, "seed": int, "value": float}
    if not path.is_file():
        return pd.DataFrame(columns=RESULT_COLUMNS).astype(numbers)
    texts = {name: str for name in RESULT_COLUMNS if name not in numbers}
    try:
        table = pd.read_csv(path, dtype=texts, keep_default_na=False)
        return table[RESULT_COLUMNS].astype(numbers)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a record of a comparison ({error}); delete it, and it is made anew"
        ) from None


def current(rows: pd.DataFrame, wanted: dict[str, str]) -> pd.DataFrame:
    """The rows that are of the ``wanted`` arms, by name, with these fingerprints."""
    return rows[rows["fingerprint"] == rows["arm"].map(wanted)]

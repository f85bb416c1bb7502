"""The record of a comparison: a small CSV for each case, from which any clone continues.

A case is one network with one seed. Each of its arms is a cycle over the same truth, observations and
forecaster. A row of the CSV is one number, with a fingerprint of the settings and weights that gave it. When
an arm's config, a file that it names, or what all arms share changes, the rows of the arm are stale and count
as missing. A change of the code makes no row stale; the rows give the commit that made them, and a number of
the truth, which must be one for all.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.experiments.comparison.truth import TRUTH, truth_number
from vaevar.files import replacing
from vaevar.provenance import fingerprint
from vaevar.verification.forecasts import starts_from
from vaevar.verification.metrics import time_mean_rmse
from vaevar.verification.scores import HEADLINE_CHANNELS, Scores
from vaevar.verification.tables import gather_rows, time_text

RESULT_COLUMNS = [
    "case", "network", "columns", "seed", "arm", "quantity", "channel", "value", "fingerprint", "commit",
]  # fmt: skip
MEAN = "mean over channels of rmse/std"
NETWORKS = ("fixed", "moving")
# What an arm's numbers say beside those of other arms, and where an arm that analyses one time has them: the
# analysis that all observations precede, the mean over the window, and the background one step after it.
WINDOWS = {"analysis_last": "analysis", "analysis_window": "analysis", "background_next": "background"}


@dataclass(frozen=True)
class Case:
    """One network of columns. ``seed`` determines its positions and the observation noise."""

    network: str
    columns: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.network}_{self.columns}_seed{self.seed}"

    def config(self, config: dict[str, Any], arm: str) -> dict[str, Any]:
        """The resolved config of a cycle, changed to this case and a single arm."""
        changed = copy.deepcopy(config)
        data, model = changed["data"]["init_args"], changed["model"]["init_args"]
        data["network"]["init_args"] |= {
            "count": self.columns, "moving": self.network == "moving", "seed": self.seed
        }  # fmt: skip
        data["seed"] = self.seed
        lengths = windows(config)
        if lengths[arm] == 1:
            callback_settings(changed, "Forecasts")["beside"] = sorted({*lengths.values()} - {1})
        model["arms"] = {arm: model["arms"][arm]}
        return changed


def fingerprints(config: dict[str, Any]) -> dict[str, str]:
    """A digest of what each arm's numbers depend on besides the case, in 12 hexadecimal digits.

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
    shared["forecasts"] = {**callback_settings(config, "Forecasts")}
    shared["forecasts"].pop("beside", None)  # follows from the arms that there are
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
    """``init_args`` of the trainer's callback of class ``name``, complete in a resolved config.

    Raises:
        UserError: when the config has no such callback.
    """
    for callback in config["trainer"]["callbacks"] or []:
        if callback["class_path"].rpartition(".")[2] == name:
            return callback.get("init_args", {})
    raise UserError(f"the config of a comparison must list {name} in trainer.callbacks")


def windows(config: dict[str, Any]) -> dict[str, int]:
    """The number of times that each arm hands out together, by name.

    Args:
        config: the resolved config of the comparison.
    """
    arms = {name: arm.get("init_args", {}) for name, arm in config["model"]["init_args"]["arms"].items()}
    return {name: given.get("every") or given.get("window") or 1 for name, given in arms.items()}


def at_times_of(quantity: str, window: int) -> str:
    """The name of a quantity that an arm of one time has at the times of other arms' windows."""
    return quantity if window == 1 else f"{quantity}_of_{window}"


def measure(
    directory: Path, arm: str, data: AnalysisTimes, skip: int, every: int = 1, others: Iterable[int] = ()
) -> pd.DataFrame:
    """The numbers of one arm's finished run: ``quantity``, ``channel``, ``value``.

    Of ``analysis``, ``background``, ``forecast_24h``, ...: the RMSE of the headline channels in physical
    units, and the mean over all channels of RMSE / climatological std. The same of ``WINDOWS`` where the arm
    analyses several times at once. Where it analyses one, it has ``WINDOWS`` and forecasts also at the times
    of other arms' windows, under the names of :func:`at_times_of`: errors differ from day to day, so that
    only the same times can be compared. Without a channel: ``improved``, ``drift %/day``, ``2J/p``,
    ``iterations``, ``evaluations`` and ``seconds`` per analysis, where the arm has them, the CPU
    ``threads`` of this process, and the number of the ``truth``, from :func:`.truth.truth_number`.

    Args:
        directory: the run directory.
        arm: the one arm of the run.
        data: the data module of the run.
        skip: analyses left out at the beginning, as in :class:`vaevar.verification.scores.Scores`; rounded up
            to whole windows.
        every: analyses between forecasts.
        others: numbers of times in the windows of other arms.
    """
    index = pd.Series(range(data.times.size), [time_text(time) for time in data.times])
    scores, forecasts = (
        table.assign(index=table["time"].map(index))
        for table in (gather_rows(directory, [arm], f"{name}.csv") for name in ("scores", "forecasts"))
    )
    window = int(scores["window"].fillna(1).max()) if "window" in scores else 1
    begin = _begin(data, skip, window)
    tables = [scores[scores["index"] >= begin], _forecasts(forecasts, window, begin, every)]
    if window > 1:
        tables.append(_of_windows(scores, window, begin))
    for length in {*others} - {1} if window == 1 else ():
        from_there = _begin(data, skip, length)
        for table in (
            _of_windows(scores, length, from_there), _forecasts(forecasts, length, from_there, every)
        ):  # fmt: skip
            names = [at_times_of(name, length) for name in table["quantity"]]
            tables.append(table.assign(quantity=names))
    rows: list[tuple[str, str, float]] = []
    for settled in tables:
        for quantity in settled["quantity"].unique():
            rmse = time_mean_rmse(settled, arm, quantity, data.spec, 0)
            rows.append((quantity, MEAN, float((rmse / data.climatological_std).mean())))
            channels = [name for name in HEADLINE_CHANNELS if data.spec.has(name)]
            rows += [(quantity, name, float(rmse[data.spec.index(name)])) for name in channels]
    summary = Scores(begin).table(directory, [arm], data).iloc[0]
    diagnostics = pd.read_csv(directory / arm / "diagnostics.csv")
    diagnostics = diagnostics[diagnostics["time"].map(index) >= begin]
    numbers = {name: summary[name] for name in ("improved", "drift %/day", "2J/p", "iterations", "seconds")}
    numbers["evaluations"] = (
        diagnostics["evaluations"].mean() if "evaluations" in diagnostics else float("nan")
    )
    numbers["threads"] = torch.get_num_threads()
    numbers[TRUTH] = truth_number(data)
    rows += [(name, "", float(value)) for name, value in numbers.items()]
    table = pd.DataFrame(rows, columns=["quantity", "channel", "value"])
    return table.dropna(subset="value")


def _begin(data: AnalysisTimes, skip: int, window: int) -> int:
    """The first time that counts, at the beginning of a window; 0 where none would be left."""
    skip = -(-skip // window) * window
    return skip if skip < data.times.size else 0


def _of_windows(scores: pd.DataFrame, window: int, begin: int) -> pd.DataFrame:
    """Rows of ``scores.csv`` by what was known: ``WINDOWS`` as their quantity.

    Args:
        scores: with the ``index`` of the time in the cycle.
        window: number of analysis times that are handed out at once.
        begin: the first time that counts.
    """
    scores = scores[scores["index"] >= begin]
    analysis, background = (scores["quantity"] == name for name in ("analysis", "background"))
    position = scores["index"] % window
    chosen = {
        "analysis_window": analysis,
        "analysis_last": analysis & (position == window - 1),
        "background_next": background & (position == 0),
    }
    return pd.concat([scores[rows].assign(quantity=name) for name, rows in chosen.items()], ignore_index=True)


def _forecasts(forecasts: pd.DataFrame, window: int, begin: int, every: int) -> pd.DataFrame:
    """Rows of ``forecasts.csv`` of forecasts that start where those of an arm with such windows do."""
    starts = [index for index in forecasts["index"].unique() if starts_from(index, window, every)]
    chosen = forecasts[forecasts["index"].isin(starts) & (forecasts["index"] >= begin)]
    return chosen.assign(quantity=[f"forecast_{lead}h" for lead in chosen["lead_hours"]])


def record(path: Path, case: Case, arm: str, rows: pd.DataFrame, fingerprint: str, commit: str) -> None:
    """Put the rows of one arm into a case's file, in place of older ones. Not for two processes at once.

    Args:
        path: the case's CSV.
        case: network and seed.
        arm: the arm that ``rows`` belong to.
        rows: ``quantity``, ``channel``, ``value``, from :func:`measure`.
        fingerprint: of the arm.
        commit: of the code.
    """
    labels = {"case": case.name, "network": case.network, "columns": case.columns, "seed": case.seed}
    rows = rows.assign(**labels, arm=arm, fingerprint=fingerprint, commit=commit)[RESULT_COLUMNS]
    before = read(path)
    if len(before):
        rows = pd.concat([before[before["arm"] != arm], rows], ignore_index=True)
    with replacing(path) as partial:
        rows.sort_values("arm", kind="stable").to_csv(partial, index=False, float_format="%.6g")


def read(path: Path) -> pd.DataFrame:
    """The rows of one case's file, with any settings; none when there is no file yet.

    Raises:
        UserError: when the file is not the record of a case.
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
            f"{path}: not a record of a comparison ({error}); delete it, and run the comparison again"
        ) from None


def current(rows: pd.DataFrame, fingerprint_of: dict[str, str]) -> pd.DataFrame:
    """The rows of these arms that have the given fingerprint of their arm."""
    return rows[rows["fingerprint"] == rows["arm"].map(fingerprint_of)]


def recorded(path: Path, arm: str, fingerprint: str) -> bool:
    """Whether a case's file has the numbers of an arm with this fingerprint."""
    return len(current(read(path), {arm: fingerprint})) > 0

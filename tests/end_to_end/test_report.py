"""The report of a cycle: its numbers, and what it says where something is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from tests.end_to_end.commands import FREE_AND_OI, predict
from tests.end_to_end.reading import numbers, picture, section, summary
from vaevar.verification.report.__main__ import main as report_command
from vaevar.verification.report.page import prefixes, write_report

RUN = Path("runs/cycle")
REPORT = RUN / "report.html"


@pytest.fixture
def cycle(configs: dict[str, Path]) -> Path:
    """A config of two arms and four analyses, with forecasts."""
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["model"]["init_args"]["arms"] = FREE_AND_OI
    content["data"]["init_args"]["analyses"] = 4
    for callback in content["trainer"]["callbacks"]:
        if callback["class_path"].endswith("Dashboards"):
            callback["init_args"]["maps_every"] = 0
    forecasts = {"class_path": "Forecasts", "init_args": {"every": 2, "lead_hours": [6, 12]}}
    content["trainer"]["callbacks"].append(forecasts)
    configs["predict"].write_text(yaml.safe_dump(content), encoding="utf-8")
    return configs["predict"]


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """``python -m vaevar.verification.report``."""
    monkeypatch.setattr("sys.argv", ["report", *words])
    report_command()


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, *words)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


def check_curves(path: Path, scores: pd.DataFrame, label: Callable[[str], str] = str) -> None:
    """The curves of all variables and levels are the rows of a table."""
    found, checked = picture(path, "errors-1"), set()
    frames = [(None, dict(enumerate(found.data)))]
    frames += [(one["name"], dict(zip(one["traces"], one["data"], strict=True))) for one in found.frames]
    for frame, traces in frames:
        for number, changed in traces.items():
            trace = found.data[number]
            (variable, _), column = trace["meta"], "bias" if trace["yaxis"] == "y2" else "rmse"
            quantity = trace["hovertemplate"].rpartition(", ")[2].removesuffix("</extra>")
            level = (frame or "500 hPa").removesuffix(" hPa") if variable in ("z", "u") else ""
            rows = scores[
                (scores["arm"].map(label) == trace["name"])
                & (scores["channel"] == f"{variable}{level}")
                & (scores["quantity"] == quantity)
            ]
            np.testing.assert_allclose(numbers(changed["y"]), rows[column], rtol=1e-6)
            checked.add((trace["name"], f"{variable}{level}", quantity, column))
    assert len(checked) == 2 * 2 * scores["arm"].nunique() * scores["channel"].nunique()


def test_the_numbers_of_a_report_are_those_of_the_tables(cycle: Path) -> None:
    predict(cycle)
    scores = pd.read_csv(RUN / "scores.csv")
    check_curves(REPORT, scores)
    head, *rows = summary(REPORT)
    lines = [line for line in (RUN / "summary.md").read_text().splitlines() if line.startswith("| ")]
    assert [" | ".join(cell for cell, _ in row) for row in (head, *rows)] == [
        line.strip("| ") for line in (lines[0], *lines[2:])
    ]
    column = [row[1] for row in rows]
    assert [best for _, best in column] == [cell == min(one for one, _ in column) for cell, _ in column]
    maps = picture(REPORT, "maps-0")
    texts = [trace["text"][0] for trace in maps.data if trace.get("mode") == "text"]
    first = scores[(scores["time"] == scores["time"].min()) & (scores["channel"] == "z500")]
    assert texts[:4] == [f"rmse {number:.3g}" for number in first["rmse"]]
    forecasts = pd.read_csv(RUN / "forecasts.csv")
    found = picture(REPORT, "forecasts-0")
    assert found.layout["xaxis"]["title"]["text"] == "lead time, hours"
    (line,) = [t for t in found.data if t["meta"][0] == "t2m" and t["name"] == "oi"]
    rows = forecasts[(forecasts["channel"] == "t2m") & (forecasts["arm"] == "oi")]
    means = np.sqrt(rows["rmse"].pow(2).groupby(rows["lead_hours"]).mean())
    np.testing.assert_allclose(numbers(line["y"]), means, rtol=1e-6)


def test_forecasts_are_of_the_days_that_all_arms_have(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(cycle)
    tables = {arm: pd.read_csv(RUN / arm / "forecasts.csv") for arm in ("free", "oi")}
    first, last = tables["oi"]["time"].unique()

    def shown() -> float:
        """The RMSE of t2m in the longest forecast of oi."""
        command(monkeypatch, str(RUN))
        found = picture(REPORT, "forecasts-0")
        (line,) = [t for t in found.data if t["meta"][0] == "t2m" and t["name"] == "oi"]
        return float(numbers(line["y"])[-1])

    def expected(*times: str) -> float:
        rows = tables["oi"].query("channel == 't2m' and lead_hours == 12")
        return float(np.sqrt((rows[rows["time"].isin(times)]["rmse"] ** 2).mean()))

    assert shown() == pytest.approx(expected(first, last), rel=1e-5)
    tables["free"][tables["free"]["time"] == last].to_csv(RUN / "free" / "forecasts.csv", index=False)
    assert shown() == pytest.approx(expected(last), rel=1e-5)
    tables["oi"][tables["oi"]["time"] == first].to_csv(RUN / "oi" / "forecasts.csv", index=False)
    assert shown() == pytest.approx(expected(first), rel=1e-5)
    assert "start from different times" in section(REPORT, "missing")


def test_a_map_is_the_state_and_compared_maps_share_their_colours(cycle: Path) -> None:
    predict(cycle)
    maps = picture(REPORT, "maps-0")
    heat = [trace for trace in maps.data if trace["type"] == "heatmap"]
    of_z500 = [trace for trace in heat if trace["meta"] == "z500"]
    assert len(of_z500) == 1 + 3 * 2
    assert len({(trace["zmin"], trace["zmax"]) for trace in of_z500[1:]}) == 1
    assert [trace["visible"] for trace in heat] == [trace["meta"] == "z500" for trace in heat]
    both = [
        xr.open_zarr(RUN / "oi" / f"{kind}.zarr", chunks=None)["geopotential"].sel(level=500)
        for kind in ("analysis", "background")
    ]
    increment = (both[0].values - both[1].values)[-1].squeeze()
    index = maps.data.index(of_z500[5])
    last = maps.frames[-1]
    shown = numbers(last["data"][last["traces"].index(index)]["z"]).astype(float)
    step = float(of_z500[5]["hovertemplate"].partition("× ")[2].partition(" ")[0])
    inside = np.abs(shown) < 127
    np.testing.assert_allclose((shown * step)[inside], increment[inside], atol=0.51 * step)
    assert inside.mean() > 0.95
    dots = [trace for trace in maps.data if trace.get("mode") == "markers"]
    assert {numbers(trace["x"]).size for trace in dots} == {20}


def test_the_report_of_a_killed_run(
    cycle: Path,
    killed_in_the_third_analysis: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed_in_the_third_analysis(lambda: predict(cycle))
    assert not REPORT.exists()
    table = (RUN / "oi" / "scores.csv").read_bytes()
    (RUN / "oi" / "scores.csv").write_bytes(table[:-30])  # in the middle of a row
    command(monkeypatch, str(RUN))
    rows = summary(REPORT)[1:]
    assert [row[0][0] for row in rows] == ["free", "oi"]
    scores = pd.concat([pd.read_csv(RUN / arm / "scores.csv") for arm in ("free", "oi")])
    length = scores.dropna().groupby(["arm", "time"])["rmse"].count()
    whole = length[length == 12].reset_index()[["arm", "time"]]
    check_curves(REPORT, scores.dropna().merge(whole))
    assert "so far" in section(REPORT, "run")
    predict(cycle)
    assert "so far" not in section(REPORT, "run")
    check_curves(REPORT, pd.read_csv(RUN / "scores.csv"))


def test_one_arm_without_tensorboard_and_without_states(
    cycle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(cycle.read_text(encoding="utf-8"))
    del content["model"]["init_args"]["arms"]["free"]
    content["trainer"]["logger"] = False
    content["trainer"]["default_root_dir"] = "runs"
    content["name"] = "cycle"
    kept = [one for one in content["trainer"]["callbacks"] if not one["class_path"].endswith("Dashboards")]
    kept[1]["init_args"] = {"states": []}
    content["trainer"]["callbacks"] = kept
    cycle.write_text(yaml.safe_dump(content), encoding="utf-8")
    predict(cycle)
    assert capsys.readouterr().out.splitlines()[-1] == f"Look at all of it in a browser: {REPORT}"
    check_curves(REPORT, pd.read_csv(RUN / "scores.csv"))
    for name in ("maps", "spectra", "innovations"):
        assert "No states were kept" in section(REPORT, name)
    assert "StateWriter" in section(REPORT, "missing")
    assert not [best for row in summary(REPORT)[1:] for _, best in row if best]


def test_several_runs_side_by_side(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        predict(cycle, "--name", name)
    command(monkeypatch, "runs/one", "runs/two")
    path = Path("runs/one/report.html")
    parts = [pd.read_csv(f"runs/{name}/scores.csv").assign(run=name) for name in ("one", "two")]
    scores = pd.concat(parts)
    scores["arm"] = scores["run"] + "/" + scores["arm"]
    check_curves(path, scores)
    assert [row[0][0] for row in summary(path)[1:]] == ["one/free", "one/oi", "two/free", "two/oi"]
    limits = {
        (trace["zmin"], trace["zmax"])
        for name in ("maps-0", "maps-1")
        for trace in picture(path, name).data
        if trace.get("meta") == "msl" and trace["type"] == "heatmap" and not trace["showscale"]
    }
    assert len(limits) == 1
    looks = {trace["name"]: trace["marker"] for trace in picture(path, "errors-1").data}
    assert looks["one/oi"]["color"] == looks["two/oi"]["color"] != looks["one/free"]["color"]
    assert looks["one/oi"]["symbol"] == looks["one/free"]["symbol"] != looks["two/oi"]["symbol"]


def test_what_is_not_there_is_said(
    cycle: Path, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(cycle)
    (RUN / "free" / "diagnostics.csv").write_bytes(b"")
    (RUN / "free" / "forecasts.csv").write_bytes(b'time,"\n1,2,3\n')
    shutil.rmtree(RUN / "oi" / "analysis.zarr")
    command(monkeypatch, str(RUN))
    said = section(REPORT, "missing")
    for file in ("free/diagnostics.csv", "free/forecasts.csv", "oi/analysis.zarr"):
        assert file in said
    (RUN / "config.yaml").unlink()
    whole = REPORT.read_bytes()
    command(monkeypatch, str(RUN))
    assert REPORT.read_bytes() == whole  # which has maps
    beside = RUN / "report_without_truth.html"
    assert "config.yaml" in section(beside, "missing")
    check_curves(beside, pd.read_csv(RUN / "scores.csv"))
    assert f"{beside}: " in capsys.readouterr().out
    REPORT.unlink()
    command(monkeypatch, str(RUN))
    assert "config.yaml" in section(REPORT, "missing")
    for arm in ("free", "oi"):
        (RUN / arm / "scores.csv").write_bytes(b"\x00\xff\n")
    assert "scores.csv" in refused(monkeypatch, capsys, str(RUN))
    assert "holds no results of a cycle" in refused(monkeypatch, capsys, "runs/nowhere")
    assert "given twice" in refused(monkeypatch, capsys, str(RUN), str(RUN))


def test_damage_of_many_kinds_is_said_in_a_line(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(cycle)
    whole = RUN.rename("whole")
    chunk = next(path for path in sorted((whole / "oi" / "analysis.zarr" / "geopotential").rglob("*.*.*")))
    chunk = chunk.relative_to(whole)

    def cut(name: str | Path, count: int) -> None:
        (RUN / name).write_bytes((RUN / name).read_bytes()[:count])

    damages: list[tuple[Callable[[], Any], str]] = [
        (lambda: cut(chunk, 30), "oi: the states of 1 of 4 times are damaged"),
        (lambda: cut("oi/diagnostics.csv", 4), "oi/diagnostics.csv: cannot be read"),
        (lambda: cut("oi/scores.csv", 9), "oi/scores.csv: cannot be read"),
        (lambda: (RUN / "oi/scores.csv").write_text("time,arm\n"), "it has no channel, quantity, rmse, bias"),
        (lambda: cut("oi/scores.csv", -30), "oi/scores.csv: has 3 whole analyses where others have 4"),
        (lambda: (RUN / "config.yaml").write_bytes(b"\xff\xfe\xff"), "config.yaml: truth and observations"),
        (lambda: cut("config.yaml", 20), "config.yaml: damaged or cut short"),
        (lambda: (RUN / "config.yaml").unlink(), "provenance.json has the command of the run"),
        (
            lambda: [(RUN / name).unlink() for name in ("config.yaml", "provenance.json")],
            "nor is the command of the run",
        ),
        (lambda: cut("provenance.json", 100), "provenance.json: damaged"),
    ]
    for damage, told in damages:
        shutil.rmtree(RUN, ignore_errors=True)
        shutil.copytree(whole, RUN)
        REPORT.unlink()
        damage()
        command(monkeypatch, str(RUN))
        assert told in section(REPORT, "missing"), told
        assert "Traceback" not in section(REPORT, "missing")


def test_runs_over_other_analyses_are_judged_by_themselves(
    cycle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("one", 4), ("two", 3)):
        predict(cycle, "--name", name, "--data.init_args.analyses", str(count))
    command(monkeypatch, "runs/one", "runs/two")
    path = Path("runs/one/report.html")
    head, *rows = summary(path)
    assert "not scored over the same analyses" in path.read_text(encoding="utf-8")
    column = [text for text, _ in head].index("analysis rmse / std")
    assert [row[column][1] for row in rows].count(True) == 2
    assert sum(row[column][1] for row in rows[:2]) == 1
    command(monkeypatch, "runs/one")
    assert "not scored over the same analyses" not in path.read_text(encoding="utf-8")


def test_a_report_without_the_truth(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(cycle)
    config = RUN / "config.yaml"
    config.write_text(config.read_text().replace("truth.zarr", "nowhere.zarr"))
    before = summary(REPORT)
    REPORT.unlink()
    command(monkeypatch, str(RUN))
    assert "nowhere.zarr" in section(REPORT, "missing")
    assert "VAEVAR_DATA" in section(REPORT, "missing")
    assert summary(REPORT) == before


def test_a_report_with_another_truth_shows_no_states(
    cycle: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(cycle)
    before = summary(REPORT)
    other = xr.open_zarr(world / "truth.zarr").load()
    other["2m_temperature"] += 3.0
    other.drop_encoding().to_zarr(tmp_path / "other.zarr", zarr_format=2)
    config = RUN / "config.yaml"
    config.write_text(config.read_text().replace(str(world / "truth.zarr"), str(tmp_path / "other.zarr")))
    command(monkeypatch, str(RUN))
    beside = RUN / "report_without_truth.html"
    found = section(beside, "missing")
    assert "so this truth is another" in found
    assert "runs/cycle/free: by scores.csv the analysis of 2021-01-" in found
    assert "No states were kept" in section(beside, "maps")
    assert summary(beside) == before
    assert "No states were kept" not in section(REPORT, "maps")


def test_a_report_that_cannot_be_written_ends_no_cycle(
    cycle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no page")

    monkeypatch.setattr("vaevar.verification.report.callback.write_report", fails)
    predict(cycle)
    assert (RUN / "summary.md").is_file()
    assert "python -m vaevar.verification.report runs/cycle" in capsys.readouterr().err


def test_texts_of_a_run_end_no_script(cycle: Path) -> None:
    predict(cycle)
    config = RUN / "config.yaml"
    config.write_text(f"# </pre></script><b>\n{config.read_text()}")
    stop = '{"index": 3, "time": "2021-01-16T18:00:00", "cause": "<script>"}'
    (RUN / "oi" / "stopped.json").write_text(stop)
    write_report([RUN])
    text = REPORT.read_text(encoding="utf-8")
    page = text[text.index("<body>") :]
    assert page.count("<script") == page.count("</script>") == page.count("Plotly.newPlot(")
    assert "&lt;script&gt;" in section(REPORT, "run")


def test_the_report_of_another_directory_of_the_same_name(tmp_path: Path) -> None:
    assert prefixes([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run/", "b/run/"]
    assert prefixes([tmp_path / "one", tmp_path / "two"]) == ["one/", "two/"]

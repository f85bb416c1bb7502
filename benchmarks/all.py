"""Runs every benchmark, and writes the results as JSON and as one table with the targets.

    python benchmarks/all.py --device cuda
    python benchmarks/all.py --quick true

What the benchmarks need is made first, under `--directory`, and kept: synthetic weather at 0.25°, a
forecaster with FengWu's contract, background errors, B, and a VAE trained for one epoch. None has skill, but
all have the right cost. `--quick` does the same on a small grid, on a CPU within minutes, to check that
everything works. The table names a benchmark that fails, and the others go on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from measuring import machine

from vaevar import scripts
from vaevar.verification.tables import markdown_table

START, END, FIRST_ANALYSIS = "2020-01-01T00", "2020-01-05T18", "2020-01-03T06"
NATIVE_ERRORS = "background_errors_native.zarr"  # on the grid of the states
PROGRAMS = Path(__file__).parent
# Seconds on an H200 at 0.25° with 1000 columns.
TARGETS = {("threedvar", 1000): 1.0, ("vaevar", 1000): 2.0}


@dataclass(frozen=True)
class Size:
    """The size of the problem.

    Attributes:
        rows, columns: of the grid, which includes both poles.
        coarse: rows and columns of the grid of errors, B and the cycle's VAE.
        lmax: truncation of B.
        networks: numbers of observed columns in the analyses.
        training: configs of the VAEs whose training step is measured, by name.
        vae: settings of the cycle's VAE that differ from configs/era5_vae.yaml.
    """

    rows: int
    columns: int
    coarse: tuple[int, int]
    lmax: int
    networks: tuple[int, ...]
    training: dict[str, list[str]]
    vae: dict[str, Any]


_VAE = ["configs/vae.yaml", "configs/era5_vae.yaml"]
FULL = Size(
    721,
    1440,
    (128, 256),
    63,
    (1000, 8000),
    {"training_era5_vae": _VAE, "training_quarter_degree": [*_VAE, "configs/era5_vae_quarter_degree.yaml"]},
    {},
)
QUICK = Size(
    65,
    128,
    (16, 32),
    7,
    (50,),
    {"training_vae": ["configs/vae.yaml"]},
    {
        "nlat": 16,
        "nlon": 32,
        "widths": [8, 8],
        "depths": [1, 1],
        "heads": [0, 2],
        "window": 4,
        "latent_channels": 4,
    },
)


def main(
    device: Literal["cpu", "cuda"] = "cpu",
    quick: bool = False,
    directory: str | None = None,
    results: str | None = None,
) -> None:
    """Make the inputs that are missing, measure, and write the table.

    Args:
        device: cpu or cuda.
        quick: use a small grid.
        directory: of the inputs; default data/benchmark, or data/benchmark_quick.
        results: directory of JSON files and table; default benchmarks/results/<device>, or
            runs/benchmark_quick.
    """
    size = QUICK if quick else FULL
    data = Path(directory or ("data/benchmark_quick" if quick else "data/benchmark"))
    target = Path(results or ("runs/benchmark_quick" if quick else f"benchmarks/results/{device}"))
    write_configs(data, size, device)
    for name, command in preparations(data, size).items():
        if not (data / name).exists() and not run(f"make {data / name}", command):
            raise SystemExit(f"making {data / name} failed: the benchmarks need it")
    commands = measurements(data, size, device, quick)
    failed = [
        name
        for name, command in commands.items()
        if not run(name, [*command, "--json_path", target / f"{name}.json"])
    ]
    measured = {
        name: json.loads((target / f"{name}.json").read_text(encoding="utf-8"))
        for name in commands
        if name not in failed
    }
    table = markdown(measured, failed, size, device)
    target.mkdir(parents=True, exist_ok=True)
    (target / "all.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nwritten to {target / 'all.md'}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def write_configs(data: Path, size: Size, device: str) -> None:
    """The configs of 0.25° with everything under ``data``, and overlays with the sizes."""
    configs = PROGRAMS.parent / "configs"
    (data / "parts").mkdir(parents=True, exist_ok=True)
    names = [f"{name}.yaml" for name in ("era5_errors", "era5_vae", "era5_quarter_degree")]
    for name in [*names, *(f"parts/{path.name}" for path in (configs / "parts").glob("*.yaml"))]:
        text = (configs / name).read_text(encoding="utf-8")
        (data / name).write_text(text.replace("data/quarter_degree", str(data)), encoding="utf-8")
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": f"{data}/runs", "name": "fit", "version": ""},
    }
    accelerator = "gpu" if device == "cuda" else "cpu"
    making = {"start": START, "end": END, "coarsen_to": list(size.coarse)}
    errors = {"validation_fraction": 0.3, "making": {"init_args": making}}
    overlays: dict[str, Any] = {
        "fit": {"data": {"init_args": errors}, "trainer": {"logger": logger, "accelerator": accelerator}},
        "sizes_of_vae": {"model": {"init_args": size.vae}, "trainer": {"max_epochs": 1}},
        "cycle": {
            "data": {"init_args": {"start": FIRST_ANALYSIS, "network": _network(size.networks[0])}},
        },
    }
    for name, content in overlays.items():
        (data / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _network(columns: int) -> dict[str, Any]:
    return {
        "class_path": "vaevar.data.observations.networks.ColumnNetwork",
        "init_args": {"count": columns, "seed": 0},
    }


def preparations(data: Path, size: Size) -> dict[str, list[Any]]:
    """The inputs of the benchmarks, by path under ``data``, and the command that makes each."""
    grid = ["--rows", size.rows, "--columns", size.columns]
    source = ["--source", "vaevar.data.weather.store.StoreSource", "--source.path", data / "era5.zarr"]
    main_py = PROGRAMS.parent / "main.py"

    def fit(run: str, *names: str | Path) -> list[Any]:
        return [main_py, "fit", *(word for name in names for word in ("--config", name)), "--name", run]

    errors, overlay = data / "era5_errors.yaml", data / "fit.yaml"
    b = fit("covariance", "configs/covariance.yaml", errors, overlay)
    parts = (errors, data / "era5_vae.yaml", overlay, data / "sizes_of_vae.yaml")
    vae = fit("vae", "configs/vae.yaml", *parts)
    weather, forecaster, std = (data / n for n in ("era5.zarr", "fengwu_v1.onnx", "climatological_std.npy"))
    period = ["--start", START, "--end", END]
    native: list[Any] = [main_py, "predict"]
    for name in ("configs/background_errors.yaml", errors, overlay):
        native += ["--config", name]
    native += ["--name", "errors", f"--data.init_args.path={data}/{NATIVE_ERRORS}"]
    native += ["--data.init_args.making={init_args: {coarsen_to: null, samples_per_file: 4}}"]
    return {
        weather.name: ["-m", "vaevar.standins.weather", "--path", weather, *grid, *period],
        forecaster.name: ["-m", "vaevar.standins.forecaster", "--path", forecaster, *grid],
        std.name: ["-m", "vaevar.data.weather.climatology", *source, *period, "--path", std],
        "covariance.nc": [
            *b,
            f"--model.init_args.path={data}/covariance.nc",
            f"--model.init_args.lmax={size.lmax}",
        ],
        NATIVE_ERRORS: native,
        "vae.ckpt": vae,
    }


def measurements(data: Path, size: Size, device: str, quick: bool) -> dict[str, list[Any]]:
    """The command of each benchmark, by the name of its result."""
    on = ["--device", device]
    commands: dict[str, list[Any]] = {
        "streaming": [PROGRAMS / "streaming.py", "--path", data / NATIVE_ERRORS]
    }
    for method, iterations in (("threedvar", 100), ("vaevar", 20)):
        commands[f"analysis_{method}"] = [PROGRAMS / "analysis.py", "--methods", method, *on]
        limit = 3 if quick else iterations
        commands[f"analysis_{method}"] += ["--iterations", limit, "--rows", size.rows]
        commands[f"analysis_{method}"] += ["--columns", *size.networks]
    for name, config in size.training.items():
        commands[name] = [PROGRAMS / "training.py", "--config", *config, "--batch_size", 1, *on]
        commands[name] += ["--checkpoint_activations", False, True]
        commands[name] += ["--steps", 1] if quick else ["--precision", "32-true", "bf16-mixed"]
        # For a CPU, compiling takes longer than it saves.
        commands[name] += ["--compile", False, True] if device == "cuda" else []
    commands["cycle"] = [PROGRAMS / "cycle.py", "--analyses", 3, "--name", "benchmark_all", *on, "--config"]
    commands["cycle"] += ["configs/cycle_sparse.yaml", data / "era5_quarter_degree.yaml", data / "cycle.yaml"]
    stem = data / "fengwu_v1"
    commands["forecaster"] = [PROGRAMS / "forecaster.py", *on, "--model", f"{stem}.onnx"]
    commands["forecaster"] += ["--mean", f"{stem}_mean.npy", "--std", f"{stem}_std.npy"]
    return commands


def run(title: str, command: list[Any]) -> bool:
    """Run a Python program; True when it succeeded."""
    print(f"\n== {title}", flush=True)
    return subprocess.run([sys.executable, *map(str, command)], check=False).returncode == 0


def markdown(measured: dict[str, Any], failed: list[str], size: Size, device: str) -> str:
    """The page: a table of all results, with targets where they exist."""
    rows: list[tuple[str, str, str, str]] = []
    for name, content in measured.items():
        rows += ROWS[name.partition("_")[0]](content)
    rows += [(name, "failed", "", "") for name in failed]
    setup = ", ".join(f"{key} {value}" for key, value in machine(device).items())
    table = markdown_table(["what", "measured", "target", "more"], rows, align="lrrl")
    target = "Targets are for an H200 at 0.25° with 1000 columns."
    head = f"# Benchmarks\n\n{size.rows} × {size.columns} points; {setup}. {target}\n\n"
    return f"{head}{table}\n"


def _streaming(content: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    best = {
        cold: max(
            row["mb_per_s"]
            for row in content["rows"]
            if row["cold"] == cold and row["reader"] != "plain files"
        )
        for cold in (True, False)
    }
    plain = next(row["mb_per_s"] for row in content["rows"] if row["cold"] and row["reader"] == "plain files")
    return [
        (
            "stream of errors, cold",
            f"{best[True]:.0f} MB/s",
            "",
            f"plain files {plain:.0f} MB/s; warm {best[False]:.0f}",
        )
    ]


def _analysis(content: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    rows = []
    for ours in (result for result in content if not result["plain"]):
        plain = next(r for r in content if r["plain"] and r["columns"] == ours["columns"])
        target = TARGETS.get((ours["method"], ours["columns"]))
        peak = ours["device_peak_gb"] or ours["peak_gb"]
        more = f"{plain['busy_seconds'] / ours['busy_seconds']:.1f} times faster than the plain one; "
        more += (
            f"J {ours['j']:.5g} against {plain['j']:.5g}; {peak:.2f} GB; first {ours['first_seconds']:.2f} s"
        )
        goal = "" if target is None else f"≤ {target:g} s"
        rows.append((f"{ours['method']}, {ours['columns']} columns", f"{ours['seconds']:.2f} s", goal, more))
    return rows


def _training(content: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for case in content["cases"]:
        flags = [name for name in ("checkpoint_activations", "compile") if case[name]]
        name = ", ".join(["step of the VAE", " × ".join(map(str, case["points"])), case["precision"], *flags])
        peak = case["device_peak_gb"] or case["peak_gb"]
        more = f"{case['samples_per_s']:.3g} samples/s; {peak:.2f} GB; {case['gflop']:.4g} GFLOP, "
        more += f"{case['of_matmul']:.0%} of the time at a product's speed, bytes {case['of_bandwidth']:.0%}"
        rows.append((name, f"{case['seconds']:.3g} s", "", more))
    return rows


def _cycle(content: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    busy, total = content["busy_seconds"], sum(content["busy_seconds"].values())
    shares = [f"{part} {spent / total:.0%}" for part, spent in busy.items() if spent > total / 100]
    seconds = sum(content["seconds"].values())
    return [("an analysis time of the cycle", f"{seconds:.2f} s", "", ", ".join(shares))]


def _forecaster(content: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    ratio = content["plain_busy_seconds"] / content["busy_seconds"]
    more = f"{ratio:.2f} times faster than through host arrays"
    return [("a step of the ONNX forecaster", f"{content['seconds']:.3g} s", "", more)]


ROWS: dict[str, Callable[[Any], list[tuple[str, str, str, str]]]] = {
    "streaming": _streaming,
    "analysis": _analysis,
    "training": _training,
    "cycle": _cycle,
    "forecaster": _forecaster,
}


if __name__ == "__main__":
    scripts.run(main)

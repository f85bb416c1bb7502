"""What several tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from lightning_utilities.core.rank_zero import rank_zero_only
from onnx import TensorProto, helper, numpy_helper

from vaevar.mistakes import notices
from vaevar.plausible.atmosphere import standard_geopotential, standard_temperature
from vaevar.state import Channel, StateSpec

CENTRES = {
    "u10": (0.5, 5.0),
    "v10": (0.2, 5.0),
    "t2m": (279.0, 21.0),
    "msl": (101_000.0, 1300.0),
    "q": (0.0025, 0.0015),
    "u": (7.0, 12.0),
    "v": (0.1, 9.0),
    "t": (250.0, 16.0),
}


def centre(channel: Channel) -> tuple[float, float]:
    """Mean and std of a channel."""
    if channel.variable == "z":
        return standard_geopotential(float(channel.level or 1000)), 1500.0
    if channel.variable == "t" and channel.level is not None and channel.level < 300:
        return standard_temperature(float(channel.level)), 16.0
    return CENTRES[channel.variable]


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """Without the variables that a developer or a cluster's job has set for other runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in (
                "VAEVAR_DATA",
                "VAEVAR_TRACEBACK",
                "VAEVAR_RELATIONS",
                "RANK",
                "LOCAL_RANK",
            ) or name.startswith("SLURM_"):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice is told once in a process; what another test has heard does not count."""
    monkeypatch.setattr(notices, "_told", [])


@pytest.fixture(autouse=True)
def interruptible() -> None:
    """Programs that a test starts can be interrupted.

    They inherit that a signal is ignored: Lightning does so after an interrupted fit, a shell does for what
    runs in its background, and nohup too.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def first_process() -> None:
    """Lightning remembers which process of a run this is, also when a test has only said so: on another than
    the first nothing is logged."""
    rank_zero_only.rank = 0


@dataclass(frozen=True)
class OnnxFiles:
    """A forecaster on disk, as a user brings it."""

    model: Path
    mean: Path
    std: Path


@pytest.fixture
def toy_onnx(tmp_path: Path) -> Callable[..., OnnxFiles]:
    """A writer of ONNX forecasters whose step is ``old · x(t−6h) + new · x(t) + added``.

    ``added`` is [C] in physical units. With ``old + new == 1`` a roll-out has a closed form in
    physical units. The second half of the output holds a number that nobody should use. With ``kept``, the
    output is its first channels, of a number that the file does not tell; ``output_shape=[]`` tells nothing.
    """

    def write(
        spec: StateSpec,
        added: np.ndarray,
        old: float = 0.0,
        new: float = 1.0,
        shape: tuple[int | str, int | str] = (5, 8),
        batch: int | str = "batch",
        input_name: str = "input",
        dtype: int = TensorProto.FLOAT,
        output_shape: list[int | str] | None = None,
        kept: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> OnnxFiles:
        count = len(spec)
        mean, std = np.array([centre(channel) for channel in spec.channels]).T
        real = helper.tensor_dtype_to_np_dtype(dtype)
        constants = {
            "old": np.array(old, real),
            "new": np.array(new, real),
            "added": (np.asarray(added) / std).astype(real)[:, None, None],
            "halves": np.array([count, count], np.int64),
            "unused": np.array(-777.0, real),
        }
        nodes = [
            helper.make_node("Split", [input_name, "halves"], ["before", "now"], axis=1),
            helper.make_node("Mul", ["before", "old"], ["from_before"]),
            helper.make_node("Mul", ["now", "new"], ["from_now"]),
            helper.make_node("Add", ["from_before", "from_now"], ["sum"]),
            helper.make_node("Add", ["sum", "added"], ["next"]),
            helper.make_node("Mul", ["now", "unused"], ["rest"]),
            helper.make_node("Concat", ["next", "rest"], ["output" if kept is None else "all"], axis=1),
        ]
        if kept is not None:
            constants["condition"] = np.arange(2 * count) < kept
            nodes.append(helper.make_node("Compress", ["all", "condition"], ["output"], axis=1))
        declared = [batch, 2 * count, *shape] if output_shape is None else output_shape or None
        graph = helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info(input_name, dtype, [batch, 2 * count, *shape])],
            [helper.make_tensor_value_info("output", dtype, declared)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, metadata or {})
        if declared is not None:
            onnx.checker.check_model(model)
        files = OnnxFiles(tmp_path / "toy.onnx", tmp_path / "mean.npy", tmp_path / "std.npy")
        onnx.save(model, str(files.model))
        np.save(files.mean, mean)
        np.save(files.std, std)
        return files

    return write

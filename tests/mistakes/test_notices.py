"""What is said besides results: once, in one line, and kept; and what is said of machines."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vaevar.mistakes import fallbacks, notices
from vaevar.mistakes.fallbacks import tell_fallbacks
from vaevar.mistakes.notices import Notice, notice, told, warnings_kept
from vaevar.mistakes.trainer import refusal_of_machine
from vaevar.scripts import mistake_of


def test_a_notice_is_told_once_in_one_line_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_kept():
        for _ in range(2):
            notice("no GPU is used: install one")
        warnings.warn("of a library:\n  reduced precision", UserWarning, stacklevel=1)
        assert told() == ["no GPU is used: install one", "of a library: reduced precision"]
    assert capsys.readouterr().err.count("warning: no GPU is used: install one\n") == 1
    assert told() == []
    with warnings_kept():  # another run of this process says it again
        notice("no GPU is used: install one")
    assert "warning: no GPU" in capsys.readouterr().err


def heard(record: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in record if warning.category is Notice]


def test_a_notice_is_told_once_in_a_call_and_again_in_the_next() -> None:
    """Also where Python itself tells each line once."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("default")
        for _ in range(2):  # directly
            notice("upside down")
        assert heard(record) == ["upside down"] * 2
        for _ in range(2):
            call = notices.Call()
            for number in range(3):
                with call:
                    notice("upside down")
                    notice("far", f"analysis {number}")
                    with notices.Call():  # a part of it
                        notice("upside down")
                notice("between")
            assert told()[-1] == "between"
        expected = ["upside down", "far (analysis 0)", "between", "between", "between"]
        assert heard(record)[2:] == expected * 2


def test_a_notice_points_at_the_line_of_its_user() -> None:
    """Not at one within the package or torch."""
    source = "def users():\n\n    inner()\n"
    inner: dict[str, Any] = {"__name__": "vaevar.assim.variational", "notice": notice}
    exec(compile("def inner():\n    notice('far')\n", "variational.py", "exec"), inner)
    through: dict[str, Any] = {"__name__": "torch.nn.modules.module", "inner": inner["inner"]}
    exec(compile("def call():\n    inner()\n", "module.py", "exec"), through)
    mine: dict[str, Any] = {"__name__": "__main__", "inner": through["call"]}
    exec(compile(source, "mine.py", "exec"), mine)
    with pytest.warns(Notice) as record:
        mine["users"]()
    assert (record[0].filename, record[0].lineno) == ("mine.py", 3)


def trainer(device: str = "cpu", precision: str = "32-true") -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), precision=precision)


@pytest.fixture
def gpu_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fallbacks, "_GPU", tmp_path / "nvidia0")
    monkeypatch.setattr(notices, "_told", [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    return tmp_path / "nvidia0"


@pytest.mark.parametrize(
    ("cuda", "says"),
    [(None, "is built for CPUs.*pytorch.org"), ("12.8", "cannot use it with CUDA 12.8.*nvidia-smi")],
)
def test_a_gpu_that_torch_does_not_use(
    cuda: str | None, says: str, gpu_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.warns(Notice, match=f"a GPU is there, but torch .* {says}"):
        tell_fallbacks(trainer())


def test_nothing_is_said_without_a_gpu_or_where_it_is_hidden(
    gpu_file: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tell_fallbacks(trainer())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpu_file.unlink()
    tell_fallbacks(trainer(precision="bf16-mixed"))
    assert not [warning for warning in recwarn if warning.category is Notice]


def test_a_precision_that_the_gpu_lacks(gpu_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with pytest.warns(
        Notice, match=r"bf16-mixed, which this GPU \(Tesla V100\) only emulates: give 16-mixed"
    ):
        tell_fallbacks(trainer("cuda", "bf16-mixed"))


class InductorError(RuntimeError):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InductorError("no working C++ compiler"), "set model.init_args.compile to false"),
        (
            torch.OutOfMemoryError("tried to allocate 2 GiB"),
            "memory of the GPU is full.*smaller .*batch_size",
        ),
        (MemoryError(), "memory of this machine is full; give a smaller"),
        (torch.distributed.DistNetworkError("timed out"), "cannot reach each other"),
        (
            ModuleNotFoundError("No module named 'a.b'", name="a.b"),
            "needs the package a, which is not installed: .*`make install`",
        ),
    ],
)
def test_what_a_machine_cannot_do_is_one_line(error: Exception, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(refusal_of_machine(error))
    assert str(mistake_of(error)) == refusal_of_machine(error)
    assert refusal_of_machine(RuntimeError("a fault of ours")) is None
    assert refusal_of_machine(ModuleNotFoundError("a fault of ours", name="vaevar.moved")) is None

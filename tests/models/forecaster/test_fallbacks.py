"""A GPU that ONNX Runtime does not use: one notice with the remedy, or a refusal where it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from vaevar.errors import UserError
from vaevar.mistakes import notices
from vaevar.mistakes.notices import Notice
from vaevar.models.forecaster import onnx_session
from vaevar.models.forecaster.onnx_session import OnnxSession
from vaevar.state import StateSpec

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SPEC = StateSpec(["t2m"], ["z"], [500])


@pytest.fixture
def model(toy_onnx: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(notices, "_told", [])
    return toy_onnx(SPEC, added=np.zeros(len(SPEC))).model


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that torch has GPUs, and ONNX Runtime these providers."""

    def pretend(gpus: int, *providers: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(ort, "get_available_providers", lambda: [*providers, CPU])

    return pretend


def test_a_runtime_without_cuda_beside_a_torch_that_has_it(
    model: Path, machine: Callable[..., None], recwarn: pytest.WarningsRecorder
) -> None:
    machine(1)
    sessions = [OnnxSession(model), OnnxSession(model)]
    assert [session.device.type for session in sessions] == ["cpu", "cpu"]
    told, again = [str(warning.message) for warning in recwarn if warning.category is Notice]
    assert again == told
    assert "built without CUDA" in told
    assert "pip install onnxruntime-gpu" in told
    assert told in notices.told()
    with pytest.raises(UserError, match=r"'cuda' cannot be used: this ONNX Runtime .* pip install"):
        OnnxSession(model, device="cuda")


def test_a_provider_that_does_not_load(model: Path, machine: Callable[..., None]) -> None:
    """ONNX Runtime then takes the CPU, and says so in a log that nobody reads."""
    machine(1, CUDA)
    with pytest.warns(Notice, match=r"ONNX Runtime .* cannot use this GPU.*the forecaster runs on the CPU"):
        session = OnnxSession(model)
    assert session.device.type == "cpu"
    with pytest.raises(UserError, match="cannot use this GPU"):
        OnnxSession(model, device="cuda:0")


def test_a_gpu_that_is_used_needs_no_words(
    model: Path,
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    machine(2, CUDA)
    real = ort.InferenceSession.get_providers
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: [CUDA, *real(self)])
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert OnnxSession(model).device == torch.device("cuda", 1)
    assert OnnxSession(model, device="cuda").device == torch.device("cuda", 0)
    assert OnnxSession(model, device="cpu").device.type == "cpu"
    with pytest.raises(UserError, match="'cuda:2' is not there: 2 GPUs are, from cuda:0 on"):
        OnnxSession(model, device="cuda:2")
    assert not [warning for warning in recwarn if warning.category is Notice]
    assert onnx_session._choose_device("auto").index == 1


def test_a_machine_without_gpu_needs_no_words(
    model: Path, machine: Callable[..., None], recwarn: pytest.WarningsRecorder
) -> None:
    machine(0, CUDA)
    assert OnnxSession(model).device.type == "cpu"
    assert not [warning for warning in recwarn if warning.category is Notice]
    with pytest.raises(UserError, match="'cuda' cannot be used on this machine; give auto or cpu"):
        OnnxSession(model, device="cuda")

"""What native code reports becomes an error with the node; a library that does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import aino_ir as aino
from aino_ir.errors.artifact import LibraryNotLoadable
from aino_ir.errors.run import (
    IndexOutOfRange,
    KernelStatusUnknown,
    NativeAllocationFailed,
    NativeDivisionByZero,
    NativeShapeError,
    SizeLimitAtRun,
)
from aino_ir.runtime import native as native_module
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.native import NativeModel
from tests.driver.models import mlp, tensor


@pytest.fixture(scope="module")
def exe() -> Executable:
    return aino.compile(mlp())


def x() -> np.ndarray[Any, Any]:
    return np.ones((2, 8), np.float32)


def division() -> Any:
    node = helper.make_node("Div", ["a", "b"], ["y"], name="ratio")
    inputs = [tensor(n, [3], TensorProto.INT32) for n in "ab"]
    graph = helper.make_graph([node], "division", inputs, [tensor("y", [3], TensorProto.INT32)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_integer_division_by_zero_names_the_node() -> None:
    exe = aino.compile(division())
    a = np.int32([7, -7, 5])
    assert exe.run(a, np.int32([2, 2, -5]))[0].tolist() == [3, -3, -1]
    with pytest.raises(NativeDivisionByZero) as caught:
        exe.run(a, np.int32([2, 0, 2]))
    assert "ratio" in str(caught.value)
    assert exe.run(a, np.int32([1, 1, 1]))[0].tolist() == a.tolist()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (1, IndexOutOfRange),
        (2, NativeDivisionByZero),
        (3, SizeLimitAtRun),
        (4, NativeShapeError),
        (16, NativeAllocationFailed),
        (77, KernelStatusUnknown),
    ],
)
def test_every_status_has_its_error(
    exe: Executable, monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]
) -> None:
    monkeypatch.setattr(exe.native, "_run", lambda *_: status)
    with pytest.raises(error) as caught:
        exe.run(x())
    if status < 16:
        assert "fc0" in str(caught.value)
    monkeypatch.setattr(exe.native, "_run", lambda *_: status + 256 * 999_999)  # no such step
    with pytest.raises(error):
        exe.run(x())


def test_library_of_another_interface_is_refused(exe: Executable, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = native_module.ABI_VERSION
    monkeypatch.setattr(native_module, "ABI_VERSION", 99)
    with pytest.raises(LibraryNotLoadable, match=f"version {spoken}, this AINO speaks 99"):
        Executable(exe.artifact).run(x())


def test_library_without_the_model_is_refused(exe: Executable) -> None:
    with pytest.raises(LibraryNotLoadable, match="other_abi"):
        NativeModel(exe.native.library, "other", b"", 1, [])


def test_context_that_gets_no_memory_is_said(exe: Executable, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Executable(exe.artifact)
    original = native_module.Library.function

    def function(self: Any, name: str, *types: Any) -> Any:
        return (lambda *_: 16) if name.endswith("_create") else original(self, name, *types)

    monkeypatch.setattr(native_module.Library, "function", function)
    with pytest.raises(NativeAllocationFailed, match="a context"):
        fresh.run(x())


def test_closing_twice_is_harmless(exe: Executable) -> None:
    fresh = Executable(exe.artifact)
    assert fresh.run(x())
    fresh.native.close()
    fresh.native.close()

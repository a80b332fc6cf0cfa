"""From emitted files to objects: what is missing or refused has an error of its own."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

import aino_ir as aino
from aino_ir.codegen.tvm import build
from aino_ir.codegen.tvm.build import built_object
from aino_ir.codegen.tvm.schedule_text import ScheduleText
from aino_ir.driver.kernel_check import KernelWrong
from aino_ir.errors.toolchain import TvmFailed, TvmMissing, TvmRefused, UnknownTarget
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target
from tests.codegen.tvm.support import emitted, matmul, needs_tvm, weights


def test_without_tvm_the_error_says_what_to_install(monkeypatch: Any, tmp_path: Any) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(build, "version", absent)
    with pytest.raises(TvmMissing) as error:
        built_object("", "model", Store(tmp_path))
    assert "pip install aino-ir[tvm]" in str(error.value)


def test_a_file_that_tvm_does_not_take_is_a_fault_of_ours(tmp_path: Any) -> None:
    needs_tvm()
    with pytest.raises(TvmFailed, match="model"):
        built_object("KERNELS = {}\n", "model", Store(tmp_path))


@pytest.mark.parametrize(("target", "reason"), [("tvm:c", "masked loads"), ("tvm:vulkan", "made for llvm")])
def test_targets_that_kernels_are_not_made_for_are_refused(target: str, reason: str) -> None:
    with pytest.raises(UnknownTarget, match=reason):
        parse_target(target)


def test_the_same_text_is_built_once(monkeypatch: Any, tmp_path: Any) -> None:
    needs_tvm()
    script = emitted(matmul(4, 8, 3))[1].script
    first = built_object(script, "model", Store(tmp_path))
    assert first[:4] == b"\x7fELF"
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert built_object(script, "model", Store(tmp_path)) == first


def test_another_candidate_takes_the_place_of_a_refused_schedule(monkeypatch: Any, tmp_path: Any) -> None:
    needs_tvm()
    module, real = matmul(4, 8, 3), ScheduleText.text

    def broken(self: ScheduleText, *given: Any) -> str:
        return real(self, *given).replace("s.decompose_reduction(", "s.no_such_step(")

    monkeypatch.setattr(ScheduleText, "text", broken)
    script = emitted(module)[1].script
    with pytest.raises(TvmRefused) as error:
        built_object(script, "model", Store(tmp_path))
    assert len(error.value.fields["kernels"]) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        executable = aino.compile(module, "tvm:llvm", cache=False)
    assert [w.category for w in caught if w.category is KernelWrong] == [KernelWrong]
    (kernel,) = executable.report.kernels
    assert not kernel["candidate"].startswith("blocks")
    executable.run(weights(4, 3))

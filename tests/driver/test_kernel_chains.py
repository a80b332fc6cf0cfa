"""Kernels that do an op together are run together when a compilation checks its kernels."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda import split_reductions, split_rows
from aino_ir.driver.kernel_check import KernelWrong
from aino_ir.graph import Module
from aino_ir.loops.expr import Expr
from aino_ir.types import tensor

EMULATED = "c:cuda-emu"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of a few hundred terms."""
    monkeypatch.setattr(split_reductions, "LONG", 1 << 10)
    monkeypatch.setattr(split_reductions, "STRETCH", 1 << 8)


def network() -> Module:
    """A softmax of 1,030 columns, and products of few tiles, of a weight that tensor cores want packed."""
    b = Builder()
    x = b.input("x", tensor("f32", 2, 1030))
    b.output("y", b.softmax(x))
    w = np.random.default_rng(3).standard_normal((2048, 16)).astype(ml_dtypes.bfloat16)
    b.output("z", b.relu(b.matmul(b.input("v", tensor("bf16", 16, 2048)), b.constant(w))))
    b.output("i", b.argmax(x, axis=1))
    b.finish()
    return b.module


def checks_of(module: Module) -> dict[str, Any]:
    facts: dict[str, Any] = aino.compile(module, EMULATED, threads=1, cache=False).report.checks["kernels"]
    return facts


def test_all_kernels_are_run() -> None:
    found = checks_of(network())
    assert found["not run"] == {} and found["wrong"] == []
    assert found["right"] + found["remembered"] == 3 + 2 + 2


def test_a_division_that_means_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unscaled(self: Any, how: Any, found: Expr, at: Any) -> Expr:
        return found  # as if all stretches had one maximum

    monkeypatch.setattr(split_rows._Rows, "_scaled_sum", unscaled)
    b = Builder()
    b.output("y", b.softmax(b.input("x", tensor("f32", 2, 1030))))
    b.finish()
    with pytest.warns(KernelWrong, match="error .* is over"):
        executable = aino.compile(b.module, EMULATED, threads=1, cache=False)
    assert len(executable.report.checks["kernels"]["wrong"]) == 3  # which of them it is, nobody knows
    assert [row["op"] for row in executable.report.python_nodes] == ["normalize.softmax"]

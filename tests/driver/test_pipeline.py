"""One compilation: the final check of the passes, as the report tells it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.graph import Module, count_uses
from aino_ir.ops.math import Mul
from aino_ir.passes.base import Pass, PassContext, PassResult
from aino_ir.passes.manager import PassUndone
from aino_ir.types import tensor


def model() -> Module:
    b = aino.Builder()
    x = b.input("x", tensor("f32", 4, 8))
    b.output("y", b.mul(b.tanh(x), b.neg(b.neg(x))))
    return b.module


def test_report_says_that_the_whole_module_was_compared() -> None:
    exe = aino.compile(model(), cache=False)
    assert exe.report.checks["whole module"] == {"verdict": "agrees", "class": "exact", "reason": ""}
    assert exe.report.seconds["check module"] >= 0
    assert "whole module: class exact, verdict agrees" in str(exe.report)


def test_nothing_is_compared_when_verification_is_off() -> None:
    exe = aino.compile(model(), cache=False, verify="off")
    assert exe.report.checks == {} and "check module" not in exe.report.seconds


def test_pass_that_lies_is_undone_and_the_program_right(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Lie(Pass):
        """Squares one factor of every product behind the rewriter's back."""

        name = "lie"

        def run(self, module: Module, ctx: PassContext) -> PassResult:
            for op in module.main.block:
                if isinstance(op, Mul):
                    count_uses(op, op.operands, -1)
                    op.operands = (op.lhs, op.lhs)
                    count_uses(op, op.operands)
            return PassResult(True, {"Lie": 1})

    monkeypatch.setattr("aino_ir.driver.pipeline.pipeline", lambda level, target: [Lie()])
    x = np.linspace(-2, 2, 32, dtype=np.float32).reshape(4, 8)
    with pytest.warns(PassUndone, match="pass lie was undone"):
        exe = aino.compile(model(), cache=False)
    np.testing.assert_allclose(exe.run(x)[0], np.tanh(x) * x, rtol=1e-6)
    assert [u["pass"] for u in exe.report.undone] == ["lie"]
    assert exe.report.checks["whole module"]["verdict"] == "agrees"

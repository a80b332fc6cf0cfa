"""Constant folding: what is folded, how it is rounded, what stays."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.pattern import constant_of
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, op_names, run_pass


def folded(value: Value, b: Builder) -> Module:
    b.output("y", value)
    return b.module


def result(module: Module) -> np.ndarray:
    handle = constant_of(module.main.outputs[0])
    assert handle is not None
    return handle.array()


def test_chain_is_rounded_once() -> None:
    b = Builder()
    third = b.constant(np.float32(1) / np.float32(3))
    y = b.constant(np.float32(1))
    for _ in range(9):
        y = b.mul(y, third)
    module = folded(y, b)
    run_pass(FoldConstants(), module)
    want = np.float32(np.float64(np.float32(1) / np.float32(3)) ** 9)
    assert op_names(module) == [] and result(module) == want


def test_small_results_are_data_and_readable() -> None:
    b = Builder()
    module = folded(b.add(b.constant(np.arange(4)), b.constant(np.arange(4))), b)
    run_pass(FoldConstants(), module)
    handle = constant_of(module.main.outputs[0])
    assert handle is not None and not handle.is_lazy
    assert result(module).tolist() == [0, 2, 4, 6]


def test_large_results_are_lazy() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((256, 512)).astype(np.float32)
    b = Builder()
    x = b.input("x", tensor("f32", 4, 256))
    w = b.transpose(b.transpose(b.constant(weights), perm=(1, 0)), perm=(1, 0))
    b.output("y", b.matmul(x, b.mul(w, b.constant(np.float32(0.1)))))
    report = assert_fuses(b.module, FoldConstants(), ["nn.matmul"])
    handle = constant_of(next(o for o in b.module.main.block if o.name == "nn.matmul").operands[1])
    assert handle is not None and handle.is_lazy
    np.testing.assert_array_equal(
        handle.array(), (weights.astype(np.float64) * np.float32(0.1)).astype(np.float32)
    )
    assert report.sites.unvalidated == 0


def test_big_broadcast_is_not_materialised() -> None:
    b = Builder()
    module = folded(b.expand(b.constant(np.float32(3)), shape=(1000, 1000)), b)
    assert not run_pass(FoldConstants(), module).changed
    assert run_pass(FoldConstants(max_growth=1 << 20), module).changed


def test_long_chains_stay_shallow() -> None:
    b = Builder()
    y = b.constant(np.float32(1.5))
    for _ in range(60):  # each value is read twice: 2 ** 60 evaluations if it were all lazy
        y = b.mul(b.add(y, y), b.constant(np.float32(0.5)))
    module = folded(y, b)
    run_pass(FoldConstants(), module)
    assert op_names(module) == [] and result(module) == np.float32(1.5)


def test_failing_ops_stay() -> None:
    b = Builder()
    index = b.constant(np.array([7], np.int64))
    module = folded(b.gather(b.constant(np.arange(4)), index, axis=0), b)
    assert not run_pass(FoldConstants(), module).changed
    assert op_names(module) == ["tensor.gather"]


def test_inputs_are_no_constants() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    module = folded(b.add(x, x), b)
    assert not run_pass(FoldConstants(), module).changed
    assert run_module(module, [np.ones(3, np.float32)])[0].tolist() == [2, 2, 2]

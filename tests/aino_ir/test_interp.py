"""The interpreter: precisions, symbols, checks, states, regions and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.dims import symbol
from aino_ir.errors.dims import CheckFailed
from aino_ir.errors.ir import IntegerDivisionByZero, NegativeExtent, UnevaluableOp
from aino_ir.errors.run import InputMismatch
from aino_ir.graph import Block
from aino_ir.interp import Evaluation, run_block, run_function, run_module
from aino_ir.location import Loc
from aino_ir.types import tensor

S, T = symbol("s"), symbol("t")


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def test_native_rounds_every_result_and_wide_none() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    b.output("y", b.sub(b.add(x, b.constant(f32(1e-9))), x))
    (native,) = run_module(b.module, [f32(1)])
    (wide,) = run_module(b.module, [f32(1)], "wide")
    assert native.tolist() == [0] and native.dtype == np.float32
    assert wide.dtype == np.float64 and abs(wide[0] - 1e-9) < 1e-15


def test_low_precision_computes_in_f32_and_stores_rounded() -> None:
    import ml_dtypes

    b = Builder()
    x = b.input("x", tensor("bf16", 2))
    b.output("y", b.add(x, x))
    (y,) = run_module(b.module, [np.array([1.0, 3.0], ml_dtypes.bfloat16)])
    assert y.dtype == ml_dtypes.bfloat16 and y.astype(np.float32).tolist() == [2, 6]


def test_a_cast_rounds_even_when_wide() -> None:
    b = Builder()
    b.output("y", b.cast(b.input("x", tensor("f64", 1)), to="f32"))
    (y,) = run_module(b.module, [np.array([1 + 2.0**-40])], "wide")
    assert y.tolist() == [1.0]


def test_symbols_are_bound_by_inputs_and_held_to() -> None:
    b = Builder()
    b.symbol("s", 1, 64)
    x = b.input("x", tensor("f32", S, 2))
    y = b.input("y", tensor("f32", S * 2))
    b.output("z", b.relu(x))
    b.output("w", b.relu(y))
    outputs = run_module(b.module, [np.ones((3, 2), np.float32), np.ones(6, np.float32)])
    assert [o.shape for o in outputs] == [(3, 2), (6,)]
    with pytest.raises(InputMismatch, match=r"extent of axis 0 \(2\*s\) must be 6, got 5"):
        run_module(b.module, [np.ones((3, 2), np.float32), np.ones(5, np.float32)])
    with pytest.raises(InputMismatch, match="rank"):
        run_module(b.module, [np.ones(3, np.float32), np.ones(6, np.float32)])


def test_static_extents_of_inputs_are_checked() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 3))))
    with pytest.raises(InputMismatch, match="must be 3, got 4"):
        run_module(b.module, [np.ones(4, np.float32)])


def test_entry_checks_run() -> None:
    b = Builder()
    b.symbol("s", 1, 64)
    b.symbol("t", 1, 64)
    b.output("y", b.add(b.input("x", tensor("f32", S)), b.input("z", tensor("f32", T))))
    (y,) = run_module(b.module, [f32(1, 2), f32(3, 4)])
    assert y.tolist() == [4, 6]
    with pytest.raises(CheckFailed, match="broadcast"):
        run_module(b.module, [f32(1, 2), f32(3, 4, 5)])


def test_states_start_at_zero_or_their_first_value_and_come_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    total = b.state("total", tensor("f32", 2))
    new = b.add(total, x)
    b.output("y", new)
    b.finish([new])
    assert [v.tolist() for v in run_function(b.function, [f32(1, 2)])] == [[1, 2], [1, 2]]
    second = run_function(b.function, [f32(1, 2)], states=[f32(5, 5)])
    assert second[1].tolist() == [6, 7]


def test_regions_run_on_their_own() -> None:
    b = Builder()
    kind = tensor("f32", 2)
    region = b.region([kind, kind], lambda inner, p, q: [inner.mul(inner.add(p, q), q)])
    x = b.input("x", kind)
    op = b.op(op_class("core.fused"), x, x, regions=[region])
    b.output("y", op.result)
    (y,) = run_module(b.module, [f32(2, 3)])
    assert y.tolist() == [8, 18]


def test_errors_name_the_users_node() -> None:
    b = Builder(loc=Loc(("node 'half'",)))
    x = b.input("x", tensor("i32", 1))
    b.output("y", b.div(x, b.constant(np.zeros(1, np.int32))))
    with pytest.raises(IntegerDivisionByZero, match="half") as raised:
        run_module(b.module, [np.ones(1, np.int32)])
    assert "AINO-E0502" in str(raised.value)


def test_a_block_without_terminator_cannot_run() -> None:
    with pytest.raises(UnevaluableOp, match="no terminator"):
        run_block(Block(), [], Evaluation())


def test_extents_below_zero_are_refused_at_run_time() -> None:
    with pytest.raises(NegativeExtent):
        Evaluation(bindings={"s": 1}).dims([S - 3])
    assert Evaluation(bindings={"s": 4}).dims([S - 3, 2]) == (1, 2)


def test_values_are_dropped_after_their_last_use_but_not_before() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    y = b.add(x, x)
    for _ in range(5):
        y = b.mul(y, x)
    b.output("y", y)
    b.output("again", x)
    assert [v.tolist() for v in run_module(b.module, [f32(2)])] == [[128], [2]]

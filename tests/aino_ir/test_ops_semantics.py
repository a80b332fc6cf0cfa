"""The semantics table, index arithmetic on extents, and everything these ops refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.builder import Builder, op_class
from aino_ir.compute import Compute, Nest, RowProgram
from aino_ir.definition_interp import evaluate_definition, evaluate_op_definition
from aino_ir.dims import dmax, dmin, symbol
from aino_ir.dtypes import f32
from aino_ir.errors.base import AinoError
from aino_ir.errors.ir import (
    BadAttribute,
    BadDefinition,
    BadOperand,
    DTypeMismatch,
    IntegerDivisionByZero,
    RankMismatch,
    ShapeMismatch,
)
from aino_ir.interp import run_module
from aino_ir.loops.expr import Read as ReadExpr
from aino_ir.loops.expr import VecType
from aino_ir.op import OPS, Op, Sample
from aino_ir.sampling import sample_module
from aino_ir.tolerance import disagreement, epsilon, ulps
from aino_ir.types import tensor

INT_MIN = np.iinfo(np.int32).min
NAN, INF = float("nan"), float("inf")


def both(name: str, *operands: Any, **attrs: Any) -> list[Any]:
    """The result by `evaluate`, which that of the definition must equal."""
    arrays = [np.asarray(x) for x in operands]
    module = sample_module(op_class(name), Sample(tuple(arrays), attrs))
    (expected,) = run_module(module, arrays)
    op = module.main.block.first
    assert op is not None
    (got,) = evaluate_op_definition(op, arrays)
    assert disagreement(got, expected) is None
    return expected.tolist()  # type: ignore[no-any-return]


def i32(*values: int) -> Any:
    return np.array(values, np.int32)


def fl(*values: float) -> Any:
    return np.array(values, np.float32)


# ---------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", ["math.div", "math.floordiv", "math.mod"])
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32])
def test_integer_division_by_zero_is_an_error(name: str, dtype: Any) -> None:
    a, b = np.array([1, 2], dtype), np.array([3, 0], dtype)
    module = sample_module(OPS[name], Sample((a, b), {}))
    with pytest.raises(IntegerDivisionByZero, match=name):
        run_module(module, [a, b])
    op = module.main.block.first
    assert op is not None
    with pytest.raises(IntegerDivisionByZero):
        evaluate_op_definition(op, [a, b])


def test_an_empty_division_by_zero_is_none() -> None:
    assert both("math.div", np.zeros((0, 2), np.int32), i32(0, 1)[:0].reshape(0, 1)) == []


def test_the_least_integer_by_minus_one_wraps() -> None:
    assert both("math.div", i32(INT_MIN, 7), i32(-1, -1)) == [INT_MIN, -7]
    assert both("math.floordiv", i32(INT_MIN, 7), i32(-1, -2)) == [INT_MIN, -4]
    assert both("math.mod", i32(INT_MIN, -7), i32(-1, 4)) == [0, 1]
    assert both("math.mod", i32(INT_MIN, -7), i32(-1, 4), mode="trunc") == [0, -3]
    assert both("math.neg", i32(INT_MIN)) == [INT_MIN]
    assert both("math.abs", i32(INT_MIN)) == [INT_MIN]


def test_integers_wrap() -> None:
    assert both("math.add", np.array([127], np.int8), np.array([1], np.int8)) == [-128]
    assert both("math.mul", np.array([200], np.uint8), np.array([2], np.uint8)) == [144]
    wrapped = 3**21 % 2**32
    assert both("math.pow", i32(3, 2, -2, 0), i32(21, 33, 31, 0)) == [wrapped, 0, INT_MIN, 1]
    assert both("math.pow", i32(2, 0, 7, -1), i32(-1, -1, 0, -3)) == [0, 0, 1, -1]
    assert both("reduce.sum", np.array([100, 100], np.int8)) == -56


def test_shifts_past_the_width_give_zero() -> None:
    u = np.array([1, 1, 1], np.uint32)
    assert both("logic.shift_left", u, np.array([31, 32, 2**31], np.uint32)) == [2**31, 0, 0]
    assert both("logic.shift_right", i32(-5, 5), i32(32, 33)) == [-1, 0]
    assert both("logic.shift_left", i32(1, 1), i32(-1, 4)) == [0, 16]


def test_nan_goes_through_max_min_relu_and_arg_reductions() -> None:
    assert np.isnan(both("math.max", fl(NAN, 1), fl(1, NAN))).all()
    assert np.isnan(both("math.min", fl(NAN, 1), fl(1, NAN))).all()
    assert np.isnan(both("math.relu", fl(NAN))).all()
    assert np.isnan(both("math.clip", fl(NAN), min=0.0, max=6.0)).all()
    assert np.isnan(both("reduce.max", fl(1, NAN, 5)))
    assert both("reduce.argmax", fl(1, NAN, 5, NAN)) == 1
    assert both("reduce.argmin", fl(1, NAN, -INF, NAN)) == 1
    assert both("reduce.argmax", fl(1, NAN, 5, NAN), select_last_index=True) == 3
    assert both("reduce.argmax", fl(5, 1, 5)) == 0
    assert both("reduce.argmax", fl(5, 1, 5), select_last_index=True) == 2


def test_casts_saturate_and_nan_gives_zero() -> None:
    x = fl(NAN, INF, -INF, 1e20, -1e20, 2.9, -2.9, 300, -1)
    assert both("math.cast", x, to="i32")[:7] == [0, 2**31 - 1, INT_MIN, 2**31 - 1, INT_MIN, 2, -2]
    assert both("math.cast", x, to="i64")[1:5] == [2**63 - 1, -(2**63), 2**63 - 1, -(2**63)]
    assert both("math.cast", x, to="u8") == [0, 255, 0, 255, 0, 2, 0, 255, 0]
    assert both("math.cast", x, to="i4") == [0, 7, -8, 7, -8, 2, -2, 7, -1]
    assert both("math.cast", fl(2.0**31, 2147483520.0), to="i32") == [2**31 - 1, 2147483520]
    assert both("math.cast", fl(2.0**64, 2.0**63), to="u64") == [2**64 - 1, 2**63]
    assert both("math.cast", fl(NAN, 0, -0.0, 0.5), to="bool") == [True, False, False, True]
    assert both("math.cast", i32(300, -1), to="u8") == [44, 255]
    assert both("math.cast", i32(9, -9), to="i4") == [-7, 7]


def test_x86_casts_give_the_least_integer() -> None:
    x = fl(NAN, INF, 3e9, -5)
    assert both("math.cast", x, to="i32", semantics="x86") == [INT_MIN, INT_MIN, INT_MIN, -5]
    assert both("math.cast", x, to="u8", semantics="x86") == [0, 0, 0, 251]
    assert both("math.cast", x, to="u32", semantics="x86") == [0, 0, 3000000000, 2**32 - 5]
    assert both("math.cast", fl(2.0**63, -1), to="u64", semantics="x86") == [2**63, 2**64 - 1]


def test_storage_floats_round_once_to_nearest_even_through_f32() -> None:
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-30])
    module = sample_module(OPS["math.cast"], Sample((x,), {"to": "bf16"}))
    (y,) = run_module(module, [x])
    assert y.astype(np.float64).tolist() == [1.0, 1 + 2.0**-6, 1.0]  # the last one rounds to f32 first


def test_denormals_are_kept() -> None:
    tiny = fl(1e-40)
    assert both("math.mul", tiny, fl(1)) == tiny.tolist()
    assert both("math.add", tiny, tiny) == (tiny + tiny).tolist()


def test_round_is_half_to_even() -> None:
    assert both("math.round", fl(0.5, 1.5, 2.5, -0.5, -1.5, 2.4)) == [0, 2, 2, -0.0, -2, 2]


# ---------------------------------------------------------------------------------- extents


def known(build: Any) -> tuple[Any, ...] | None:
    """What `known` says of build(b, vector of s and 4)."""
    b = Builder()
    b.symbol("s", 2, 64)
    return b.known(build(b, b.dims_vector([symbol("s"), 4])))


S = symbol("s")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda b, v: b.add(v, v), (2 * S, 8)),
        (lambda b, v: b.sub(v, b.constant(np.array([1, 1]))), (S - 1, 3)),
        (lambda b, v: b.mul(v, b.constant(np.array(3))), (3 * S, 12)),
        (lambda b, v: b.div(v, b.constant(np.array(2))), (S // 2, 2)),
        (lambda b, v: b.floordiv(v, b.constant(np.array(3))), (S // 3, 1)),
        (lambda b, v: b.mod(v, b.constant(np.array(3))), (S % 3, 1)),
        (lambda b, v: b.mod(v, b.constant(np.array(3)), mode="trunc"), (S % 3, 1)),
        (lambda b, v: b.min(v, b.constant(np.array(9))), (dmin(S, 9), 4)),
        (lambda b, v: b.max(v, b.constant(np.array(9))), (dmax(S, 9), 9)),
        (lambda b, v: b.clip(v, min=1.0, max=9.0), (dmin(S, 9), 4)),
        (lambda b, v: b.neg(v), (-S, -4)),
        (lambda b, v: b.abs(b.sub(v, b.constant(np.array([0, 9])))), (S, 5)),
        (lambda b, v: b.floor(v), (S, 4)),
        (lambda b, v: b.cast(v, to="i32"), (S, 4)),
        (lambda b, v: b.cast(v, to="u32"), (S, 4)),
        (lambda b, v: b.cast(b.mul(v, b.constant(np.array([0, 75]))), to="u8"), (0, 44)),
        (lambda b, v: b.cast(v, to="bool"), (1, 1)),
        (lambda b, v: b.eq(v, v), (1, 1)),
        (lambda b, v: b.eq(v, b.constant(np.array(-1))), (0, 0)),
        (lambda b, v: b.ne(v, b.constant(np.array(1))), (1, 1)),
        (lambda b, v: b.lt(v, b.constant(np.array(65))), (1, 1)),
        (lambda b, v: b.le(v, b.constant(np.array(1))), (0, 0)),
        (lambda b, v: b.gt(v, b.constant(np.array(1))), (1, 1)),
        (lambda b, v: b.ge(v, b.constant(np.array(65))), (0, 0)),
        (lambda b, v: b.logical_not(b.eq(v, v)), (0, 0)),
        (lambda b, v: b.logical_and(b.eq(v, v), b.ne(v, v)), (0, 0)),
        (lambda b, v: b.select(b.eq(v, b.constant(np.array(-1))), v, b.add(v, v)), (2 * S, 8)),
        (lambda b, v: b.reduce_sum(v), (S + 4,)),
        (lambda b, v: b.reduce_prod(v, axes=(0,), keepdims=True), (4 * S,)),
        (lambda b, v: b.reduce_min(v), (dmin(S, 4),)),
        (lambda b, v: b.reduce_max(v), (dmax(S, 4),)),
    ],
)
def test_extents_flow_through(build: Any, expected: tuple[Any, ...]) -> None:
    assert known(build) == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda b, v: b.eq(v, b.constant(np.array(7))),
        lambda b, v: b.lt(v, b.constant(np.array(7))),
        lambda b, v: b.div(b.sub(v, b.constant(np.array(9))), b.constant(np.array(2))),
        lambda b, v: b.floordiv(v, b.sub(v, b.constant(np.array(9)))),
        lambda b, v: b.div(v, b.constant(np.array(0))),
        lambda b, v: b.cast(v, to="i8"),
        lambda b, v: b.mul(v, b.constant(np.array(2**62))),
        lambda b, v: b.cast(v, to="f32"),
        lambda b, v: b.cast(b.sub(v, b.constant(np.array(9))), to="bool"),
    ],
)
def test_what_extents_do_not_settle_stays_unknown(build: Any) -> None:
    assert known(build) is None


def test_symbolic_extents_in_definitions() -> None:
    b = Builder()
    n = b.symbol("n", 1, 64)
    x = b.input("x", tensor("f32", n, 3))
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 3)).astype(np.float32)
    values = [b.reduce_mean(x, axes=(0,)), b.softmax(x, axis=0), b.layer_norm(x, axis=0), b.cumsum(x)]
    values.append(b.argmax(x, axis=0, select_last_index=True))
    for i, value in enumerate(values):
        b.output(f"y{i}", value)
    expected = run_module(b.module, [a])
    for value, y in zip(values, expected, strict=True):
        assert isinstance(value.op, Op)
        (got,) = evaluate_op_definition(value.op, [a], {"n": 5})
        assert disagreement(got, y, "reordered", terms=15) is None


# ---------------------------------------------------------------------------------- refusals

F, I, B = "f32", "i32", "bool"

REFUSED: list[tuple[str, list[tuple[str, tuple[int, ...]] | None], dict[str, Any], type[AinoError]]] = [
    ("math.add", [(F, (2,)), (I, (2,))], {}, DTypeMismatch),
    ("math.add", [(B, (2,)), (B, (2,))], {}, DTypeMismatch),
    ("math.add", [(F, (2,)), (F, (3,))], {}, ShapeMismatch),
    ("math.exp", [(I, (2,))], {}, DTypeMismatch),
    ("math.mod", [(I, (2,)), (I, (2,))], {"mode": "ceil"}, BadAttribute),
    ("math.celu", [(F, (2,))], {"alpha": 0.0}, BadAttribute),
    ("math.softplus", [(F, (2,))], {"beta": 0.0}, BadAttribute),
    ("math.gelu", [(F, (2,))], {"approximate": "fast"}, BadAttribute),
    ("math.cast", [(F, (2,))], {"to": "i32", "semantics": "wrap"}, BadAttribute),
    ("math.cast", [(F, (2,))], {"to": "c64"}, BadAttribute),
    ("math.select", [(F, (2,)), (F, (2,)), (F, (2,))], {}, DTypeMismatch),
    ("math.select", [(B, (2,)), (F, (2,)), (I, (2,))], {}, DTypeMismatch),
    ("logic.logical_and", [(I, (2,)), (I, (2,))], {}, DTypeMismatch),
    ("logic.bitwise_and", [(F, (2,)), (F, (2,))], {}, DTypeMismatch),
    ("reduce.sum", [(F, (2, 3))], {"axes": (2,)}, BadAttribute),
    ("reduce.sum", [(F, (2, 3))], {"axes": (1, -1)}, BadAttribute),
    ("reduce.sum", [(B, (2, 3))], {}, DTypeMismatch),
    ("reduce.l2", [(I, (2, 3))], {}, DTypeMismatch),
    ("reduce.mean", [(I, (0, 3))], {"axes": (0,)}, BadOperand),
    ("reduce.argmax", [(F, (0, 3))], {}, BadOperand),
    ("reduce.argmax", [(F, ())], {}, BadOperand),
    ("reduce.argmax", [(F, (3,))], {"axis": 1}, BadAttribute),
    ("reduce.argmax", [(B, (3,))], {}, DTypeMismatch),
    ("scan.cumsum", [(F, ())], {}, BadOperand),
    ("scan.cumsum", [(B, (3,))], {}, DTypeMismatch),
    ("scan.cumsum", [(F, (3,))], {"axis": -2}, BadAttribute),
    ("normalize.softmax", [(I, (3,))], {}, DTypeMismatch),
    ("normalize.softmax", [(F, ())], {}, BadOperand),
    ("normalize.softmax", [(F, (3,))], {"axis": 3}, BadAttribute),
    ("normalize.layer_norm", [(I, (3,))], {}, DTypeMismatch),
    ("normalize.layer_norm", [(F, (2, 3)), (F, (2,))], {}, ShapeMismatch),
    ("normalize.layer_norm", [(F, (2, 3)), ("f64", (3,))], {}, DTypeMismatch),
    ("normalize.layer_norm", [(F, (2, 3)), (F, (1, 2, 3))], {}, BadOperand),
    ("normalize.group_norm", [(F, (2, 6))], {"groups": 4}, ShapeMismatch),
    ("normalize.group_norm", [(F, (2, 6))], {"groups": 0}, BadAttribute),
    ("normalize.group_norm", [(F, (6,))], {"groups": 2}, BadOperand),
    ("normalize.instance_norm", [(F, (2, 6)), (F, (5,))], {}, ShapeMismatch),
    ("normalize.instance_norm", [(F, (2, 6)), (F, (6, 1))], {}, RankMismatch),
    ("normalize.batch_norm", [(F, (2, 3))] + [(F, (3,))] * 3 + [(F, (4,))], {}, ShapeMismatch),
    ("normalize.mean_variance_norm", [(F, (2, 3))], {"axes": ()}, BadAttribute),
    ("normalize.mean_variance_norm", [(F, (2, 3))], {"axes": (0, -2)}, BadAttribute),
    ("normalize.lp_norm", [(F, (2, 3))], {"p": 3}, BadAttribute),
    ("normalize.lp_norm", [(F, ())], {}, BadOperand),
    ("normalize.local_response_norm", [(F, (3,))], {"size": 3}, BadOperand),
    ("normalize.local_response_norm", [(F, (3, 3))], {"size": 0}, BadAttribute),
]


@pytest.mark.parametrize(("name", "operands", "attrs", "error"), REFUSED)
def test_illegal_ops_are_refused(
    name: str,
    operands: list[tuple[str, tuple[int, ...]] | None],
    attrs: dict[str, Any],
    error: type[AinoError],
) -> None:
    b = Builder()
    values = [None if o is None else b.input(f"x{i}", tensor(o[0], *o[1])) for i, o in enumerate(operands)]
    with pytest.raises(error, match=name):
        b.op(OPS[name], *values, **attrs)


# ---------------------------------------------------------------------------------- the evaluator's own


def test_definitions_that_do_not_hold_water_are_found() -> None:
    from aino_ir.compute import Axis, RowStage, read

    b = Builder()
    x = b.input("x", tensor("f32", 4))
    (type,) = operand = [x.type]
    (i,) = axes = (Axis("i", 4),)
    beyond = Compute(axes, read(x, 0, (i.dim + 1,)))
    array = np.ones(4, np.float32)
    with pytest.raises(BadDefinition, match="outside its bounds"):
        evaluate_definition(beyond, [array], operand, [type])  # type: ignore[list-item]
    row = (Axis("r", 2),)
    total = RowStage("reduce", "total", ReadExpr(0, (row[0].dim,), VecType(f32)), "add")
    half = RowProgram((), row, (total,), read(x, 0, (row[0].dim,)), (row[0].dim,))
    with pytest.raises(BadDefinition, match="2 result elements unwritten"):
        evaluate_definition(half, [array], operand, [type])  # type: ignore[list-item]


def test_a_nest_is_run_by_the_loop_interpreter() -> None:
    b = Builder()
    op = b.op(OPS["scan.cumsum"], b.input("x", tensor("i32", 2, 3)), axis=1)
    assert isinstance(op.define(), Nest)
    (y,) = evaluate_op_definition(op, [np.arange(6, dtype=np.int32).reshape(2, 3)])
    assert y.tolist() == [[0, 1, 3], [3, 7, 12]]


# ---------------------------------------------------------------------------------- tolerance


def test_disagreement_judges_by_error_class() -> None:
    one = fl(1, 2, NAN)
    assert disagreement(one, one) is None
    assert disagreement(fl(0.0), fl(-0.0)) is None
    assert "1 of 3 elements" in (disagreement(one, fl(1, 2.0000002, NAN)) or "")
    assert disagreement(one, fl(1, 2.0000002, NAN), "reordered") is None
    assert "over" in (disagreement(one, fl(1, 2.0001, NAN), "reordered") or "")
    assert disagreement(one, fl(1, 2.0001, NAN), "approximate") is None
    assert "differ" in (disagreement(one, fl(1, 2, 3), "approximate") or "")
    assert "shapes" in (disagreement(one, fl(1, 2)) or "")
    assert "dtypes" in (disagreement(i32(1), np.array([1])) or "")
    assert disagreement(fl(100, 1), fl(100, 2), "lossy", sqnr=30.0) is None
    assert "dB" in (disagreement(fl(100, 1), fl(100, 50), "lossy", sqnr=30.0) or "")
    assert disagreement(fl(9e-7), fl(0), "reordered", magnitude=fl(1)) is None
    assert disagreement(fl(1e-6), fl(0), "reordered", magnitude=fl(1e-3)) is not None


def test_ulps_count_units_in_the_last_place() -> None:
    assert ulps(fl(1), np.array([1 + epsilon(f32)])).tolist() == [1.0]
    assert ulps(fl(INF, NAN, 0.0), np.array([1e39, NAN, -0.0])).tolist() == [0, 0, 0]
    assert ulps(fl(INF, NAN), np.array([1.0, 1.0])).tolist() == [INF, INF]
    assert ulps(fl(2.0**-149), np.array([0.0])).tolist() == [1.0]


@pytest.mark.parametrize(("kind", "least"), [("reduce_max", True), ("reduce_min", False)])
def test_extremes_of_no_known_integers_are_the_identity(kind: str, least: bool) -> None:
    """Contents known at compile time follow the same rule as arrays."""
    b = Builder()
    y = getattr(b, kind)(b.constant(np.zeros((0,), np.int64)), axes=(0,), keepdims=True)
    info = np.iinfo(np.int64)
    assert b.known(y) == ((info.min if least else info.max),)

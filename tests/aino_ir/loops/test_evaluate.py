"""Numpy evaluation of expression trees: one rounding, wrapping, saturation, NaN, lanes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from aino_ir.dims import symbol
from aino_ir.dtypes import DTYPES, DType, boolean, dtype_of, f32, f64, i8, i32, i64, u8, u32, u64
from aino_ir.errors.loops import LoopRunError
from aino_ir.loops.dot_expr import add_pairs, dot, dot_pairs
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import (
    Arg,
    Expr,
    Index,
    Load,
    PrefixMask,
    Ramp,
    RegRead,
    Shuffle,
    Splat,
    Var,
    VecType,
    binary,
    bitcast,
    cast,
    compare,
    const,
    fma,
    maximum,
    minimum,
    reduce_lanes,
    round_to,
    select,
    unary,
)
from aino_ir.loops.printer import print_expr
from tools.math_reference import edges, sample

Array = np.ndarray[Any, Any]


def arg(dtype: DType, index: int = 0, lanes: int = 1) -> Arg:
    return Arg(index, VecType(dtype, lanes))


def run(expr: Expr, *args: Array) -> list[Any]:
    result: list[Any] = evaluate(expr, args=args).tolist()
    return result


def exact_fma(a: float, b: float, c: float, dtype: str) -> float:
    """Rounded once, from the exact rational value; None of the arguments is special."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if c == 0 else 0.0
    bits, least, largest = (24, -149, 128) if dtype == "f32" else (53, -1074, 1024)
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - bits + 1, least)
    rounded = round(magnitude / unit) * unit  # half to even
    if rounded >= Fraction(2) ** largest:
        return float("inf") if exact > 0 else -float("inf")
    return float(rounded) if exact > 0 else -float(rounded)


def fma_arguments(dtype: str) -> tuple[Array, Array, Array]:
    """Edges, random bits, products that nearly cancel, and denormal results."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.permutation(sample(dtype, 1500, seed)) for seed in (1, 2, 3))
    with np.errstate(all="ignore"):
        near = -(a * b) * (1 + rng.integers(-1, 2, a.size).astype(a.dtype) * np.finfo(a.dtype).eps)
        tiny = rng.standard_normal(a.size).astype(a.dtype) * np.finfo(a.dtype).tiny
    e = edges(dtype)
    triples = np.array([(x, y, z) for x in e for y in e[::3] for z in e[::2]], a.dtype).T
    unit = rng.uniform(-1, 1, a.size).astype(a.dtype)
    groups = [(a, b, c), (a, b, near), (unit, tiny, tiny[::-1]), tuple(triples)]
    first, second, third = (np.concatenate([group[k] for group in groups]) for k in range(3))
    return first, second, third


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_fma_rounds_once(dtype: str) -> None:
    a, b, c = fma_arguments(dtype)
    type_ = DTYPES[dtype]
    got = evaluate(fma(arg(type_, 0), arg(type_, 1), arg(type_, 2)), args=[a, b, c])
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    for x, y, z, result in zip(a[finite], b[finite], c[finite], got[finite], strict=True):
        want = exact_fma(float(x), float(y), float(z), dtype)
        assert float(result) == want and np.signbit(result) == np.signbit(want), (x, y, z)
    a, b, c, got = (x[~finite] for x in (a, b, c, got))
    with np.errstate(all="ignore"):
        # A finite product cannot turn infinity c; it may overflow, so it is kept small.
        product = np.where(np.isfinite(a) & np.isfinite(b), 0, a * b)
        np.testing.assert_array_equal(got, product + c)


def test_fma_is_not_rounded_to_f64_first() -> None:
    """1 + 3 * 2^-24 - 2^-70: f64 would round it to a tie, and the tie to the wrong f32."""
    a, b, c = (np.float32([x]) for x in (2.0**-24 * (1 + 2.0**-23), 1 - 2.0**-23, 1 + 2.0**-23))
    assert run(fma(arg(f32, 0), arg(f32, 1), arg(f32, 2)), a, b, c) == [1 + 2.0**-23]


def test_float_to_integer_saturates_and_nan_is_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, -1.9, 2.5, 127.9, 255.9, -0.5], np.float32)
    assert run(cast(arg(f32), i32), x) == [0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), -1, 2, 127, 255, 0]
    assert run(cast(arg(f32), u8), x) == [0, 255, 0, 255, 0, 0, 2, 127, 255, 0]
    assert run(cast(arg(f32), i8), x) == [0, 127, -128, 127, -128, -1, 2, 127, 127, 0]
    assert run(cast(arg(f32), i64), x)[1:3] == [2**63 - 1, -(2**63)]
    assert run(cast(arg(f32), u64), x)[:2] == [0, 2**64 - 1]
    assert run(cast(arg(f32), boolean), np.array([np.nan, 0, -0.0, 1e-45], np.float32)) == [
        True,
        False,
        False,
        True,
    ]


def test_integers_wrap() -> None:
    x = np.array([2**31 - 1, -(2**31), -7, 7], np.int32)
    assert run(arg(i32) + 1, x) == [-(2**31), -(2**31) + 1, -6, 8]
    assert run(-arg(i32), x) == [-(2**31) + 1, -(2**31), 7, -7]
    assert run(arg(i32) * 3, x)[0] == 2**31 - 3
    assert run(cast(arg(i32), u8), x) == [255, 0, 249, 7]


def test_integer_division_truncates() -> None:
    x, y = np.array([-7, 7, -7, 7, -(2**31)], np.int32), np.array([2, -2, -2, 2, -1], np.int32)
    assert run(binary("div", arg(i32), arg(i32, 1)), x, y) == [-3, -3, 3, 3, -(2**31)]
    assert run(binary("rem", arg(i32), arg(i32, 1)), x, y) == [-1, 1, -1, 1, 0]
    assert run(binary("div", arg(u32), const(2, u32)), np.array([2**32 - 1], np.uint32)) == [2**31 - 1]


def test_shifts_past_the_width() -> None:
    x, n = np.array([-8, -8, 8, 8, 8], np.int32), np.array([1, 32, 33, -1, 31], np.int32)
    assert run(binary("shr", arg(i32), arg(i32, 1)), x, n) == [-4, -1, 0, 0, 0]
    assert run(binary("shl", arg(i32), arg(i32, 1)), x, n) == [-16, 0, 0, 0, 0]
    assert run(binary("shr", arg(u64), const(64, u64)), np.array([2**64 - 1], np.uint64)) == [0]


def test_minimum_and_maximum_pass_nan_from_either_side() -> None:
    nan = np.nan
    x, y = np.array([1, nan, 1, nan], np.float32), np.array([2, 1, nan, nan], np.float32)
    for make, first in ((minimum, 1.0), (maximum, 2.0)):
        result = evaluate(make(arg(f32), arg(f32, 1)), args=[x, y])
        assert result[0] == first and np.isnan(result[1:]).all()


def test_comparisons_with_nan_are_false_but_ne() -> None:
    x = np.array([np.nan], np.float64)
    results = {op: run(compare(op, arg(f64), 1.0), x)[0] for op in ("eq", "ne", "lt", "le", "gt", "ge")}
    assert results == {"eq": False, "ne": True, "lt": False, "le": False, "gt": False, "ge": False}


@pytest.mark.parametrize(
    ("storage", "value", "want"),
    [("bf16", 1.00390625, 1.0), ("bf16", 1.01171875, 1.015625), ("f16", 65520.0, np.inf), ("f16", 1e-8, 0.0)],
)
def test_rounding_to_storage_is_half_to_even(storage: str, value: float, want: float) -> None:
    assert run(round_to(arg(f32), DTYPES[storage]), np.array([value], np.float32)) == [want]


def test_rounding_to_packed_integers_wraps() -> None:
    x = np.array([7, 8, -9, 15, 16], np.int32)
    assert run(round_to(arg(i32), DTYPES["i4"]), x) == [7, -8, 7, -1, 0]
    assert run(round_to(arg(i32), DTYPES["u4"]), x) == [7, 8, 7, 15, 0]


def test_unary_operations() -> None:
    x = np.array([-2.5, -0.5, 0.5, 1.5, np.inf, np.nan], np.float32)
    assert run(unary("round", arg(f32)), x)[:4] == [-2, 0, 0, 2]
    assert run(unary("trunc", arg(f32)), x)[:4] == [-2, 0, 0, 1]
    assert run(unary("floor", arg(f32)), x)[:4] == [-3, -1, 0, 1]
    assert run(unary("ceil", arg(f32)), x)[:4] == [-2, 0, 1, 2]
    assert run(unary("isnan", arg(f32)), x) == [False] * 5 + [True]
    assert run(unary("isinf", arg(f32)), x) == [False] * 4 + [True, False]
    assert run(~arg(boolean), np.array([True, False])) == [False, True]
    assert run(binary("copysign", arg(f32), const(-0.0, f32)), x)[:4] == [-2.5, -0.5, -0.5, -1.5]


def test_denormals_are_kept_and_bits_are_kept() -> None:
    x = np.array([1e-40], np.float32)
    assert evaluate(arg(f32) * 1.0, args=[x]).tobytes() == x.tobytes()
    assert run(bitcast(arg(f32), u32), np.array([-0.0], np.float32)) == [2**31]


def test_lanes_are_the_last_axis() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    v = arg(f32, lanes=4)
    assert run(reduce_lanes("add", v), x) == [6, 22, 38]
    assert run(reduce_lanes("max", v), x) == [3, 7, 11]
    assert evaluate(v * 2.0 + 1.0, args=[x]).shape == (3, 4)
    assert evaluate(Splat(arg(f32), VecType(f32, 4)), args=[np.float32([1, 2])]).tolist() == [
        [1] * 4,
        [2] * 4,
    ]
    assert run(Shuffle(v, v, (0, 5, 2, 7), VecType(f32, 4)), x)[1] == [4, 5, 6, 7]
    assert run(Shuffle(v, v, (6,), VecType(f32)), x) == [2, 6, 10]
    assert evaluate(const(2, f32, 4)).tolist() == [2, 2, 2, 2]
    assert run(select(PrefixMask(3, VecType(boolean, 4)), v, 0.0), x)[0] == [0, 1, 2, 0]
    assert evaluate(Ramp(5, 2, VecType(i64, 3))).tolist() == [5, 7, 9]
    assert evaluate(Index(7)) == 7


def test_reductions_fold_halves() -> None:
    """(x0 + x2) + (x1 + x3): the order is part of the meaning."""
    x = np.array([1e8, 1, -1e8, 1], np.float32)
    assert evaluate(reduce_lanes("add", arg(f32, lanes=4)), args=[x]) == 2


def test_leaves_are_asked_for_and_missing_ones_are_an_error() -> None:
    v, r = Var("v", VecType(f32)), RegRead("r", VecType(f32))
    load = Load("x", symbol("i"), VecType(f32))
    env = {"v": np.float32([2]), "r": np.float32([3])}
    asked: list[Expr] = []

    def leaf(node: Expr) -> Array | None:
        asked.append(node)
        return np.float32([10]) if isinstance(node, Load) else None

    assert evaluate(v * r + load, env, leaf=leaf).tolist() == [16]
    assert set(map(type, asked)) == {Var, RegRead, Load}
    for missing in (v, load, arg(f32), Index(symbol("i"))):
        with pytest.raises(LookupError, match="no value for"):
            evaluate(missing)


def test_shared_trees_are_evaluated_once() -> None:
    """A tree of depth 200 whose paths are 2^200 in number, and too deep for careless recursion."""
    x: Expr = arg(f64)
    for _ in range(200):
        x = (x + x) * 0.5
    assert run(x, np.array([3.0])) == [3.0]


def test_dot_sums_four_products_a_lane() -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-100, 100, 2).astype(np.int32)
    x, w = rng.integers(0, 256, 8).astype(np.uint8), rng.integers(-128, 128, 8).astype(np.int8)
    names = {"a": acc, "x": x, "w": w}
    node = dot(*(Var(n, VecType(dtype_of(v.dtype), v.size)) for n, v in names.items()))
    want = acc + (x.astype(int) * w.astype(int)).reshape(2, 4).sum(1)
    assert np.array_equal(evaluate(node, names), want)
    assert print_expr(node) == "dot(a, x, w)"


def test_pairs_keep_their_promise_or_say_so() -> None:
    names: dict[str, Array] = {
        "x": np.full(4, 255, np.uint8),
        "w": np.array([64, 65, 0, 0], np.int8),
    }
    node = dot_pairs(*(Var(n, VecType(dtype_of(v.dtype), v.size)) for n, v in names.items()))
    with pytest.raises(LoopRunError, match="leaves 16 bits"):
        evaluate(node, names)
    names["w"][1] = 64
    assert evaluate(node, names).tolist() == [255 * 128, 0]
    assert print_expr(node) == "dot_pairs(x, w)"


def test_pairs_are_added_to_wider_lanes() -> None:
    names: dict[str, Array] = {
        "a": np.array([1, -1], np.int32),
        "p": np.array([32767, 32767, -32768, -32768], np.int16),
    }
    node = add_pairs(*(Var(n, VecType(dtype_of(v.dtype), v.size)) for n, v in names.items()))
    assert evaluate(node, names).tolist() == [65535, -65537]
    assert print_expr(node) == "add_pairs(a, p)"

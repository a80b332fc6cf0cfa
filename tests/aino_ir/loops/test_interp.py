"""The interpreter of kernels: kernels as generators write them, and the corners of the language."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.dims import symbol
from aino_ir.dtypes import DTYPES, DType, boolean, dtype_of, f32, i32, i64
from aino_ir.errors.loops import LoopArgumentError, LoopOutOfBounds, LoopRunError
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Const,
    Expr,
    PrefixMask,
    VecType,
    binary,
    bitcast,
    cast,
    compare,
    const,
    fma,
    index,
)
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.machine import Outcome, garbage
from aino_ir.loops.stmt import Access, LoopFn, Status
from tests.aino_ir.loops import kernels

RNG = np.random.default_rng(7)


def pack_panels(b: np.ndarray, width: int) -> np.ndarray:
    """[k, n] as panels [n / width][k][width], flat."""
    k, n = b.shape
    return np.ascontiguousarray(b.reshape(k, n // width, width).transpose(1, 0, 2)).ravel()


@pytest.mark.parametrize("m", [1, 7, 8, 13])
def test_gemm_with_a_register_tile(m: int) -> None:
    n, k = 32, 24
    a = RNG.standard_normal((m, k), np.float32)
    b = RNG.standard_normal((k, n), np.float32)
    expected = np.maximum(a @ b, 0)
    for fn, symbols in [(kernels.gemm(m, n, k), {}), (kernels.gemm(symbol("m"), n, k), {"m": m})]:
        c = np.full(m * n, np.nan, np.float32)
        assert run_kernel(fn, [a.ravel(), pack_panels(b, 16), c], symbols) == Outcome(Status.OK)
        np.testing.assert_allclose(c.reshape(m, n), expected, rtol=1e-5, atol=1e-5)


def test_units_can_be_split_over_calls() -> None:
    m, n, k = 13, 16, 8
    fn = kernels.gemm(m, n, k)
    a = RNG.standard_normal(m * k, np.float32)
    b = RNG.standard_normal(k * n, np.float32)
    whole, parts = np.zeros(m * n, np.float32), np.zeros(m * n, np.float32)
    run_kernel(fn, [a, b, whole])
    for lo, hi in [(2, 4), (0, 1), (1, 2)]:
        run_kernel(fn, [a, b, parts], lo=lo, hi=hi)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("columns", [8, 13, 3])
def test_softmax_row(columns: int) -> None:
    x = RNG.standard_normal((3, columns), np.float32) * 4
    y = np.zeros(x.size, np.float32)
    run_kernel(kernels.softmax(3, columns), [x.ravel(), y])
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(y.reshape(x.shape), e / e.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("name", ["f32", "f64", "bf16", "f16", "f8e4m3fn", "i64", "u8", "i4", "bool"])
@pytest.mark.parametrize("n", [1, 8, 21])
def test_masked_tail_copy_keeps_every_value(name: str, n: int) -> None:
    dtype = DTYPES[name]
    x = RNG.integers(0, 2 if dtype.is_bool else 7, n).astype(dtype.numpy)
    y = np.zeros(n + 3, dtype.numpy)  # longer than declared: what lies behind must stay
    run_kernel(kernels.tail_copy(dtype), [x, y], {"n": n})
    np.testing.assert_array_equal(y[:n].astype(np.float64), x.astype(np.float64))
    assert not y[n:].astype(np.float64).any()


def test_gather_with_a_data_dependent_index() -> None:
    table = RNG.standard_normal((5, 11), np.float32)
    index = np.array([4, -1, 0, 2, -5])
    y = np.zeros(index.size * 11, np.float32)
    fn = kernels.gather_rows(5, 11, index.size)
    assert fn.can_fail
    assert run_kernel(fn, [table.ravel(), index, y]).status is Status.OK
    np.testing.assert_array_equal(y.reshape(-1, 11), table[index])


def test_failure_is_recorded_and_stops_the_kernel() -> None:
    table, index = np.ones(10, np.float32), np.array([1, 2, 0])
    y, word = np.zeros(15, np.float32), np.zeros(2, np.int64)
    outcome = run_kernel(kernels.gather_rows(2, 5, 3), [table, index, y, word])
    assert outcome == Outcome(Status.INDEX_OUT_OF_RANGE, 2)
    assert word.tolist() == [Status.INDEX_OUT_OF_RANGE.value, 2]
    assert y[:5].all() and not y[5:].any()


def test_the_first_failure_stays_in_the_status_word() -> None:
    table, index = np.ones(10, np.float32), np.array([9])
    word = np.array([Status.DIVISION_BY_ZERO.value, 5])
    run_kernel(kernels.gather_rows(2, 5, 1), [table, index, np.zeros(5, np.float32), word])
    assert word.tolist() == [Status.DIVISION_BY_ZERO.value, 5]


def test_gather_by_lanes() -> None:
    x, index = RNG.standard_normal(9, np.float32), RNG.integers(-3, 13, 21)
    y = np.zeros(21, np.float32)
    run_kernel(kernels.vector_gather(9, 21), [x, index, y])
    np.testing.assert_array_equal(y, x[index.clip(0, 8)])


@pytest.mark.parametrize(("size", "rows"), [(6, 4), (4, 4), (5, 1)])
def test_convolution_with_borders_and_a_short_last_tile(size: int, rows: int) -> None:
    channels = 8
    x = RNG.standard_normal((size, size, channels), np.float32)
    w = RNG.standard_normal((3, 3, channels, channels), np.float32)
    y = np.full(x.size, np.nan, np.float32)
    run_kernel(kernels.conv(size, channels, rows, 4), [x.ravel(), w.ravel(), y])
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = [padded[i : i + size, j : j + size] @ w[i, j] for i in range(3) for j in range(3)]
    np.testing.assert_allclose(y.reshape(x.shape), sum(windows), rtol=1e-4, atol=1e-4)


def test_scatter_writes_active_lanes_only() -> None:
    b = LoopBuilder("scatter")
    at = b.param("at", i64, 8)
    y = b.param("y", f32, 16, Access.WRITE)
    with b.units(1):
        mask = PrefixMask(5, VecType(boolean, 8))
        b.store(y, 1, const(3.0, f32, 8), scatter=b.load(at, 0, 8), mask=mask)
    out = np.zeros(16, np.float32)
    run_kernel(b.finish(), [np.array([0, 14, 3, 3, 6, 99, -1, 9]), out])
    assert np.flatnonzero(out).tolist() == [1, 4, 7, 15]


def test_strided_and_splatted_access() -> None:
    b = LoopBuilder("stride")
    x = b.param("x", f32, 16)
    y = b.param("y", f32, 16, Access.WRITE)
    with b.units(1):
        b.store(y, 0, b.load(x, 3, 4, stride=0) + b.load(x, 1, 4, stride=2), stride=3)
    data, out = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    run_kernel(b.finish(), [data, out])
    assert out[[0, 3, 6, 9]].tolist() == [4, 6, 8, 10]


def test_lanes_under_a_mask_have_the_other_value() -> None:
    b = LoopBuilder("other")
    n = b.symbol("n", 0, 4)
    x, y = b.param("x", f32, 4), b.param("y", f32, 9, Access.WRITE)
    with b.units(1):
        mask = PrefixMask(n, VecType(boolean, 4))
        b.store(y, 0, b.load(x, 0, 4, mask=mask, other=7.0))
        b.store(y, 4, b.load(x, 0, 4, mask=mask))
        b.store(y, 8, b.load(x, 0, mask=compare("lt", index(n), 2), other=9.0))
    fn, out = b.finish(), np.zeros(9, np.float32)
    run_kernel(fn, [np.arange(1, 5, dtype=np.float32), out], {"n": 2})
    assert out.tolist() == [1, 2, 7, 7, 1, 2, 0, 0, 9]
    run_kernel(fn, [np.arange(1, 5, dtype=np.float32), out], {"n": 0})
    assert out.tolist() == [7] * 4 + [0] * 4 + [1]


@given(
    st.integers(-(2**12), 2**12),
    st.integers(-(2**13), 2**13),
    st.integers(-(2**24), 2**24),
    st.integers(-100, 40),
    st.sampled_from([0, -60, -70]),
)
def test_fma_rounds_once(a: int, b: int, c: int, shift: int, scale: int) -> None:
    x, y = np.float32(a * 2.0**scale), np.float32(b * 2.0**scale)
    z = np.float32(c * 2.0 ** (shift + scale))
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    got = through_memory(fma, *(np.array([v], np.float32) for v in (x, y, z)))[0]
    below, above = np.nextafter(got, np.float32(-np.inf)), np.nextafter(got, np.float32(np.inf))
    error = abs(Fraction(float(got)) - exact)
    for other in (below, above):
        distance = abs(Fraction(float(other)) - exact)
        assert error < distance or (error == distance and int(got.view(np.int32)) % 2 == 0)


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        # 24929 * 673 = 2**24 + 1: the product lies halfway between two f32s, and f64 loses the sum's tail.
        (24929.0, 673 * 2.0**-24, 2.0**-80, 1 + 2.0**-23),
        (24929.0, 673 * 2.0**-24, -(2.0**-80), 1.0),
        # Halfway between two denormals: (1 + 2**-12) * (1 - 2**-12 + 2**-24) = 1 + 2**-36.
        ((1 + 2.0**-12) * 2.0**-75, (1 - 2.0**-12 + 2.0**-24) * 2.0**-75, 2.0**-127, 2.0**-127 + 2.0**-149),
    ],
)
def test_fma_at_halfway_points(a: float, b: float, c: float, expected: float) -> None:
    assert through_memory(fma, *(np.array([v], np.float32) for v in (a, b, c)))[0] == np.float32(expected)


def test_block_sums_with_a_short_last_block() -> None:
    x = RNG.integers(-9, 9, 13)
    y = np.zeros(4, np.float32)
    run_kernel(kernels.row_blocks(13, 4), [x, y])
    assert y.tolist() == [x[i : i + 4].sum() for i in range(0, 13, 4)]


def test_while_runs_until_registers_say_stop() -> None:
    b = LoopBuilder("collatz")
    x = b.param("x", i64, 1)
    y = b.param("y", i64, 1, Access.WRITE)
    with b.units(1):
        n = b.reg("n", VecType(i64), b.load(x, 0))
        steps = b.reg("steps", VecType(i64), 0)
        with b.while_(lambda: compare("ne", n.read(), 1)):
            value = b.let(n.read())
            with b.when(compare("eq", binary("and", value, 1), 0)):
                b.set(n, value / 2)
            with b.otherwise():
                b.set(n, value * 3 + 1)
            b.set(steps, steps.read() + 1)
        b.store(y, 0, steps.read())
    out = np.zeros(1, np.int64)
    run_kernel(b.finish(), [np.array([27]), out])
    assert out[0] == 111


def evaluate_once(expr: Expr, storage: DType | None = None) -> np.ndarray:
    """What an expression stores."""
    b = LoopBuilder("once")
    dtype = storage or expr.dtype
    y = b.param("y", dtype, expr.lanes, Access.WRITE)
    with b.units(1):
        b.store(y, 0, expr)
    out = np.zeros(expr.lanes, dtype.numpy)
    run_kernel(b.finish(), [out])
    return out


def through_memory(build: Callable[..., Expr], *inputs: np.ndarray) -> np.ndarray:
    """What a scalar kernel makes of arrays, so that nothing is folded when it is built."""
    b = LoopBuilder("map")
    size = inputs[0].size
    names = [b.param(f"x{i}", dtype_of(x.dtype) or f32, size) for i, x in enumerate(inputs)]
    with b.units(size) as unit:
        value = build(*[b.load(name, unit) for name in names])
        y = b.param("y", value.dtype, size, Access.WRITE)
        b.store(y, unit, value)
    out = np.zeros(size, value.dtype.numpy)
    run_kernel(b.finish(), [*inputs, out])
    return out


def test_integers_wrap_and_division_truncates() -> None:
    least = np.iinfo(np.int32).min
    a = np.array([least, 7, -7, 7, -7, 2**31 - 1], np.int32)
    c = np.array([-1, 2, 2, -2, -2, 1], np.int32)
    assert through_memory(lambda x, y: x / y, a, c).tolist() == [least, 3, -3, -3, 3, 2**31 - 1]
    assert through_memory(lambda x, y: binary("rem", x, y), a, c).tolist() == [0, 1, -1, 1, -1, 0]
    assert through_memory(lambda x, y: x + y, a, c)[5] == least


def test_shifts_past_the_width() -> None:
    a = np.array([-8, -8, 5, 1, 1], np.int32)
    c = np.array([1, 40, 32, 31, 32], np.int32)
    assert through_memory(lambda x, y: binary("shr", x, y), a, c).tolist() == [-4, -1, 0, 0, 0]
    assert through_memory(lambda x, y: binary("shl", x, y), a, c).tolist()[3:] == [-(2**31), 0]


def test_float_to_int_saturates_and_nan_is_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 3e9, -2.9, 2.5], np.float32)
    most, least = 2**31 - 1, -(2**31)
    assert through_memory(lambda v: cast(v, i32), x).tolist() == [0, most, least, most, -2, 2]


def test_minimum_and_maximum_propagate_nan() -> None:
    a = np.array([np.nan, 1, -0.0], np.float32)
    c = np.array([1, np.nan, 0.0], np.float32)
    for op in ("min", "max"):
        assert np.isnan(through_memory(lambda x, y, op=op: binary(op, x, y), a, c)[:2]).all()


def test_denormals_are_kept() -> None:
    x = np.array([1e-45, 1e-39], np.float32)
    assert (through_memory(lambda v: v * 2.0, x) == x * 2).all()


def test_stores_round_to_the_storage_dtype() -> None:
    assert evaluate_once(const(1.0 + 2**-8, f32), DTYPES["bf16"]).astype(np.float32)[0] == 1.0
    assert evaluate_once(const(9, i32), DTYPES["i4"]).astype(np.int32)[0] == -7
    assert evaluate_once(bitcast(const(1.0, f32), i32))[0] == 0x3F800000


def test_scratch_starts_as_garbage() -> None:
    b = LoopBuilder("forgot")
    y = b.param("y", f32, 4, Access.WRITE)
    scratch = b.alloc("s", f32, 4)
    with b.units(1):
        b.store(y, 0, b.load(scratch, 0, 4))
    out = np.zeros(4, np.float32)
    run_kernel(b.finish(), [out])
    assert np.isnan(out).all()


@pytest.mark.parametrize("name", sorted(n for n in DTYPES if not n.startswith("c")))
def test_garbage_exists_for_every_dtype(name: str) -> None:
    dtype = DTYPES[name]
    made = garbage(dtype, 3)
    assert made.dtype == dtype.numpy and made.size == 3
    if dtype.is_float and name != "f4e2m1":
        assert np.isnan(made.astype(np.float32)).all()


@pytest.mark.parametrize("offset", [-1, 5])
def test_access_outside_a_buffer_is_found(offset: int) -> None:
    fn = copy_at(offset)
    with pytest.raises(LoopOutOfBounds, match="load of x"):
        run_kernel(fn, [np.zeros(8, np.float32), np.zeros(4, np.float32)])


def copy_at(offset: int) -> LoopFn:
    """y[0:4] = x[offset:offset+4]."""
    b = LoopBuilder("outside")
    x = b.param("x", f32, 8)
    y = b.param("y", f32, 4, Access.WRITE)
    with b.units(1):
        b.store(y, 0, b.load(x, offset, 4))
    return b.finish()


def test_a_store_outside_a_buffer_is_found() -> None:
    b = LoopBuilder("outside")
    y = b.param("y", f32, 4, Access.WRITE)
    with b.units(2) as unit:
        b.store(y, unit * 4, const(0.0, f32, 4))
    with pytest.raises(LoopOutOfBounds, match="store of y"):
        run_kernel(b.finish(), [np.zeros(9, np.float32)])


def test_division_by_zero_is_found() -> None:
    with pytest.raises(LoopRunError, match="divided by zero"):
        through_memory(lambda x, y: x / y, np.array([1]), np.array([0]))


def test_broken_promises_are_found() -> None:
    b = LoopBuilder("promise")
    x = b.param("x", i64, 1)
    y = b.param("y", i64, 8, Access.WRITE)
    with b.units(1):
        i = b.index(b.load(x, 0), 0, 7)
        with b.loop("j", 0, 3, where=lambda j: [(7, ">=", i + j)]) as j:
            b.store(y, i + j, index(i))
    fn = b.finish()
    with pytest.raises(LoopRunError, match="promised within"):
        run_kernel(fn, [np.array([8]), np.zeros(8, np.int64)])
    with pytest.raises(LoopRunError, match="promised fact"):
        run_kernel(fn, [np.array([6]), np.zeros(8, np.int64)])


def test_an_endless_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aino_ir.loops.closures.WHILE_LIMIT", 10)
    b = LoopBuilder("endless")
    y = b.param("y", i64, 1, Access.WRITE)
    with b.units(1):
        with b.while_(lambda: Const(True, VecType(boolean))):
            b.store(y, 0, 1)
    with pytest.raises(LoopRunError, match="did not end"):
        run_kernel(b.finish(), [np.zeros(1, np.int64)])


def test_arguments_are_checked() -> None:
    fn = kernels.tail_copy(f32)
    x = np.zeros(8, np.float32)
    for views, symbols, what in [
        ([x], {"n": 8}, "views"),
        ([x, x.astype(np.float64)], {"n": 8}, "y"),
        ([x, np.zeros((2, 4), np.float32)], {"n": 8}, "y"),
        ([x, np.zeros(7, np.float32)], {"n": 8}, "y"),
        ([x, x], {}, "n"),
        ([x, x], {"n": 0}, "n"),
    ]:
        with pytest.raises(LoopArgumentError, match=f"argument '{what}'"):
            run_kernel(fn, views, symbols)

"""The semantics table, row by row, on the interpreter and on compiled C, without and with passes.

Rows about values are one module, rows about errors another: what a kernel refuses must name its node
and leave the executable as it was.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dims import symbol
from aino_ir.driver.api import compile
from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import DimError
from aino_ir.errors.ir import IntegerDivisionByZero, NegativeExtent, OutOfRangeIndex, SizeLimit
from aino_ir.errors.run import (
    IndexOutOfRange,
    InputMismatch,
    NativeDivisionByZero,
    NativeShapeError,
    SizeLimitAtRun,
)
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.types import TensorType, tensor, type_of

NAN, INF = float("nan"), float("inf")
I32, I64 = np.iinfo(np.int32), np.iinfo(np.int64)

TARGETS = {"reference": ("reference", 0), "c": ("c", 0), "c-passes": ("c", 2), "portable": ("c:portable", 0)}
every_target = pytest.mark.parametrize("target", TARGETS)


def compiled(module: Module, target: str) -> Any:
    name, level = TARGETS[target]
    return compile(module, name, level=level, threads=1)


def array(values: Any, dtype: Any) -> Any:
    return np.array(values, dtype)


def f32(*values: float) -> Any:
    return array(values, np.float32)


def i32(*values: int) -> Any:
    return array(values, np.int32)


# ---------------------------------------------------------------------------------- defined values

ROWS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "least by minus one": ("math.div", (i32(I32.min, 7), i32(-1, -1)), {}, i32(I32.min, -7)),
    "least by minus one, 64 bits": (
        "math.div",
        (array([I64.min, 9], np.int64), array([-1, -2], np.int64)),
        {},
        array([I64.min, -4], np.int64),
    ),
    "least by minus one, 8 bits": (
        "math.div",
        (array([-128, 100] * 20, np.int8), array([-1, 7] * 20, np.int8)),
        {},
        array([-128, 14] * 20, np.int8),
    ),
    "least floor-divided": ("math.floordiv", (i32(I32.min, -7), i32(-1, 2)), {}, i32(I32.min, -4)),
    "least mod minus one": ("math.mod", (i32(I32.min, -7, 7), i32(-1, 3, -3)), {}, i32(0, 2, -2)),
    "least rem minus one": (
        "math.mod",
        (i32(I32.min, -7, 7), i32(-1, 3, -3)),
        {"mode": "trunc"},
        i32(0, -1, 1),
    ),
    "sums wrap": ("math.add", (i32(I32.max, I32.min), i32(1, -1)), {}, i32(I32.min, I32.max)),
    "bytes wrap": (
        "math.mul",
        (array([200, 16], np.uint8), array([2, 16], np.uint8)),
        {},
        array([144, 0], np.uint8),
    ),
    "negating the least": ("math.neg", (i32(I32.min, 3),), {}, i32(I32.min, -3)),
    "shifts past the width": (
        "logic.shift_left",
        (array([1, 1, 1, 3], np.uint32), array([31, 32, 77, 4_000_000_000], np.uint32)),
        {},
        array([2**31, 0, 0, 0], np.uint32),
    ),
    "byte shifts past the width": (
        "logic.shift_left",
        (array([1, 1, 255], np.uint8), array([7, 8, 200], np.uint8)),
        {},
        array([128, 0, 0], np.uint8),
    ),
    "right shifts past the width": (
        "logic.shift_right",
        (array([2**63, 2**63, 5], np.uint64), array([63, 64, 2**63], np.uint64)),
        {},
        array([1, 0, 0], np.uint64),
    ),
    "signed right shifts": ("logic.shift_right", (i32(-8, -8, 8), i32(1, 40, 40)), {}, i32(-4, -1, 0)),
    "floats to i32": (
        "math.cast",
        (f32(NAN, INF, -INF, 1e20, -1e20, 2147483648.0, -2147483648.0, 1.9, -1.9),),
        {"to": "i32"},
        i32(0, I32.max, I32.min, I32.max, I32.min, I32.max, I32.min, 1, -1),
    ),
    "floats to u8": (
        "math.cast",
        (f32(NAN, -1, 256, 255.9, INF),),
        {"to": "u8"},
        array([0, 0, 255, 255, 255], np.uint8),
    ),
    "floats to i64": (
        "math.cast",
        (f32(NAN, 9.3e18, -9.3e18, 1e6),),
        {"to": "i64"},
        array([0, I64.max, I64.min, 10**6], np.int64),
    ),
    "doubles to u64": (
        "math.cast",
        (array([NAN, -5.0, 1.9e19, 2.0**63], np.float64),),
        {"to": "u64"},
        array([0, 0, 2**64 - 1, 2**63], np.uint64),
    ),
    "floats as x86 casts them": (
        "math.cast",
        (f32(NAN, INF, -1e20, 5.5),),
        {"to": "i32", "semantics": "x86"},
        i32(I32.min, I32.min, I32.min, 5),
    ),
    "maximum with NaN": ("math.max", (f32(NAN, 1, NAN, 2), f32(1, NAN, NAN, 1)), {}, f32(NAN, NAN, NAN, 2)),
    "minimum with NaN": ("math.min", (f32(NAN, 1, NAN, 2), f32(1, NAN, NAN, 1)), {}, f32(NAN, NAN, NAN, 1)),
    "relu of NaN": ("math.relu", (f32(NAN, -1, 2, -INF),), {}, f32(NAN, 0, 2, 0)),
    "clip of NaN": ("math.clip", (f32(NAN, 9, -9),), {"min": 0.0, "max": 6.0}, f32(NAN, 6, 0)),
    "position of the largest": (
        "reduce.argmax",
        (array([[1, NAN, 5, NAN], [1, 5, 5, 0]], np.float32),),
        {"axis": 1},
        array([1, 1], np.int64),
    ),
    "position of the smallest": (
        "reduce.argmin",
        (array([[1, NAN, 5, NAN], [1, 0, 5, 0]], np.float32),),
        {"axis": 1},
        array([1, 1], np.int64),
    ),
    "position down columns": (
        "reduce.argmax",
        (np.tile(array([[1], [NAN], [5]], np.float32), (1, 21)),),
        {"axis": 0},
        np.ones(21, np.int64),
    ),
    "largest with NaN": (
        "reduce.max",
        (array([[1, NAN], [1, 2]], np.float32),),
        {"axes": (1,)},
        f32(NAN, 2),
    ),
    "pool with NaN": (
        "nn.max_pool",
        (array([[[1, NAN, 5, 7, 2, 3]]], np.float32),),
        {"kernel": (2,), "strides": (2,), "dilations": (1,), "pads_before": (0,), "pads_after": (0,)},
        array([[[NAN, 7, 3]]], np.float32),
    ),
    "padding never wins": (
        "nn.max_pool",
        (array([[[-5, -7]]], np.float32),),
        {"kernel": (2,), "strides": (2,), "dilations": (1,), "pads_before": (1,), "pads_after": (1,)},
        array([[[-5, -7]]], np.float32),
    ),
    "denormals are kept": (
        "math.mul",
        (f32(1e-40, -1e-45, 1e-38), f32(1, 1, 0.5)),
        {},
        f32(1e-40, -1e-45, 5e-39),
    ),
    "denormal doubles": (
        "math.mul",
        (array([5e-324, 1e-310], np.float64), array([1, 0.5], np.float64)),
        {},
        array([5e-324, 5e-311], np.float64),
    ),
    "denormal sums": ("reduce.sum", (np.full(40, 1e-40, np.float32),), {}, f32(np.float32(1e-40) * 40)[0]),
    "legal indices": (
        "tensor.gather",
        (f32(1, 2, 3), array([-3, 2, -1], np.int64)),
        {"axis": 0},
        f32(1, 3, 3),
    ),
    "rounding to even": ("math.round", (f32(0.5, 1.5, -2.5, 2.5),), {}, f32(0, 2, -2, 2)),
}
"""Row: op, operands, attributes, result."""


@functools.cache
def results(target: str) -> dict[str, Any]:
    """The results of all rows, from one module."""
    b = Builder()
    outs = []
    values = {
        name: [b.input(f"{n} {i}", type_of(a)) for i, a in enumerate(operands)]
        for n, (name, (_, operands, _, _)) in enumerate(ROWS.items())
    }
    for name, (op, _, attrs, _) in ROWS.items():
        outs.append(getattr(b, op.replace(".", "_"))(*values[name], **attrs))
    for n, value in enumerate(outs):
        b.output(f"out {n}", value)
    made = compiled(b.module, target).run(*(a for _, operands, _, _ in ROWS.values() for a in operands))
    return dict(zip(ROWS, made, strict=True))


@every_target
@pytest.mark.parametrize("row", ROWS)
def test_values(row: str, target: str) -> None:
    got, want = results(target)[row], np.asarray(ROWS[row][3])
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, strict=True)


# ---------------------------------------------------------------------------------- refused at run time

INDEX, DIVISION = (OutOfRangeIndex, IndexOutOfRange), (IntegerDivisionByZero, NativeDivisionByZero)

X = np.arange(12, dtype=np.float32).reshape(3, 4)
POISON: dict[
    str, tuple[str, tuple[Any, ...], dict[str, Any], int, list[Any], tuple[type[AinoError], ...]]
] = {
    "gather": (
        "tensor.gather",
        (X, array([0, -3], np.int64)),
        {"axis": 0},
        1,
        [array(v, np.int64) for v in ([0, 3], [-4, 0], [2**30, 0], [0, -(2**30)], [2**62, 0], [I64.min, 0])],
        INDEX,
    ),
    "gather of bytes": (
        "tensor.gather",
        (X, array([0, 3], np.uint8)),
        {"axis": 1},
        1,
        [array([0, 4], np.uint8), array([255, 0], np.uint8)],
        INDEX,
    ),
    "gather_nd": (
        "index.gather_nd",
        (X, array([[0, 1], [2, -4]], np.int64)),
        {},
        1,
        [array(v, np.int64) for v in ([[0, 1], [3, 0]], [[0, 4], [0, 0]], [[-4, 0], [0, 0]])],
        INDEX,
    ),
    "gather_elements": (
        "index.gather_elements",
        (X, array([[0, 1], [2, 3]], np.int64)),
        {"axis": 1},
        1,
        [array(v, np.int64) for v in ([[0, 1], [2, 4]], [[-5, 0], [0, 0]])],
        INDEX,
    ),
    "scatter_elements": (
        "index.scatter_elements",
        (X, array([[0, 1]], np.int64), f32(7, 8).reshape(1, 2)),
        {"axis": 1},
        1,
        [array([[0, 4]], np.int64), array([[-5, 0]], np.int64)],
        INDEX,
    ),
    "scatter_nd": (
        "index.scatter_nd",
        (X, array([[0, 1], [2, 2]], np.int64), f32(7, 8)),
        {},
        1,
        [array([[0, 1], [3, 0]], np.int64), array([[0, -5], [0, 0]], np.int64)],
        INDEX,
    ),
    **{
        f"{op} {dtype}": (
            f"math.{op}",
            (array([9] * 21, dtype), array([2] * 21, dtype)),
            {},
            1,
            [array([2] * at + [0] + [2] * (20 - at), dtype) for at in (0, 7, 20)],
            DIVISION,
        )
        for op in ("div", "floordiv", "mod")
        for dtype in ("int32", "int64", "uint8", "int8")
    },
}
"""Row: op, legal operands, attributes, the operand to poison, poisoned values, errors."""


@functools.cache
def refusing(target: str) -> Any:
    """One executable with all ops that may refuse, each a node of its own name."""
    b = Builder()
    values = {
        name: [b.input(f"{name} {i}", type_of(a)) for i, a in enumerate(operands)]
        for name, (_, operands, *_) in POISON.items()
    }
    for name, (op, _, attrs, *_) in POISON.items():
        b.loc = loc(f"node '{name}'")
        b.output(f"out {name}", getattr(b, op.replace(".", "_"))(*values[name], **attrs))
    return compiled(b.module, target)


def legal() -> dict[str, list[Any]]:
    return {name: list(operands) for name, (_, operands, *_) in POISON.items()}


def run_all(exe: Any, operands: dict[str, list[Any]]) -> tuple[Any, ...]:
    return tuple(exe.run(*(a for group in operands.values() for a in group)))


@every_target
@pytest.mark.parametrize("row", POISON)
def test_refusals_name_the_node_and_leave_no_trace(row: str, target: str) -> None:
    exe = refusing(target)
    before = run_all(exe, legal())
    _, _, _, position, poisons, errors = POISON[row]
    for poison in poisons:
        operands = legal()
        operands[row][position] = poison
        with pytest.raises(errors) as caught:
            run_all(exe, operands)
        assert f"node '{row}'" in str(caught.value)
    for old, new in zip(before, run_all(exe, legal()), strict=True):
        np.testing.assert_array_equal(old, new)


@every_target
@pytest.mark.parametrize("row", ["softmax", "matmul", "sum", "layer_norm", "attention-like"])
def test_refusals_survive_fusion(row: str, target: str) -> None:
    """A lookup or an integer division may become part of another kernel: its check goes with it."""
    b = Builder()
    table = b.input("table", tensor("f32", 5, 8))
    indices = b.input("indices", tensor("i64", 6))
    b.loc = loc("node 'lookup'")
    rows = b.gather(table, indices, axis=0)
    b.loc = loc("node 'user'")
    if row == "softmax":
        out = b.softmax(rows)
    elif row == "matmul":
        out = b.matmul(rows, b.constant(np.ones((8, 3), np.float32)))
    elif row == "sum":
        out = b.reduce_sum(rows, axes=(1,))
    elif row == "layer_norm":
        one = b.constant(np.ones(8, np.float32))
        out = b.layer_norm(b.add(rows, one), one, one)
    else:
        out = b.matmul(b.softmax(b.matmul(rows, rows, transpose_rhs=True)), rows)
    b.output("y", out)
    exe = compiled(b.module, target)
    x = np.ones((5, 8), np.float32)
    exe.run(x, array([0, 1, 2, 3, 4, -5], np.int64))
    for poison in (5, -6, 2**40):
        with pytest.raises(INDEX, match="lookup"):
            exe.run(x, array([0, 1, 2, 3, 4, poison], np.int64))


@every_target
def test_division_checks_survive_fusion(target: str) -> None:
    b = Builder()
    x, y = b.input("x", tensor("i32", 4, 8)), b.input("y", tensor("i32", 8))
    b.loc = loc("node 'ratio'")
    quotient = b.div(x, y)
    b.loc = loc()
    b.output("s", b.softmax(b.cast(quotient, to="f32")))
    b.output("m", b.reduce_max(quotient, axes=(1,)))
    exe = compiled(b.module, target)
    good = np.full((4, 8), 6, np.int32), np.full(8, 2, np.int32)
    assert exe.run(*good)[1].tolist() == [3] * 4
    bad = good[1].copy()
    bad[5] = 0
    with pytest.raises(DIVISION, match="ratio"):
        exe.run(good[0], bad)


# ---------------------------------------------------------------------------------- refused extents


def test_an_expansion_beyond_all_memory_is_refused_when_it_is_built() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    with pytest.raises(SizeLimit, match="4611686018427387904"):
        b.expand(x, shape=(2**31, 2**31))


def test_negative_extents_are_refused_when_they_are_built() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    with pytest.raises(NegativeExtent, match="-3"):
        b.expand(x, shape=(-3, 4))
    with pytest.raises(NegativeExtent, match="-1"):
        b.pad(x, before=(-1,), after=(-1,))


def symbolic_expansion() -> Module:
    """x expanded to the extents of two inputs that hold nothing."""
    b = Builder()
    m, n = b.symbol("m"), b.symbol("n")
    b.input("a", tensor("f32", m, 0))
    b.input("b", tensor("f32", n, 0))
    x = b.input("x", tensor("f32", 1, 1))
    b.output("y", b.expand(x, shape=(m, n)))
    return b.module


@every_target
def test_an_expansion_beyond_all_memory_is_refused_when_it_is_run(target: str) -> None:
    exe = compiled(symbolic_expansion(), target)
    x = f32(5).reshape(1, 1)
    (small,) = exe.run(np.zeros((2, 0), np.float32), np.zeros((3, 0), np.float32), x)
    assert small.tolist() == [[5.0] * 3] * 2
    for m, n in ((2**31, 2**31), (2**40, 2**40), (2**60, 4)):
        with pytest.raises((SizeLimit, SizeLimitAtRun)):
            exe.run(np.zeros((m, 0), np.float32), np.zeros((n, 0), np.float32), x)


@every_target
def test_intermediate_results_beyond_all_memory_are_refused(target: str) -> None:
    """Their sizes overflow 64 bits: an arena of the wrapped size would be far too small."""
    b = Builder()
    m, n = b.symbol("m"), b.symbol("n")
    b.input("a", tensor("f32", m, 0))
    b.input("b", tensor("f32", n, 0))
    x = b.input("x", tensor("f32", 1, 1))
    wide = b.expand(b.exp(x), shape=(m, n))
    b.output("y", b.softmax(b.reduce_sum(b.cumsum(wide, axis=1), axes=(0, 1), keepdims=True)))
    exe = compiled(b.module, target)
    x = f32(0).reshape(1, 1)
    assert exe.run(np.zeros((2, 0), np.float32), np.zeros((3, 0), np.float32), x)[0].tolist() == [[1.0]]
    for m, n in ((2**31, 2**31), (2**32, 2**32), (2**60, 4), (2**60 + 1, 16)):
        with pytest.raises((SizeLimit, SizeLimitAtRun)):
            exe.run(np.zeros((m, 0), np.float32), np.zeros((n, 0), np.float32), x)


@every_target
def test_extents_that_become_negative_are_refused(target: str) -> None:
    b = Builder()
    n = b.symbol("n")
    x = b.input("x", tensor("f32", n))
    b.output("y", b.slice(x, starts=(0,), sizes=(n - 4,), steps=(1,)))
    exe = compiled(b.module, target)
    assert exe.run(np.arange(6, dtype=np.float32))[0].tolist() == [0, 1]
    with pytest.raises((NegativeExtent, DimError)):
        exe.run(np.zeros(3, np.float32))


@every_target
def test_intermediate_extents_that_become_negative_are_refused(target: str) -> None:
    b = Builder()
    n = b.symbol("n")
    x = b.input("x", tensor("f32", n))
    b.loc = loc("node 'cut'")
    cut = b.exp(b.slice(x, starts=(0,), sizes=(n - 4,), steps=(1,)))
    b.loc = loc("node 'total'")
    b.output("y", b.reduce_sum(b.cumsum(cut, axis=0), axes=(0,)))
    exe = compiled(b.module, target)
    assert exe.run(np.zeros(6, np.float32))[0].tolist() == 3
    assert exe.run(np.zeros(4, np.float32))[0].tolist() == 0
    with pytest.raises((NegativeExtent, NativeShapeError), match="cut"):
        exe.run(np.zeros(3, np.float32))


# ---------------------------------------------------------------------------------- inputs


def doubling() -> Module:
    b = Builder()
    x = b.input("x", TensorType(tensor("f32").dtype, (2, symbol_of(b))))
    b.output("y", b.add(x, x))
    return b.module


def symbol_of(b: Builder) -> Any:
    b.symbol("n", 1, 64)
    return symbol("n")


@every_target
def test_inputs_are_checked_never_converted(target: str) -> None:
    exe = compiled(doubling(), target)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for same in (
        x.astype(">f4"),
        np.asfortranarray(x),
        np.repeat(x, 2, 1)[:, ::2],
        x[::-1, ::-1][::-1, ::-1],
    ):
        np.testing.assert_array_equal(exe.run(same)[0], 2 * x)
    odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    np.testing.assert_array_equal(exe.run(odd)[0], 2 * x)
    for wrong in (x.astype(np.float64), x.astype(np.int32), x[0], x[:, :, None]):
        with pytest.raises((InputMismatch, DimError)):
            exe.run(wrong)
    with pytest.raises((InputMismatch, DimError)):
        exe.run(np.zeros((3, 3), np.float32))
    with pytest.raises((InputMismatch, DimError)):
        exe.run(np.zeros((2, 65), np.float32))


NASTY = (
    'quote " and back\\slash',
    "line\nbreak\r\n#error",
    "comment end */ int x; /*",
    "../../etc/passwd",
    "$(touch x) `id` %s %n",
    "int",
    "\u202eright to left \u00e9\u4e2d",
    "??/ trigraph",
    "nul\0inside",
    "",
)


@every_target
def test_names_are_only_names(target: str) -> None:
    b = Builder()
    for number, name in enumerate(NASTY):
        b.loc = loc(f"node {name}")
        x = b.input(name + "x", tensor("f32", 3))
        b.output(name + "y", b.op(type(b.relu(x).op), x, names=(name,)).result if number else b.relu(x))
    module = b.module
    module.name = NASTY[2] + NASTY[3]
    exe = compiled(module, target)
    given = [f32(-1, n, 2) for n in range(len(NASTY))]
    for made in (exe.run(*given), exe.run({name + "x": a for name, a in zip(NASTY, given, strict=True)})):
        for a, y in zip(given, made, strict=True):
            np.testing.assert_array_equal(y, np.maximum(a, 0))
    assert [n for n, _ in exe.outputs] == [name + "y" for name in NASTY]

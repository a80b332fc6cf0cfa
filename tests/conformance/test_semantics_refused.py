"""The rows of the semantics table about errors: what is refused when it is built, and when it is run.

All that a run refuses is one module: a kernel must name its node and leave the executable as it was.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dims import symbol
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
from tests.conformance.semantics import I64, array, compiled, every_target, f32

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

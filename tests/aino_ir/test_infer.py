"""What `Op.infer` may ask: proofs, entry checks, limits, contents known at compile time."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.dims import symbol
from aino_ir.errors.ir import (
    BadAttribute,
    BadOperand,
    DTypeMismatch,
    NegativeExtent,
    RankMismatch,
    ShapeMismatch,
    SizeLimit,
    Undecided,
)
from aino_ir.infer import MAX_RANK, InferContext
from aino_ir.symbols import Symbols
from aino_ir.types import SequenceType, TensorType, tensor

S, T = symbol("s"), symbol("t")


def context(record: bool = True) -> InferContext:
    symbols = Symbols()
    symbols.new("s", 1, 64)
    symbols.new("t", 1, 64)
    return InferContext(symbols, record)


def test_equal_extents_need_no_check() -> None:
    ic = context()
    assert ic.same(S + 1, 1 + S, "extents") is S + 1
    assert not ic.symbols.checks


def test_unknown_equality_becomes_a_check_and_a_fact() -> None:
    ic = context()
    ic.same(S, T, "rows")
    assert len(ic.symbols.checks) == 1
    assert ic.symbols.prove_eq(S, T)
    ic.same(S, T, "rows")
    assert len(ic.symbols.checks) == 1


def test_a_static_extent_wins() -> None:
    assert context().same(S, 8, "rows") == 8
    assert context().same(8, S, "rows") == 8


def test_refuted_equality_names_both_sides() -> None:
    with pytest.raises(ShapeMismatch, match="rows must be equal, got 3 and 4"):
        context().same(3, 4, "rows")
    with pytest.raises(ShapeMismatch):
        context().same(S, 65, "rows")
    with pytest.raises(RankMismatch, match="rank 1, got 2"):
        context().same_shape((3,), (3, 3), "x")


def test_speculation_records_nothing() -> None:
    ic = context(record=False)
    with pytest.raises(Undecided, match="s and t"):
        ic.same(S, T, "rows")
    with pytest.raises(Undecided):
        ic.at_least(S, 2, "rows")
    assert not ic.symbols.checks


def test_lower_bounds_are_proved_checked_or_refused() -> None:
    ic = context()
    ic.at_least(S, 1, "rows")
    assert not ic.symbols.checks
    ic.at_least(S, 2, "rows")
    assert len(ic.symbols.checks) == 1
    with pytest.raises(BadOperand, match="at least 65"):
        ic.at_least(S, 65, "rows")


def test_broadcasting_is_numpys() -> None:
    ic = context()
    assert ic.broadcast((2, 1, 3), (4, 1), ()) == (2, 4, 3)
    assert ic.broadcast((S, 1), (1, 5)) == (S, 5)
    assert ic.broadcast() == ()
    assert ic.broadcast((0,), (1,)) == (0,)
    with pytest.raises(ShapeMismatch):
        ic.broadcast((2,), (3,))


def test_results_have_limits() -> None:
    ic = context()
    with pytest.raises(NegativeExtent):
        ic.result_shape((2, -1))
    with pytest.raises(SizeLimit):
        ic.result_shape((1 << 31, 1 << 31))
    with pytest.raises(RankMismatch):
        ic.result_shape((1,) * (MAX_RANK + 1))
    assert ic.result_shape((S - S + 2, 0)) == (2, 0)


def test_axes_count_from_either_end() -> None:
    ic = context()
    assert [ic.axis(a, 3) for a in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    for axis, rank in ((3, 3), (-4, 3), (1, 0)):
        with pytest.raises(BadAttribute, match="axis"):
            ic.axis(axis, rank)


def test_operands_must_be_tensors_of_one_dtype() -> None:
    b = Builder()
    ic = context()
    sequence = b.input("q", SequenceType(tensor("f32", 2)))
    with pytest.raises(DTypeMismatch, match="a tensor"):
        ic.tensor(sequence, "x")
    with pytest.raises(DTypeMismatch, match="dtype of operand 1 must be f32, got i64"):
        ic.same_dtype(b.input("x", tensor("f32", 2)), b.input("n", tensor("i64", 2)))
    with pytest.raises(RankMismatch, match="rank 2, got 1"):
        ic.rank(b.input("y", tensor("f32", 2)), 2, "y")


def test_a_data_symbol_is_minted_once() -> None:
    b = Builder()
    op = b.op(op_class("relu"), b.input("x", tensor("f32", 4)))
    ic = InferContext(b.function.symbols, op=op)
    first = ic.data_symbol(0, 4)
    assert ic.data_symbol(0, 4) is first
    assert b.function.symbols.interval(first) == (0, 4)


def test_only_small_integers_are_known() -> None:
    b = Builder()
    assert b.known(b.constant(np.arange(64))) == tuple(range(64))
    assert b.known(b.constant(np.arange(65))) is None
    assert b.known(b.constant(np.zeros(2, np.float32))) is None
    assert b.known(b.input("n", tensor("i64", 2))) is None
    assert b.known(b.constant(np.array([True, False]))) == (1, 0)


def test_known_contents_that_would_wrap_are_not_known() -> None:
    b = Builder()
    big = b.constant(np.array([2**31 - 1], np.int32))
    assert b.known(b.add(big, b.constant(np.array([0], np.int32)))) == (2**31 - 1,)
    assert b.known(b.add(big, b.constant(np.array([1], np.int32)))) is None


def test_types_of_results_are_row_major() -> None:
    b = Builder()
    y = b.add(b.input("x", tensor("f32", S, 3)), b.input("b", tensor("f32", 3)))
    assert isinstance(y.type, TensorType)
    assert y.type.shape == (S, 3) and y.type.layout.is_row_major


def test_signs_of_extents_and_truth_that_one_operand_decides_are_known() -> None:
    """What JAX's division of extents, rounded down, is made of."""
    b = Builder()
    n = b.symbol("n", 1, None)
    size, any_size = b.dims_vector([n]), b.dims_vector([b.symbol("m", 0, None)])
    assert b.known(b.sign(size)) == (1,)
    assert b.known(b.sign(b.neg(size))) == (-1,)
    assert b.known(b.sign(b.sub(size, size))) == (0,)
    assert b.known(b.sign(any_size)) is None
    yes, no = b.constant(np.array([True])), b.constant(np.array([False]))
    unknown = b.eq(size, b.constant(np.array([7])))
    assert b.known(unknown) is None
    assert b.known(b.logical_and(unknown, no)) == (False,)
    assert b.known(b.logical_or(yes, unknown)) == (True,)
    assert b.known(b.logical_and(unknown, yes)) is None
    assert b.known(b.logical_or(unknown, no)) is None
    assert b.known(b.logical_xor(unknown, yes)) is None

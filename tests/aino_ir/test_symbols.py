"""The symbol table: proofs that shapes and kernels need, facts, checks, scopes and binding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.dims import Dim, DimLike, ceildiv, dmax, dmin, symbol
from aino_ir.errors import CATALOGUE
from aino_ir.errors import dims as errors
from aino_ir.errors.dims import (
    CheckFailed,
    ContradictoryDims,
    EmptyRange,
    ExtentMismatch,
    InvalidSymbolName,
    RankMismatch,
    SymbolOutOfRange,
    SymbolRedefined,
    UnknownSymbol,
)
from aino_ir.symbols import LOCAL, Check, Origin, Symbols


@pytest.fixture
def table() -> Symbols:
    """b in 1..64, s in 1..512 and t in 1..512 from inputs; n and m unbounded extents."""
    symbols = Symbols()
    symbols.new("b", 1, 64, origin=Origin.input("x", 0))
    symbols.new("s", 1, 512, origin=Origin.input("x", 1))
    symbols.new("t", 1, 512, origin=Origin.input("y", 1))
    symbols.new("n", origin=Origin.input("z", 0))
    symbols.new("m", origin=Origin.input("z", 1))
    return symbols


b, s, t, n, m, i, j = map(symbol, "bstnmij")


# ------------------------------------------------------------------------- the table


def test_new_declares(table: Symbols) -> None:
    assert "b" in table and "q" not in table
    assert list(table) == ["b", "s", "t", "n", "m"] and len(table) == 5
    assert table.info("s") == (1, 512, 1, Origin.input("x", 1))
    assert table.info("n") == (0, None, 1, Origin.input("z", 0))
    assert str(Origin.input("x", 1)) == "input x axis 1"
    assert str(Origin.data(7, 0, n)) == "data of op 7 result 0"
    assert str(Origin.value(7)) == "value of op 7 result 0"
    assert str(LOCAL) == "local" and Origin.local() is LOCAL


def test_steps_round_the_range() -> None:
    symbols = Symbols()
    symbols.new("k", 3, 30, 8)
    assert symbols.interval(symbol("k")) == (8, 24)
    assert symbols.info("k").divisible_by == 8
    assert symbols.declared("k").lo == 3


def test_bad_declarations(table: Symbols) -> None:
    with pytest.raises(
        SymbolRedefined, match="s is already declared as input x axis 1; it cannot also be local"
    ):
        table.new("s")
    with pytest.raises(EmptyRange, match=r"9\.\.8 holds no multiple of 1"):
        table.new("q", 9, 8)
    with pytest.raises(EmptyRange, match=r"9\.\.15 holds no multiple of 8"):
        table.new("q", 9, 15, 8)
    with pytest.raises(InvalidSymbolName):
        table.new("a b")
    with pytest.raises(UnknownSymbol, match="known symbols: b, s, t, n, m"):
        table.info("q")
    assert "q" not in table
    assert table.interval(table.new("q", 1, 2)) == (1, 2)


def test_fresh_names(table: Symbols) -> None:
    assert table.fresh("s") == "s_2"
    assert table.fresh("batch size") == "batch_size"
    assert table.fresh("7") == "d7"
    assert table.fresh("日本") == "d"
    table.new("s_2")
    assert table.fresh("s") == "s_3"


def test_data_symbols_are_minted_once(table: Symbols) -> None:
    first = table.data(12, 0, n * m)
    assert table.data(12, 0, n * m) is first
    assert table.data(12, 1, 5) is not first
    assert table.info("d12_0").origin == Origin.data(12, 0, n * m)
    table.new("d13_0", origin=Origin.input("w", 0))
    assert str(table.data(13, 0, 4)) == "d13_0_"
    assert table.data(13, 0, 4) is symbol("d13_0_")
    assert table.data(12, 0, n, position=1) is symbol("d12_0_1")
    assert table.data(12, 0, n, position=1) is symbol("d12_0_1")
    assert table.prove_ge(n * m, first) is True
    bounded = table.data(14, 0, 2 * s + 1)
    assert table.info(str(bounded))[:2] == (0, 1025) and table.declared(str(bounded)).hi is 2 * s + 1


def test_unknown_symbols_are_unbounded(table: Symbols) -> None:
    assert table.interval(symbol("stranger")) == (None, None)
    assert table.prove_ge(symbol("stranger"), 0) is None


# ------------------------------------------------------------------------- proofs


@pytest.mark.parametrize(
    ("a", "c", "equal", "least"),
    [
        (b * s * 768, 12 * b * s * 64, True, True),
        (s, t, None, None),
        (s, s + 1, False, False),
        (s + 1, s, False, True),
        (2 * s, 2 * t + 1, False, None),
        (s, 512, None, None),
        (s, 513, False, False),
        (512, s, None, True),
        (b * s, s, None, True),
        (b * s, b, None, True),
        (b * s, b + s - 1, None, True),
        (n * m, 0, None, True),
        (n * n, 0, None, True),
        (s % 8, 8, False, False),
        (7, s % 8, None, True),
        (s, 8 * (s // 8), None, True),
        (8 * ceildiv(s, 8), s, None, True),
        (s + 7, 8 * ceildiv(s, 8), None, True),
        (s - 1, s % t, None, None),
        (t - 1, s % t, None, True),
        (s % t, 0, None, True),
        (s, t * (s // t), None, True),
        (dmin(s, t), s, None, None),
        (s, dmin(s, t), None, True),
        (dmax(s, t), s, None, True),
        (dmax(s, t) + dmin(s, t), s + t, True, True),
        (s // 2 + (s + 1) // 2, s, True, True),
        ((s + n) // 4, s // 4, None, True),
    ],
)
def test_proofs(table: Symbols, a: DimLike, c: DimLike, equal: bool | None, least: bool | None) -> None:
    assert table.prove_ge(a, c) is least
    assert table.prove_eq(a, c) is equal
    assert table.prove_eq(c, a) is equal
    if equal is False and least is True:
        assert table.prove_gt(a, c) is True


def test_divisibility(table: Symbols) -> None:
    k = table.new("k", 0, None, 8)
    assert table.prove_divisible(k, 4) is True
    assert table.prove_divisible(k + 4, 8) is False
    assert table.prove_divisible(k * s + 16, 8) is True
    assert table.prove_divisible(s, 2) is None
    assert table.prove_divisible(6 * s + 4, 2) is True
    assert table.prove_divisible(6 * s + 3, 6) is False
    assert table.prove_divisible(6 * s + 2, 3) is False
    assert table.prove_divisible(b * s, s) is True
    assert table.prove_divisible(b, s) is None
    assert table.prove_divisible(s * (s + 1), 2) is None
    assert table.prove_divisible(k // 4, 2) is True
    assert table.prove_divisible(dmin(k, 16), 8) is True
    assert table.prove_divisible(12, -4) is True
    assert table.prove_divisible(12, 0) is None
    assert table.prove_eq(k // 2, 4 * (k // 8)) is True
    assert table.simplify((k + j) // 8 * 8 - (j // 8) * 8) is k


def test_exact_division(table: Symbols) -> None:
    assert table.div(b * s * 768, b * s) == 768
    assert table.div(768 * b * s, 12 * s) is 64 * b
    assert table.div((s + 1) * t, s + 1) is t
    assert table.div(12, 4) == 3
    assert table.div(13, 4) is None
    assert table.div(13, 0) is None
    assert table.div(s, 2) is None
    assert table.div(n * 5, n) is None, "n may be zero"
    assert table.div(s * s - 1, s - 1) is None, "s may be one"
    table.assume_ge(n, 1, "not empty")
    assert table.div(n * 5, n) == 5
    table.assume_divisible(s, 7, "windows")
    assert table.div(s * t, 7) is t * (s // 7)


@pytest.mark.parametrize(
    ("value", "simple"),
    [
        ((4 * i + j) // 4, i),
        ((4 * i + j) % 4, j),
        ((8 * i + 4 + j) // 4, 2 * i + 1),
        ((8 * i + j) // 8, i),
        ((8 * i + j) % 8, j),
        ((16 * i + 4 * s + j) // 8, 2 * i + s // 2),
        ((4 * i + j) // 8, i // 2),
        ((4 * i - j - 1) // 4, i - 1),
        (j // 4, 0),
        (j // 2, j // 2),
        (j % 4, j),
        ((j - 4) // 4, -1),
        (i // t, i // t),
        (j // (t + 3), 0),
        (j % (t + 3), j),
        ((t * i + j * 0) // t, i),
        (dmin(i, 20), i),
        (dmin(i, j + 15), i),
        (dmax(i, 0), i),
        (dmin(i, j), dmin(i, j)),
        (dmin(b * s, s, 600), s),
        (symbol("one") * s, s),
        (dmin(i, t) // t, dmin(i, t) // t),
        (-j // 4, -((j + 3) // 4)),
    ],
)
def test_simplify(table: Symbols, value: DimLike, simple: DimLike) -> None:
    table.new("i", 0, 15)
    table.new("j", 0, 3)
    table.new("one", 1, 1)
    got = table.simplify(value)
    assert got is simple or got == simple


def test_intervals(table: Symbols) -> None:
    table.new("i", 0, 63)
    assert table.interval(5) == (5, 5)
    assert table.interval(2 * s - b) == (-62, 1023)
    assert table.interval(s * b) == (1, 512 * 64)
    assert table.interval(n - s) == (-512, None)
    assert table.interval(s // 10) == (0, 51)
    assert table.interval(s % 8) == (0, 7)
    assert table.interval((8 * s) % 12) == (0, 8)
    assert table.interval(s // 2 - 2 * (s // 4)) == (0, 1)
    assert table.interval(n % s) == (0, 511)
    assert table.interval(n // s) == (0, None)
    assert table.interval(-n // s)[1] == 0
    assert table.interval(dmin(n, 9)) == (0, 9)
    assert table.interval(dmin(8 * i + 8, s) - 8 * i)[1] == 8
    assert table.interval((i - 5) * (i - 5))[1] is not None
    table.new("j", 0, 3)
    assert table.interval(i - dmin(i, j)) == (0, 63)
    assert table.interval(s - dmin(s, n)) == (0, 512)
    assert table.interval(symbol("free") // symbol("other")) == (None, None)


# ------------------------------------------------------------------------- loops


def test_tiles_of_a_symbolic_extent(table: Symbols) -> None:
    """Rows of a tiled loop: inside with a clamped inner loop, unknown without."""
    with table.with_range("m0", 0, ceildiv(n, 8) - 1) as tile:
        with table.with_range("i", 0, dmin(8, n - 8 * tile) - 1) as row:
            assert table.prove_gt(n, 8 * tile + row) is True
            assert table.prove_ge(8 * tile + row, 0) is True
            assert table.prove_gt(8, row) is True
            assert table.prove_gt(n * s, (8 * tile + row) * s) is True
        with table.with_range("i", 0, 7) as row:
            assert table.prove_gt(n, 8 * tile + row) is None
            with table.scope():
                table.given_ge(n - 1, 8 * tile + row)
                assert table.prove_gt(n, 8 * tile + row) is True
            assert table.prove_gt(n, 8 * tile + row) is None
            assert table.simplify((8 * tile + row) // 8) is tile
        assert table.prove_ge(n, 8 * tile + 1) is True


def test_fused_symbolic_loops(table: Symbols) -> None:
    """One loop over s * t split again by division."""
    with table.with_range("f", 0, s * t - 1) as flat:
        assert table.prove_gt(s, flat // t) is True
        assert table.prove_gt(t, flat % t) is True
        assert table.prove_ge(flat // t, 0) is True
        assert table.prove_eq((flat // t) * t + flat % t, flat) is True


@pytest.mark.parametrize(("stride", "pad", "kernel"), [(1, 0, 3), (2, 0, 3), (1, 1, 3), (2, 3, 7)])
def test_taps_of_a_convolution(table: Symbols, stride: int, pad: int, kernel: int) -> None:
    """Taps stay inside the padded input of symbolic height."""
    height = table.new("h", kernel, None)
    out = (height + 2 * pad - kernel) // stride + 1
    with table.with_range("oh", 0, out - 1) as row, table.with_range("kh", 0, kernel - 1) as tap:
        at = row * stride + tap - pad
        assert table.prove_gt(height + pad, at) is True
        assert table.prove_ge(at, -pad) is True
        assert table.prove_gt(height, at) is (True if pad == 0 else None)


def test_loop_variables_vanish(table: Symbols) -> None:
    with table.with_range("i", 0, 3) as loop:
        assert table.prove_gt(4, loop) is True
        with pytest.raises(SymbolRedefined):
            table.open_range("i", 0, 1)
    assert "i" not in table
    assert table.prove_gt(4, i) is None
    with table.with_range("i", 0, 30) as loop:
        assert table.prove_gt(4, loop) is None
    with table.with_range("i", 5, 5) as loop:
        assert table.simplify(loop * s) is 5 * s
    with table.with_range("i", s, s) as loop:
        assert table.prove_eq(loop, s) is True
    assert table.canonical(i) is i


def test_scopes_restore_facts(table: Symbols) -> None:
    assert table.prove_eq(s, t) is None
    with table.scope():
        table.given_eq(s, t)
        table.given_ge(s, 8)
        table.given_ge(n, m)
        assert table.prove_eq(s, t) is True
        assert table.info("t").lo == 8
    assert table.prove_eq(s, t) is None
    assert table.prove_ge(n, m) is None
    assert table.info("t").lo == 1
    assert table.checks == []


# ------------------------------------------------------------------------- facts and checks


def test_assume_records_a_check_and_a_fact(table: Symbols) -> None:
    table.assume_eq(s, t, "add")
    assert table.checks == [Check("eq", s, t, "add", None)]
    assert str(table.checks[0]) == "s == t"
    assert table.canonical(3 * t + 1) is 3 * s + 1, "the later symbol is expressed by the earlier one"
    assert table.solutions() == {"t": s}
    table.assume_eq(t * b, b * s, "again")
    assert len(table.checks) == 1, "what is provable needs no check"


def test_equality_merges_ranges(table: Symbols) -> None:
    table.new("u", 16, 100, 4, Origin.input("w", 0))
    table.assume_eq(symbol("u"), s, "add")
    assert table.info("s") == (16, 100, 4, Origin.input("x", 1))
    assert table.info("u")[:3] == (16, 100, 4)


@pytest.mark.parametrize(
    ("left", "right", "known"),
    [
        (2 * ((s + 1) // 2), s, {"s": (2, 512, 2)}),
        (s % 8, 0, {"s": (8, 512, 8)}),
        ((s + 3) // 4 * 4, s, {"s": (4, 512, 4)}),
        ((3 * s) % 8, 0, {"s": (8, 512, 8)}),
        (3 * s, 2 * t, {"s": (2, 340, 2), "t": (3, 510, 3)}),
        (s, 128, {"s": (128, 128, 128)}),
        (3 * s, 384, {"s": (128, 128, 128)}),
        (b * s, b * 16, {"s": (16, 16, 16)}),
        (s + t, 1024, {"s": (512, 512, 512), "t": (512, 512, 512)}),
        (s, 2 * t, {"s": (2, 512, 2), "t": (1, 256, 1)}),
        (s // 8, 3, {"s": (24, 31, 1)}),
    ],
)
def test_what_an_equality_teaches(
    table: Symbols, left: DimLike, right: DimLike, known: dict[str, tuple[int, int, int]]
) -> None:
    table.assume_eq(left, right, "fact")
    assert {name: table.info(name)[:3] for name in known} == known
    assert table.prove_eq(left, right) is True
    assert len(table.checks) == 1


@pytest.mark.parametrize(
    ("left", "right", "known"),
    [
        (s, 8, {"s": (8, 512)}),
        (100, 3 * s, {"s": (1, 33)}),
        (n * m, 1, {"n": (1, None), "m": (1, None)}),
        (n * s, t * s, {"n": (1, None)}),
        (s // 8, 2, {"s": (16, 512)}),
        (4, s // 8, {"s": (1, 39)}),
        (dmin(s, n), 5, {"s": (5, 512), "n": (5, None)}),
        (10, s + t, {"s": (1, 9), "t": (1, 9)}),
        (s, 512, {"s": (512, 512)}),
    ],
)
def test_what_an_inequality_teaches(
    table: Symbols, left: DimLike, right: DimLike, known: dict[str, tuple[int, int | None]]
) -> None:
    table.assume_ge(left, right, "fact")
    assert {name: table.info(name)[:2] for name in known} == known
    assert table.prove_ge(left, right) is True


def test_facts_combine(table: Symbols) -> None:
    table.assume_ge(n, m + 3, "window")
    table.assume_ge(m, s, "longer")
    assert table.prove_ge(n, s) is True
    assert table.prove_gt(n, s + 2) is True
    assert table.prove_ge(n - m, 3) is True
    assert table.prove_ge(n, s + 4) is None
    table.assume_eq(m, 2 * b + 1, "odd")
    assert table.prove_ge(n, 2 * b + 4) is True, "facts about a solved symbol move to its solution"


def test_facts_times_a_factor_of_unknown_sign(table: Symbols) -> None:
    signed = table.new("signed", -3, 3)
    table.assume_ge(n, m, "longer")
    assert table.prove_ge(n * s, m * s) is True
    assert table.prove_ge(n * s + 1, m * s) is True
    assert table.prove_ge(m * s, n * s) is None
    assert table.prove_ge(n * signed, m * signed) is None
    assert table.prove_ge(n * signed + 5, m * signed) is None


def test_products_as_facts(table: Symbols) -> None:
    table.assume_eq(n * m, 128, "reshape")
    assert table.prove_eq(2 * n * m, 256) is True
    assert table.prove_eq(n * m * 3 - 128, 256) is True
    assert table.prove_eq(n * m, 127) is False


def test_equal_symbols_chain(table: Symbols) -> None:
    table.assume_eq(n, m + 1, "one more")
    table.assume_eq(m, 2 * s, "double")
    assert table.canonical(n) is 2 * s + 1
    assert table.prove_eq(n, 2 * s + 1) is True
    assert table.prove_divisible(n, 2) is False


def test_inputs_are_not_expressed_by_data(table: Symbols) -> None:
    extent = table.data(5, 0, n)
    table.assume_eq(extent, n - 1, "nonzero")
    assert table.canonical(extent) is n - 1
    other = table.data(6, 0, None)
    table.assume_eq(m, 3 * other, "thirds")
    assert table.canonical(m) is m
    assert table.prove_eq(m, 3 * other) is True
    assert table.prove_divisible(m, 3) is True
    assert [check.after_op for check in table.checks] == [5, 6]


@pytest.mark.parametrize(
    ("left", "right"),
    [(s, 600), (s, s + 1), (2 * s, 2 * t + 1), (s % 8, 9), (64, 32), (4 * b + 2, 4 * s + 8 * t)],
)
def test_contradictory_equalities(table: Symbols, left: DimLike, right: DimLike) -> None:
    with pytest.raises(ContradictoryDims, match=r"matmul inner extent: .* == .* can never hold") as caught:
        table.assume_eq(left, right, "matmul inner extent")
    assert str(left) in str(caught.value) and str(right) in str(caught.value)
    assert table.checks == []


def test_contradictions_leave_the_table_as_it_was(table: Symbols) -> None:
    table.assume_eq(s % 2, 0, "even")
    table.assume_eq(t % 2, 1, "odd")
    before = table.info("s"), table.info("t"), table.solutions(), list(table.checks)
    with pytest.raises(ContradictoryDims, match=r"add: s == t can never hold \("):
        table.assume_eq(s, t, "add")
    with pytest.raises(ContradictoryDims, match=r"s in 2\.\.512"):
        table.assume_ge(s, 513, "long")
    with pytest.raises(ContradictoryDims, match="a known fact: s >= 513"):
        table.given_ge(s, 513)
    assert (table.info("s"), table.info("t"), table.solutions(), table.checks) == before
    assert table.prove_eq(s, t) is not True


def test_restored_checks_are_kept_even_when_provable(table: Symbols) -> None:
    table.restore_check(Check("ge", s, 1, "not empty"))
    table.restore_check(Check("eq", s, t, "add"))
    assert [str(check) for check in table.checks] == ["s >= 1", "s == t"]
    assert table.prove_eq(s, t) is True


def test_replaying_declarations_and_checks_gives_the_same_table(table: Symbols) -> None:
    table.assume_eq(s, 2 * t, "double")
    table.assume_ge(n, m, "longer")
    table.assume_eq(b % 4, 0, "quads")
    again = Symbols()
    for name in table:
        info = table.declared(name)
        again.new(name, info.lo, info.hi, info.divisible_by, info.origin)
    for check in table.checks:
        again.restore_check(check)
    assert [again.info(name) for name in again] == [table.info(name) for name in table]
    assert again.solutions() == table.solutions() and again.checks == table.checks


def test_clones_are_independent(table: Symbols) -> None:
    table.assume_ge(s, 4, "long")
    copy = table.clone()
    copy.assume_eq(s, t, "add")
    copy.new("q")
    assert copy.prove_eq(s, t) is True and copy.info("s").lo == 4
    assert table.prove_eq(s, t) is None and "q" not in table
    assert len(copy.checks) == 2 and len(table.checks) == 1


# ------------------------------------------------------------------------- values


class Typed:
    def __init__(self, *shape: DimLike) -> None:
        self.shape = shape


def test_bind(table: Symbols) -> None:
    types = [(b, s), Typed(b, t, 4), (2 * n + 1,), (s + m,)]
    shapes = [(2, 8), (2, 9, 4), (7,), (11,)]
    assert table.bind(types, shapes) == {"b": 2, "s": 8, "t": 9, "n": 3, "m": 3}
    assert table.bind([(s + t,), (s,)], [(5,), (np.int64(2),)]) == {"s": 2, "t": 3}
    assert table.bind([], []) == {}


def test_bind_uses_solutions(table: Symbols) -> None:
    table.assume_eq(t, s + 1, "one more")
    assert table.bind([(s,), (t * 2,)], [(4,), (10,)]) == {"s": 4, "t": 5}
    assert table.evaluate(t * b, {"s": 4, "b": 2}) == 10
    assert table.evaluate(7, {}) == 7
    with pytest.raises(UnknownSymbol):
        table.evaluate(n, {"s": 1})


@pytest.mark.parametrize(
    ("types", "shapes", "error", "message"),
    [
        ([(b, s)], [(1, 2, 3)], RankMismatch, r"input x has rank 3, but its type \[b, s\] has rank 2"),
        ([(b, 4)], [(1, 5)], ExtentMismatch, "input x axis 1 has extent 5, but 4 is required"),
        ([(s, s)], [(4, 5)], ExtentMismatch, r"axis 1 has extent 5, but s is required \(s = 4\)"),
        ([(s, 2 * s)], [(4, 9)], ExtentMismatch, r"extent 9, but 2\*s is required \(s = 4\)"),
        ([(2 * n,)], [(5,)], ExtentMismatch, r"extent 5, but 2\*n is required"),
        ([(s, t, s * t)], [(4, 5, 21)], ExtentMismatch, r"extent 21, but s\*t is required"),
        ([(s,)], [(600,)], SymbolOutOfRange, r"symbol s is 600, but must be in 1\.\.512"),
        ([(b,)], [(0,)], SymbolOutOfRange, r"symbol b is 0"),
    ],
)
def test_bind_errors(
    table: Symbols, types: list[tuple[DimLike, ...]], shapes: list[tuple[int, ...]], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        table.bind(types, shapes, ["x"])


def test_bind_needs_enough_to_decide(table: Symbols) -> None:
    with pytest.raises(UnknownSymbol):
        table.bind([(s * t,)], [(12,)])


def test_bind_runs_entry_checks(table: Symbols) -> None:
    table.assume_eq(s, t, "concat axis 1")
    table.assume_ge(n, m, "window")
    assert table.bind([(s,), (t,)], [(4,), (4,)]) == {"s": 4, "t": 4}
    with pytest.raises(CheckFailed, match="concat axis 1: s == t is required, but 4 == 5 is false"):
        table.bind([(s,), (t,)], [(4,), (5,)])
    with pytest.raises(CheckFailed, match="window: n >= m is required, but 3 >= 4 is false"):
        table.bind([(n, m)], [(3, 4)])


def test_bind_checks_divisibility_and_symbolic_bounds() -> None:
    symbols = Symbols()
    symbols.new("k", 0, None, 8)
    symbols.new("u", 0, symbol("k") - 1)
    assert symbols.bind([symbols_shape("k", "u")], [(16, 3)]) == {"k": 16, "u": 3}
    with pytest.raises(SymbolOutOfRange, match=r"k is 12, but must be in 0..inf and a multiple of 8"):
        symbols.bind([symbols_shape("k")], [(12,)])
    with pytest.raises(SymbolOutOfRange, match=r"u is 16, but must be in 0\.\.k - 1"):
        symbols.bind([symbols_shape("k", "u")], [(16, 16)])


def symbols_shape(*names: str) -> tuple[DimLike, ...]:
    return tuple(symbol(name) for name in names)


def test_checks_after_an_op_wait_for_it(table: Symbols) -> None:
    extent = table.data(5, 0, n)
    table.assume_ge(extent, 2, "at least two hits")
    bindings = table.bind([(n,)], [(9,)])
    table.check_bindings({**bindings, "d5_0": 2}, after_op=5)
    with pytest.raises(CheckFailed, match="at least two hits"):
        table.check_bindings({**bindings, "d5_0": 1}, after_op=5)
    with pytest.raises(SymbolOutOfRange, match=r"d5_0 is 10, but must be in 0\.\.n"):
        table.check_bindings({**bindings, "d5_0": 10}, after_op=5)


def test_every_error_renders_its_example() -> None:
    mine = [error for error in CATALOGUE.values() if error.__module__ == errors.__name__]
    assert len(mine) >= 12
    for error in mine:
        text = str(error(**error.example))
        assert text.startswith(f"{error.code}: ") and "help: " in text


def test_answers_are_found_again_when_a_scope_opens_again(table: Symbols) -> None:
    """The same declarations and facts lead to the same memo, other ones to another."""
    with table.with_range("i", 0, 7):
        assert table.prove_ge(s + i, 1) is True
        first = table._facts.memo
        with table.scope():
            table.given_ge(s, 9)
            second = table._facts.memo
            assert table.prove_ge(s + i, 9) is True
        assert table.prove_ge(s + i, 9) is None
    with table.with_range("i", 0, 8):
        assert table._facts.memo is not first
    with table.with_range("i", 0, 7):
        assert table._facts.memo is first
        with table.scope():
            table.given_ge(s, 9)
            assert table._facts.memo is second
            assert table.info("s").lo == 9
        with table.scope():
            table.given_ge(s, 10)
            assert table._facts.memo is not second
    for number in range(600):
        with table.with_range("i", 0, number):
            assert table.interval(i) == (0, number)


def test_a_late_declaration_is_seen(table: Symbols) -> None:
    late = symbol("late")
    assert table.interval(late) == (None, None)
    table.new("late", 1, 4)
    assert table.interval(late) == (1, 4)


def test_many_loops_stay_cheap_in_visits() -> None:
    """Opening and closing loops leaves nothing behind."""
    symbols = Symbols()
    extent = symbols.new("n", 1)
    for _ in range(300):
        with (
            symbols.with_range("o", 0, ceildiv(extent, 8) - 1) as outer,
            symbols.with_range("q", 0, 7) as inner,
        ):
            assert symbols.simplify((8 * outer + inner) // 8) is outer
    assert list(symbols) == ["n"] and symbols.solutions() == {}


def test_a_quotient_in_many_terms_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expanded products (places of a window over many axes) hold the same quotient in every term."""
    from aino_ir import dim_prover

    table = Symbols()
    names = [table.new(f"n{i}", 1, 64) for i in range(5)]
    k = table.new("k", 1, 8)
    whole: DimLike = k // names[0]
    for n in names:
        whole = whole * (n + 1)
    assert isinstance(whole, Dim) and len(whole.terms()) >= 16
    looked: list[Any] = []
    plain = dim_prover.Facts._remainder_interval

    def counted(self: Any, dim: Any, atom: Any) -> Any:
        looked.append(atom)
        return plain(self, dim, atom)

    monkeypatch.setattr(dim_prover.Facts, "_remainder_interval", counted)
    table._facts.interval(whole)
    assert len(looked) == 1

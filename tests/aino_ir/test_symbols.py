"""The symbol table: declarations, facts, checks and binding."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.dims import DimLike, dmin, symbol
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
from tests.aino_ir.symbol_tables import symbol_table


@pytest.fixture
def table() -> Symbols:
    """Symbols b, s, t, n and m; see `symbol_table`."""
    return symbol_table()


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

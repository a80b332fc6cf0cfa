"""Proofs about dimensions: relations, divisors, simpler forms, loops; and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from aino_ir.dims import Dim, DimLike, ceildiv, dmax, dmin, symbol
from aino_ir.errors.dims import (
    SymbolRedefined,
)
from aino_ir.symbols import Symbols
from tests.aino_ir.symbol_tables import symbol_table


@pytest.fixture
def table() -> Symbols:
    """Symbols b, s, t, n and m; see `symbol_table`."""
    return symbol_table()


b, s, t, n, m, i, j = map(symbol, "bstnmij")


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


# ------------------------------------------------------------------------- cost


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

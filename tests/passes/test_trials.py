"""Values of symbols for trials: they fit every demand, whenever the compiled program tests it."""

from __future__ import annotations

import pytest

from aino_ir.builder import Builder
from aino_ir.dims import product, symbol
from aino_ir.op import OPS
from aino_ir.passes.trials import Unrunnable, sample_bindings
from aino_ir.symbols import Symbols
from aino_ir.types import tensor


def numbers(table: Symbols, op: int, count: int) -> list[str]:
    return [str(table.value(op, i, 0, 1 << 40)) for i in range(count)]


def test_demands_on_late_extents_hold() -> None:
    b = Builder()
    table = b.function.symbols
    old, new = numbers(table, 5, 4), numbers(table, 9, 3)
    table.assume_eq(product(map(symbol, old)), product(map(symbol, new)), "sizes")
    assert table.checks[0].after_op == 9
    x = b.input("x", tensor("f32", *map(symbol, old)))
    y = b.op(OPS["tensor.reshape"], x, shape=tuple(map(symbol, new))).result
    found = sample_bindings(table, [x, y])
    assert set(found) == {*old, *new}
    table.check_bindings(found, 9)


def test_demands_that_no_small_extents_meet_are_told() -> None:
    b = Builder()
    table = b.function.symbols
    (n,) = numbers(table, 5, 1)
    table.assume_eq(symbol(n) * symbol(n), 49 * 49 * 4, "square")
    with pytest.raises(Unrunnable, match="no small extents"):
        sample_bindings(table, [b.input("x", tensor("f32", symbol(n)))])

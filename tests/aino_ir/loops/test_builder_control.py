"""Control in the loop builder: loops, guards and facts, masks, split units, the prologue and scratch."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.dims import floordiv
from aino_ir.dtypes import DTYPES, boolean, f32, i64
from aino_ir.loops.builder import Condition, LoopBuilder
from aino_ir.loops.expr import (
    Const,
    Index,
    Load,
    PrefixMask,
    Var,
    VecType,
    cast,
    compare,
    const,
)
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import (
    Access,
    Alloc,
    BindIndex,
    Comment,
    Fail,
    For,
    If,
    Let,
    Prefetch,
    Status,
    Store,
    While,
)
from aino_ir.loops.verify import verify_loops
from aino_ir.symbols import Symbols
from tests.aino_ir.loops.building import F32, count, new, only

# ---------------------------------------------------------------------------------- control


def test_a_loop_that_runs_once_leaves_no_loop() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        with b.loop("i", 3, 5, step=2) as i:
            b.store(y, unit, b.load(x, i))
        with b.loop("j", unit, unit + 1) as j:
            b.store(y, unit, b.load(x, j))
        with b.loop("k", 4, 4) as k:
            b.store(y, unit, b.load(x, k))
    fn = b.finish()
    assert i == 3 and j is unit
    assert count(fn, For) == 0 and count(fn, Store) == 2


def test_a_loop_that_may_not_run_stays_a_loop() -> None:
    b, _, y = new()
    n = b.symbol("n", 0, 1)
    with b.units(1), b.loop("i", 0, n) as i:
        b.store(y, i, 1.0)
    assert count(b.finish(), For) == 1


@pytest.mark.parametrize(("hi", "step", "last"), [(16, 8, 8), (17, 8, 16), (13, 3, 12), (12, 3, 9)])
def test_the_last_value_of_a_stepped_loop_is_known(hi: int, step: int, last: int) -> None:
    b, _, _ = new()
    with b.units(1), b.loop("i", 0, hi, step=step) as i:
        assert b.symbols.interval(i) == (0, last)


def test_the_last_value_of_a_symbolic_loop_is_known_when_it_divides() -> None:
    b, _, _ = new()
    n = b.symbol("n", 1, 4)
    with b.units(1), b.loop("i", 0, n * 8, step=8) as i:
        assert b.symbols.prove_ge(n * 8 - 8, i)


def test_loop_variables_have_ranges() -> None:
    b, _, y = new()
    n = b.symbol("n", 1, 100)
    with b.units(n) as unit:
        with b.loop("i", 0, n, step=8) as i, b.loop("j", i, n) as j:
            table = b.symbols
            assert table.prove_ge(j, 0) and table.prove_gt(n, j) and table.prove_ge(j, i)
            assert table.prove_divisible(i, 8)
            assert b.dim(floordiv(i + 7, 8)) is b.dim(floordiv(i, 8))
            b.store(y, 0, 1.0)
        assert j.free_symbols() <= {"j"}
        b.store(y, 0, 1.0)
        assert b.symbols.prove_ge(n, unit + 1)


def test_where_gives_facts_that_are_recorded_unless_proved() -> None:
    b, x, y = new()
    n = b.symbol("n", 1, 8)
    with b.units(1):
        with b.loop("i", 0, n, where=lambda i: [(n - 1, ">=", i), (n, ">=", 2 * i)]) as i:
            assert b.symbols.prove_ge(n, 2 * i)
            b.store(y, i, b.load(x, 2 * i))
        assert not b.symbols.prove_ge(n, 4)
    loop = only(b.finish(), For)
    assert isinstance(loop, For)
    assert [(str(a), r, str(c)) for a, r, c in loop.where] == [("n", ">=", "2*i")]


def test_guards_are_proved_refuted_or_kept() -> None:
    b, _, y = new()
    with b.units(8) as unit:
        for condition in [Condition(unit, "<", 8), Condition(unit, ">", 8), Condition(unit, "<=", 3)]:
            with b.when(condition):
                b.store(y, unit, 1.0)
            with b.otherwise():
                b.store(y, unit + 8, 2.0)
    fn = b.finish()
    kinds = [type(s) for s in fn.body]
    assert kinds == [Store, Store, If]
    guard = fn.body[2]
    assert isinstance(guard, If) and len(guard.then) == len(guard.otherwise) == 1


def test_guards_are_facts_inside() -> None:
    b, _, y = new()
    with b.units(8) as unit:
        with b.when(Condition(unit, "<", 3)):
            assert b.symbols.interval(unit) == (0, 2)
            b.store(y, 0, 1.0)
        with b.otherwise():
            assert b.symbols.interval(unit) == (3, 7)
        for relation, inside, outside in [
            ("<=", (0, 3), (4, 7)),
            (">", (4, 7), (0, 3)),
            (">=", (3, 7), (0, 2)),
        ]:
            with b.when(Condition(unit, relation, 3)):
                assert b.symbols.interval(unit) == inside
                b.store(y, 0, 1.0)
            with b.otherwise():
                assert b.symbols.interval(unit) == outside
        assert b.symbols.prove_ge(2, unit) is None
        with b.when(compare("ge", Index(unit), 2) & compare("lt", Index(unit), 4)):
            assert b.symbols.interval(unit) == (2, 3)
            b.store(y, 0, 1.0)
        with b.otherwise():
            assert b.symbols.interval(unit) == (0, 7)
        with b.when(Condition(unit, "==", 5)):
            assert b.dim(unit * 2) == 10
            b.store(y, 0, 1.0)


def test_contradicting_guards_are_dropped() -> None:
    b, _, y = new()
    with b.units(8) as unit:
        with b.when(compare("ge", Index(unit), 5) & compare("lt", Index(unit), 4)):
            b.store(y, 0, 1.0)
    assert count(b.finish(), Store) == 0


def test_what_did_not_fail_is_known() -> None:
    b = LoopBuilder("k")
    x, at = b.param("x", f32, 16), b.param("at", i64, 4)
    y = b.param("y", f32, 4, Access.WRITE)
    with b.units(4) as unit:
        i = b.index(b.load(at, unit))
        with b.when(compare("lt", Index(i), 0) | compare("ge", Index(i), 16)):
            b.fail(Status.INDEX_OUT_OF_RANGE, Index(i))
        assert b.symbols.prove_ge(i, 0) and b.symbols.prove_ge(15, i)
        b.store(y, unit, b.load(x, i))
    assert b.finish().can_fail


def test_what_a_block_teaches_is_forgotten_after_it() -> None:
    b = LoopBuilder("k")
    n = b.symbol("n", 0, 8)
    y = b.param("y", f32, 8, Access.WRITE)

    def give_up_below(limit: int) -> None:
        with b.when(Condition(n, "<", limit)):
            b.fail(Status.LIMIT_EXCEEDED)

    with b.units(1):
        with b.while_(lambda: Const(True, VecType(boolean))):
            give_up_below(2)
            assert b.symbols.prove_ge(n, 2)
        with b.loop("never", 3, 3):
            give_up_below(3)
        with b.when(Condition(n, ">", 8)):
            give_up_below(9)
        assert b.symbols.prove_ge(n, 1) is None
        give_up_below(1)
        assert b.symbols.prove_ge(n, 1)
        b.store(y, 0, 1.0)
    b.finish()


def test_data_dependent_guards_have_two_sides() -> None:
    b, x, y = new()
    with b.units(64) as unit:
        with b.when(compare("lt", b.load(x, unit), 0.0)):
            b.store(y, unit, -1.0)
        with b.otherwise():
            b.store(y, unit, 1.0)
    data, out = np.linspace(-1, 1, 64, dtype=np.float32), np.zeros(64, np.float32)
    run_kernel(b.finish(), [data, out])
    np.testing.assert_array_equal(out, np.where(data < 0, -1, 1))


def test_constant_guards_are_decided() -> None:
    b, _, y = new()
    with b.units(1):
        for value in (True, False):
            with b.when(Const(value, VecType(boolean))):
                b.store(y, 0, 1.0)
    assert count(b.finish(), Store) == 1


def count_masked(b: LoopBuilder) -> int:
    """How many loads of the open block have a mask."""
    loads = [s.value for s in b._scope.statements if isinstance(s, Let) and isinstance(s.value, Load)]
    return sum(load.mask is not None for load in loads)


def test_masks_are_decided_where_they_can_be() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        full = PrefixMask(14 - 2 * unit, VecType(boolean, 8))
        empty = PrefixMask(unit - 3, VecType(boolean, 8))
        for nearly in (13 - 2 * unit, unit - 2):
            assert isinstance(b.load(x, 0, 8, mask=PrefixMask(nearly, VecType(boolean, 8))), Var)
        assert count_masked(b) == 2
        loaded = b.load(x, 0, 8, mask=full, other=1.0)
        assert b.load(x, 0, 8) is loaded
        assert b.load(x, 0, 8, mask=empty, other=2.0) == const(2.0, f32, 8)
        assert b.load(x, 0, 8, mask=empty) == const(0.0, f32, 8)
        b.store(y, 0, loaded, mask=empty)
        b.store(y, 8, loaded, mask=full)
    fn = b.finish()
    store = only(fn, Store)
    assert isinstance(store, Store) and store.mask is None


def test_split_gives_coordinates_with_ranges() -> None:
    b, _, y = new()
    seen = []
    with b.units(24) as unit:
        h, one, w, c = b.split(unit, {"h": 3, "one": 1, "w": 4, "c": 2})
        assert one == 0
        for dim, extent in [(h, 3), (w, 4), (c, 2)]:
            assert b.symbols.prove_ge(dim, 0) and b.symbols.prove_ge(extent - 1, dim)
        b.store(y, (h * 4 + w) * 2 + c, cast(Index(unit), f32))
        seen = [h, w, c]
    fn, out = b.finish(), np.zeros(64, np.float32)
    run_kernel(fn, [np.zeros(64, np.float32), out])
    assert out[:24].tolist() == list(range(24))
    assert count(fn, BindIndex) == len(seen)


def test_split_by_symbolic_extents() -> None:
    b = LoopBuilder("k")
    n = b.symbol("n", 1, 50)
    y = b.param("y", i64, n * 3, Access.WRITE)
    with b.units(n * 3) as unit:
        i, j = b.split(unit, {"i": 3, "j": n})
        b.store(y, i * n + j, Index(i * 100 + j))
    out = np.zeros(15, np.int64)
    run_kernel(b.finish(), [out], {"n": 5})
    assert out.tolist() == [100 * i + j for i in range(3) for j in range(5)]


def test_one_unit_has_no_variable() -> None:
    b, _, y = new()
    with b.units(1) as unit:
        assert unit == 0
        b.store(y, unit, 1.0)
    assert b.finish().units == 1


def test_indices_are_shared_and_simple_ones_need_no_name() -> None:
    b = LoopBuilder("k")
    at = b.param("at", i64, 8)
    with b.units(8) as unit:
        value = b.load(at, unit)
        assert b.index(value, 0, 7) is b.index(value, 0, 7)
        assert b.index(value, 0, 7) is not b.index(value, 0, 6)
        assert b.index(Index(unit)) is unit is b.index(Index(unit), 0, 7)
        assert b.index(Index(unit // 2)) is unit // 2
        half = b.index(Index(unit // 2), 0, 3, "half")
        assert str(half) == "half" and b.symbols.interval(half) == (0, 3)
        assert b.index(const(3, i64)) == 3


# ---------------------------------------------------------------------------------- the whole kernel


def test_prologue_runs_before_units_and_its_names_are_visible() -> None:
    b, x, y = new()
    packed = b.alloc("packed", f32, 8)
    with b.units(8) as unit:
        with b.prologue():
            scale = b.load(x, 0)
            with b.loop("i", 0, 8) as i:
                b.store(packed, i, b.load(x, i) * scale)
        b.store(y, unit, b.load(packed, unit) + scale)
    fn, out = b.finish(), np.zeros(64, np.float32)
    run_kernel(fn, [np.full(64, 3, np.float32), out])
    assert out[:8].tolist() == [12] * 8
    assert [type(s) for s in fn.prologue] == [Alloc, Let, For]


def test_guards_of_a_unit_are_no_facts_of_the_prologue() -> None:
    b, _, y = new()
    n = b.symbol("n", 1, 8)
    with b.units(1), b.when(Condition(n, ">=", 4)):
        with b.prologue(), b.when(Condition(n, ">=", 3)):
            b.store(y, 0, 1.0)
    assert any(isinstance(s, If) for s in b.finish().prologue)


def test_scratch_is_aligned_with_constant_sizes_first() -> None:
    b, _, _ = new()
    n = b.symbol("n", 1, 100)
    b.alloc("a", f32, n)
    b.alloc("b", DTYPES["i8"], 3)
    b.alloc("b", f32, 17)
    with b.units(1):
        pass
    fn = b.finish()
    places = {s.name: s.offset for s in fn.prologue if isinstance(s, Alloc)}
    assert places == {"b": 0, "b_1": 64, "a": 192}
    assert isinstance(fn.scratch_bytes, int) or fn.scratch_bytes.evaluate({"n": 17}) == 192 + 128


def test_what_nothing_uses_is_left_out() -> None:
    b, x, y = new()
    with b.units(8) as unit:
        b.let(b.load(x, unit) * 2.0)
        b.index(b.let(cast(b.load(x, 1), i64)), 0, 7)
        forgotten = b.reg("forgotten", F32, b.load(x, 2))
        with b.loop("i", 0, 4) as i:
            b.set(forgotten, b.load(x, i))
        with b.when(Condition(unit, "<", 3)):
            b.load(x, 5)
            b.comment("nothing is done here")
        place = b.index(b.let(cast(b.load(x, 3), i64)), 0, 7)
        with b.when(Condition(unit, "<", 3)):
            b.load(x, 6)
        with b.otherwise():
            b.store(y, place, 1.0)
    fn = b.finish()
    assert [type(s) for s in fn.body] == [Let, Let, BindIndex, If]
    guard = fn.body[-1]
    assert isinstance(guard, If) and guard.then == () and len(guard.otherwise) == 1
    verify_loops(fn)


def test_what_the_body_uses_stays_in_the_prologue() -> None:
    b, x, y = new()
    with b.prologue():
        scale, _ = b.load(x, 0), b.load(x, 1)
        place = b.index(b.let(cast(b.load(x, 2), i64)), 0, 7)
    with b.units(8) as unit:
        with b.while_(lambda: compare("lt", scale, 0.0)):
            b.store(y, place, b.load(x, unit))
    assert [type(s) for s in b.finish().prologue] == [Let, Let, Let, BindIndex]


def test_symbols_are_gathered_from_the_table() -> None:
    table = Symbols()
    n, m, p = table.new("n", 1, 64), table.new("m", 2, 8), table.new("p", 1, 4)
    b = LoopBuilder("k", symbols=table)
    b.symbol("m")
    x = b.param("x", f32, n * m)
    y = b.param("y", f32, n, Access.WRITE)
    with b.units(n) as unit:
        b.load(x, p)
        b.store(y, unit, b.load(x, unit * m))
    fn = b.finish()
    assert fn.symbols == ("m", "n")  # p was only used by what nothing uses
    assert fn.facts == (("m", 2, 8), ("n", 1, 64))
    assert "unit" not in table  # the caller's table is left alone


def test_names_follow_the_body() -> None:
    def build(scale: float, header: str) -> str:
        b, x, y = new("scale")
        with b.units(64) as unit:
            b.store(y, unit, b.load(x, unit) * scale)
        return b.finish([header]).name

    assert build(2.0, "a") == build(2.0, "b") != build(3.0, "a")
    assert build(2.0, "a").startswith("scale_")


def test_unseen_statements() -> None:
    b, x, _ = new()
    with b.units(4) as unit:
        b.prefetch(x, unit * 8)
        b.comment("a line")
        with b.while_(lambda: Const(False, VecType(boolean))):
            b.fail(Status.LIMIT_EXCEEDED)
    fn = b.finish()
    assert [count(fn, kind) for kind in (Prefetch, Comment, While, Fail)] == [1, 1, 1, 1]
    assert run_kernel(fn, [np.zeros(64, np.float32)] * 2).status is Status.OK

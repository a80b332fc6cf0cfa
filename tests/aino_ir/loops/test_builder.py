"""The loop builder: what it shares, folds, proves, drops and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.dims import floordiv, symbol
from aino_ir.dtypes import DTYPES, boolean, f32, i32, i64
from aino_ir.errors.loops import (
    LoopAccessError,
    LoopNameError,
    LoopStructureError,
    LoopTypeError,
    StaleRegisterRead,
)
from aino_ir.loops.builder import Condition, LoopBuilder
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import (
    Arg,
    Const,
    Expr,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Shuffle,
    Var,
    VecType,
    binary,
    bitcast,
    call,
    cast,
    compare,
    const,
    fma,
    map_expr,
    reduce_lanes,
    select,
    splat,
    unary,
)
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.settle import fold
from aino_ir.loops.stmt import (
    Access,
    Alloc,
    BindIndex,
    Comment,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Prefetch,
    SetReg,
    Status,
    Stmt,
    Store,
    While,
    walk_statements,
)
from aino_ir.loops.verify import verify_loops
from aino_ir.symbols import Symbols

F32 = VecType(f32)


def new(name: str = "k") -> tuple[LoopBuilder, str, str]:
    """A builder with an input and an output of 64 f32."""
    b = LoopBuilder(name)
    return b, b.param("x", f32, 64), b.param("y", f32, 64, Access.WRITE)


def count(fn: LoopFn, kind: type) -> int:
    """How many statements of a kind the kernel's unit loop holds."""
    return sum(isinstance(s, kind) for s in walk_statements(fn.body))


def only(fn: LoopFn, kind: type) -> Stmt:
    """The one statement of a kind."""
    (found,) = [s for s in walk_statements(fn.body) if isinstance(s, kind)]
    return found


# ---------------------------------------------------------------------------------- values


def test_equal_pure_values_share_one_name() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        first, second = b.load(x, unit), b.load(x, unit + 0)
        assert first is second
        double, negative = b.let(first * 2.0), b.let(first * -2.0)
        assert double is b.let(second * 2.0) and double is not negative
        b.store(y, unit, double + negative)
    assert count(b.finish(), Let) == 3


def test_values_that_differ_in_one_detail_are_not_shared() -> None:
    b, x, _ = new()
    with b.units(1):
        value, four = b.load(x, 0), b.load(x, 0, 4)
        made = [
            b.let(e)
            for e in [
                cast(value, i32),
                cast(value, i64),
                cast(value, DTYPES["bf16"]),
                cast(value, DTYPES["f16"]),
                splat(value, 2),
                splat(value, 4),
                value * 2.0,
                value * 3.0,
                value / 2.0,
                value - 2.0,
                binary("sub", 2.0, value),
                unary("abs", value),
                unary("neg", value),
                compare("lt", value, 2.0),
                compare("le", value, 2.0),
                reduce_lanes("add", four),
                reduce_lanes("max", four),
                Shuffle(four, four, (0, 1), VecType(f32, 2)),
                Shuffle(four, four, (1, 0), VecType(f32, 2)),
                call("exp", value),
                call("log", value),
                bitcast(value, i32),
            ]
        ]
        loads = [b.load(x, 0, 2), b.load(x, 0, 2, stride=2), b.load(x, 1, 2)]
        prefix = PrefixMask(b.index(cast(value, i64), 0, 9), VecType(boolean, 2))
        loads += [b.load(x, 0, 2, mask=prefix), b.load(x, 0, 2, mask=prefix, other=1.0)]
    names = {e.name for e in made + loads if isinstance(e, Var)}
    assert len(names) == len(made) + len(loads)


def test_names_do_not_leave_their_block() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        outer = b.load(x, 0)
        with b.loop("i", 0, 3) as i:
            inside = b.load(x, i + 1)
            assert b.load(x, 0) is outer
        with b.loop("i", 0, 3) as j:
            again = b.load(x, j + 1)
        assert inside is not again and i is not j
        b.store(y, unit, outer)


def test_loads_of_written_buffers_are_not_shared() -> None:
    b = LoopBuilder("k")
    state = b.param("state", f32, 4, Access.READ_WRITE)
    with b.units(1):
        before = b.load(state, 0)
        b.store(state, 0, before + 1.0)
        after = b.load(state, 0)
        b.store(state, 1, after - before)
    data = np.zeros(4, np.float32)
    run_kernel(b.finish(), [data])
    assert data[1] == 1.0


def test_shared_subtrees_are_computed_once() -> None:
    b, x, y = new()
    with b.units(1):
        value: Expr = b.load(x, 0)
        for _ in range(60):
            value = value * value + value  # as a tree: 3 ** 60 nodes
        b.store(y, 0, value)
    assert count(b.finish(), Let) == 60


def test_deep_trees_are_cut() -> None:
    b, x, y = new()
    with b.units(1):
        value: Expr = b.load(x, 0)
        for _ in range(3000):
            value = value + 1.0
        b.store(y, 0, value)
    fn, out = b.finish(), np.zeros(64, np.float32)
    run_kernel(fn, [np.zeros(64, np.float32), out])
    assert out[0] == 3000 and count(fn, Let) > 100


def test_raw_loads_become_pinned_ones() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        b.store(y, unit, Load(x, unit, F32) + Load(x, unit, F32))
    assert count(b.finish(), Let) == 1


def test_variables_and_constants_need_no_name() -> None:
    b, x, _ = new()
    with b.units(4) as unit:
        value = b.load(x, unit)
        three = const(3.0, f32)
        assert b.let(value) is value and b.let(three) is three
        assert b.let(Index(unit)) == Index(unit)


@pytest.mark.parametrize(
    ("make", "same"),
    [
        (lambda v: v * 1.0, True),
        (lambda v: 1.0 * v, True),
        (lambda v: v - 0.0, True),
        (lambda v: v + -0.0, True),
        (lambda v: v / 1.0, True),
        (lambda v: v + 0.0, False),  # turns -0 into 0
        (lambda v: v * 0.0, False),
        (lambda v: select(Const(True, VecType(boolean)), v, v * 2.0), True),
    ],
)
def test_neutral_operations_vanish_only_where_exact(make: object, same: bool) -> None:
    b, x, _ = new()
    with b.units(1):
        value = b.load(x, 0)
        assert (b.let(make(value)) is value) is same  # type: ignore[operator]


def test_constants_are_folded_with_the_languages_arithmetic() -> None:
    b = LoopBuilder("k")
    with b.units(1):
        assert b.let(const(2**31 - 1, i32) + 1) == const(-(2**31), i32)
        assert b.let(cast(const(float("nan"), f32), i32)) == const(0, i32)
        assert b.let(splat(const(1.5, f32) * 2.0, 4)) == const(3.0, f32, 4)
        assert b.let(cast(const(1.00390625, f32), DTYPES["bf16"])) == const(1.0, f32)


INTEGER_OPS = ("add", "sub", "mul", "and", "or", "xor", "shl", "shr", "min", "max")
FLOAT_OPS = ("add", "sub", "mul", "div", "min", "max", "copysign")


@given(
    st.sampled_from(INTEGER_OPS),
    st.sampled_from([-1, 0, 1, 3]),
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
)
def test_folding_integers_changes_no_value(op: str, constant: int, value: int, left: bool) -> None:
    operands = (const(constant, i32), Arg(0, VecType(i32)))
    e = binary(op, *(operands if left else operands[::-1]))
    args = [np.asarray(value, np.int32)]
    assert evaluate(fold(e), args=args) == evaluate(e, args=args)


@given(st.sampled_from(FLOAT_OPS), st.sampled_from([-0.0, 0.0, 1.0, 2.0]), st.floats(width=32), st.booleans())
def test_folding_floats_changes_no_bit(op: str, constant: float, value: float, left: bool) -> None:
    operands = (const(constant, f32), Arg(0, F32))
    e = binary(op, *(operands if left else operands[::-1]))
    args = [np.asarray(value, np.float32)]
    folded, plain = evaluate(fold(e), args=args), evaluate(e, args=args)
    assert folded.tobytes() == plain.tobytes() or (np.isnan(folded) and np.isnan(plain))


def test_expressions_of_a_compute_are_refused() -> None:
    b, _, y = new()
    with b.units(1), pytest.raises(LoopTypeError, match="free of Read, Arg and Accumulator"):
        b.store(y, 0, Arg(0, F32) + 1.0)


# ---------------------------------------------------------------------------------- registers


def test_a_read_may_not_outlive_a_set() -> None:
    b, _, y = new()
    with b.units(1):
        reg = b.reg("acc", F32, 0.0)
        old = reg.read()
        b.set(reg, old + 1.0)
        with pytest.raises(StaleRegisterRead, match="acc"):
            b.store(y, 0, old)


def test_a_pinned_read_keeps_the_old_value() -> None:
    b, _, y = new()
    with b.units(1):
        reg = b.reg("acc", F32, 5.0)
        old = b.let(reg.read())
        b.set(reg, old + 1.0)
        b.store(y, 0, old)
        b.store(y, 1, reg.read())
    out = np.zeros(64, np.float32)
    run_kernel(b.finish(), [np.zeros(64, np.float32), out])
    assert out[:2].tolist() == [5, 6]


def test_a_read_from_outside_a_loop_is_stale_inside() -> None:
    b, _, _ = new()
    with b.units(1):
        reg = b.reg("acc", F32, 0.0)
        outside = reg.read()
        with b.loop("i", 0, 4), pytest.raises(StaleRegisterRead):
            b.set(reg, outside + 1.0)


def test_reading_and_setting_in_one_statement_is_right() -> None:
    b, _, y = new()
    with b.units(1):
        tile = b.reg_tile("t", (2, 2), F32, 1.0)
        assert len(tile) == 4 and tile[1, 0].name == "t_1_0"
        for reg in tile:
            b.set(reg, reg.read() + reg.read())
        b.store(y, 0, tile[0, 1].read())
    assert count(b.finish(), SetReg) == 4


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


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["x", "2x", "a b", "unit", ""])
def test_bad_parameter_names_are_refused(name: str) -> None:
    b, _, _ = new()
    with pytest.raises(LoopNameError):
        b.param(name, f32, 1)


def test_bad_names_are_refused() -> None:
    with pytest.raises(LoopNameError, match="identifier"):
        LoopBuilder("not a name")
    b, _, _ = new()
    with b.units(1), pytest.raises(LoopNameError), b.loop("i j", 0, 4):
        pass
    b, _, y = new()
    with b.units(1):
        b.store(y, symbol("unheard_of"), 1.0)
    with pytest.raises(LoopNameError, match="declared nowhere"):
        b.finish()


def test_wrong_types_are_refused() -> None:
    b, x, y = new()
    with b.units(4) as unit:
        eight, prefix = b.load(x, 0, 8), PrefixMask(unit, VecType(boolean, 8))
        for make, what in [
            (lambda: b.store(y, 0, const(1, i32)), "a value stored to y"),
            (lambda: b.set(b.reg("r", F32, 0.0), eight), "register r"),
            (lambda: b.reg("s", VecType(f32, 4), eight), "first value of register s"),
            (lambda: b.load(x, 0, 8, mask=PrefixMask(unit, VecType(boolean, 4))), "a mask"),
            (lambda: b.load(x, 0, 8, gather=eight), "vector of addresses"),
            (lambda: b.load(x, 0, 8, mask=prefix, other=const(1, i32)), "masked-off"),
            (lambda: b.index(b.load(x, 0)), "an index"),
            (lambda: b.fail(Status.BAD_SHAPE, eight), r"the value of fail\(\)"),
        ]:
            with pytest.raises(LoopTypeError, match=what):
                make()
        with pytest.raises(LoopTypeError, match=r"when\(\)"), b.when(compare("lt", eight, 0.0)):
            pass
        with pytest.raises(LoopTypeError, match=r"while_\(\)"), b.while_(lambda: const(1, i32)):
            pass


def test_wrong_access_is_refused() -> None:
    b, x, y = new()
    with b.units(1):
        for make, what in [
            (lambda: b.load(y, 0), "cannot load from buffer 'y', which is declared write"),
            (lambda: b.store(x, 0, 1.0), "cannot store to buffer 'x', which is declared read"),
            (lambda: b.load("z", 0), "'z', which is declared nowhere"),
        ]:
            with pytest.raises(LoopAccessError, match=what):
                make()


def test_wrong_structure_is_refused() -> None:
    b, x, y = new()
    with pytest.raises(LoopStructureError, match=r"finish\(\) needs units"):
        b.finish()
    with b.units(4) as unit:
        with pytest.raises(LoopStructureError, match="once"), b.units(2):
            pass
        with pytest.raises(LoopStructureError, match="directly follow"), b.otherwise():
            pass
        with b.when(Condition(unit, "<", 2)):
            b.store(y, unit, 1.0)
        b.store(y, unit + 4, 1.0)
        with pytest.raises(LoopStructureError, match="directly follow"), b.otherwise():
            pass
        with pytest.raises(LoopStructureError, match="statements of its own"):
            with b.while_(lambda: compare("lt", b.load(x, 0), 0.0)):
                pass
        with pytest.raises(LoopStructureError, match=r"finish\(\) needs units"):
            b.finish()


def test_scratch_may_not_depend_on_a_loop() -> None:
    b, _, _ = new()
    with b.units(4) as unit, pytest.raises(LoopNameError, match="sizes scratch buffer s"):
        b.alloc("s", f32, unit + 1)


# ---------------------------------------------------------------------------------- random programs


@st.composite
def trees(draw: st.DrawFn) -> Expr:
    """A tree over two f32 operands, with sharing."""
    nodes: list[Expr] = [Arg(0, F32), Arg(1, F32), const(draw(st.sampled_from([0.0, 1.0, -2.5])), f32)]
    for _ in range(draw(st.integers(1, 12))):
        a, b, c = (draw(st.sampled_from(nodes)) for _ in range(3))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            nodes.append(binary(draw(st.sampled_from(FLOAT_OPS)), a, b))
        elif kind == 1:
            nodes.append(fma(a, b, c))
        elif kind == 2:
            nodes.append(select(compare("lt", a, b), b, c))
        elif kind == 3:
            nodes.append(unary(draw(st.sampled_from(["neg", "abs", "floor", "sqrt"])), a))
        else:
            nodes.append(cast(cast(a, i32), f32))
    return nodes[-1]


@given(trees(), st.sampled_from([1, 4, 8]))
def test_a_kernel_computes_what_its_tree_means(tree: Expr, lanes: int) -> None:
    rng = np.random.default_rng(3)
    a, c = rng.standard_normal((2, 16), np.float32) * 3
    a[0], c[1] = np.nan, np.inf
    b = LoopBuilder("tree")
    names = b.param("a", f32, 16), b.param("c", f32, 16)
    y = b.param("y", f32, 16, Access.WRITE)
    with b.units(16 // lanes) as unit:
        operands = [b.load(name, unit * lanes, lanes) for name in names]

        def place(e: Expr) -> Expr | None:
            return operands[e.index] if isinstance(e, Arg) else None

        b.store(y, unit * lanes, splat(map_expr(tree, place), lanes))
    out = np.zeros(16, np.float32)
    run_kernel(b.finish(), [a, c, out])
    np.testing.assert_array_equal(out, np.broadcast_to(evaluate(tree, args=[a, c]), 16))


def test_ramps_and_gathers_agree() -> None:
    b, x, y = new()
    with b.units(1):
        ramp = Ramp(3, 5, VecType(i64, 8))
        b.store(y, 0, b.load(x, 1, 8, gather=ramp))
    data, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    run_kernel(b.finish(), [data, out])
    assert out[:8].tolist() == [4 + 5 * i for i in range(8)]


def test_building_looks_at_each_node_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    original = Expr.children

    def counted(self: Expr) -> tuple[Expr, ...]:
        nonlocal calls
        calls += 1
        return original(self)

    monkeypatch.setattr(Expr, "children", counted)

    def visits(rows: int) -> int:
        nonlocal calls
        calls = 0
        b, x, y = new()
        with b.units(1):
            tile = b.reg_tile("t", (rows,), VecType(f32, 8), 0.0)
            with b.loop("k", 0, 8) as k:
                w = b.load(x, k, 8)
                for i in range(rows):
                    b.set(tile[i], fma(b.load(x, k + i, 8, stride=0), w, tile[i].read()))
            for i in range(rows):
                b.store(y, 0, tile[i].read())
        b.finish()
        return calls

    few, many = visits(10), visits(40)
    assert many <= 4.5 * few

"""The loop builder: what it shares, folds, proves, drops and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.dims import symbol
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
    reduce_lanes,
    select,
    splat,
    unary,
)
from aino_ir.loops.expr_tree import map_expr
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.settle import fold
from aino_ir.loops.stmt import (
    Access,
    Let,
    SetReg,
    Status,
)
from tests.aino_ir.loops.building import F32, count, new

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

"""The verifier of kernels: every invariant refuses something, and the bounds of real kernels are proved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aino_ir.dims import DimLike, symbol
from aino_ir.dtypes import DTYPES, boolean, f32, f64, i32, i64
from aino_ir.errors.loops import LoopInvariantError
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Arg,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Expr,
    Fma,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Reduce,
    RegRead,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
    VecType,
    binary,
    call,
    cast,
    compare,
    const,
    index,
    reduce_lanes,
    select,
    splat,
)
from aino_ir.loops.ranges import RangeWalk
from aino_ir.loops.stmt import (
    THREAD,
    Access,
    Alloc,
    Arrive,
    Barrier,
    BindIndex,
    DeclareReg,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Param,
    Prefetch,
    SetReg,
    Share,
    Signals,
    Status,
    Stmt,
    Store,
    While,
)
from aino_ir.loops.verify import INVARIANTS, verify_loops
from tests.aino_ir.loops import kernels

F32, F32X4 = VecType(f32), VecType(f32, 4)
ONE, ONES = const(1.0, f32), const(1.0, f32, 4)
TRUE = const(True, boolean)
K = symbol("k")


def kernel(*body: Stmt, prologue: tuple[Stmt, ...] = (), **changes: object) -> LoopFn:
    """A kernel over x (read), y (write) and z (both) of 16 f32 each."""
    params = (
        Param("x", f32, 16),
        Param("y", f32, 16, Access.WRITE),
        Param("z", f32, 16, Access.READ_WRITE),
        Param("h", DTYPES["f16"], 16, Access.READ_WRITE),
    )
    return replace(LoopFn("k", params, ("n",), 4, body, prologue), facts=(("n", 1, 9),), **changes)  # type: ignore[arg-type]


def let(e: Expr) -> LoopFn:
    """A kernel that pins one expression."""
    return kernel(Let("t", e))


def loop(*body: Stmt, step: int = 1, hi: DimLike = 16) -> For:
    """A loop over k."""
    return For("k", 0, hi, body, step)


FIRST_THREADS = compare("lt", Index(symbol(THREAD)), Index(4))

GOOD = [
    kernel(),
    kernel(loop(Let("t", Load("x", K, F32)), Store("y", K, Var("t", F32)))),
    kernel(DeclareReg("r", F32, ONE), loop(SetReg("r", RegRead("r", F32))), Store("z", 3, RegRead("r", F32))),
    kernel(While(TRUE, (Fail(1, index(0)),)), can_fail=True),
    kernel(BindIndex("i", Cast(Load("x", 0, F32), VecType(i64)), 0, 15), Prefetch("x", symbol("i"))),
    kernel(prologue=(Alloc("s", f32, 16, 0), Alloc("t", f32, symbol("n"), 64)), scratch_bytes=100),
    kernel(Store("h", 0, ONES), If(TRUE, (Let("a", ONE),), (Let("b", ONE),))),
]

BAD = [
    ("L1", kernel(Let("t", ONE), Let("t", ONE)), "`t`"),
    ("L1", kernel(Let("x", ONE)), "`x`"),
    ("L1", kernel(loop(), loop()), "`k`"),
    ("L1", kernel(Let("a b", ONE)), "`a b`"),
    ("L1", kernel(Let("unit", ONE)), "`unit`"),
    ("L1", kernel(symbols=("n", "n")), "`n`"),
    ("L2", let(Var("u", F32)), "`u`"),
    ("L2", kernel(loop(Let("t", ONE)), Store("y", 0, Var("t", F32))), "`t`"),
    ("L2", kernel(Let("t", ONE), Store("y", 0, Var("t", F32X4))), "`t`"),
    ("L2", kernel(If(TRUE, (Let("t", ONE),)), Store("y", 0, Var("t", F32))), "`t`"),
    ("L2", kernel(While(TRUE, (BindIndex("i", index(0)),)), Prefetch("x", symbol("i"))), "`i`"),
    ("L2", let(RegRead("r", F32)), "`r`"),
    ("L2", let(Index(K)), "`k`"),
    ("L2", let(Load("x", K, F32)), "`k`"),
    ("L2", kernel(loop(hi=symbol("m"))), "`m`"),
    ("L2", kernel(loop(), Prefetch("x", K)), "`k`"),
    ("L2", kernel(prologue=(Let("t", Index(symbol("unit"))),)), "`unit`"),
    ("L2", kernel(units=symbol("m")), "`m`"),
    ("L3", let(Binary("add", ONE, ONES, F32)), "f32 from f32, f32x4"),
    ("L3", let(Binary("plus", ONE, ONE, F32)), "plus"),
    ("L3", let(Binary("and", ONE, ONE, F32)), "&"),
    ("L3", let(Binary("add", TRUE, TRUE, VecType(boolean))), "bool"),
    ("L3", let(Binary("shl", TRUE, TRUE, VecType(boolean))), "bool"),
    ("L3", let(Unary("sqrt", index(4), VecType(i64))), "sqrt"),
    ("L3", let(Unary("isnan", ONE, F32)), "isnan"),
    ("L3", let(Compare("lt", ONE, ONE, F32)), "<"),
    ("L3", let(Fma(index(1), index(2), index(3), VecType(i64))), "fma"),
    ("L3", let(Select(ONE, ONE, ONE, F32)), "select"),
    ("L3", let(Cast(ONES, VecType(i32))), "i32"),
    ("L3", let(Round(ONE, f32, F32)), "round_to"),
    ("L3", let(Bitcast(ONE, VecType(i64))), "bitcast"),
    ("L3", let(Splat(ONES, F32X4)), "splat"),
    ("L3", let(Call("exp", (index(1),), VecType(i64))), "exp"),
    ("L3", let(Shuffle(ONES, ONES, (0, 8), VecType(f32, 2))), "shuffle"),
    ("L3", let(Reduce("add", const(1.0, f32, 3), F32)), "reduce_add"),
    ("L3", let(Load("x", 0, F32, other=ONES)), "x"),
    ("L4", let(Arg(0, F32)), "arg0"),
    ("L4", let(binary("add", Arg(0, F32), 1.0)), "arg0"),
    ("L3", let(const(1, DTYPES["i4"])), "cannot be a value"),
    ("L5", let(Load("w", 0, F32)), "`w`"),
    ("L5", let(Load("y", 0, F32)), "`y`"),
    ("L5", kernel(Store("x", 0, ONE)), "`x`"),
    ("L5", kernel(Prefetch("w", 0)), "`w`"),
    ("L6", kernel(Store("y", 0, const(1.0, f64))), "f64, not f32"),
    ("L6", let(Load("h", 0, VecType(f64))), "f64, not f32"),
    ("L7", kernel(Store("y", 0, ONES, mask=PrefixMask(2, VecType(boolean, 8)))), "boolx8, not boolx4"),
    ("L7", let(Load("x", 0, F32X4, gather=const(0, i32, 4))), "i32x4, not i64x4"),
    ("L8", kernel(SetReg("r", ONE)), "`r` is set"),
    ("L8", kernel(DeclareReg("r", F32, ONES)), "f32x4, not f32"),
    ("L8", kernel(DeclareReg("r", F32, ONE), SetReg("r", ONES)), "f32x4, not f32"),
    ("L8", kernel(loop(DeclareReg("r", F32, ONE)), SetReg("r", ONE)), "`r` is set"),
    ("L9", kernel(If(ONE, ())), "f32, not bool"),
    ("L9", kernel(While(compare("lt", ONES, 2.0), ())), "boolx4, not bool"),
    ("L9", kernel(BindIndex("i", ONE)), "f32, not i64"),
    ("L9", kernel(Fail(1, ONE), can_fail=True), "f32, not i64"),
    ("L10", kernel(loop(step=0)), "the step of `k` is 0"),
    ("L11", kernel(Fail(1, index(0))), "can_fail is False"),
    ("L11", kernel(can_fail=True), "can_fail is True"),
    ("L12", kernel(Alloc("s", f32, 4, 0), scratch_bytes=64), "inside a block"),
    ("L12", kernel(prologue=(Alloc("s", f32, 4, 32),), scratch_bytes=64), "starts at 32"),
    ("L12", kernel(prologue=(Alloc("s", f32, 17, 0), Alloc("t", f32, 1, 64)), scratch_bytes=128), "overlaps"),
    ("L12", kernel(prologue=(Alloc("s", f32, 17, 0),), scratch_bytes=64), "68 bytes are used, 64 declared"),
    ("L12", kernel(prologue=(Alloc("s", f32, symbol("n"), 0),), scratch_bytes=8), "declared"),
    ("L13", let(Load("x", 13, F32X4)), r"x\[13 \+: 4\]"),
    ("L13", kernel(loop(Store("y", K - 16, ONE))), r"y\[k - 16\]"),
    ("L13", let(Load("x", 4, F32X4, stride=-2)), "by -2"),
    ("L14", kernel(Barrier()), "that some may not reach"),
    ("L14", kernel(If(FIRST_THREADS, (Barrier(),)), threads=8), "that some may not reach"),
    ("L14", kernel(prologue=(Share("s", f32, 4),)), "shared by one thread"),
    ("L15", kernel(prologue=(Signals("s", 1, 1),)), "for one thread"),
    ("L15", kernel(prologue=(Signals("s", 0, 1),), threads=8), "0 signals"),
    ("L15", kernel(Arrive("s", 0), threads=8), "signal `s`"),
]


@pytest.mark.parametrize("fn", GOOD)
def test_right_kernels_pass(fn: LoopFn) -> None:
    verify_loops(fn)


@pytest.mark.parametrize(("invariant", "fn", "what"), BAD)
def test_broken_invariants_are_found(invariant: str, fn: LoopFn, what: str) -> None:
    with pytest.raises(LoopInvariantError, match=what) as caught:
        verify_loops(fn)
    assert caught.value.fields["invariant"] == invariant
    assert INVARIANTS[invariant] in str(caught.value)


def test_every_invariant_has_a_counterexample() -> None:
    assert {invariant for invariant, _, _ in BAD} == INVARIANTS.keys()


@pytest.mark.parametrize(
    ("fn", "accesses"),
    [
        (kernels.gemm(13, 32, 24), 19),
        (kernels.gemm(symbol("m"), 32, 24), 19),
        (kernels.softmax(3, 13), 5),
        (kernels.tail_copy(f32), 2),
        (kernels.gather_rows(5, 11, 4), 3),
        (kernels.vector_gather(9, 21), 3),
        (kernels.row_blocks(13, 4), 2),
        (kernels.conv(6, 8, 4, 4), 16),
    ],
    ids=["gemm", "gemm_symbolic", "softmax", "copy", "gather", "vector_gather", "blocks", "conv"],
)
def test_all_accesses_of_real_kernels_are_proved(fn: LoopFn, accesses: int) -> None:
    report = verify_loops(fn)
    assert report.unproved == [] and report.proved == accesses


def test_what_cannot_be_proved_is_listed() -> None:
    b = LoopBuilder("k")
    x, at = b.param("x", f32, 16), b.param("at", i64, 8)
    y = b.param("y", f32, 16, Access.WRITE)
    with b.units(1):
        places = b.load(at, 0, 8)
        b.store(y, 0, b.load(x, 0, 8, gather=places))
        i = b.index(b.load(at, 1))
        b.store(y, i, 1.0)
    assert verify_loops(b.finish()).unproved == ["x[0 + at0]", "y[i] = 1.0:f32"]


def test_indices_that_name_a_dim_keep_their_relation_to_sizes() -> None:
    b = LoopBuilder("k")
    m = b.symbol("m", 1, 500)
    y = b.param("y", f32, m, Access.WRITE)
    with b.units(1):
        whole = b.index(Index(m // 4 * 4), 0, 500, "whole")
        with b.loop("i", 0, whole, step=4) as i:
            b.store(y, i, const(1.0, f32, 4))
        with b.loop("j", 0, m - whole) as j:
            b.store(y, whole + j, 1.0)
            assert b.symbols.prove_ge(3, j) is None  # the builder keeps to what is cheap
    report = verify_loops(b.finish())
    assert report.proved == 2 and report.unproved == []


def test_lanes_under_a_data_dependent_mask_all_count() -> None:
    b = LoopBuilder("k")
    x, y = b.param("x", f32, 16), b.param("y", f32, 16, Access.WRITE)
    with b.units(1):
        chosen = compare("lt", b.load(x, 0, 8), 0.0)
        b.store(y, 8, const(1.0, f32, 8), mask=chosen)
        b.store(y, 9, const(1.0, f32, 8), mask=chosen)
    report = verify_loops(b.finish())
    assert report.proved == 2 and report.unproved == ["y[9 +: 8] = 1.0:f32x8 where mask0"]


def test_what_a_failure_excludes_is_known_after_it() -> None:
    b = LoopBuilder("k")
    at, y = b.param("at", i64, 4), b.param("y", f32, 16, Access.WRITE)
    with b.units(4) as unit:
        i = b.index(b.load(at, unit))
        with b.when(compare("lt", Index(i), 0) | compare("ge", Index(i), 16)):
            b.fail(Status.INDEX_OUT_OF_RANGE, Index(i))
        b.store(y, i, 1.0)
    assert verify_loops(b.finish()).unproved == []


N = Index(symbol("n"))
WIDE = Load("at", 0, VecType(i64))


@pytest.mark.parametrize(
    ("e", "bounds"),
    [
        (binary("min", N, 5), (1, 5)),
        (binary("max", N, 5), (5, 9)),
        (binary("max", binary("min", WIDE, 7), -2), (-2, 7)),
        (binary("min", binary("max", WIDE, -2), 7), (-2, 7)),
        (N + 3, (4, 12)),
        (binary("sub", 3, N), (-6, 2)),
        (N * -2, (-18, -2)),
        (select(compare("lt", WIDE, 0), N, const(20, i64)), (1, 20)),
        (Ramp(symbol("n"), 3, VecType(i64, 4)), (1, 18)),
        (Ramp(symbol("n"), -3, VecType(i64, 4)), (-8, 9)),
        (cast(Load("b", 0, VecType(DTYPES["u8"])), i64), (0, 255)),
        (splat(N, 4), (1, 9)),
        (reduce_lanes("max", splat(N, 4)), (1, 9)),
        (WIDE, None),
        (WIDE + 1, None),
        (binary("min", WIDE, WIDE), None),
        (N * N, None),
    ],
)
def test_bounds_of_integer_values(e: Expr, bounds: tuple[int, int] | None) -> None:
    walk = RangeWalk(kernel())
    found = walk.value_bounds(e)
    assert (found is None) == (bounds is None)
    if found is not None and bounds is not None:
        assert (walk.table.interval(found[0])[0], walk.table.interval(found[1])[1]) == bounds


def test_bounds_can_be_left_out() -> None:
    report = verify_loops(kernels.gemm(13, 32, 24), bounds=False)
    assert report.proved == 0


def test_an_access_that_is_never_reached_is_no_fault() -> None:
    never = If(compare("lt", Index(symbol("unit")), -1), (Store("y", 99, ONE),))
    assert verify_loops(kernel(never, For("k", 3, 3, (Store("y", 99, ONE),)))).proved == 0


def test_call_is_typed_by_its_operands() -> None:
    verify_loops(let(call("exp", ONES)))

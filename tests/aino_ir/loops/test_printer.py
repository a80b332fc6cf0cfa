"""The readable text of kernels."""

from __future__ import annotations

from aino_ir.dtypes import DTYPES, boolean, f32, i32, i64
from aino_ir.loops import expr as ex
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import VecType, compare, const, index
from aino_ir.loops.printer import print_expr, print_loops, print_statements
from aino_ir.loops.stmt import Access, LoopFn, Status
from tests.aino_ir.loops import kernels

A, B = ex.Var("a", VecType(f32, 4)), ex.Var("b", VecType(f32, 4))


def test_a_whole_kernel() -> None:
    fn = kernels.tail_copy(f32)
    assert print_loops(fn) == "\n".join(
        [
            f"kernel {fn.name}(x: f32[n] read, y: f32[n] write) symbols n in 1..1000",
            "  units (n + 7)//8",
            "    x0: f32x8 = x[8*unit +: 8] where prefix(n - 8*unit, 8)",
            "    y[8*unit +: 8] = x0 where prefix(n - 8*unit, 8)",
        ]
    )


def test_every_statement() -> None:
    b = LoopBuilder("all")
    x = b.param("x", f32, 64)
    y = b.param("y", f32, 64, Access.READ_WRITE)
    at = b.param("at", i64, 4)
    b.alloc("s", f32, 3)
    with b.units(8) as unit:
        b.comment("two\nlines")
        r = b.reg("r", VecType(i32), 0)
        with b.while_(lambda: compare("lt", r.read(), 5)):
            b.set(r, r.read() + 1)
        i = b.index(b.load(at, 0), 0, 7)
        with b.loop("j", 0, unit, step=2, unroll=4, where=[(i + unit, ">=", 3)]) as j:
            with b.when(compare("lt", b.load(x, j), 0.0)):
                b.fail(Status.BAD_SHAPE, index(j))
            with b.otherwise():
                b.prefetch(x, j + i)
        mask = ex.PrefixMask(unit, VecType(boolean, 4))
        b.store(y, 0, b.load(y, 8, 4, stride=2, mask=mask, other=1.0), stride=3)
        b.store(y, 1, b.load(x, 1, 4, gather=ex.Ramp(0, 2, VecType(i64, 4))), scatter=b.load(at, 0, 4))
    text = print_loops(b.finish(["what it is"]))
    assert text.splitlines()[0] == "# what it is"
    assert text.splitlines()[2:] == [
        "  scratch 64 bytes",
        "  prologue",
        "    alloc s: f32[3] at 0",
        "  units 8",
        "    # two lines",
        "    reg r: i32 = 0:i32",
        "    while (r < 5:i32)",
        "      r := (r + 1:i32)",
        "    at0: i64 = at[0]",
        "    i: index in 0..7 = at0",
        "    for j in 0..<unit step 2 unroll 4 where i + unit >= 3",
        "      x0: f32 = x[j]",
        "      if (x0 < 0.0:f32)",
        "        fail bad_shape index(j)",
        "      else",
        "        prefetch x[i + j] locality 3",
        "    y0: f32x4 = y[8 +: 4 by 2] where prefix(unit, 4) else 1.0:f32x4",
        "    y[0 +: 4 by 3] = y0",
        "    x1: f32x4 = x[1 + ramp(0, 2, 4)]",
        "    at1: i64x4 = at[0 +: 4]",
        "    y[1 + at1] = x1",
    ]


def test_every_expression() -> None:
    mask = ex.Var("m", VecType(boolean, 4))
    cases = {
        "fma(a, b, a)": ex.fma(A, B, A),
        "copysign(a, b)": ex.binary("copysign", A, B),
        "((a + b) * a)": (A + B) * A,
        "select(m, a, b)": ex.select(mask, A, B),
        "i32(a)": ex.cast(A, i32),
        "round_to(bf16, a)": ex.round_to(A, DTYPES["bf16"]),
        "bitcast(i32, a)": ex.bitcast(A, i32),
        "splat(s, 4)": ex.splat(ex.Var("s", VecType(f32)), 4),
        "shuffle(a, b, [0, 4])": ex.Shuffle(A, B, (0, 4), VecType(f32, 2)),
        "reduce_max(a)": ex.reduce_lanes("max", A),
        "exp(a)": ex.Call("exp", (A,), A.type),
        "sqrt(a)": ex.unary("sqrt", A),
        "arg1": ex.Arg(1, A.type),
        "acc0": ex.Accumulator(A.type),
        "operand0[3, index(2)] else 0.0:f32": ex.Read(0, (3, index(2)), VecType(f32), const(0.0, f32)),
        "(a != b)": compare("ne", A, B),
    }
    assert {text: print_expr(e) for text, e in cases.items()} == {text: text for text in cases}


def test_blocks_alone() -> None:
    fn: LoopFn = kernels.tail_copy(f32)
    assert print_statements(fn.body).splitlines()[0].startswith("x0: f32x8")

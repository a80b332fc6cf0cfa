"""What C cannot print is an error that names it; text that a reader would otherwise stumble over."""

from __future__ import annotations

import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dims import symbol
from aino_ir.dtypes import DTYPES, boolean, f32, f64, i32
from aino_ir.errors.printing import NoSpelling, UnprintableLanes
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Binary,
    Const,
    Expr,
    Load,
    PrefixMask,
    Splat,
    Unary,
    VecType,
    compare,
    const,
    maximum,
    select,
    splat,
)
from aino_ir.loops.stmt import UNIT, Access, Let, LoopFn, Param, Store
from tests.codegen.c.support import target

U = symbol(UNIT)


def kernel(value: Expr, *lets: Let, dtype=f32) -> LoopFn:
    params = (Param("x", dtype, 64), Param("y", dtype, 64, Access.WRITE))
    return LoopFn("k", params, (), 4, (*lets, Store("y", U * 8, value)))


def body(fn: LoopFn, isa: str = "avx2") -> list[str]:
    """The lines inside the loop over units."""
    text = print_unit([fn], target(isa)).split("for (int64_t unit = lo; unit < hi; ++unit) {\n")[1]
    return [line.strip() for line in text.split("\n")[:-3]]


def load(lanes: int = 8, dtype=f32, offset=U * 8) -> Load:
    return Load("x", offset, VecType(dtype.compute, lanes))


def test_operators_take_a_scalar_for_a_uniform_operand() -> None:
    assert body(kernel(load() * 2.0 + 1.0)) == [
        "store_f32x8(y + unit * 8, load_f32x8(x + unit * 8) * 2.0f + 1.0f);"
    ]
    scalar = Load("x", 3, VecType(f32))
    assert body(kernel(load() - splat(scalar, 8))) == [
        "store_f32x8(y + unit * 8, load_f32x8(x + unit * 8) - x[3]);"
    ]


def test_relu_is_one_instruction_and_keeps_nan() -> None:
    assert body(kernel(maximum(load(), 0.0))) == [
        "store_f32x8(y + unit * 8, greater_f32x8(splat_f32x8(0.0f), load_f32x8(x + unit * 8)));"
    ]


def test_a_select_on_a_scalar_condition_is_a_conditional() -> None:
    condition = Splat(compare("lt", Load("x", 0, VecType(f32)), 1.0), VecType(boolean, 8))
    line = body(kernel(select(condition, load(), 0.0)))[0]
    assert line == "store_f32x8(y + unit * 8, x[0] < 1.0f ? load_f32x8(x + unit * 8) : splat_f32x8(0.0f));"


def test_what_nobody_reads_is_not_printed() -> None:
    fn = kernel(const(1.0, f32, 8), Let("nobody", load()))
    text = print_unit([fn], target("avx2"))
    assert "nobody" not in text
    assert "views[0]" not in text


@pytest.mark.parametrize(
    ("dtype", "bits"), [(f32, 32), (f64, 64), (DTYPES["i8"], 8), (DTYPES["u16"], 16)], ids=str
)
def test_a_prefix_mask_takes_the_width_of_its_reader(dtype, bits) -> None:
    mask = PrefixMask(symbol(UNIT), VecType(boolean, 8))
    from aino_ir.loops.expr import Var

    named = Var("m", mask.type)
    value = select(named, load(dtype=dtype), 0)
    assert (
        body(kernel(value, Let("m", mask), dtype=dtype))[0] == f"const i{bits}x8 m = prefix_i{bits}x8(unit);"
    )


@pytest.mark.parametrize(
    "value",
    [
        Arg(0, VecType(f32, 8)),
        Accumulator(VecType(f32, 8)),
        Unary("sqrt", Const(4, VecType(i32, 8)), VecType(i32, 8)),
        Binary(
            "sub", Const(True, VecType(boolean, 8)), Const(True, VecType(boolean, 8)), VecType(boolean, 8)
        ),
    ],
)
def test_no_spelling(value: Expr) -> None:
    with pytest.raises(NoSpelling, match="no C code for"):
        print_unit([kernel(value, dtype=boolean if value.dtype is boolean else f32)], target("avx2"))


def test_no_spelling_for_complex_buffers() -> None:
    with pytest.raises(NoSpelling, match="c64"):
        print_unit([kernel(load(dtype=DTYPES["c64"]), dtype=DTYPES["c64"])], target("avx2"))


@pytest.mark.parametrize("lanes", [3, 12, 1024])
def test_unprintable_lanes(lanes: int) -> None:
    with pytest.raises(UnprintableLanes, match=f"a vector of {lanes} lanes of f32"):
        print_unit([kernel(load(lanes))], target("avx2"))

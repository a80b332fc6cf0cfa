"""Canonical text: linear, structural, exact about values."""

from __future__ import annotations

from aino_ir.compute import Axis, Compute, Nest
from aino_ir.dtypes import f32
from aino_ir.loops.canonical import canonical_text
from aino_ir.loops.expr import Arg, Expr, VecType, const


def squared(times: int) -> Expr:
    x: Expr = Arg(0, VecType(f32))
    for _ in range(times):
        x = x * x
    return x


def test_shared_expressions_are_told_once() -> None:
    text = canonical_text(squared(200))
    assert len(text.splitlines()) == 202
    assert text == canonical_text(squared(200))
    assert text != canonical_text(squared(199))


def test_equal_structures_have_equal_text_however_they_are_shared() -> None:
    x = Arg(0, VecType(f32))
    shared = x + 1.0
    apart = (Arg(0, VecType(f32)) + 1.0) * (Arg(0, VecType(f32)) + 1.0)
    assert canonical_text(shared * shared) == canonical_text(apart)


def test_values_are_told_by_their_bits() -> None:
    texts = {canonical_text(const(v, "f32")) for v in (0.0, -0.0, float("nan"), 1.0)}
    texts |= {canonical_text(const(1, d)) for d in ("i32", "i64", "f64")}
    assert len(texts) == 7


def test_what_holds_expressions_is_told_with_its_fields() -> None:
    axes = (Axis("i", 4),)
    text = canonical_text(Compute(axes, squared(1)))
    assert text.splitlines()[-1].startswith("Compute((Axis('i.', 4)), %1")
    build = Nest(lambda b, inputs, outputs, unit: None, key="sum 0")
    assert "lambda" not in canonical_text(build) and "'sum 0'" in canonical_text(build)

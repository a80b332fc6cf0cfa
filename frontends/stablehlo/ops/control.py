"""Control flow: choices and loops become ops with regions; what regions read from outside is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.builder import Builder
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.complex_numbers import Complex, Number, parts_of, whole_of
from aino_ir.frontends.stablehlo.context import OpContext, Row, is_complex
from aino_ir.graph import Value
from aino_ir.types import TensorType, Type


def if_(c: OpContext, condition: Value) -> Sequence[Any]:
    """One of two regions."""
    yes, no = c.op.regions
    return _choice(c, c.reshape(condition, ()), [yes, no])


def case(c: OpContext, index: Value) -> Sequence[Any]:
    """One of several regions by a number; any number outside means the last."""
    regions = list(c.op.regions)
    if len(regions) == 1:
        (block,) = regions[0].blocks
        return c.function.block(block, [])
    return _choice(c, c.cast(c.reshape(index, ()), i64), regions)


def _choice(c: OpContext, chooser: Value, regions: list[Any]) -> Sequence[Any]:
    """The first region where a truth value holds, or the one of a number: choices of two in one another."""
    function = c.function
    captured = function.captures(regions)
    values = function.captured(captured)
    numbered = not chooser.dtype.is_bool

    def chosen(b: Builder, first: int, key: Value, own: Sequence[Value]) -> list[Value]:
        inner = OpContext(b, function, c.op)
        condition = inner.emit("eq", key, inner.scalar(first, i64)) if numbered else key
        types: list[Type] = [key.type, *(v.type for v in own)]

        def then(b: Builder, key: Value, *own: Value) -> list[Value]:
            return parts_of(function.inside(b, captured, own).block(regions[first].blocks[0], []))

        def otherwise(b: Builder, key: Value, *own: Value) -> list[Value]:
            if first + 2 < len(regions):
                return chosen(b, first + 1, key, own)
            return parts_of(function.inside(b, captured, own).block(regions[first + 1].blocks[0], []))

        blocks = [b.region(types, then), b.region(types, otherwise)]
        return list(inner.emit_all("control.if", condition, key, *own, regions=blocks))

    return whole_of(chosen(c.b, 0, chooser, values), [is_complex(r.type) for r in c.op.results])


def while_(c: OpContext, *carried: Number) -> Sequence[Any]:
    """A region again and again, while another one says so."""
    function = c.function
    condition, body = (r.blocks[0] for r in c.op.regions)
    captured = function.captures(list(c.op.regions))
    values, parts = function.captured(captured), parts_of(carried)
    are_complex = [isinstance(v, Complex) for v in carried]
    start = function.inside(c.b, captured, values).block(condition, carried)[0]
    count = len(parts)
    *_, last = [op.operation for op in body.operations]
    stays = [given == argument for given, argument in zip(last.operands, body.arguments, strict=True)]

    def turn(b: Builder, iteration: Value, go: Value, *arguments: Value) -> list[Value]:
        own, now = arguments[count:], list(whole_of(arguments[:count], are_complex))
        for n, (same, before) in enumerate(zip(stays, carried, strict=True)):
            if same:  # what never changes may be an extent, which decides shapes inside
                now[n] = function.extents(b, before) or now[n]
        new = function.inside(b, captured, own).block(body, now)
        (again,) = function.inside(b, captured, own).block(condition, new)
        return [again, *parts_of(new)]

    types: list[Type] = [TensorType(i64, ()), TensorType(boolean, ())]
    types += [v.type for v in (*parts, *values)]
    block = c.b.region(types, turn)
    results = c.emit_all("control.loop", None, start, *parts, *values, carried=count, regions=[block])
    return whole_of(results, are_complex)


ROWS: dict[str, Row] = {
    "stablehlo.case": case,
    "stablehlo.if": if_,
    "stablehlo.while": while_,
}

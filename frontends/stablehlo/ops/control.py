"""Control flow: choices and loops become ops with regions; what regions read from outside is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.builder import Builder
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value
from aino_ir.types import TensorType, Type


def if_(c: OpContext, condition: Value) -> Sequence[Value]:
    """One of two regions."""
    return _choice(c, condition, list(c.op.regions))


def case(c: OpContext, index: Value) -> Sequence[Value]:
    """One of several regions by a number; any number outside means the last."""
    regions = list(c.op.regions)
    if len(regions) == 1:
        (block,) = regions[0].blocks
        return c.function.block(block, [])
    if len(regions) > 2:
        c.unsupported("a choice of more than two regions")
    return _choice(c, c.emit("eq", index, c.scalar(0, index.dtype)), regions)


def _choice(c: OpContext, condition: Value, regions: list[Any]) -> Sequence[Value]:
    captured = c.function.captures(regions)
    blocks = [c.function.region(r, captured) for r in regions]
    values = [c.function.values[v] for v in captured]
    return c.emit_all("control.if", c.reshape(condition, ()), *values, regions=blocks)


def while_(c: OpContext, *carried: Value) -> Sequence[Value]:
    """A region again and again, while another one says so."""
    function = c.function
    condition, body = (r.blocks[0] for r in c.op.regions)
    captured = function.captures(list(c.op.regions))
    values = [function.values[v] for v in captured]
    start = function.inside(c.b, captured, values).block(condition, carried)[0]
    count = len(carried)

    def turn(b: Builder, iteration: Value, before: Value, *arguments: Value) -> list[Value]:
        own = arguments[count:]
        new = function.inside(b, captured, own).block(body, arguments[:count])
        (again,) = function.inside(b, captured, own).block(condition, new)
        return [again, *new]

    types: list[Type] = [TensorType(i64, ()), TensorType(boolean, ())]
    types += [v.type for v in (*carried, *values)]
    block = c.b.region(types, turn)
    return c.emit_all("control.loop", None, start, *carried, *values, carried=count, regions=[block])


ROWS: dict[str, Row] = {
    "stablehlo.case": case,
    "stablehlo.if": if_,
    "stablehlo.while": while_,
}

"""Sorting: by one key, ascending or descending."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value


def sort(c: OpContext, *operands: Value) -> Sequence[Value]:
    """The operands in the order of the first; equal elements stay in order, NaN comes last when ascending."""
    axis = c.integer("dimension", -1) % max(operands[0].rank, 1)
    largest = _descending(c)
    extent = int(operands[0].shape[axis])
    values, order = c.emit_all("top_k", operands[0], k=extent, axis=axis, largest=largest)
    others = [c.emit("gather_elements", x, order, axis=axis) for x in operands[1:]]
    return [values, *others]


def _descending(c: OpContext) -> bool:
    """The direction of a comparator that compares its first two arguments, or numbers made of them."""
    (block,) = c.op.regions[0].blocks
    *_, last = [op.operation for op in block.operations]
    comparisons = {"LT": False, "LE": False, "GT": True, "GE": True}
    final = last.operands[0].owner
    name = getattr(getattr(final, "operation", final), "name", "")
    if name != "stablehlo.compare":
        c.unsupported("a comparator of several keys, or of none")
    direction = str(final.attributes["comparison_direction"]).rstrip(">").split()[-1]
    sides = [_arguments_of(v, block) for v in final.operands]
    if direction not in comparisons or sides not in ([{0}, {1}], [{1}, {0}]):
        c.unsupported("a comparator of several keys")
    return comparisons[direction] != (sides == [{1}, {0}])


def _arguments_of(value: object, block: object) -> set[int]:
    """Numbers of the block's arguments that a value is made of."""
    arguments = list(block.arguments)  # type: ignore[attr-defined]
    if value in arguments:
        return {arguments.index(value)}
    found: set[int] = set()
    for operand in value.owner.operands:  # type: ignore[attr-defined]
        found |= _arguments_of(operand, block)
    return found


def top_k(c: OpContext, x: Value) -> Sequence[Value]:
    """The k largest along the last axis, and their positions."""
    values, order = c.emit_all("top_k", x, k=c.integer("k"), axis=-1, largest=True)
    return [values, c.cast(order, c.result_type(1).dtype)]


ROWS: dict[str, Row] = {"chlo.top_k": top_k, "stablehlo.sort": sort}

"""Sorting: by keys, each ascending or descending, or by whatever a comparator says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.dtypes import i64, u8
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.regions import pointwise
from aino_ir.graph import Value

Key = tuple[int, bool]
"""Which operand, and whether it is in descending order."""

PAIRS = 2048
"""Longest line that is sorted by comparing all pairs of its elements."""

DIRECTIONS = {"LT": False, "LE": False, "GT": True, "GE": True}


def sort(c: OpContext, *operands: Value) -> Sequence[Value]:
    """The operands in order; equal elements stay in order, NaN comes last when ascending."""
    axis = c.integer("dimension", -1) % max(operands[0].rank, 1)
    (block,) = c.op.regions[0].blocks
    keys = _keys(block)
    if 0 in operands[0].shape:
        return operands
    order = _by_pairs(c, operands, axis) if keys is None else _by_keys(c, operands, axis, keys)
    return [c.emit("gather_elements", x, order, axis=axis) for x in operands]


def _by_keys(c: OpContext, operands: Sequence[Value], axis: int, keys: Sequence[Key]) -> Value:
    """Positions in order: stable sorts by one key after the other, the first key last."""
    order: Value | None = None
    for number, largest in reversed(keys):
        x = operands[number]
        x = c.cast(x, u8) if x.dtype.is_bool else x
        line = x if order is None else c.emit("gather_elements", x, order, axis=axis)
        _, places = c.emit_all("top_k", line, k=x.shape[axis], axis=axis, largest=largest)
        order = places if order is None else c.emit("gather_elements", order, places, axis=axis)
    assert order is not None
    return order


def _by_pairs(c: OpContext, operands: Sequence[Value], axis: int) -> Value:
    """Positions in order: an element's place is the number of those that come before it."""
    extent = c.extent(operands[0], axis)
    if extent > PAIRS:
        c.unsupported(f"a comparator of this kind for more than {PAIRS} elements")
    last = operands[0].rank - 1
    perm = [*(a for a in range(last + 1) if a != axis), axis]
    arguments: list[Value] = []
    for x in operands:
        line = c.emit("transpose", x, perm=perm)
        lead = line.shape[:-1]
        for apart in ((*lead, extent, 1), (*lead, 1, extent)):
            arguments.append(c.emit("expand", c.reshape(line, apart), shape=(*lead, extent, extent)))
    (before,) = pointwise(c, c.op.regions[0], arguments)
    after = c.emit("transpose", before, perm=[*range(last), last + 1, last])
    here = c.emit("range", size=extent, dtype=i64)
    earlier = c.emit("lt", c.reshape(here, (extent, 1)), c.reshape(here, (1, extent)))
    tie = c.emit("logical_and", c.emit("logical_not", c.emit("logical_or", before, after)), earlier)
    ahead = c.cast(c.emit("logical_or", before, tie), i64)
    rank = c.emit("reduce.sum", ahead, axes=(last,), keepdims=False)
    _, order = c.emit_all("top_k", rank, k=extent, axis=last, largest=False)
    return c.emit("transpose", order, perm=[perm.index(a) for a in range(last + 1)])


def _keys(block: Any) -> list[Key] | None:
    """The keys of a comparator; None when it is no lexicographic comparison of its arguments."""
    *_, last = [op.operation for op in block.operations]
    return _compared(last.operands[0], block)


def _compared(value: Any, block: Any) -> list[Key] | None:
    """The keys by which a truth value says that the first elements come before the second ones.

    JAX writes first < second for one key, and for several
    ``select(first0 == second0, by the other keys, first0 < second0)``.
    """
    op = _operation(value)
    if op is None:
        return None
    if op.name == "stablehlo.compare":
        direction = _direction(op)
        sides = [_arguments_of(v, block) for v in op.operands]
        number = min(sides[0], default=0) // 2
        for pair, turned in (
            ([{2 * number}, {2 * number + 1}], False),
            ([{2 * number + 1}, {2 * number}], True),
        ):
            if direction in DIRECTIONS and sides == pair:
                return [(number, DIRECTIONS[direction] != turned)]
        return None
    if op.name == "stablehlo.select":
        same, rest, first = op.operands
    elif op.name == "stablehlo.or":
        first, both = op.operands
        inner = _operation(both)
        if inner is None or inner.name != "stablehlo.and":
            return None
        same, rest = inner.operands
    else:
        return None
    equality, leading, others = _operation(same), _compared(first, block), _compared(rest, block)
    if equality is None or leading is None or others is None or len(leading) != 1:
        return None
    number = leading[0][0]
    both_sides = {2 * number, 2 * number + 1}
    if (
        equality.name != "stablehlo.compare"
        or _direction(equality) != "EQ"
        or _arguments_of(same, block) != both_sides
    ):
        return None
    return [*leading, *others]


def _direction(op: Any) -> str:
    return str(op.attributes["comparison_direction"]).rstrip(">").split()[-1]


def _operation(value: Any) -> Any:
    """The operation that makes a value; None for an argument."""
    owner = getattr(value.owner, "operation", value.owner)
    return owner if hasattr(owner, "operands") else None


def _arguments_of(value: Any, block: Any) -> set[int]:
    """Numbers of the block's arguments that a value is made of."""
    arguments = list(block.arguments)
    if value in arguments:
        return {arguments.index(value)}
    op = _operation(value)
    return set().union(*(_arguments_of(v, block) for v in op.operands)) if op is not None else set()


def top_k(c: OpContext, x: Value) -> Sequence[Value]:
    """The k largest along the last axis, and their positions."""
    values, order = c.emit_all("top_k", x, k=c.integer("k"), axis=-1, largest=True)
    return [values, c.cast(order, c.result_type(1).dtype)]


ROWS: dict[str, Row] = {"chlo.top_k": top_k, "stablehlo.sort": sort}

"""Reductions over axes; what a region combines with is read off its operations, or it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aino_ir.dtypes import DType, integer_range
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.regions import combiner, folded
from aino_ir.graph import Value

COMBINERS = {
    "stablehlo.add": "add",
    "stablehlo.multiply": "mul",
    "stablehlo.maximum": "max",
    "stablehlo.minimum": "min",
    "stablehlo.and": "and",
    "stablehlo.or": "or",
}
"""Operations that a region may combine two elements with."""

REDUCTIONS = {"add": "reduce.sum", "mul": "prod", "max": "reduce.max", "min": "reduce.min"}
ON_TRUTH = {"add": "any", "or": "any", "max": "any", "mul": "all", "and": "all", "min": "all"}
MERGES = {"add": "add", "mul": "mul", "max": "math.max", "min": "math.min"}


CHOOSING = frozenset(f"stablehlo.{name}" for name in ("and", "compare", "constant", "or", "return", "select"))
"""Operations of a region that keeps one of two elements."""


def combiner_of(region: Any) -> str | None:
    """What a region of two arguments does: a combiner, "second" (the second argument), or None."""
    (block,) = region.blocks
    *body, last = [op.operation for op in block.operations]
    arguments = list(block.arguments)
    results = list(last.operands)
    if not body and len(arguments) == 2 and results == [arguments[1]]:
        return "second"
    if len(body) != 1 or results != list(body[0].results) or len(arguments) != 2:
        return None
    operands = list(body[0].operands)
    return COMBINERS.get(body[0].name) if operands in (arguments, arguments[::-1]) else None


def reduce(c: OpContext, *operands: Value) -> Value | Sequence[Value]:
    """A reduction; of two operands often the position of an extreme."""
    count = len(operands) // 2
    axes = c.integers("dimensions")
    extreme = _extreme(c, operands, axes) if count == 2 else None
    if extreme is not None:
        return extreme
    kind = combiner_of(c.op.regions[0]) if count == 1 else None
    x, start = operands[0], operands[count]
    if kind is None or kind == "second" or (kind in ("and", "or") and not x.dtype.is_bool):
        return _by_region(c, operands[:count], operands[count:], axes)
    if x.dtype.is_bool:
        out = c.emit(ON_TRUTH[kind], x, axes=axes, keepdims=False)
        all_of = ON_TRUTH[kind] == "all"
        merge = "logical_and" if all_of else "logical_or"
        return out if c.is_number(start, all_of) else c.emit(merge, out, start)
    out = c.emit(REDUCTIONS[kind], x, axes=axes, keepdims=False)
    return out if is_neutral(c, kind, start) else c.emit(MERGES[kind], out, start)


def _by_region(
    c: OpContext, xs: Sequence[Value], starts: Sequence[Value], axes: list[int]
) -> Sequence[Value]:
    """A reduction by a region of any kind."""
    kept = [a for a in range(xs[0].rank) if a not in axes]
    shape = [xs[0].shape[a] for a in kept]
    extent = math.prod(c.extent(xs[0], a) for a in axes)
    if extent == 0:
        return [c.emit("expand", s, shape=shape) for s in starts]
    order = [*kept, *axes]
    lines = [c.reshape(c.emit("transpose", x, perm=order), (*shape, extent)) for x in xs]
    combine = combiner(c, c.op.regions[0])
    return combine(starts, folded(c, lines, len(kept), combine))


def is_neutral(c: OpContext, combiner: str, start: Value) -> bool:
    """Whether a first value is known to be the neutral element."""
    if start.dtype.is_bool or combiner not in MERGES:
        return False
    return c.is_number(start, neutral(combiner, start.dtype))


def neutral(combiner: str, dtype: DType) -> float:
    """The neutral element."""
    if combiner in ("add", "mul"):
        return 0 if combiner == "add" else 1
    low, high = (-math.inf, math.inf) if dtype.is_float else integer_range(dtype)
    return low if combiner == "max" else high


def _extreme(c: OpContext, operands: Sequence[Value], axes: list[int]) -> Sequence[Value] | None:
    """(extreme, its position): what argmax and argmin become; None when the region does another thing."""
    x, positions, start, _ = operands
    names = {op.operation.name for op in c.op.regions[0].blocks[0].operations}
    directions = [
        str(op.operation.attributes["comparison_direction"]).rstrip(">").split()[-1]
        for op in c.op.regions[0].blocks[0].operations
        if op.operation.name == "stablehlo.compare"
    ]
    position_of = {"GT": "argmax", "GE": "argmax", "LT": "argmin", "LE": "argmin"}
    kind = position_of.get(directions[0]) if directions else None
    extreme = {"argmax": "max", "argmin": "min"}.get(kind or "")
    if kind is None or len(axes) != 1 or extreme is None or not is_neutral(c, extreme, start):
        return None
    if not names <= CHOOSING or not _counts(positions, axes[0]):
        return None
    value = c.emit(REDUCTIONS[extreme], x, axes=axes, keepdims=False)
    place = c.emit(kind, x, axis=axes[0], keepdims=False)
    return value, c.cast(place, positions.dtype)


def _counts(value: Value, axis: int) -> bool:
    """Whether a value is 0, 1, 2 ... along an axis."""
    op, shape = value.op, list(value.shape)
    while op is not None and op.name in ("tensor.expand", "tensor.reshape", "math.cast"):
        value = op.operands[0]  # type: ignore[assignment]
        op = value.op
    extents = [d for a, d in enumerate(shape) if a == axis]
    return op is not None and op.name == "index.range" and list(value.shape) == extents


ROWS: dict[str, Row] = {"stablehlo.reduce": reduce}

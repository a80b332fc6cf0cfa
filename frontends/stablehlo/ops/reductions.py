"""Reductions over axes and over windows; what a region combines with is read off its operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, integer_range
from aino_ir.frontends.stablehlo.context import OpContext, Row
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
    """A reduction; of two operands the position of an extreme."""
    count = len(operands) // 2
    axes = c.integers("dimensions")
    if count == 2:
        return _extreme(c, operands, axes)
    combiner = combiner_of(c.op.regions[0])
    if count != 1 or combiner in (None, "second"):
        c.unsupported("a region that is no sum, product, extreme, and, or")
    x, start = operands
    assert combiner is not None
    if x.dtype.is_bool:
        out = c.emit(ON_TRUTH[combiner], x, axes=axes, keepdims=False)
        all_of = ON_TRUTH[combiner] == "all"
        merge = "logical_and" if all_of else "logical_or"
        return out if c.is_number(start, all_of) else c.emit(merge, out, start)
    if combiner in ("and", "or"):
        c.unsupported(f"bitwise {combiner} of integers")
    out = c.emit(REDUCTIONS[combiner], x, axes=axes, keepdims=False)
    return out if _is_identity(c, combiner, start) else c.emit(MERGES[combiner], out, start)


def _is_identity(c: OpContext, combiner: str, start: Value) -> bool:
    return c.is_number(start, neutral(combiner, start.dtype))


def neutral(combiner: str, dtype: DType) -> float:
    """The neutral element."""
    if combiner in ("add", "mul"):
        return 0 if combiner == "add" else 1
    low, high = (-math.inf, math.inf) if dtype.is_float else integer_range(dtype)
    return low if combiner == "max" else high


def _extreme(c: OpContext, operands: Sequence[Value], axes: list[int]) -> Sequence[Value]:
    """(extreme, its position): what JAX's argmax and argmin become."""
    x, positions, start, _ = operands
    directions = [
        str(op.operation.attributes["comparison_direction"]).rstrip(">").split()[-1]
        for op in c.op.regions[0].blocks[0].operations
        if op.operation.name == "stablehlo.compare"
    ]
    position_of = {"GT": "argmax", "GE": "argmax", "LT": "argmin", "LE": "argmin"}
    kind = position_of.get(directions[0]) if directions else None
    extreme = {"argmax": "max", "argmin": "min"}.get(kind or "")
    if kind is None or len(axes) != 1 or extreme is None or not _is_identity(c, extreme, start):
        c.unsupported("a region of two operands that is no position of an extreme")
    if not _counts(positions, axes[0]):
        c.unsupported("positions that are no iota along the reduced axis")
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


def reduce_window(c: OpContext, *operands: Value) -> Value:
    """A reduction over windows: pools, and running sums."""
    combiner = combiner_of(c.op.regions[0])
    if len(operands) != 2 or combiner not in ("add", "max", "min"):
        c.unsupported("a region that is no sum or extreme")
    x, start = operands
    if not _is_identity(c, combiner, start):
        c.unsupported("a first value that is not neutral")
    ones = [1] * x.rank
    sizes, strides = c.integers("window_dimensions"), c.integers("window_strides", ones)
    dilations, pads = c.integers("window_dilations", ones), c.matrix("padding", x.rank)
    if any(d != 1 for d in c.integers("base_dilations", ones)):
        c.unsupported("a spread operand")
    running = _running(x, sizes, strides, dilations, pads)
    if combiner == "add" and running is not None:
        axis, reverse = running
        return c.emit("cumsum", x, axis=axis, reverse=reverse)
    return _pooled(c, x, combiner, (sizes, strides, dilations), pads)


def _running(
    x: Value, sizes: list[int], strides: list[int], dilations: list[int], pads: list[list[int]]
) -> tuple[int, bool] | None:
    """(axis, from the end) when windows reach from each element to the start or end of one axis."""
    long = [a for a, k in enumerate(sizes) if k > 1]
    if len(long) != 1 or any(n != 1 for n in (*strides, *dilations)):
        return None
    (axis,) = long
    extent = int(x.shape[axis])
    if sizes[axis] != extent or any(p != [0, 0] for a, p in enumerate(pads) if a != axis):
        return None
    sides = {(extent - 1, 0): False, (0, extent - 1): True}
    side = tuple(pads[axis])
    return (axis, sides[side]) if side in sides else None


def _pooled(
    c: OpContext,
    x: Value,
    combiner: str,
    window: tuple[list[int], list[int], list[int]],
    pads: list[list[int]],
) -> Value:
    """A pool over the axes that have windows, which come last for it."""
    sizes, strides, dilations = window
    moving = [
        a for a in range(x.rank) if (sizes[a], strides[a], dilations[a]) != (1, 1, 1) or pads[a] != [0, 0]
    ]
    if not moving:
        return x
    still = [a for a in range(x.rank) if a not in moving]
    order = [*still, *moving]
    moved = x if order == list(range(x.rank)) else c.emit("transpose", x, perm=order)
    kept = [int(d) for d in moved.shape[: len(still)]]
    data = c.reshape(moved, (1, math.prod(kept), *moved.shape[len(still) :]))
    geometry = {
        "kernel": [sizes[a] for a in moving],
        "strides": [strides[a] for a in moving],
        "dilations": [dilations[a] for a in moving],
        "pads_before": [pads[a][0] for a in moving],
        "pads_after": [pads[a][1] for a in moving],
    }
    out = _pool(c, data, combiner, geometry)
    out = c.reshape(out, (*kept, *out.shape[2:]))
    back = [order.index(a) for a in range(x.rank)]
    return out if back == list(range(x.rank)) else c.emit("transpose", out, perm=back)


def _pool(c: OpContext, x: Value, combiner: str, geometry: dict[str, list[int]]) -> Value:
    if any(p < 0 for p in (*geometry["pads_before"], *geometry["pads_after"])):
        c.unsupported("negative padding")
    if combiner == "max":
        return c.emit("max_pool", x, **geometry)
    if combiner == "min":
        return c.emit("neg", c.emit("max_pool", c.emit("neg", x), **geometry))
    if not x.dtype.is_float:
        c.unsupported("sums of integers over windows")
    mean = c.emit("avg_pool", x, count_include_pad=True, **geometry)
    return c.emit("mul", mean, c.scalar(float(np.prod(geometry["kernel"])), x.dtype))


ROWS: dict[str, Row] = {
    "stablehlo.reduce": reduce,
    "stablehlo.reduce_window": reduce_window,
}

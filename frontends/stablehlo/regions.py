"""Regions that combine two elements, run on whole tensors: every operation of theirs is elementwise.

StableHLO lets an implementation combine the elements of a reduction in any grouping, so a reduction by a
region is a tree: neighbours are combined, then neighbours of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aino_ir.frontends.stablehlo.context import OpContext
from aino_ir.graph import Value

Values = Sequence[Value]
Combine = Callable[[Values, Values], Values]
"""Combines earlier elements of some tensors with later ones."""


def pointwise(c: OpContext, region: Any, arguments: Values) -> list[Value]:
    """What a region of scalars gives for every element of tensors that broadcast, in their common shape."""
    captured = c.function.captures([region])
    (block,) = region.blocks
    inner = c.function.inside(c.b, captured, c.function.captured(captured), pointwise=True)
    shape = max((a.shape for a in arguments), key=len)
    return [
        v if v.shape == shape else c.emit("expand", v, shape=shape) for v in inner.block(block, arguments)
    ]


def combiner(c: OpContext, region: Any) -> Combine:
    """A region of (earlier ..., later ...) as a function of tensors."""
    return lambda earlier, later: pointwise(c, region, [*earlier, *later])


def folded(c: OpContext, xs: Values, axis: int, combine: Combine) -> Values:
    """Tensors combined along an axis of at least one element, which goes."""
    while (extent := c.extent(xs[0], axis)) > 1:
        half = extent // 2
        earlier, later = ([_every_second(c, x, axis, first, half) for x in xs] for first in (0, 1))
        merged = combine(earlier, later)
        if extent % 2:
            rest = [c.cut(x, axis, extent - 1, 1) for x in xs]
            merged = [c.emit("concat", m, r, axis=axis) for m, r in zip(merged, rest, strict=True)]
        xs = merged
    return [c.reshape(x, [d for a, d in enumerate(x.shape) if a != axis]) for x in xs]


def _every_second(c: OpContext, x: Value, axis: int, first: int, count: int) -> Value:
    starts = [first if a == axis else 0 for a in range(x.rank)]
    sizes = [count if a == axis else d for a, d in enumerate(x.shape)]
    return c.emit(
        "slice", x, starts=starts, sizes=sizes, steps=[2 if a == axis else 1 for a in range(x.rank)]
    )


def running(c: OpContext, xs: Values, axis: int, reverse: bool, combine: Combine) -> Values:
    """Tensors combined along an axis up to each place (with `reverse`: from it on), in log n steps.

    Step k combines each place with the one 2^k before it (Hillis and Steele, 1986).
    """
    extent, step = c.extent(xs[0], axis), 1
    while step < extent:
        rest = extent - step
        earlier, later = [c.cut(x, axis, 0, rest) for x in xs], [c.cut(x, axis, step, rest) for x in xs]
        merged = combine(earlier, later)
        kept = [c.cut(x, axis, rest if reverse else 0, step) for x in xs]
        pairs = zip(merged, kept, strict=True)
        xs = [c.emit("concat", *((m, k) if reverse else (k, m)), axis=axis) for m, k in pairs]
        step *= 2
    return xs

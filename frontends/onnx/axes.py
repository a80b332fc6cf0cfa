"""Axes that are computed at run time, expressed by extents.

The rank of every value is known, so an axis that is not becomes arithmetic on extents: of each axis
one asks whether it is among the chosen ones, and what its extent is in that case.
"""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike, dmax, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.context import NodeContext
from aino_ir.frontends.onnx.integers import Integer, Truth, bound, elements, integer, times, total
from aino_ir.graph import Value


def axes_input(c: NodeContext, index: int, rank: int) -> tuple[int, ...] | None:
    """Axes that an input holds, made non-negative; None when only the run will tell."""
    found = elements(c, c.tensor(index))
    if found is None or any(n.static is None for n in found):
        return None
    return c.axes([n.static or 0 for n in found], rank)


def run_time_axes(c: NodeContext, index: int, rank: int) -> Value:
    """Axes that an input holds as non-negative i64 [n]; one out of range is an error of the run."""
    axes = c.tensor(index)
    places = c.emit("index.range", start=0, size=rank, step=1, dtype=i64)
    return c.emit("tensor.gather", places, c.reshape(axes, (axes.type.size,)), axis=0)  # type: ignore[union-attr]


def chosen(c: NodeContext, axes: Value, rank: int) -> list[Truth]:
    """Of each axis whether it is among non-negative run-time axes [n]."""
    places = c.emit("index.range", start=0, size=rank, step=1, dtype=i64)
    same = c.emit("eq", c.reshape(axes, (axes.shape[0], 1)), places)
    flags = c.emit("reduce.any", same, axes=(0,), keepdims=False)
    return [Truth(c, c.emit("tensor.gather", flags, integer(c, n).value, axis=0)) for n in range(rank)]


def number_of(c: NodeContext, index: int, value: Value) -> int:
    """How many axes a value holds; refused where that depends on the run, since a rank would."""
    (count,) = value.shape
    if not is_static(count):
        c.refuse_unknown(index)
    return int(count)


def left_over(c: NodeContext, shape: Sequence[DimLike], flags: Sequence[Truth], count: int) -> list[DimLike]:
    """Extents of the `count` axes that are not chosen, in order."""
    position, places = integer(c, 0), []
    for flag in flags:
        places.append(flag.where(-1, position))
        position = position + flag.where(0, 1)
    numbers = [
        total(c, [p.eq(k).where(extent, 0) for p, extent in zip(places, shape, strict=True)])
        for k in range(count)
    ]
    return bound(c, numbers, what="the extents of the axes that are left")


def inserted(c: NodeContext, shape: Sequence[DimLike], flags: Sequence[Truth]) -> list[DimLike]:
    """A shape with an extent of 1 at each chosen axis."""
    position, numbers = integer(c, 0), []
    for flag in flags:
        here = total(c, [position.eq(k).where(extent, 0) for k, extent in enumerate(shape)])
        numbers.append(flag.where(1, here))
        position = position + flag.where(0, 1)
    return bound(c, numbers, what="the extents around the new axes")


def parted(c: NodeContext, x: Value, flags: Sequence[Truth]) -> Value:
    """x with each axis as two, (kept, chosen): one of them has the axis's extent, the other is 1."""
    numbers: list[Integer] = []
    uppers: list[DimLike] = []
    for flag, extent in zip(flags, x.shape, strict=True):
        numbers += [flag.where(1, extent), flag.where(extent, 1)]
        uppers += [dmax(extent, 1)] * 2
    return c.reshape(x, bound(c, numbers, 0, uppers, "the extents of kept and reduced axes"))


def around(c: NodeContext, x: Value, axis: Integer) -> Value:
    """x as [before, extent of the axis, behind], for a non-negative axis."""
    before = times(c, [axis.gt(a).where(extent, 1) for a, extent in enumerate(x.shape)])
    behind = times(c, [axis.lt(a).where(extent, 1) for a, extent in enumerate(x.shape)])
    here = total(c, [axis.eq(a).where(extent, 0) for a, extent in enumerate(x.shape)])
    return c.reshape(x, bound(c, [before, here, behind], what="the extents around the axis"))

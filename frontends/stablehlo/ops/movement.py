"""Movement of data: broadcasts, reshapes, slices, pads, concatenations, positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.dims import DimLike, ceildiv
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value
from aino_ir.symbols import Symbols


def broadcast_in_dim(c: OpContext, x: Value) -> Value:
    """Operand axis i becomes result axis dims[i], and is repeated where its extent is 1."""
    return _broadcast(c, x, c.shape)


def dynamic_broadcast_in_dim(c: OpContext, x: Value, shape: Value) -> Value:
    """The same in a shape of extents."""
    return _broadcast(c, x, c.dims(shape))


def _broadcast(c: OpContext, x: Value, shape: Sequence[DimLike]) -> Value:
    axes = c.integers("broadcast_dimensions")
    order = sorted(range(x.rank), key=axes.__getitem__)
    x, axes = c.permuted(x, order), sorted(axes)
    apart: list[DimLike] = [1] * len(shape)
    for axis, extent in zip(axes, x.shape, strict=True):
        apart[axis] = extent
    spread = c.reshape(x, apart)
    return spread if spread.shape == tuple(shape) else c.emit("expand", spread, shape=tuple(shape))


def reshape(c: OpContext, x: Value) -> Value:
    """The same elements in row-major order."""
    return c.reshape(x, c.shape)


def dynamic_reshape(c: OpContext, x: Value, shape: Value) -> Value:
    """The same elements in a shape of extents."""
    return c.reshape(x, c.dims(shape))


def dimension_size(c: OpContext, x: Value) -> Value:
    """An extent as a number."""
    return c.cast(c.reshape(c.vector([x.shape[c.integer("dimension")]]), ()), c.dtype)


def shape_assertion(c: OpContext, condition: Value, *shown: Value) -> Sequence[Value]:
    """A comparison of extents, which becomes a check of the inputs."""
    op = condition.op
    relation = None if op is None else RELATIONS.get(op.name)
    sides = [] if op is None else [c.b.known(v) for v in op.present_operands()]
    if relation is None or len(sides) != 2 or None in sides:
        c.unsupported("a check of extents that compares no two of them")
    (a,), (b,) = sides  # type: ignore[misc]
    relation(c.symbols, a, b, "a shape that the function was exported for")
    return []


def transpose(c: OpContext, x: Value) -> Value:
    """Axes in another order."""
    return c.permuted(x, c.integers("permutation"))


def slice_(c: OpContext, x: Value) -> Value:
    """Elements start, start + stride ... below limit."""
    starts, strides = c.integers("start_indices"), c.integers("strides")
    return c.emit("slice", x, starts=starts, sizes=c.shape, steps=strides)


def real_dynamic_slice(c: OpContext, x: Value, start: Value, limit: Value, stride: Value) -> Value:
    """The same between extents, or a window of known size at a place that data decide, as in a loop."""
    strides = c.whole(stride)
    starts, limits = c.b.known(start), c.b.known(limit)
    if starts is not None and limits is not None:
        sizes = [ceildiv(b - a, s) for a, b, s in zip(starts, limits, strides, strict=True)]
        return c.emit("slice", x, starts=starts, sizes=sizes, steps=strides)
    op = limit.op
    if op is None or op.name != "math.add" or start not in op.operands or any(s != 1 for s in strides):
        c.unsupported("a slice whose extent data decide")
    first, second = op.present_operands()
    for axis, size in enumerate(c.dims(second if first is start else first)):
        if size != x.shape[axis]:
            steps = c.emit("range", size=size, dtype=i64)
            at = c.emit("add", steps, c.cast(c.cut(start, 0, axis, 1), i64))
            x = c.emit("gather", x, at, axis=axis)
    return x


def reverse(c: OpContext, x: Value) -> Value:
    """x backwards along some axes."""
    return reversed_along(c, x, c.integers("dimensions"))


def reversed_along(c: OpContext, x: Value, axes: list[int]) -> Value:
    """x backwards along axes."""
    if not axes or 0 in x.shape:
        return x
    steps = [-1 if a in axes else 1 for a in range(x.rank)]
    starts = [d - 1 if s < 0 else 0 for d, s in zip(x.shape, steps, strict=True)]
    return c.emit("slice", x, starts=starts, sizes=x.shape, steps=steps)


def pad(c: OpContext, x: Value, value: Value) -> Value:
    """x with a value around it and between its elements; negative amounts cut off."""
    low, high = c.integers("edge_padding_low"), c.integers("edge_padding_high")
    return padded(c, x, value, low, high, c.integers("interior_padding"))


def dynamic_pad(c: OpContext, x: Value, value: Value, low: Value, high: Value, interior: Value) -> Value:
    """The same with amounts that are known."""
    return padded(c, x, value, c.whole(low), c.whole(high), c.whole(interior))


def padded(
    c: OpContext, x: Value, value: Value, low: list[int], high: list[int], interior: list[int]
) -> Value:
    """x with so many elements of a value before, behind and between its own along each axis."""
    x = spaced(c, x, value, interior)
    if not any((*low, *high)):
        return x
    if not any(a > 0 for a in (*low, *high)):
        return c.emit("pad", x, before=low, after=high)
    known = c.known(value)
    number = known.reshape(-1)[0].item() if known is not None else 0.5
    if known is not None and (float(number) == number or number != number):
        return c.emit("pad", x, before=low, after=high, value=float(number))
    padded = c.emit("pad", x, before=low, after=high)
    inside = c.emit("pad", c.filled(x.shape, True, boolean), before=low, after=high)
    return c.emit("select", inside, padded, value)


def spaced(c: OpContext, x: Value, value: Value, gaps: list[int]) -> Value:
    """x with so many elements of a value between its elements, along each axis."""
    for axis, gap in enumerate(gaps):
        if gap == 0 or (extent := c.extent(x, axis)) < 2:
            continue
        apart = c.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
        shape = list(apart.shape)
        shape[axis + 1] = gap
        between = c.emit("expand", c.reshape(value, (1,) * len(shape)), shape=tuple(shape))
        joined = c.emit("concat", apart, between, axis=axis + 1)
        merged = c.reshape(joined, (*x.shape[:axis], extent * (gap + 1), *x.shape[axis + 1 :]))
        x = c.cut(merged, axis, 0, extent + (extent - 1) * gap)
    return x


def concatenate(c: OpContext, *parts: Value) -> Value:
    """Tensors one behind the other."""
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=c.integer("dimension"))


def iota(c: OpContext) -> Value:
    """Positions along an axis."""
    return _positions(c, c.shape)


def dynamic_iota(c: OpContext, shape: Value) -> Value:
    """The same in a shape of extents."""
    return _positions(c, c.dims(shape))


def _positions(c: OpContext, shape: Sequence[DimLike]) -> Value:
    axis = c.integer("iota_dimension")
    extent = shape[axis]
    wide = c.dtype if c.dtype.is_float or c.dtype.bits >= 8 else i64
    line = c.cast(c.emit("range", size=extent, dtype=wide), c.dtype)
    shaped = c.reshape(line, [extent if a == axis else 1 for a in range(len(shape))])
    return shaped if shaped.shape == tuple(shape) else c.emit("expand", shaped, shape=tuple(shape))


RELATIONS: dict[str, Callable[[Symbols, DimLike, DimLike, str], None]] = {
    "logic.eq": Symbols.assume_eq,
    "logic.ge": Symbols.assume_ge,
    "logic.le": lambda symbols, a, b, what: symbols.assume_ge(b, a, what),
    "logic.gt": lambda symbols, a, b, what: symbols.assume_ge(a, b + 1, what),
    "logic.lt": lambda symbols, a, b, what: symbols.assume_ge(b, a + 1, what),
}
"""Comparisons of extents -> what makes them facts."""


ROWS: dict[str, Row] = {
    "call shape_assertion": shape_assertion,
    "stablehlo.broadcast_in_dim": broadcast_in_dim,
    "stablehlo.concatenate": concatenate,
    "stablehlo.dynamic_broadcast_in_dim": dynamic_broadcast_in_dim,
    "stablehlo.dynamic_iota": dynamic_iota,
    "stablehlo.dynamic_pad": dynamic_pad,
    "stablehlo.dynamic_reshape": dynamic_reshape,
    "stablehlo.get_dimension_size": dimension_size,
    "stablehlo.iota": iota,
    "stablehlo.pad": pad,
    "stablehlo.real_dynamic_slice": real_dynamic_slice,
    "stablehlo.reshape": reshape,
    "stablehlo.reverse": reverse,
    "stablehlo.slice": slice_,
    "stablehlo.transpose": transpose,
}

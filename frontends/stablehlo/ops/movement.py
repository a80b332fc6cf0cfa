"""Movement of data: broadcasts, reshapes, slices, pads, concatenations, positions."""

from __future__ import annotations

from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value


def broadcast_in_dim(c: OpContext, x: Value) -> Value:
    """Operand axis i becomes result axis dims[i], and is repeated where its extent is 1."""
    axes = c.integers("broadcast_dimensions")
    order = sorted(range(x.rank), key=axes.__getitem__)
    if order != list(range(x.rank)):
        x = c.emit("transpose", x, perm=order)
        axes = sorted(axes)
    apart = [1] * len(c.shape)
    for axis, extent in zip(axes, x.shape, strict=True):
        apart[axis] = int(extent)
    spread = c.reshape(x, apart)
    return spread if spread.shape == c.shape else c.emit("expand", spread, shape=c.shape)


def reshape(c: OpContext, x: Value) -> Value:
    """The same elements in row-major order."""
    return c.reshape(x, c.shape)


def transpose(c: OpContext, x: Value) -> Value:
    """Axes in another order."""
    perm = c.integers("permutation")
    return x if perm == list(range(x.rank)) else c.emit("transpose", x, perm=perm)


def slice_(c: OpContext, x: Value) -> Value:
    """Elements start, start + stride ... below limit."""
    starts, strides = c.integers("start_indices"), c.integers("strides")
    return c.emit("slice", x, starts=starts, sizes=c.shape, steps=strides)


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
        extent = int(x.shape[axis])
        if gap == 0 or extent < 2:
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
    axis = c.integer("iota_dimension")
    extent = c.shape[axis]
    wide = c.dtype if c.dtype.is_float or c.dtype.bits >= 8 else i64
    line = c.cast(c.emit("range", size=extent, dtype=wide), c.dtype)
    shaped = c.reshape(line, [extent if a == axis else 1 for a in range(len(c.shape))])
    return shaped if shaped.shape == c.shape else c.emit("expand", shaped, shape=c.shape)


ROWS: dict[str, Row] = {
    "stablehlo.broadcast_in_dim": broadcast_in_dim,
    "stablehlo.concatenate": concatenate,
    "stablehlo.iota": iota,
    "stablehlo.pad": pad,
    "stablehlo.reshape": reshape,
    "stablehlo.reverse": reverse,
    "stablehlo.slice": slice_,
    "stablehlo.transpose": transpose,
}

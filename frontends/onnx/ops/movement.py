"""Shapes and movement: Reshape, Transpose, Slice, Split, Concat, Expand, Tile, Pad and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aino_ir.dims import DimLike, ceildiv, is_static, product
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.onnx.axes import (
    axes_input,
    chosen,
    inserted,
    left_over,
    number_of,
    run_time_axes,
)
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array
from aino_ir.frontends.onnx.integers import Integer, bound, elements, extents, integer, integers, times
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value
from aino_ir.infer import SIZE_LIMIT


def reshape(c: NodeContext, node: OnnxNode) -> Value:
    """0 copies an extent (unless allowzero), -1 takes what is left."""
    x = c.x
    target = integers(c, 1)
    if not node.int("allowzero", 0):
        for axis, extent in enumerate(target):
            if extent.static == 0 and axis >= x.rank:
                shown = [n.known if n.known is not None else "?" for n in target]
                c.invalid("shape", f"without 0 at position {axis}: the input has rank {x.rank}", shown)
            if extent.known is None or extent.static == 0:
                target[axis] = extent.eq(0).where(x.shape[axis] if axis < x.rank else 0, extent)
    known = [n.known for n in target]
    if all(n is not None for n in known):
        return c.reshape(x, resolve_open(c, x.shape, known))  # type: ignore[arg-type]
    return c.reshape(x, run_time_shape(c, x, target))


def run_time_shape(c: NodeContext, x: Value, target: Sequence[Integer]) -> list[DimLike]:
    """A target shape of which the run decides some extents, one of which may be -1."""
    count = product(x.shape)
    others = times(c, [n.eq(-1).where(1, n) for n in target])
    rest = integer(c, count) // others.max(1)
    resolved = [n.eq(-1).where(rest, n) for n in target]
    upper = count if c.symbols.prove_ge(count, 1) else SIZE_LIMIT
    return bound(c, resolved, 0, upper, c.formal(1))


def resolve_open(c: NodeContext, shape: Sequence[DimLike], target: Sequence[DimLike]) -> list[DimLike]:
    """A target shape with -1 replaced by what makes the element counts equal."""
    open_axes = [axis for axis, extent in enumerate(target) if is_static(extent) and extent == -1]
    if not open_axes:
        return list(target)
    if len(open_axes) > 1:
        c.invalid("shape", "with at most one -1", list(target))
    given, wanted = list(shape), [extent for axis, extent in enumerate(target) if axis != open_axes[0]]
    for extent in list(wanted):
        match = next((i for i, g in enumerate(given) if g is extent or (is_static(g) and g == extent)), None)
        if match is not None and not (is_static(extent) and extent == 0):
            del given[match]
            wanted.remove(extent)
    out = list(target)
    out[open_axes[0]] = exact_quotient(c, product(given), product(wanted))
    return out


def exact_quotient(c: NodeContext, count: DimLike, divisor: DimLike) -> DimLike:
    """count / divisor, which must be exact; what cannot be proved becomes an entry check."""
    if is_static(count) and is_static(divisor):
        if divisor == 0 or count % divisor:
            c.invalid("shape", f"a divisor of {count} elements", divisor)
        return count // divisor
    quotient = c.symbols.div(count, divisor)
    if quotient is None:
        what = f"{c.node.operator}: the open extent"
        c.symbols.assume_ge(divisor, 1, what)
        quotient = c.symbols.simplify(count // divisor)
        c.symbols.assume_eq(quotient * divisor, count, what)
    return quotient


def flatten(c: NodeContext, node: OnnxNode) -> Value:
    """Two axes: those before `axis`, and the others."""
    x = c.x
    axis = node.int("axis", 1)
    if not -x.rank <= axis <= x.rank:
        c.invalid("axis", f"within {-x.rank}..{x.rank}", axis)
    axis = axis + x.rank if axis < 0 else axis
    return c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def squeeze(c: NodeContext, node: OnnxNode) -> Value:
    """Drop unit axes: the given ones, or all that are known to be."""
    x = c.x
    if c.opset < 13:
        given = node.ints("axes", None)
        axes = None if given is None else c.axes(given, x.rank)
    else:
        axes = None if c.input(1) is None else axes_input(c, 1, x.rank)
        if axes is None and c.input(1) is not None:
            found = run_time_axes(c, 1, x.rank)
            count = x.rank - number_of(c, 1, found)
            return c.reshape(x, left_over(c, x.shape, chosen(c, found, x.rank), count))
    if axes is None:
        axes = tuple(a for a, d in enumerate(x.shape) if is_static(d) and d == 1)
    for axis in axes:
        extent = x.shape[axis]
        if is_static(extent) and extent != 1:
            c.invalid(f"extent of axis {axis}", 1, extent)
    return c.reshape(x, [d for a, d in enumerate(x.shape) if a not in axes])


def unsqueeze(c: NodeContext, node: OnnxNode) -> Value:
    """Insert unit axes at positions of the result."""
    x = c.x
    if c.opset < 13:
        given = node.ints("axes")
        rank = x.rank + len(given)
        axes: Sequence[int] | None = c.axes(given, rank)
    else:
        rank = x.rank + number_of(c, 1, c.reshape(c.tensor(1), (c.tensor(1).type.size,)))  # type: ignore[union-attr]
        axes = axes_input(c, 1, rank)
    if axes is None:
        return c.reshape(x, inserted(c, x.shape, chosen(c, run_time_axes(c, 1, rank), rank)))
    rest = iter(x.shape)
    return c.reshape(x, [1 if a in axes else next(rest) for a in range(rank)])


def transpose(c: NodeContext, node: OnnxNode) -> Value:
    """Permute axes; reversed by default."""
    rank = c.x.rank
    perm = node.ints("perm", tuple(reversed(range(rank))))
    return c.emit("transpose", c.x, perm=c.axes(perm, rank))


def expand(c: NodeContext, node: OnnxNode) -> Value:
    """Broadcast to a shape, both ways."""
    x, target = c.x, integers(c, 1)
    shape: list[Integer] = [integer(c, 1)] * (x.rank - len(target)) + target
    if all(n.known is not None for n in shape):
        return c.emit("expand", x, shape=bound(c, shape))
    x = c.reshape(x, [*[1] * (len(shape) - x.rank), *x.shape])
    for axis, (extent, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if wanted.known is None and not (is_static(extent) and extent == 1):
            x, shape[axis] = met(c, x, axis, wanted)
    return c.emit("expand", x, shape=bound(c, shape, what=c.formal(1)))


def met(c: NodeContext, x: Value, axis: int, wanted: Integer) -> tuple[Value, Integer]:
    """x broadcast along an axis against an extent that only the run will tell; and what became of both."""
    extent = x.shape[axis]
    (other,) = bound(c, [wanted], what=c.formal(1))
    fits = (other - 1) * (extent - 1) * (other - extent)  # one of both is 1, or they are equal
    c.symbols.assume_eq(fits, 0, f"{c.node.operator}: extents of axis {axis} broadcast")
    if c.symbols.prove_ge(extent, 2):
        return x, integer(c, extent)
    (size,) = bound(c, [wanted.eq(1).where(extent, wanted)], what=c.formal(1))
    line = c.emit("index.range", start=0, size=size, step=1, dtype=i64)
    places = c.emit("mod", line, integer(c, extent).max(1).value)
    return c.emit("gather", x, places, axis=axis), integer(c, size)


def tile(c: NodeContext, node: OnnxNode) -> Value:
    """Repeat along each axis."""
    x = c.x
    repeats = extents(c, 1)
    if len(repeats) != x.rank:
        c.invalid("number of repeats", x.rank, len(repeats))
    return tiled(c, x, repeats)


def tiled(c: NodeContext, x: Value, repeats: Sequence[DimLike]) -> Value:
    """x repeated along each axis."""
    return c.tile(x, repeats)


def concat(c: NodeContext, node: OnnxNode) -> Value:
    """One behind the other along an axis."""
    parts = [c.tensor(i) for i in range(len(c.inputs))]
    if len(parts) == 1:
        return parts[0]
    return c.emit("concat", *parts, axis=c.axis(node.int("axis"), parts[0].rank))


def split(c: NodeContext, node: OnnxNode) -> list[Value]:
    """Cut in parts of given sizes, or of equal ones (from operator set 18 on the last may be smaller)."""
    x = c.x
    axis = c.axis(node.int("axis", 0), x.rank)
    extent = x.shape[axis]
    count = len(node.outputs)
    if c.opset < 13:
        given: Sequence[DimLike] | None = node.ints("split", None)
    else:
        given = None if c.input(1) is None else bound(c, integers(c, 1), 0, extent, c.formal(1))
    sizes = list(given) if given is not None else equal_parts(c, extent, node.int("num_outputs", count))
    if len(sizes) != count:
        c.invalid("number of sizes", count, len(sizes))
    c.symbols.assume_eq(sum(sizes[1:], sizes[0]), extent, f"{node.operator}: the sum of the sizes")
    outputs = []
    position: DimLike = 0
    for size in sizes:
        outputs.append(cut(c, x, axis, position, size))
        position = position + size
    return outputs


def equal_parts(c: NodeContext, extent: DimLike, count: int) -> list[DimLike]:
    """Sizes of `count` parts of an axis."""
    if count < 1:
        c.invalid("number of parts", "at least 1", count)
    if c.opset < 18:
        return [exact_quotient(c, extent, count)] * count
    each = c.symbols.simplify(ceildiv(extent, count))
    return [*[each] * (count - 1), c.symbols.simplify(extent - each * (count - 1))]


def cut(c: Emitter, x: Value, axis: int, start: DimLike, size: DimLike) -> Value:
    """`size` elements along one axis from `start` on."""
    return c.cut(x, axis, start, size)


def pad(c: NodeContext, node: OnnxNode) -> Value:
    """Pads, value and axes are attributes before operator set 11, inputs after."""
    x = c.x
    mode = node.str("mode", "constant")
    before, after = pads_of(c, x)
    if all(is_static(p) and p == 0 for p in (*before, *after)):
        return x
    fill = None if c.opset < 11 else c.input(2)
    if fill is not None and mode == "constant":
        return padded_with(c, x, before, after, fill)
    value = node.float("value", 0.0) if c.opset < 11 else 0.0
    return c.emit("pad", x, before=before, after=after, mode=mode, value=value)


def pads_of(c: NodeContext, x: Value) -> tuple[list[DimLike], list[DimLike]]:
    """Elements before and behind each axis; axes that are not named have none."""
    pads = [integer(c, p) for p in c.node.ints("pads")] if c.opset < 11 else integers(c, 1)
    axes: Sequence[int] | None = range(x.rank)
    named = c.opset >= 18 and c.input(3) is not None
    if named:
        axes = axes_input(c, 3, x.rank)
    count = len(pads) // 2 if axes is None else len(axes)
    if len(pads) != 2 * count:
        c.invalid("number of pads", 2 * count, len(pads))
    if axes is not None:
        first, last = spread(c, axes, x.rank, pads[:count]), spread(c, axes, x.rank, pads[count:])
    else:
        places = elements(c, run_time_axes(c, 3, x.rank)) or c.refuse_unknown(3)
        first, last = (run_time_spread(c, places, x.rank, part, 0) for part in (pads[:count], pads[count:]))
    found = bound(c, [*first, *last], -SIZE_LIMIT, SIZE_LIMIT, c.formal(1))
    before, after = found[: x.rank], found[x.rank :]
    for axis, (b, d, a) in enumerate(zip(before, x.shape, after, strict=True)):
        if not is_static(b) or not is_static(a):
            c.symbols.assume_ge(b + d + a, 0, f"{c.node.operator}: the padded extent of axis {axis}")
    return before, after


def spread(c: NodeContext, axes: Sequence[int], rank: int, numbers: Sequence[Integer]) -> list[Integer]:
    """Numbers of some axes as numbers of all: 0 for the others."""
    out = [integer(c, 0)] * rank
    for axis, number in zip(axes, numbers, strict=True):
        out[axis] = number
    return out


def run_time_spread(
    c: NodeContext, axes: Sequence[Integer], rank: int, numbers: Sequence[Integer], default: int
) -> list[Integer]:
    """`spread` for axes that only the run will tell."""
    out = []
    for axis in range(rank):
        here = integer(c, default)
        for at, number in zip(axes, numbers, strict=True):
            here = at.eq(axis).where(number, here)
        out.append(here)
    return out


def padded_with(
    c: NodeContext, x: Value, before: Sequence[DimLike], after: Sequence[DimLike], fill: Value
) -> Value:
    """x surrounded by a value: an attribute where doubles hold it, else chosen by a padded mask."""
    array = constant_array(fill)
    if array is not None and array.size == 1:
        number = array.reshape(-1)[0]
        value = float(number)
        if np.asarray(value).astype(array.dtype).tobytes() == np.asarray(number).tobytes():
            return c.emit("pad", x, before=before, after=after, value=value)
    inside = c.emit("pad", c.filled(x.shape, True, boolean), before=before, after=after)
    surrounded = c.emit("pad", x, before=before, after=after)
    return c.emit("select", inside, surrounded, c.reshape(fill, ()))


def shape_of(c: NodeContext, node: OnnxNode) -> Value:
    """Extents start..end (from operator set 15 on)."""
    shape = c.require(0).shape
    start, end = node.int("start", 0), node.int("end", len(shape))
    return c.b.dims_vector(shape[slice(start, end)])


def size_of(c: NodeContext, node: OnnxNode) -> Value:
    """The number of elements."""
    return c.reshape(c.b.dims_vector([product(c.require(0).shape)]), ())


def depth_to_space(c: NodeContext, node: OnnxNode) -> Value:
    """Channels become blocks of the plane: the outer ones (DCR) or the inner ones (CRD)."""
    x, block = c.x, node.int("blocksize")
    mode = node.str("mode", "DCR")
    if x.rank != 4 or block < 1 or mode not in ("DCR", "CRD"):
        c.invalid("input, blocksize and mode", "rank 4, at least 1, DCR or CRD", (x.rank, block, mode))
    n, channels, height, width = x.shape
    left = exact_quotient(c, channels, block * block)
    blocks: tuple[DimLike, ...] = (block, block, left) if mode == "DCR" else (left, block, block)
    perm = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    moved = c.emit("transpose", c.reshape(x, (n, *blocks, height, width)), perm=perm)
    return c.reshape(moved, (n, left, height * block, width * block))


def space_to_depth(c: NodeContext, node: OnnxNode) -> Value:
    """Blocks of the plane become channels: outer ones (DCR) or inner ones (CRD)."""
    x, block = c.x, node.int("blocksize")
    mode = node.str("mode", "DCR")
    if x.rank != 4 or block < 1 or mode not in ("DCR", "CRD"):
        c.invalid("input, blocksize and mode", "rank 4, at least 1, DCR or CRD", (x.rank, block, mode))
    n, channels, height, width = x.shape
    rows, columns = exact_quotient(c, height, block), exact_quotient(c, width, block)
    apart = c.reshape(x, (n, channels, rows, block, columns, block))
    moved = c.emit("transpose", apart, perm=(0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return c.reshape(moved, (n, channels * block * block, rows, columns))


TABLE: dict[str, Row] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": size_of,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}

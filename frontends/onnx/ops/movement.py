"""Shapes and movement: Reshape, Transpose, Slice, Split, Concat, Expand, Tile, Pad and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aino_ir.dims import DimLike, ceildiv, dmax, dmin, is_static, product
from aino_ir.dtypes import boolean
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

FAR = 2**31 - 1
"""Positions of at least this magnitude mean the end (or the start) of an axis."""


def reshape(c: NodeContext, node: OnnxNode) -> Value:
    """0 copies an extent (unless allowzero), -1 takes what is left."""
    x = c.x
    target = list(c.known(1))
    if not node.int("allowzero", 0):
        for axis, extent in enumerate(target):
            if is_static(extent) and extent == 0:
                if axis >= x.rank:
                    c.invalid("shape", f"without 0 at position {axis}: the input has rank {x.rank}", target)
                target[axis] = x.shape[axis]
    return c.reshape(x, resolve_open(c, x.shape, target))


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
    given = c.optional_ints(1, "axes", 13)
    if given is None:
        axes: Sequence[int] = [a for a, d in enumerate(x.shape) if is_static(d) and d == 1]
    else:
        axes = c.axes(given, x.rank)
    for axis in axes:
        extent = x.shape[axis]
        if is_static(extent) and extent != 1:
            c.invalid(f"extent of axis {axis}", 1, extent)
    return c.reshape(x, [d for a, d in enumerate(x.shape) if a not in axes])


def unsqueeze(c: NodeContext, node: OnnxNode) -> Value:
    """Insert unit axes at positions of the result."""
    x = c.x
    given = c.ints(1) if c.opset >= 13 else node.ints("axes")
    rank = x.rank + len(given)
    axes = c.axes(given, rank)
    rest = iter(x.shape)
    return c.reshape(x, [1 if a in axes else next(rest) for a in range(rank)])


def transpose(c: NodeContext, node: OnnxNode) -> Value:
    """Permute axes; reversed by default."""
    rank = c.x.rank
    perm = node.ints("perm", tuple(reversed(range(rank))))
    return c.emit("transpose", c.x, perm=c.axes(perm, rank))


def expand(c: NodeContext, node: OnnxNode) -> Value:
    """Broadcast to a shape, both ways."""
    return c.emit("expand", c.x, shape=c.known(1))


def tile(c: NodeContext, node: OnnxNode) -> Value:
    """Repeat along each axis."""
    x = c.x
    repeats = c.known(1)
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
    given = c.node.ints("split", None) if c.opset < 13 else (c.known(1) if c.input(1) is not None else None)
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


def cut(c: NodeContext, x: Value, axis: int, start: DimLike, size: DimLike) -> Value:
    """`size` elements along one axis from `start` on."""
    return c.cut(x, axis, start, size)


def slice_(c: NodeContext, node: OnnxNode) -> Value:
    """Starts, ends, axes and steps are attributes before operator set 10, inputs after."""
    x = c.x
    if c.opset < 10:
        begins: Sequence[DimLike] = node.ints("starts")
        ends: Sequence[DimLike] = node.ints("ends")
        given = node.ints("axes", None)
        strides: Sequence[int] = [1] * len(begins)
    else:
        begins, ends = c.known(1), c.known(2)
        given = c.ints(3) if c.input(3) is not None else None
        strides = c.ints(4) if c.input(4) is not None else [1] * len(begins)
    axes = c.axes(range(len(begins)) if given is None else given, x.rank)
    if not len(begins) == len(ends) == len(axes) == len(strides):
        c.invalid(
            "starts, ends, axes and steps", "of one length", (len(begins), len(ends), len(axes), len(strides))
        )
    starts: list[DimLike] = [0] * x.rank
    sizes, steps = list(x.shape), [1] * x.rank
    for axis, begin, end, step in zip(axes, begins, ends, strides, strict=False):
        if step == 0:
            c.invalid("steps", "not 0", 0)
        starts[axis], sizes[axis] = span(c, begin, end, step, x.shape[axis])
        steps[axis] = step
    if tuple(sizes) == x.shape and all(step == 1 for step in steps):
        return x
    return c.emit("slice", x, starts=starts, sizes=sizes, steps=steps)


def span(c: NodeContext, begin: DimLike, end: DimLike, step: int, extent: DimLike) -> tuple[DimLike, DimLike]:
    """First position and number of elements of Python's ``[begin:end:step]`` on an axis."""
    if step > 0:
        first = clamp(c, begin, 0, extent, extent)
        last = clamp(c, end, 0, extent, extent)
        size = ceildiv(last - first, step)
    else:
        first = clamp(c, begin, 0, extent - 1, extent)
        last = clamp(c, end, -1, extent - 1, extent)
        size = ceildiv(first - last, -step)
    size = c.symbols.simplify(size)
    if c.symbols.prove_ge(size, 0) is not True:
        size = c.symbols.simplify(dmax(size, 0))
    return (0 if is_static(size) and size == 0 else first), size


def clamp(c: NodeContext, at: DimLike, low: DimLike, high: DimLike, extent: DimLike) -> DimLike:
    """A position counted from the end when negative, kept within low..high (high from below wins)."""
    if is_static(at) and at >= FAR:
        return c.symbols.simplify(dmax(high, low))
    if is_static(at) and at <= -FAR:
        return low
    if is_static(at):
        at = at + extent if at < 0 else at
    elif c.symbols.prove_ge(at, 0) is not True:
        if c.symbols.prove_ge(at, 0) is None:
            c.symbols.assume_ge(at, 0, f"{c.node.operator}: a position counted from the start")
        else:
            at = at + extent
    return c.symbols.simplify(dmax(dmin(at, high), low))


def pad(c: NodeContext, node: OnnxNode) -> Value:
    """Pads, value and axes are attributes before operator set 11, inputs after."""
    x = c.x
    mode = node.str("mode", "constant")
    pads: Sequence[DimLike] = node.ints("pads") if c.opset < 11 else c.known(1)
    axes = range(x.rank)
    if c.opset >= 18 and c.input(3) is not None:
        axes = c.axes(c.ints(3), x.rank)  # type: ignore[assignment]
    if len(pads) != 2 * len(axes):
        c.invalid("number of pads", 2 * len(axes), len(pads))
    before: list[DimLike] = [0] * x.rank
    after: list[DimLike] = [0] * x.rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if all(is_static(p) and p == 0 for p in pads):
        return x
    fill = None if c.opset < 11 else c.input(2)
    if fill is not None and mode == "constant":
        return padded_with(c, x, before, after, fill)
    value = node.float("value", 0.0) if c.opset < 11 else 0.0
    return c.emit("pad", x, before=before, after=after, mode=mode, value=value)


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
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}

"""Shapes and movement: view, permute, expand, slice, cat, split, pad, flip and their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.dims import DimLike, ceildiv, dmax, dmin, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row, is_one
from aino_ir.graph import Value

FAR = 2**62
"""Positions of at least this magnitude mean the end of an axis."""


def reshaped(c: NodeContext, x: Value) -> Value:
    """x in the shape that torch says."""
    return c.reshape(x, c.shape)


def view(c: NodeContext, x: Value, size: Sequence[DimLike]) -> Value:
    """The same elements in row-major order in another shape."""
    return c.reshape(x, c.shape)


def squeeze(c: NodeContext, x: Value, dim: Sequence[int] | int | None = None) -> Value:
    """Unit axes dropped; the others of those named stay."""
    return c.reshape(x, c.shape)


def unsqueeze(c: NodeContext, x: Value, dim: int) -> Value:
    """A unit axis inserted."""
    return c.reshape(x, c.shape)


def permute(c: NodeContext, x: Value, dims: Sequence[int]) -> Value:
    """Axes in another order."""
    return c.transposed(x, c.axes(dims, x.rank))


def transpose(c: NodeContext, x: Value, dim0: int, dim1: int) -> Value:
    """Two axes exchanged."""
    if x.rank == 0:
        return x
    perm = list(range(x.rank))
    a, b = c.axis(dim0, x.rank), c.axis(dim1, x.rank)
    perm[a], perm[b] = perm[b], perm[a]
    return c.transposed(x, perm)


def matrix_transpose(c: NodeContext, x: Value) -> Value:
    """The two axes of a matrix exchanged."""
    return c.transposed(x, (1, 0)) if x.rank == 2 else x


def expand(c: NodeContext, x: Value, size: Sequence[DimLike], implicit: bool = False) -> Value:
    """Unit axes repeated, and new ones in front."""
    lead = len(size) - x.rank
    own = [1] * lead + list(x.shape)
    target = [have if is_static(want) and want == -1 else want for want, have in zip(size, own, strict=True)]
    return x if tuple(target) == x.shape else c.emit("expand", x, shape=target)


def repeat(c: NodeContext, x: Value, repeats: Sequence[DimLike]) -> Value:
    """x repeated along each axis, new axes in front."""
    lead = len(repeats) - x.rank
    return c.tile(c.reshape(x, [1] * lead + list(x.shape)), repeats)


def start_of(c: NodeContext, at: Operand | None, extent: DimLike, default: DimLike) -> DimLike:
    """A position within 0..extent, counted from the end when negative."""
    if at is None:
        return default
    if isinstance(at, Value) or isinstance(at, float):
        c.unsupported("a position that depends on data")
    if is_static(at):
        if at >= FAR:
            return extent
        at = at + extent if at < 0 else at
    elif c.symbols.prove_ge(at, 0) is False:
        at = at + extent
    return c.symbols.simplify(dmax(dmin(at, extent), 0))


def slice_(
    c: NodeContext,
    x: Value,
    dim: int = 0,
    start: Operand | None = None,
    end: Operand | None = None,
    step: int = 1,
) -> Value:
    """Python's x[start:end:step] along an axis."""
    axis = c.axis(dim, x.rank)
    extent = x.shape[axis]
    first = start_of(c, start, extent, 0)
    last = start_of(c, end, extent, extent)
    size = c.symbols.simplify(ceildiv(last - first, step))
    if c.symbols.prove_ge(size, 0) is not True:
        size = c.symbols.simplify(dmax(size, 0))
    if step == 1:
        return c.cut(x, axis, 0 if is_static(size) and size == 0 else first, size)
    starts: list[DimLike] = [0] * x.rank
    sizes, steps = list(x.shape), [1] * x.rank
    starts[axis], sizes[axis], steps[axis] = 0 if is_static(size) and size == 0 else first, size, step
    return c.emit("slice", x, starts=starts, sizes=sizes, steps=steps)


def select(c: NodeContext, x: Value, dim: int, index: Operand) -> Value:
    """One position of an axis, which vanishes."""
    axis = c.axis(dim, x.rank)
    shape = [d for a, d in enumerate(x.shape) if a != axis]
    if isinstance(index, Value):
        return c.reshape(c.emit("gather", x, c.reshape(index, (1,)), axis=axis), shape)
    at = index if not is_static(index) or index >= 0 else x.shape[axis] + index  # type: ignore[arg-type]
    return c.reshape(c.cut(x, axis, c.symbols.simplify(at), 1), shape)  # type: ignore[arg-type]


def narrow(c: NodeContext, x: Value, dim: int, start: Operand, length: DimLike) -> Value:
    """`length` elements of an axis from a position on."""
    axis = c.axis(dim, x.rank)
    return c.cut(x, axis, start_of(c, start, x.shape[axis], 0), length)


def cat(c: NodeContext, tensors: Sequence[Value], dim: int = 0) -> Value:
    """One behind the other along an axis; empty vectors do not count."""
    rank = len(c.shape)
    parts = [c.cast(t, c.dtype) for t in tensors if t.rank == rank]
    if not parts:
        return c.filled(c.shape, 0, c.dtype)
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=c.axis(dim, rank))


def stack(c: NodeContext, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Side by side along a new axis."""
    rank = tensors[0].rank + 1
    axis = c.axis(dim, rank)
    parts = [c.cast(t, c.dtype) for t in tensors]
    parts = [c.reshape(t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in parts]
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=axis)


def split(c: NodeContext, x: Value, axis: int, count: int) -> list[Value | None]:
    """Parts along an axis of the sizes that torch says; those that nobody reads are not made."""
    out: list[Value | None] = []
    position: DimLike = 0
    for index in range(count):
        size = c.shape_of(index)[axis]
        out.append(c.cut(x, axis, c.symbols.simplify(position), size) if c.wants(index) else None)
        position = position + size
    return out


def split_with_sizes(
    c: NodeContext, x: Value, split_sizes: Sequence[DimLike], dim: int = 0
) -> list[Value | None]:
    """Parts of given sizes."""
    return split(c, x, c.axis(dim, x.rank), len(split_sizes))


def split_tensor(c: NodeContext, x: Value, split_size: Operand, dim: int = 0) -> list[Value | None]:
    """Parts of one size, the last smaller."""
    return split(c, x, c.axis(dim, x.rank), len(c.node.meta["val"]))


def chunk(c: NodeContext, x: Value, chunks: int, dim: int = 0) -> list[Value | None]:
    """A number of parts, the last smaller."""
    return split(c, x, c.axis(dim, x.rank), len(c.node.meta["val"]))


def unbind(c: NodeContext, x: Value, dim: int = 0) -> list[Value | None]:
    """Every position of an axis, which vanishes."""
    axis = c.axis(dim, x.rank)
    shape = [d for a, d in enumerate(x.shape) if a != axis]
    count = len(c.node.meta["val"])
    return [c.reshape(c.cut(x, axis, i, 1), shape) if c.wants(i) else None for i in range(count)]


def flip(c: NodeContext, x: Value, dims: Sequence[int]) -> Value:
    """Axes read backwards."""
    axes = c.axes(dims, x.rank) if dims else ()
    if x.rank == 0 or not axes:
        return x
    starts = [c.symbols.simplify(dmax(d - 1, 0)) if a in axes else 0 for a, d in enumerate(x.shape)]
    steps = [-1 if a in axes else 1 for a in range(x.rank)]
    return c.emit("slice", x, starts=starts, sizes=x.shape, steps=steps)


def roll(c: NodeContext, x: Value, shifts: Sequence[DimLike], dims: Sequence[int] = ()) -> Value:
    """Elements moved along axes (of the flattened tensor without axes); those that fall off come in again."""
    if not dims:
        size: DimLike = 1
        for extent in x.shape:
            size = size * extent
        return c.reshape(_rolled(c, c.reshape(x, (size,)), shifts[0], 0), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        x = _rolled(c, x, shift, c.axis(dim, x.rank))
    return x


def _rolled(c: NodeContext, x: Value, shift: DimLike, axis: int) -> Value:
    extent = x.shape[axis]
    if is_static(extent) and extent == 0:
        return x
    at = c.symbols.simplify((extent - shift) % extent)
    if is_static(at) and at == 0:
        return x
    rest = c.symbols.simplify(extent - at)
    return c.emit("concat", c.cut(x, axis, at, rest), c.cut(x, axis, 0, at), axis=axis)


def constant_pad(c: NodeContext, x: Value, pad: Sequence[DimLike], value: Operand = 0) -> Value:
    """Surrounded by a value (negative pads cut off)."""
    return padded(c, x, pad, "constant", value)


def padded(c: NodeContext, x: Value, pad: Sequence[DimLike], mode: str, value: Operand = 0) -> Value:
    """x with pads as torch lists them: before and after of the last axis first."""
    before: list[DimLike] = [0] * x.rank
    after: list[DimLike] = [0] * x.rank
    for i in range(len(pad) // 2):
        before[x.rank - 1 - i], after[x.rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    if all(is_static(p) and p == 0 for p in pad):
        return x
    if isinstance(value, Value):
        c.unsupported("a pad value that depends on data")
    if mode == "wrap":  # what is cut off does not come in again on the other side
        x, before, after = _cropped(c, x, before), [_kept(p) for p in before], after
        x, after = _cropped(c, x, after, at_end=True), [_kept(p) for p in after]
    return c.emit("pad", x, before=before, after=after, mode=mode, value=float(value))  # type: ignore[arg-type]


def _kept(pad: DimLike) -> DimLike:
    return 0 if is_static(pad) and pad < 0 else pad


def _cropped(c: NodeContext, x: Value, pads: Sequence[DimLike], at_end: bool = False) -> Value:
    """x without what negative pads cut off."""
    for axis, pad in enumerate(pads):
        if _kept(pad) != pad:
            x = c.cut(x, axis, 0 if at_end else -pad, c.symbols.simplify(x.shape[axis] + pad))
    return x


def pad_mode(mode: str) -> Lowering:
    """A row for pads that repeat what is there."""

    def lower(c: NodeContext, x: Value, padding: Sequence[DimLike]) -> Value:
        return padded(c, x, padding, mode)

    return lower


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(
    c: NodeContext, x: Value, pad: Sequence[DimLike], mode: str = "constant", value: Operand | None = None
) -> Value:
    """Surrounded by a value or by what is there."""
    return padded(c, x, pad, PAD_MODES[mode], 0 if value is None else value)


def triangle(keeps: Callable[[NodeContext, Value, Value], Value]) -> Lowering:
    """A row for the part of matrices on one side of a diagonal."""

    def lower(c: NodeContext, x: Value, diagonal: int = 0) -> Value:
        rows = c.positions(x.shape[-2], x.rank, x.rank - 2)
        columns = c.positions(x.shape[-1], x.rank, x.rank - 1)
        kept = keeps(c, c.emit("add", rows, c.scalar(diagonal, i64)), columns)
        return c.emit("select", kept, x, c.scalar(0, x.dtype))

    return lower


def diagonal(c: NodeContext, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The diagonal of two axes as a new last axis: every (columns + 1)-th element of a flattened square."""
    first, second = c.axis(dim1, x.rank), c.axis(dim2, x.rank)
    rest = [a for a in range(x.rank) if a not in (first, second)]
    size = c.shape[-1]
    x = c.transposed(x, [*rest, first, second])
    x = c.cut(c.cut(x, x.rank - 2, max(-offset, 0), size), x.rank - 1, max(offset, 0), size)
    lead = x.shape[:-2]
    if not is_static(size):
        rows = c.positions(size, x.rank, x.rank - 2)
        return c.reshape(
            c.emit("gather_elements", x, c.emit("expand", rows, shape=(*lead, size, 1)), axis=-1),
            (*lead, size),
        )
    flat = c.reshape(x, (*lead, size * size))
    starts, steps = [0] * flat.rank, [1] * flat.rank
    steps[-1] = int(size) + 1  # type: ignore[arg-type]
    return c.emit("slice", flat, starts=starts, sizes=(*lead, size), steps=steps)


def unfold(c: NodeContext, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows of an axis as a new last axis."""
    x = c.line(x)
    axis = c.axis(dimension, x.rank)
    count = c.shape[axis] if len(c.shape) > 1 else 1
    starts = c.positions(count, 2, 0)
    places = c.emit("add", c.emit("mul", starts, c.scalar(step, i64)), c.positions(size, 2, 1))
    windows = c.emit("gather", x, places, axis=axis)
    perm = [a for a in range(windows.rank) if a != axis + 1] + [axis + 1]
    return c.reshape(c.transposed(windows, perm), c.shape)


def repeat_interleave(
    c: NodeContext, x: Value, repeats: Operand, dim: int | None = None, output_size: Operand | None = None
) -> Value:
    """Each element of an axis (of the flattened tensor) several times."""
    if isinstance(repeats, (Value, float)):
        c.unsupported("a number of repeats that depends on data")
    if dim is None:
        total: DimLike = 1
        for extent in x.shape:
            total = total * extent
        x, dim = c.reshape(x, (total,)), 0
    axis = c.axis(dim, x.rank)
    apart = c.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    wide = c.emit("expand", apart, shape=(*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return c.reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))


def pixel_shuffle(c: NodeContext, x: Value, upscale_factor: int) -> Value:
    """Channels become blocks of the plane."""
    *lead, channels, height, width = x.shape
    r, n = upscale_factor, len(lead)
    left = c.symbols.simplify(channels // (r * r))
    apart = c.reshape(x, (*lead, left, r, r, height, width))
    perm = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return c.reshape(c.transposed(apart, perm), (*lead, left, height * r, width * r))


def pixel_unshuffle(c: NodeContext, x: Value, downscale_factor: int) -> Value:
    """Blocks of the plane become channels."""
    *lead, channels, height, width = x.shape
    r, n = downscale_factor, len(lead)
    rows, columns = c.symbols.simplify(height // r), c.symbols.simplify(width // r)
    apart = c.reshape(x, (*lead, channels, rows, r, columns, r))
    perm = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return c.reshape(c.transposed(apart, perm), (*lead, channels * r * r, rows, columns))


def as_strided(
    c: NodeContext,
    x: Value,
    size: Sequence[DimLike],
    stride: Sequence[DimLike],
    storage_offset: DimLike | None = None,
) -> Value:
    """Elements of a dense tensor at offsets that strides say."""
    places = _places(c, size, stride, storage_offset)
    return c.emit("gather", _memory(c, x), places, axis=0)


def as_strided_scatter(
    c: NodeContext,
    x: Value,
    src: Value,
    size: Sequence[DimLike],
    stride: Sequence[DimLike],
    storage_offset: DimLike | None = None,
) -> Value:
    """A dense tensor with elements of src at offsets that strides say."""
    places = _places(c, size, stride, storage_offset)
    column = c.reshape(places, (*places.shape, 1))
    return c.reshape(c.emit("scatter_nd", _memory(c, x), column, c.cast(src, x.dtype)), x.shape)


def resize(c: NodeContext, x: Value, size: Sequence[DimLike]) -> Value:
    """The first elements of a dense tensor in a shape; zeros where it has fewer (torch leaves them open)."""
    memory = _memory(c, x)
    wanted: DimLike = 1
    for extent in size:
        wanted = wanted * extent
    missing = c.symbols.simplify(wanted - memory.shape[0])
    if c.symbols.prove_ge(0, missing) is True:
        return c.reshape(c.cut(memory, 0, 0, wanted), size)
    if c.symbols.prove_ge(missing, 0) is not True:
        c.unsupported("sizes of which it is open whether they are larger")
    return c.reshape(c.emit("pad", memory, before=[0], after=[missing]), size)


def _memory(c: NodeContext, x: Value) -> Value:
    """The elements of the first operand as they lie in memory."""
    meta = c.node.args[0].meta["val"]  # type: ignore[union-attr]
    if not meta.is_contiguous():
        c.unsupported("an operand that is not dense in row-major order")
    total: DimLike = 1
    for extent in x.shape:
        total = total * extent
    return c.reshape(x, (total,))


def _places(
    c: NodeContext, size: Sequence[DimLike], stride: Sequence[DimLike], offset: DimLike | None
) -> Value:
    """Offsets in memory, one for each element of a strided tensor."""
    places = c.operand(0 if offset is None else offset, i64)
    rank = len(size)
    for axis, (extent, step) in enumerate(zip(size, stride, strict=True)):
        if not is_one(extent):
            along = c.emit("mul", c.positions(extent, rank, axis), c.operand(step, i64))
            places = c.emit("add", places, along)
    return c.emit("expand", places, shape=tuple(size))


TABLE: dict[str, Row] = {
    "aten._reshape_copy": view,
    "aten._unsafe_view": view,
    "aten.as_strided": as_strided,
    "aten.as_strided_copy": as_strided,
    "aten.as_strided_scatter": as_strided_scatter,
    "aten.cat": cat,
    "aten.chunk": chunk,
    "aten.constant_pad_nd": constant_pad,
    "aten.diagonal": diagonal,
    "aten.diagonal_copy": diagonal,
    "aten.expand": expand,
    "aten.expand_copy": expand,
    "aten.flip": flip,
    "aten.narrow": narrow,
    "aten.pad": pad,
    "aten.permute": permute,
    "aten.permute_copy": permute,
    "aten.pixel_shuffle": pixel_shuffle,
    "aten.pixel_unshuffle": pixel_unshuffle,
    "aten.reflection_pad1d": pad_mode("reflect"),
    "aten.reflection_pad2d": pad_mode("reflect"),
    "aten.reflection_pad3d": pad_mode("reflect"),
    "aten.repeat": repeat,
    "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.replication_pad1d": pad_mode("edge"),
    "aten.replication_pad2d": pad_mode("edge"),
    "aten.replication_pad3d": pad_mode("edge"),
    "aten.resize": resize,
    "aten.roll": roll,
    "aten.select.int": select,
    "aten.select_copy.int": select,
    "aten.slice.Tensor": slice_,
    "aten.slice_copy.Tensor": slice_,
    "aten.split.Tensor": split_tensor,
    "aten.split_with_sizes": split_with_sizes,
    "aten.split_with_sizes_copy": split_with_sizes,
    "aten.squeeze": squeeze,
    "aten.stack": stack,
    "aten.t": matrix_transpose,
    "aten.transpose.int": transpose,
    "aten.tril": triangle(lambda c, rows, columns: c.emit("ge", rows, columns)),
    "aten.triu": triangle(lambda c, rows, columns: c.emit("le", rows, columns)),
    "aten.unbind.int": unbind,
    "aten.unfold": unfold,
    "aten.unsqueeze": unsqueeze,
    "aten.view.default": view,
    "aten.view_copy.default": view,
    "prims.as_strided_scatter": as_strided_scatter,
}

"""Reading and writing at indices: embedding, gather, index, scatter, sort, top-k, nonzero."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import boolean, f64, i64
from aino_ir.frontends.torch.context import NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.movement import start_of
from aino_ir.graph import Value


def embedding(
    c: NodeContext,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """Rows of a table."""
    return c.emit("gather", weight, indices, axis=0)


def index_select(c: NodeContext, x: Value, dim: int, index: Value) -> Value:
    """Positions of one axis."""
    if x.rank == 0:
        return x
    return c.emit("gather", x, c.line(index), axis=c.axis(dim, x.rank))


def gather(c: NodeContext, x: Value, dim: int, index: Value) -> Value:
    """x[i with one coordinate replaced by index[i]]"""
    if any(is_static(d) and d == 0 for d in index.shape):
        return c.filled(index.shape, 0, x.dtype)
    line, places = c.line(x), c.line(index)
    y = c.emit("gather_elements", line, places, axis=c.axis(dim, line.rank))
    return c.reshape(y, index.shape)


def take(c: NodeContext, x: Value, index: Value) -> Value:
    """Elements of the flattened tensor."""
    return c.emit("gather", c.reshape(x, (_size(x.shape),)), index, axis=0)


def put(c: NodeContext, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """x with elements of source at positions of the flattened tensor, or added there."""
    places, size = _size(index.shape), _size(x.shape)
    y = c.emit(
        "scatter_nd",
        c.reshape(x, (size,)),
        c.reshape(index, (places, 1)),
        c.reshape(source, (places,)),
        reduction="add" if accumulate else "none",
    )
    return c.reshape(y, x.shape)


def renormalised(c: NodeContext, x: Value, indices: Value, max_norm: float, norm_type: float) -> Value:
    """A table whose rows at indices are shortened to a norm."""
    from aino_ir.frontends.torch.ops.distance import norm

    places = c.reshape(indices, (_size(indices.shape),))
    rows = c.emit("gather", x, places, axis=0)
    length = c.reshape(norm(c, rows, norm_type, 1), (*places.shape, 1))
    share = c.emit("div", c.scalar(max_norm, x.dtype), c.emit("add", length, c.scalar(1e-7, x.dtype)))
    long = c.emit("gt", length, c.scalar(max_norm, x.dtype))
    short = c.emit("select", long, c.emit("mul", rows, share), rows)
    return c.emit("scatter_nd", x, c.reshape(places, (*places.shape, 1)), short)


def _size(extents: Sequence[DimLike]) -> DimLike:
    out: DimLike = 1
    for extent in extents:
        out = out * extent
    return out


class Places:
    """Where ``x[indices]`` reads: some axes of x are replaced by the common shape of index tensors.

    Attributes:
        x: the operand, its indexed axes in front.
        perm: the permutation that put them there.
        coordinates: [common shape..., number of indexed axes].
        count: indexed axes.
        front: whether the common shape comes first in the result (the indexed axes are not adjacent).
    """

    def __init__(self, c: NodeContext, x: Value, indices: Sequence[Value | None]) -> None:
        given, axes = self._by_axis(c, x, indices)
        self.count = len(axes)
        self.axes = axes
        rest = [a for a in range(x.rank) if a not in axes]
        self.perm = [*axes, *rest]
        self.x = c.transposed(x, self.perm)
        self.shape = _common(c, given)
        parts = [c.emit("expand", g, shape=self.shape) if g.shape != self.shape else g for g in given]
        if len(parts) == 1:
            self.coordinates = c.reshape(parts[0], (*self.shape, 1))
        else:
            apart = [c.reshape(p, (*self.shape, 1)) for p in parts]
            self.coordinates = c.emit("concat", *apart, axis=len(self.shape))
        adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
        self.position = axes[0] if adjacent else 0

    @staticmethod
    def _by_axis(c: NodeContext, x: Value, indices: Sequence[Value | None]) -> tuple[list[Value], list[int]]:
        """Index tensors of integers and their axes; a mask is the coordinates at which it is true."""
        given: list[Value] = []
        axes: list[int] = []
        axis = 0
        for index in indices:
            if index is None:
                axis += 1
            elif index.dtype.is_bool or index.dtype.name == "u8":
                found = c.emit("nonzero", c.cast(index, boolean))
                for part in range(index.rank):
                    given.append(c.reshape(c.cut(found, 0, part, 1), (found.shape[1],)))
                    axes.append(axis)
                    axis += 1
            else:
                given.append(c.cast(index, i64))
                axes.append(axis)
                axis += 1
        return given, axes

    def order(self, rank: int) -> list[int]:
        """The permutation from [common shape..., other axes...] to the result."""
        width = len(self.shape)
        lead = list(range(width, width + self.position))
        return [*lead, *range(width), *range(width + self.position, rank)]


def _common(c: NodeContext, given: Sequence[Value]) -> tuple[DimLike, ...]:
    """The shape that index tensors broadcast to."""
    rank = max(v.rank for v in given)
    out: list[DimLike] = [1] * rank
    for value in given:
        for axis, extent in enumerate(value.shape, rank - value.rank):
            if isinstance(extent, int) and extent == 1:
                continue
            out[axis] = extent
    return tuple(out)


def index(c: NodeContext, x: Value, indices: Sequence[Value | None]) -> Value:
    """numpy's indexing with tensors; masks give as many results as they have true elements."""
    if all(i is None for i in indices):
        return x
    places = Places(c, x, indices)
    if places.count == 1 and places.position == places.axes[0]:
        (axis,) = places.axes
        return c.emit("gather", x, c.reshape(places.coordinates, places.shape), axis=axis)
    found = c.emit("gather_nd", places.x, places.coordinates)
    return c.transposed(found, places.order(found.rank))


def index_put(
    c: NodeContext, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    """x with values at indices, or added there."""
    values, how = c.cast(values, x.dtype), "add" if accumulate else "none"
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype.is_bool and values.rank == 0:
        wide = c.reshape(mask, (*mask.shape, *[1] * (x.rank - mask.rank)))
        return c.emit("select", wide, c.emit("add", x, values) if accumulate else values, x)
    line = _positions_of_one_axis(indices)
    if line is not None:
        axis, positions = line
        shape = (*x.shape[:axis], positions.shape[0], *x.shape[axis + 1 :])
        if values.shape != shape:
            values = c.emit("expand", values, shape=shape)
        return _slices(c, x, axis, positions, values, how)
    places = Places(c, x, indices)
    rest = places.x.shape[places.count :]
    whole = (*places.shape, *rest)
    order = places.order(len(whole))
    target = tuple(whole[a] for a in order)
    if values.shape != target:
        values = c.emit("expand", values, shape=target)
    values = c.transposed(values, c.inverse(order))
    y = c.emit("scatter_nd", places.x, places.coordinates, values, reduction=how)
    return c.transposed(y, c.inverse(places.perm))


def _positions_of_one_axis(indices: Sequence[Value | None]) -> tuple[int, Value] | None:
    """(axis, integers) where indices are a line of positions along one axis and nothing else."""
    given = [(axis, v) for axis, v in enumerate(indices) if v is not None]
    if len(given) != 1:
        return None
    ((axis, positions),) = given
    dtype = positions.dtype
    plain = positions.rank == 1 and dtype.is_integer and not dtype.is_bool and dtype.name != "u8"
    return (axis, positions) if plain else None


def scatter(
    c: NodeContext,
    x: Value,
    dim: int,
    index: Value,
    src: Value | None = None,
    value: Operand | None = None,
    reduce: str | None = None,
) -> Value:
    """x with elements of src, or a number, at indices along an axis."""
    updates = src if src is not None else value
    assert updates is not None
    how = {None: "none", "add": "add", "multiply": "mul"}[reduce]
    return scattered(c, x, dim, index, updates, how)


def scattered(c: NodeContext, x: Value, dim: int, index: Value, updates: Operand, reduction: str) -> Value:
    """x with updates at indices along an axis; of those, as many as there are indices."""
    line, places = c.line(x), c.line(index)
    if isinstance(updates, Value) and updates.shape != index.shape:
        if updates.rank == 0:
            updates = c.emit("expand", updates, shape=places.shape)
        else:
            starts = [0] * updates.rank
            updates = c.emit("slice", updates, starts=starts, sizes=places.shape, steps=[1] * updates.rank)
    elif not isinstance(updates, Value):
        updates = c.emit("expand", c.operand(updates, x.dtype), shape=places.shape)
    updates = c.reshape(c.cast(updates, x.dtype), places.shape)
    axis = c.axis(dim, line.rank)
    return c.reshape(
        c.emit("scatter_elements", line, places, updates, reduction=reduction, axis=axis), x.shape
    )


def scatter_add(c: NodeContext, x: Value, dim: int, index: Value, src: Value) -> Value:
    """x with elements of src added at indices along an axis."""
    return scattered(c, x, dim, index, src, "add")


REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "mean": "add"}


def scatter_reduce(
    c: NodeContext, x: Value, dim: int, index: Value, src: Value, reduce: str, include_self: bool = True
) -> Value:
    """x with elements of src combined at indices; without itself what is hit starts neutral."""
    how = REDUCTIONS[reduce]
    start = x
    if not include_self:
        start = scattered(c, x, dim, index, neutral(c, x, how), "none")
    y = scattered(c, start, dim, index, src, how)
    if reduce != "mean":
        return y
    ones = c.filled(index.shape, 1, x.dtype)
    first = c.filled(x.shape, 1, x.dtype)
    if not include_self:
        first = scattered(c, first, dim, index, 0, "none")
    count = scattered(c, first, dim, index, ones, "add")
    return c.emit("div" if x.dtype.is_float else "floordiv", y, count)


def neutral(c: NodeContext, x: Value, how: str) -> float | int | bool:
    """The number that changes nothing."""
    from aino_ir.dtypes import integer_range

    if how in ("add", "mul"):
        return 0 if how == "add" else 1
    if x.dtype.is_float:
        return float("-inf") if how == "max" else float("inf")
    low, high = integer_range(x.dtype)
    return low if how == "max" else high


def index_add(c: NodeContext, x: Value, dim: int, index: Value, source: Value, alpha: Operand = 1) -> Value:
    """x with slices of source added at positions of an axis."""
    source = source if alpha == 1 else c.elementwise("mul", source, alpha, dtype=x.dtype)
    return _slices(c, x, dim, index, source, "add")


def index_copy(c: NodeContext, x: Value, dim: int, index: Value, source: Value) -> Value:
    """x with slices of source at positions of an axis."""
    return _slices(c, x, dim, index, source, "none")


def _slices(c: NodeContext, x: Value, dim: int, index: Value, source: Value, how: str) -> Value:
    """Slices written at positions of an axis; another axis than the first stays where it is."""
    line, places, updates = c.line(x), c.line(index), c.cast(c.line(source), x.dtype)
    axis, count = c.axis(dim, line.rank), places.shape[0]
    if axis == 0:
        y = c.emit("scatter_nd", line, c.reshape(places, (count, 1)), updates, reduction=how)
    else:
        column = c.reshape(places, [count if a == axis else 1 for a in range(line.rank)])
        wide = c.emit("expand", column, shape=updates.shape)
        y = c.emit("scatter_elements", line, wide, updates, axis=axis, reduction=how)
    return c.reshape(y, x.shape)


def index_fill(c: NodeContext, x: Value, dim: int, index: Value, value: Operand) -> Value:
    """x with a number at positions of an axis."""
    line = c.line(x)
    axis = c.axis(dim, line.rank)
    shape = list(line.shape)
    shape[axis] = c.line(index).shape[0]
    source = c.emit("expand", c.operand(value, x.dtype), shape=tuple(shape))
    return _slices(c, x, dim, index, source, "none")


def select_scatter(c: NodeContext, x: Value, src: Value, dim: int, index: Operand) -> Value:
    """x with src at one position of an axis."""
    axis = c.axis(dim, x.rank)
    if isinstance(index, (Value, float)):
        c.unsupported("a position that depends on data")
    at = start_of(c, index, x.shape[axis], 0)
    piece = c.reshape(src, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return replaced(c, x, piece, axis, at, 1)


def slice_scatter(
    c: NodeContext,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Operand | None = None,
    end: Operand | None = None,
    step: int = 1,
) -> Value:
    """x with src at x[start:end:step] of an axis."""
    axis = c.axis(dim, x.rank)
    at = start_of(c, start, x.shape[axis], 0)
    return replaced(c, x, c.cast(src, x.dtype), axis, at, step)


def replaced(c: NodeContext, x: Value, src: Value, axis: int, start: DimLike, step: int) -> Value:
    """x with src from a position of an axis on, every `step` positions."""
    size = src.shape[axis]
    if step == 1:
        rest = c.symbols.simplify(x.shape[axis] - start - size)
        parts = [(0, start), (None, size), (start + size, rest)]
        pieces = [
            src if at is None else c.cut(x, axis, at, length)
            for at, length in parts
            if not (isinstance(length, int) and length == 0)
        ]
        return pieces[0] if len(pieces) == 1 else c.emit("concat", *pieces, axis=axis)
    line = c.emit("mul", c.positions(size, src.rank, axis), c.scalar(step, i64))
    places = c.emit("add", line, c.operand(start, i64))
    places = c.emit("expand", places, shape=src.shape)
    return c.emit("scatter_elements", x, places, src, axis=axis)


def ordered(c: NodeContext, x: Value, k: DimLike, dim: int, largest: bool) -> list[Value]:
    """The k largest or smallest elements of an axis in order, and where they stand."""
    if x.rank == 0:
        return [x, c.scalar(0, i64)]
    numbers = c.cast(x, i64) if x.dtype.is_bool else x
    values, places = c.emit_all("top_k", numbers, k=k, axis=c.axis(dim, x.rank), largest=largest)
    return [c.cast(values, x.dtype), places]


def topk(
    c: NodeContext, x: Value, k: DimLike, dim: int = -1, largest: bool = True, sorted: bool = True
) -> list[Value]:
    """The k largest or smallest elements of an axis, in order."""
    return ordered(c, x, k, dim, largest)


def sort(
    c: NodeContext, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> list[Value]:
    """An axis in order; equal elements keep theirs."""
    return ordered(c, x, x.shape[c.axis(dim, x.rank)] if x.rank else 1, dim, descending)


def argsort(
    c: NodeContext, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Value:
    """The positions that put an axis in order."""
    return sort(c, x, dim, descending)[1]


def kth_value(c: NodeContext, x: Value, k: DimLike, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The k-th smallest element of an axis, and where it stands."""
    if x.rank == 0:
        return ordered(c, x, 1, dim, False)
    axis = c.axis(dim, x.rank)
    found = [c.cut(v, axis, k - 1, 1) for v in ordered(c, x, k, axis, False)]
    shape = [d for a, d in enumerate(found[0].shape) if a != axis]
    return found if keepdim else [c.reshape(v, shape) for v in found]


def nonzero(c: NodeContext, x: Value) -> Value:
    """Coordinates of the elements that are not zero, one a row."""
    return c.emit("transpose", c.emit("nonzero", x), perm=(1, 0))


def masked_select(c: NodeContext, x: Value, mask: Value) -> Value:
    """The elements at which a mask holds, in row-major order."""
    shape = _common(c, [x, mask])
    wide, kept = (v if v.shape == shape else c.emit("expand", v, shape=shape) for v in (x, mask))
    size = (_size(shape),)
    return c.emit("compress", c.reshape(wide, size), c.reshape(kept, size), axis=0)


def masked_scatter(c: NodeContext, x: Value, mask: Value, source: Value) -> Value:
    """x with elements of source, in order, where a mask holds."""
    shape = c.shape
    wide, kept = (v if v.shape == shape else c.emit("expand", v, shape=shape) for v in (x, mask))
    size = _size(shape)
    flat = c.reshape(kept, (size,))
    number = c.emit("scan.cumsum", c.cast(flat, i64), axis=0)
    number = c.emit("max", c.emit("sub", number, c.scalar(1, i64)), c.scalar(0, i64))
    last = c.operand(_size(source.shape) - 1, i64)
    taken = c.emit("gather", c.reshape(source, (_size(source.shape),)), c.emit("min", number, last), axis=0)
    y = c.emit("select", flat, taken, c.reshape(wide, (size,)))
    return c.reshape(y, shape)


def index_reduce(
    c: NodeContext,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    """x with slices of source combined at positions of an axis."""
    how = REDUCTIONS[reduce]
    start = x
    if not include_self:
        start = _slices(c, x, dim, index, _like(c, source, neutral(c, x, how)), "none")
    y = _slices(c, start, dim, index, source, how)
    if reduce != "mean":
        return y
    first = c.filled(x.shape, 1, x.dtype)
    if not include_self:
        first = _slices(c, first, dim, index, _like(c, source, 0), "none")
    count = _slices(c, first, dim, index, _like(c, source, 1), "add")
    count = c.emit("max", count, c.scalar(1, x.dtype))
    return c.emit("div" if x.dtype.is_float else "floordiv", y, count)


def _like(c: NodeContext, x: Value, number: float) -> Value:
    return c.emit("expand", c.operand(number, x.dtype), shape=x.shape)


def diagonal_scatter(
    c: NodeContext, x: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """x with src on a diagonal of two axes."""
    first, second = c.axis(dim1, x.rank), c.axis(dim2, x.rank)
    rest = [a for a in range(x.rank) if a not in (first, second)]
    perm = [first, second, *rest]
    front = c.transposed(x, perm)
    size = src.shape[-1]
    line = c.reshape(c.positions(size, 1, 0), (size, 1))
    rows = c.emit("add", line, c.scalar(max(-offset, 0), i64))
    columns = c.emit("add", line, c.scalar(max(offset, 0), i64))
    places = c.emit("concat", rows, columns, axis=1)
    updates = c.transposed(c.cast(src, x.dtype), [src.rank - 1, *range(src.rank - 1)])
    return c.transposed(c.emit("scatter_nd", front, places, updates), c.inverse(perm))


def item(c: NodeContext, x: Value) -> DimLike | Value:
    """The number of a tensor with one element: integers as a symbol from here on, floats as a 0-d value."""
    if x.dtype.is_float:
        return c.cast(c.reshape(x, ()), f64)
    low, high = c.graph.scope.bounds(c.meta())
    bound = c.emit("core.bind", c.reshape(c.cast(x, i64), ()), lower=(low,), upper=(high,), what="item()")
    known = c.b.known(bound)
    assert known is not None
    return known[0]


TABLE: dict[str, Row] = {
    "aten._local_scalar_dense": item,
    "aten._unsafe_index.Tensor": index,
    "aten._unsafe_index_put": index_put,
    "aten.argsort": argsort,
    "aten.diagonal_scatter": diagonal_scatter,
    "aten.embedding": embedding,
    "aten.gather": gather,
    "aten.index.Tensor": index,
    "aten.index_add": index_add,
    "aten.index_copy": index_copy,
    "aten.index_fill.int_Scalar": index_fill,
    "aten.index_put": index_put,
    "aten.index_reduce": index_reduce,
    "aten.embedding_renorm": renormalised,
    "aten.index_select": index_select,
    "aten.kthvalue": kth_value,
    "aten.masked_scatter": masked_scatter,
    "aten.masked_select": masked_select,
    "aten.nonzero": nonzero,
    "aten.put": put,
    "aten.scatter.reduce": scatter,
    "aten.scatter.src": scatter,
    "aten.scatter.value": scatter,
    "aten.scatter.value_reduce": scatter,
    "aten.scatter_add": scatter_add,
    "aten.scatter_reduce.two": scatter_reduce,
    "aten.select_scatter": select_scatter,
    "aten.slice_scatter": slice_scatter,
    "aten.sort": sort,
    "aten.take": take,
    "aten.topk": topk,
}

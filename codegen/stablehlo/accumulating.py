"""Updates at positions and running combinations as `stablehlo.scatter` and `stablehlo.reduce_window`.

A scatter leaves updates out whose positions are outside; the check beside it tells of them.  StableHLO
leaves the order of updates of one element open: XLA's CPU backend takes them in order, as AINO does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.stablehlo.elementwise import binary, load, store
from aino_ir.codegen.stablehlo.types import Tensor, tensor_type
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.dtypes import boolean, i64
from aino_ir.loops.expr import identity
from aino_ir.ops.scan import Scan
from aino_ir.ops.scatter import Scatter, ScatterElements

Violation = tuple[Tensor, Tensor]
"""Whether a check fails anywhere, and one value that it fails with."""


def write_scatter(
    w: Writer, op: Scatter, x: Tensor, indices: Tensor, updates: Tensor
) -> tuple[Tensor, Violation]:
    """x with updates at positions, and the check of the positions; none of the operands is empty."""
    indices = w.convert(load(w, indices), i64)
    if isinstance(op, ScatterElements):
        axis = op.axis % x.rank
        extents: Sequence[int] = (x.shape[axis],)
        rows, found = _positions(w, w.reshape(indices, (*indices.shape, 1)), extents)
        columns = [
            rows if a == axis else w.broadcast(w.iota(d), [a], (*indices.shape, 1))
            for a, d in enumerate(indices.shape)
        ]
        places = w.concatenate(columns, indices.rank)
    else:
        extents = x.shape[: indices.shape[-1]]
        places, found = _positions(w, indices, extents)
    return _scattered(w, op.reduction, x, places, updates), found


def _positions(w: Writer, given: Tensor, extents: Sequence[int]) -> tuple[Tensor, Violation]:
    """Coordinates [..., depth], negative ones counted from the end, and whether any is outside."""
    last = given.rank - 1
    most = w.broadcast(w.constant(list(extents), i64), [last], given.shape)
    zero = w.constant(0, i64, given.shape)
    place = w.select(w.compare("LT", given, zero), w.same("add", given, most), given)
    outside = w.same("or", w.compare("LT", place, zero), w.compare("GE", place, most))
    least = w.constant(-(1 << 63), i64)
    shown = w.select(outside, given, w.broadcast(least, (), given.shape))
    everything = list(range(given.rank))
    failed = w.reduce(outside, "or", w.constant(False, boolean), everything)
    return place, (failed, w.reduce(shown, "maximum", least, everything))


def _scattered(w: Writer, reduction: str, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    storage, depth, lead = x.dtype, places.shape[-1], places.rank - 1
    if storage.bits < 8:  # XLA's CPU backend has no scatter of such types
        x, updates = load(w, x), load(w, updates)
    windows = list(range(lead, updates.rank))
    leading = list(range(depth))
    numbers = (
        f"#stablehlo.scatter<update_window_dims = {windows}, inserted_window_dims = {leading}, "
        f"scatter_dims_to_operand_dims = {leading}, index_vector_dim = {lead}>"
    )
    result = w.fresh(x.dtype, x.shape)
    w.line(
        f'{result.name} = "stablehlo.scatter"({x.name}, {places.name}, {updates.name}) '
        f"<{{indices_are_sorted = false, scatter_dimension_numbers = {numbers}, unique_indices = false}}> ({{"
    )

    def combined(old: Tensor, new: Tensor) -> Tensor:
        if reduction == "none":
            return new
        value = store(w, binary(w, reduction, load(w, old), load(w, new)), storage)
        return load(w, value) if x.dtype is not storage else value

    _region(w, x, combined)
    w.line(f"}}) : ({x.type}, {places.type}, {updates.type}) -> {result.type}")
    return store(w, result, storage)


def write_scan(w: Writer, op: Scan, x: Tensor) -> Tensor:
    """x combined along an axis up to each place: windows that reach back to the first."""
    storage, axis = x.dtype, op.axis % x.rank
    x = load(w, x)
    extent = x.shape[axis]
    neutral = w.constant(identity(op.combiner, x.dtype), x.dtype)
    sizes = [extent if a == axis else 1 for a in range(x.rank)]
    behind = (0, extent - 1) if op.reverse else (extent - 1, 0)
    pads = [list(behind) if a == axis else [0, 0] for a in range(x.rank)]
    result = w.fresh(x.dtype, x.shape)
    w.line(
        f'{result.name} = "stablehlo.reduce_window"({x.name}, {neutral.name}) '
        f"<{{padding = dense<{pads}> : {tensor_type(i64, (x.rank, 2))}, "
        f"window_dimensions = array<i64: {', '.join(map(str, sizes))}>}}> ({{"
    )
    _region(w, x, lambda a, b: binary(w, op.combiner, a, b))
    w.line(f"}}) : ({x.type}, {neutral.type}) -> {result.type}")
    if op.exclusive:
        shift = (-1, 1) if op.reverse else (1, -1)
        low, high = ([s if a == axis else 0 for a in range(x.rank)] for s in shift)
        result = w.pad(result, neutral, low, high)
    return store(w, result, storage)


def _region(w: Writer, x: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The lines of a region that combines two elements."""
    with w.region():
        a, b = w.fresh(x.dtype, ()), w.fresh(x.dtype, ())
        w.line(f"^bb0({a.name}: {a.type}, {b.name}: {b.type}):")
        w.give_back([combine(a, b)])

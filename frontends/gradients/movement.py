"""Rules of ops that move elements: each is linear, and its gradient moves them back."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import i64
from aino_ir.frontends.gradients.engine import Gradients, Rule, Step
from aino_ir.graph import Value


def zeros(s: Step, like: Value) -> Value:
    """Zeros of the type of a value."""
    return s.filled(like.shape, 0.0, like.dtype)


def _reshape(s: Step) -> Gradients:
    return [s.reshape(s.c, s.x().shape)]


def transposed(s: Step, x: Value, perm: tuple[int, ...]) -> Value:
    """x with its axes permuted (itself where they stay)."""
    return x if perm == tuple(range(x.rank)) else s.emit("transpose", x, perm=perm)


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(perm)), key=lambda axis: perm[axis]))


def _transpose(s: Step) -> Gradients:
    return [transposed(s, s.c, inverse(s.attr("perm")))]


def _expand(s: Step) -> Gradients:
    return [s.reduced(s.c, s.x())]


def _concat(s: Step) -> Gradients:
    axis, at = s.attr("axis") % s.c.rank, 0
    out: list[Value | None] = []
    start: DimLike = at
    for index, wanted in enumerate(s.wanted):
        x = s.x(index)
        out.append(s.cut(s.c, axis, start, x.shape[axis]) if wanted else None)
        start = start + x.shape[axis]
    return out


def _pad(s: Step) -> Gradients:
    before, after = s.attr("before"), s.attr("after")
    if s.attr("mode") != "constant":
        return [_mirrored(s, before, after)]
    return [s.emit("pad", s.c, before=tuple(-d for d in before), after=tuple(-d for d in after))]


def _mirrored(s: Step, before: Sequence[DimLike], after: Sequence[DimLike]) -> Value:
    """What stands behind the borders goes back to where it was read: the transposed table of positions."""
    gradient, x = s.c, s.x()
    for axis, extent in enumerate(x.shape):
        if is_static(before[axis]) and is_static(after[axis]) and before[axis] == after[axis] == 0:
            continue
        line = s.emit("index.range", start=0, size=extent, step=1, dtype=i64)
        places = s.emit("pad", line, before=(before[axis],), after=(after[axis],), mode=s.attr("mode"))
        gradient = gathered_back(s, gradient, axis, s.reshape(places, (*places.shape, 1)), extent)
    return gradient


def gathered_back(
    s: Step, gradient: Value, axis: int, places: Value, extent: DimLike, weights: Value | None = None
) -> Value:
    """The gradient of an axis of some extent of which each result has read `places` [results, taps].

    One product with the matrix [results, extent] that says what was read, times `weights` where there are.
    """
    size, taps = places.shape
    at = s.reshape(s.cast(places, i64), (size, taps, 1))
    line = s.reshape(s.emit("index.range", start=0, size=extent, step=1, dtype=i64), (1, 1, extent))
    dtype = gradient.dtype.compute if weights is None else weights.dtype
    read = s.cast(s.emit("eq", at, line), dtype)
    if weights is not None:
        read = s.emit("mul", read, s.reshape(weights, (size, taps, 1)))
    matrix = s.emit("reduce.sum", read, axes=(1,))
    last = (*(a for a in range(gradient.rank) if a != axis), axis)
    moved = s.cast(transposed(s, gradient, last), dtype)
    back = s.emit("matmul", s.reshape(moved, (product(moved.shape[:-1]), size)), matrix)
    return transposed(s, s.cast(s.reshape(back, (*moved.shape[:-1], extent)), gradient.dtype), inverse(last))


def _resample(s: Step) -> Gradients:
    if s.wanted[2]:
        s.missing("by its weights")
    axis = s.attr("axis") % s.c.rank
    return [gathered_back(s, s.c, axis, s.x(1), s.x(0).shape[axis], s.x(2))]


def _slice(s: Step) -> Gradients:
    """Zeros between the elements where steps were longer, and around them."""
    x, c = s.x(), s.c
    before: list[DimLike] = []
    after: list[DimLike] = []
    for axis, (start, step) in enumerate(zip(s.attr("starts"), s.attr("steps"), strict=True)):
        count = c.shape[axis]
        if step < 0:
            c = flipped(s, c, axis)
            start, step = start + (count - 1) * step, -step
        if step > 1:
            c = spread(s, c, axis, step)
        before.append(start)
        after.append(s.symbols.simplify(x.shape[axis] - start - count * step))
    return [s.emit("pad", c, before=tuple(before), after=tuple(after))]


def flipped(s: Step, x: Value, axis: int) -> Value:
    """x with one axis reversed."""
    starts: list[DimLike] = [0] * x.rank
    steps = [1] * x.rank
    starts[axis], steps[axis] = x.shape[axis] - 1, -1
    return s.emit("slice", x, starts=starts, sizes=x.shape, steps=steps)


def spread(s: Step, x: Value, axis: int, step: int) -> Value:
    """x with step - 1 zeros behind each element of one axis."""
    apart = s.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    after = tuple(step - 1 if a == axis + 1 else 0 for a in range(apart.rank))
    wide = s.emit("pad", apart, before=(0,) * apart.rank, after=after)
    return s.reshape(wide, (*x.shape[:axis], x.shape[axis] * step, *x.shape[axis + 1 :]))


def _gather(s: Step) -> Gradients:
    """What several indices read gets the sum of their gradients."""
    x, indices, c = s.x(0), s.x(1), s.c
    axis, n = s.attr("axis") % x.rank, indices.rank
    perm = (*range(axis, axis + n), *range(axis), *range(axis + n, c.rank))
    forward = (axis, *range(axis), *range(axis + 1, x.rank))
    rows = s.filled(tuple(x.shape[a] for a in forward), 0.0, x.dtype)
    places = s.reshape(indices, (*indices.shape, 1))
    made = s.emit("scatter_nd", rows, places, transposed(s, c, perm), reduction="add")
    return [transposed(s, made, inverse(forward))]


def _gather_elements(s: Step) -> Gradients:
    x, axis = s.x(0), s.attr("axis")
    return [s.emit("scatter_elements", zeros(s, x), s.x(1), s.c, reduction="add", axis=axis)]


def _gather_nd(s: Step) -> Gradients:
    if s.attr("batch_dims"):
        s.missing("with batch_dims")
    return [s.emit("scatter_nd", zeros(s, s.x(0)), s.x(1), s.c, reduction="add")]


def _scatter_elements(s: Step) -> Gradients:
    axis = s.attr("axis")
    return _scattered(s, {"axis": axis}, s.emit("gather_elements", s.c, s.x(1), axis=axis))


def _scatter_nd(s: Step) -> Gradients:
    return _scattered(s, {}, s.emit("gather_nd", s.c, s.x(1)))


def _scattered(s: Step, attrs: dict[str, int], read: Value) -> Gradients:
    """What was overwritten has no gradient; what was added to has that of the result."""
    reduction = s.attr("reduction")
    if reduction not in ("none", "add"):
        s.missing(f"with reduction '{reduction}'")
    kept = s.c
    if reduction == "none" and s.wanted[0]:
        kept = s.emit(s.op.name, s.c, s.x(1), zeros(s, s.x(2)), reduction="none", **attrs)
    return [kept, None, read]


def _reverse_sequence(s: Step) -> Gradients:
    attrs = {name: s.attr(name) for name in ("time_axis", "batch_axis")}
    return [s.emit("reverse_sequence", s.c, s.x(1), **attrs)]


def _top_k(s: Step) -> Gradients:
    """Each value's gradient goes to where it was found."""
    x = s.x()
    axis = s.attr("axis") % x.rank
    return [s.emit("scatter_elements", zeros(s, x), s.op.results[1], s.c, reduction="add", axis=axis)]


def scattered_flat(s: Step, x: Value, positions: Value, gradients: Value) -> Value:
    """Gradients added up at positions in the flattened x."""
    count = product(gradients.shape)
    size = product(x.shape)
    flat = s.filled((size,), 0.0, x.dtype)
    made = s.emit(
        "scatter_elements",
        flat,
        s.reshape(positions, (count,)),
        s.reshape(gradients, (count,)),
        reduction="add",
        axis=0,
    )
    return s.reshape(made, x.shape)


def static_extents(s: Step, extents: tuple[DimLike, ...], what: str) -> tuple[int, ...]:
    """Extents that must be numbers."""
    if not all(is_static(d) for d in extents):
        s.missing(f"with {what} of symbolic extents")
    return tuple(int(d) for d in extents)  # type: ignore[arg-type]


TABLE: dict[str, Rule] = {
    "image.resample": _resample,
    "index.gather_elements": _gather_elements,
    "index.gather_nd": _gather_nd,
    "index.reverse_sequence": _reverse_sequence,
    "index.scatter_elements": _scatter_elements,
    "index.scatter_nd": _scatter_nd,
    "index.top_k": _top_k,
    "tensor.concat": _concat,
    "tensor.expand": _expand,
    "tensor.gather": _gather,
    "tensor.pad": _pad,
    "tensor.reshape": _reshape,
    "tensor.slice": _slice,
    "tensor.transpose": _transpose,
}
"""Rules by op name."""

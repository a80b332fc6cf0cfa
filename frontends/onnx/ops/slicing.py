"""Slice: Python's ``[start:end:step]`` along each axis, of which the run may decide everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aino_ir.dims import DimLike, ceildiv, dmax, dmin, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.axes import axes_input, run_time_axes
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.integers import Integer, bound, elements, integer, integers
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

FAR = 2**31 - 1
"""Positions of at least this magnitude mean the end (or the start) of an axis."""


@dataclass(frozen=True)
class Span:
    """``[start:end:step]`` of one axis."""

    start: Integer
    end: Integer
    step: Integer


def slice_(c: NodeContext, node: OnnxNode) -> Value:
    """Starts, ends, axes and steps are attributes before operator set 10, inputs after."""
    x = c.x
    starts: list[DimLike] = [0] * x.rank
    sizes, steps = list(x.shape), [1] * x.rank
    late: dict[int, Span] = {}
    for axis, span in spans(c, x).items():
        step = span.step.static
        if step == 0:
            c.invalid("steps", "not 0", 0)
        if step is None:
            late[axis] = span
            continue
        starts[axis], sizes[axis] = cut_of(c, span, step, x.shape[axis])
        steps[axis] = step
    if tuple(sizes) != x.shape or any(step != 1 for step in steps):
        x = c.emit("slice", x, starts=starts, sizes=sizes, steps=steps)
    for axis, span in late.items():
        x = stepped(c, x, axis, span)
    return x


def spans(c: NodeContext, x: Value) -> dict[int, Span]:
    """What is taken of each axis that the node names (of every axis, where the run names them)."""
    given: Sequence[int] | None
    if c.opset < 10:
        begins = [integer(c, n) for n in c.node.ints("starts")]
        ends = [integer(c, n) for n in c.node.ints("ends")]
        given = c.node.ints("axes", None)
        strides = [integer(c, 1)] * len(begins)
    else:
        begins, ends = integers(c, 1), integers(c, 2)
        strides = integers(c, 4) if c.input(4) is not None else [integer(c, 1)] * len(begins)
        given = axes_input(c, 3, x.rank) if c.input(3) is not None else None
        if given is None and c.input(3) is not None:
            return run_time_spans(c, x, [Span(*parts) for parts in zip(begins, ends, strides, strict=True)])
    axes = c.axes(range(len(begins)) if given is None else given, x.rank)
    lengths = (len(begins), len(ends), len(axes), len(strides))
    if len(set(lengths)) != 1:
        c.invalid("starts, ends, axes and steps", "of one length", lengths)
    return {a: Span(b, e, s) for a, b, e, s in zip(axes, begins, ends, strides, strict=True)}


def run_time_spans(c: NodeContext, x: Value, given: Sequence[Span]) -> dict[int, Span]:
    """A span for every axis: the one of the run-time axes that names it, or all of it."""
    axes = elements(c, run_time_axes(c, 3, x.rank)) or c.refuse_unknown(3)
    if len(axes) != len(given):
        c.invalid("starts, ends, axes and steps", "of one length", (len(given), len(given), len(axes)))
    out = {}
    for axis, extent in enumerate(x.shape):
        here = Span(integer(c, 0), integer(c, extent), integer(c, 1))
        for at, span in zip(axes, given, strict=True):
            mine = at.eq(axis)
            here = Span(
                mine.where(span.start, here.start),
                mine.where(span.end, here.end),
                mine.where(span.step, here.step),
            )
        out[axis] = here
    return out


def cut_of(c: NodeContext, span: Span, step: int, extent: DimLike) -> tuple[DimLike, DimLike]:
    """First position and number of elements of a span with a known step."""
    begin, end = span.start.known, span.end.known
    if begin is not None and end is not None:
        return known_cut(c, begin, end, step, extent)
    if step > 0:
        first, last = placed(span.start, 0, extent, extent), placed(span.end, 0, extent, extent)
        size = (last - first).ceildiv(step)
    else:
        first = placed(span.start, 0, integer(c, extent) - 1, extent)
        last = placed(span.end, -1, integer(c, extent) - 1, extent)
        size = (first - last).ceildiv(-step).min(extent)
    size = size.max(0)
    (count,) = bound(c, [size], 0, extent, "the length of the slice")
    (start,) = bound(c, [size.eq(0).where(0, first)], 0, extent, "the start of the slice")
    return start, count


def placed(at: Integer, low: int, high: Integer | DimLike, extent: DimLike) -> Integer:
    """A position counted from the end when negative, kept within low..high (low wins)."""
    known = at.static
    if known is not None and known >= FAR:
        return integer(at.c, high).max(low)
    if known is not None and known <= -FAR:
        return integer(at.c, low)
    return at.lt(0).where(at + extent, at).clamp(low, high)


def stepped(c: NodeContext, x: Value, axis: int, span: Span) -> Value:
    """A span whose step only the run will tell: positions are computed, and gathered."""
    extent = x.shape[axis]
    forward, step = span.step.gt(0), span.step
    top = forward.where(extent, integer(c, extent) - 1)
    start = span.start.lt(0).where(span.start + extent, span.start).min(top).max(0)
    end = span.end.lt(0).where(span.end + extent, span.end).min(top).max(forward.where(0, -1))
    size = (end - start).ceildiv(step).max(0).min(extent)
    (count,) = bound(c, [size], 0, extent, "the length of the slice")
    line = c.emit("index.range", start=0, size=count, step=1, dtype=i64)
    places = c.emit("add", c.emit("mul", line, step.value), start.value)
    return c.emit("gather", x, places, axis=axis)


def known_cut(
    c: NodeContext, begin: DimLike, end: DimLike, step: int, extent: DimLike
) -> tuple[DimLike, DimLike]:
    """First position and number of elements of a span of numbers and extents."""
    if step > 0:
        first = clamp(c, begin, 0, extent, extent)
        last = clamp(c, end, 0, extent, extent)
        size = ceildiv(last - first, step)
    else:
        first = clamp(c, begin, 0, extent - 1, extent)
        last = clamp(c, end, -1, extent - 1, extent)
        size = 0 if is_static(extent) and extent == 0 else ceildiv(first - last, -step)
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


TABLE: dict[str, Row] = {"Slice": slice_}

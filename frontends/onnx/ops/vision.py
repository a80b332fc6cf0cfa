"""Sampling of images at computed places: GridSample, DeformConv, RoiAlign; Col2Im; NonMaxSuppression."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import kernel_of
from aino_ir.frontends.onnx.ops.indexing import positions
from aino_ir.graph import Value

CUBIC = -0.75
"""Keys' parameter of GridSample's cubic."""


class Number:
    """Float arithmetic on values, so that formulas read as such."""

    def __init__(self, c: NodeContext, value: Value) -> None:
        self.c = c
        self.value = value

    def _emit(self, op: str, other: Number | float) -> Number:
        right = other.value if isinstance(other, Number) else self.c.scalar(other, self.value.dtype)
        return Number(self.c, self.c.emit(op, self.value, right))

    def __add__(self, other: Number | float) -> Number:
        return self._emit("add", other)

    def __sub__(self, other: Number | float) -> Number:
        return self._emit("sub", other)

    def __mul__(self, other: Number | float) -> Number:
        return self._emit("mul", other)

    def __truediv__(self, other: Number | float) -> Number:
        return self._emit("div", other)

    def inside(self, low: Number | float, high: Number | float) -> Value:
        """Whether low <= this <= high."""
        return self.c.emit("logical_and", self._emit("ge", low).value, self._emit("le", high).value)

    def clamp(self, low: Number | float, high: Number | float) -> Number:
        """This kept within low..high."""
        return self._emit("max", low)._emit("min", high)

    def map(self, op: str) -> Number:
        """A unary op."""
        return Number(self.c, self.c.emit(op, self.value))

    def mod(self, other: Number | float) -> Number:
        """The remainder with the sign of the divisor."""
        right = other.value if isinstance(other, Number) else self.c.scalar(other, self.value.dtype)
        return Number(self.c, self.c.emit("mod", self.value, right, mode="floor"))

    def where(self, condition: Value, no: Number | float) -> Number:
        """This where the condition holds, else `no`."""
        right = no.value if isinstance(no, Number) else self.c.scalar(no, self.value.dtype)
        return Number(self.c, self.c.emit("select", condition, self.value, right))


def extent_number(c: NodeContext, extent: DimLike, like: Value) -> Number:
    """An extent as a float scalar."""
    if isinstance(extent, int):
        return Number(c, c.scalar(extent, like.dtype))
    return Number(c, c.cast(c.reshape(c.b.dims_vector([extent]), ()), like.dtype))


@dataclass(frozen=True)
class Tap:
    """One neighbour along one axis: i64 places that are inside, and a weight (None is 1)."""

    place: Value
    weight: Number | None


def taps(c: NodeContext, at: Number, extent: DimLike, mode: str, padding: str, low: float) -> list[Tap]:
    """Neighbours of continuous positions along an axis, with what lies outside moved in or weighted 0."""
    last = extent_number(c, extent, at.value) - 1.0
    high = last - low
    if mode == "nearest":
        at = at.map("round")
    if padding == "border":
        at = at.clamp(0.0, last)
    elif padding == "reflection":
        at = reflected(at, low, high)
    if mode == "nearest":
        return [_tap(c, at, None, last, padding, low, high)]
    floor = at.map("floor")
    part = at - floor
    weights = {0: part * -1.0 + 1.0, 1: part} if mode == "linear" else _cubic_weights(part)
    return [_tap(c, floor + float(k), w, last, padding, low, high) for k, w in weights.items()]


def _tap(
    c: NodeContext, at: Number, weight: Number | None, last: Number, padding: str, low: float, high: Number
) -> Tap:
    if padding == "zeros":
        legal = at.inside(0.0, last)
        one = Number(c, c.scalar(1.0, at.value.dtype))
        weight = (one if weight is None else weight).where(legal, 0.0)
    elif padding == "reflection":
        at = reflected(at, low, high)
    place = c.cast(at.clamp(0.0, last).value, i64)
    return Tap(place, weight)


def reflected(at: Number, low: float, high: Number) -> Number:
    """Positions mirrored at low and high until they lie between; inner ones stay."""
    span = high - low
    folded = (at - low).mod(span * 2.0)
    back = span * 2.0 - folded
    mirrored = folded.where(folded._emit("le", span).value, back) + low
    return at.where(at.inside(low, high), mirrored)


def _cubic_weights(part: Number) -> dict[int, Number]:
    a = CUBIC

    def near(d: Number) -> Number:
        return (d * (a + 2) - (a + 3)) * d * d + 1.0

    def far(d: Number) -> Number:
        return ((d * a - 5 * a) * d + 8 * a) * d - 4 * a

    rest = part * -1.0 + 1.0
    return {-1: far(part + 1.0), 0: near(part), 1: near(rest), 2: far(rest + 1.0)}


def sampled(
    c: NodeContext, x: Value, axes_taps: Sequence[Sequence[Tap]], batch: Value | None = None
) -> list[Value]:
    """Weighted neighbours: x [batch, *space, channels] read at every combination of the axes' taps.

    Returns one value [*places, channels] a combination.  The first axis of the places is the batch, or
    `batch` (i64, broadcast to the places) says which item each reads.
    """
    terms = []
    for combination in itertools.product(*axes_taps):
        columns = (
            [t.place for t in combination] if batch is None else [batch, *(t.place for t in combination)]
        )
        shape = columns[-1].shape
        parts = [c.reshape(c.emit("expand", p, shape=shape), (*shape, 1)) for p in columns]
        index = c.emit("concat", *parts, axis=len(shape)) if len(parts) > 1 else parts[0]
        value = c.emit("gather_nd", x, index, batch_dims=0 if batch is not None else 1)
        weight: Number | None = None
        for tap in combination:
            if tap.weight is not None:
                weight = tap.weight if weight is None else weight * tap.weight
        if weight is not None:
            w = c.emit("expand", weight.value, shape=shape)
            value = c.emit("mul", value, c.cast(c.reshape(w, (*shape, 1)), value.dtype))
        terms.append(value)
    return terms


def total(c: NodeContext, op: str, terms: Sequence[Value]) -> Value:
    """Terms combined by a binary op."""
    out = terms[0]
    for term in terms[1:]:
        out = c.emit(op, out, term)
    return out


def channels_last(c: NodeContext, x: Value) -> Value:
    """[n, c, ...] as [n, ..., c]."""
    return c.emit("transpose", x, perm=(0, *range(2, x.rank), 1))


def channels_first(c: NodeContext, x: Value) -> Value:
    """[n, ..., c] as [n, c, ...]."""
    return c.emit("transpose", x, perm=(0, x.rank - 1, *range(1, x.rank - 1)))


MODES = {"bilinear": "linear", "linear": "linear", "nearest": "nearest", "bicubic": "cubic", "cubic": "cubic"}


def grid_sample(c: NodeContext, node: OnnxNode) -> Value:
    """x at places of a grid whose coordinates run from -1 to 1, the last axis of x first."""
    x, grid = c.x, c.tensor(1)
    mode, padding = node.str("mode", "linear"), node.str("padding_mode", "zeros")
    if mode not in MODES or padding not in ("zeros", "border", "reflection"):
        c.invalid(
            "mode and padding_mode", f"{', '.join(MODES)}; zeros, border or reflection", (mode, padding)
        )
    aligned = bool(node.int("align_corners", 0))
    rank = x.rank - 2
    every: list[list[Tap]] = []
    for axis in range(rank):
        extent = x.shape[2 + axis]
        sizes = (*grid.shape[:-1], 1)
        column = c.emit(
            "slice", grid, starts=[0] * (rank + 1) + [rank - 1 - axis], sizes=sizes, steps=[1] * grid.rank
        )
        g = Number(c, c.reshape(column, grid.shape[:-1]))
        size = extent_number(c, extent, g.value)
        at = (g + 1.0) * (size - 1.0) / 2.0 if aligned else ((g + 1.0) * size - 1.0) / 2.0
        every.append(taps(c, at, extent, MODES[mode], padding, 0.0 if aligned else -0.5))
    terms = sampled(c, channels_last(c, x), every)
    return channels_first(c, total(c, "add", terms))


def deform_conv(c: NodeContext, node: OnnxNode) -> Value:
    """Convolution whose taps are moved by offsets: columns are sampled, then multiplied by the weights."""
    x, w, offset, bias, mask = c.x, c.tensor(1), c.tensor(2), c.input(3), c.input(4)
    rank = x.rank - 2
    kernel = kernel_of(c, w)
    strides, dilations = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    pads = node.ints("pads", (0,) * (2 * rank))
    groups, offset_groups = node.int("group", 1), node.int("offset_group", 1)
    count = int(np.prod(kernel))
    n, channels, space = x.shape[0], x.shape[1], x.shape[2:]
    out = offset.shape[2:]
    each = channels // offset_groups
    places = (n * offset_groups, count, *out)
    moved = c.reshape(offset, (n * offset_groups, count, rank, *out))
    every = []
    for axis in range(rank):
        shift = c.emit(
            "slice",
            moved,
            starts=[0, 0, axis, *[0] * rank],
            sizes=(*places[:2], 1, *out),
            steps=[1] * (rank + 3),
        )
        base = np.arange(count).reshape(kernel)
        tap = np.unravel_index(base.reshape(-1), kernel)[axis] * dilations[axis] - pads[axis]
        line = c.cast(positions(c, rank + 2, 2 + axis, out[axis]), x.dtype)
        start = c.b.constant(tap.reshape(1, -1, *[1] * rank).astype(x.dtype.numpy))
        at = Number(c, c.reshape(shift, places)) + Number(c, line) * float(strides[axis]) + Number(c, start)
        every.append(taps(c, at, space[axis], "linear", "zeros", 0.0))
    source = channels_last(c, c.reshape(x, (n * offset_groups, each, *space)))
    columns = total(
        c, "add", sampled(c, source, every)
    )  # [n * offset groups, taps, *out, channels of a group]
    if mask is not None:
        columns = c.emit("mul", columns, c.reshape(mask, (*places, 1)))
    size = product(out)
    columns = c.reshape(columns, (n, offset_groups, count, size, each))
    columns = c.emit("transpose", columns, perm=(0, 1, 4, 2, 3))  # [n, offset groups, channels, taps, size]
    columns = c.reshape(columns, (n, groups, channels // groups * count, size))
    weights = c.reshape(w, (1, groups, w.shape[0] // groups, channels // groups * count))
    y = c.reshape(c.emit("matmul", weights, columns), (n, w.shape[0], *out))
    return y if bias is None else c.emit("add", y, c.reshape(bias, (w.shape[0], *[1] * rank)))


def roi_align(c: NodeContext, node: OnnxNode) -> Value:
    """Means (or maxima) of samples of each region, on a fixed grid of samples a cell."""
    x, rois, items = c.x, c.tensor(1), c.tensor(2)
    height, width = node.int("output_height", 1), node.int("output_width", 1)
    samples, scale = node.int("sampling_ratio", 0), node.float("spatial_scale", 1.0)
    mode = node.str("mode", "avg")
    default = "half_pixel" if c.opset >= 16 else "output_half_pixel"
    half = node.str("coordinate_transformation_mode", default) == "half_pixel"
    if mode not in ("avg", "max"):
        c.invalid("mode", "avg or max", mode)
    if samples < 1:
        c.unsupported("a sampling_ratio of 0 (a number of samples that depends on data)")
    count = rois.shape[0]
    every = []
    for axis, cells in ((0, height), (1, width)):
        low, high = (_corner(c, rois, k, scale, half) for k in (1 - axis, 3 - axis))
        size = high - low if half else (high - low).clamp(1.0, float("inf"))
        steps = (np.arange(cells * samples) + 0.5) / samples
        shape = (1, -1, 1) if axis == 0 else (1, 1, -1)
        line = Number(c, c.b.constant(steps.reshape(shape).astype(x.dtype.numpy)))
        at = low + line * (size / float(cells))
        extent = extent_number(c, x.shape[2 + axis], at.value)
        legal = at.inside(-1.0, extent)
        found = taps(c, at.clamp(0.0, extent - 1.0), x.shape[2 + axis], "linear", "border", 0.0)
        every.append([Tap(t.place, None if t.weight is None else t.weight.where(legal, 0.0)) for t in found])
    places = (count, height * samples, width * samples)
    every = [[_spread(c, t, places) for t in axis_taps] for axis_taps in every]
    batch = c.reshape(c.cast(items, i64), (count, 1, 1))
    terms = sampled(c, channels_last(c, x), every, batch)
    y = total(c, "add" if mode == "avg" else "max", terms)
    y = c.reshape(y, (count, height, samples, width, samples, x.shape[1]))
    y = c.emit("reduce.mean" if mode == "avg" else "reduce.max", y, axes=(2, 4))
    return channels_first(c, y)


def _corner(c: NodeContext, rois: Value, column: int, scale: float, half: bool) -> Number:
    part = c.emit("slice", rois, starts=(0, column), sizes=(rois.shape[0], 1), steps=(1, 1))
    at = Number(c, c.reshape(part, (rois.shape[0], 1, 1))) * scale
    return at - 0.5 if half else at


def _spread(c: NodeContext, tap: Tap, places: tuple[DimLike, ...]) -> Tap:
    weight = None if tap.weight is None else Number(c, c.emit("expand", tap.weight.value, shape=places))
    return Tap(c.emit("expand", tap.place, shape=places), weight)


def col2im(c: NodeContext, node: OnnxNode) -> Value:
    """Columns summed into an image: a transposed convolution whose weights pick each column's tap."""
    x, image, block = c.x, c.ints(1), c.ints(2)
    rank = len(image)
    strides, dilations = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    pads = node.ints("pads", (0,) * (2 * rank))
    count = int(np.prod(block))
    channels = x.shape[1] // count
    if not is_static(channels):
        c.unsupported("a symbolic number of channels")
    reach = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    space = [
        (e + b + a - r) // s + 1
        for e, b, a, r, s in zip(image, pads[:rank], pads[rank:], reach, strides, strict=True)
    ]
    left = [
        e - ((o - 1) * s + r - b - a)
        for e, o, s, r, b, a in zip(image, space, strides, reach, pads[:rank], pads[rank:], strict=True)
    ]
    eye = np.tile(np.eye(count).reshape(count, 1, *block), (int(channels), *[1] * (rank + 1)))
    return c.emit(
        "conv_transpose",
        c.reshape(x, (x.shape[0], x.shape[1], *space)),
        c.b.constant(eye.astype(x.dtype.numpy)),
        strides=strides,
        dilations=dilations,
        pads_before=pads[:rank],
        pads_after=pads[rank:],
        output_padding=left,
        groups=int(channels),
    )


def non_max_suppression(c: NodeContext, node: OnnxNode) -> Value:
    """(batch, class, box) of the boxes that no better one overlaps too much."""
    attrs: dict[str, Any] = {
        "limit": int(c.number(2, 0)),
        "overlap": c.number(3, 0.0),
        "centred": bool(node.int("center_point_box", 0)),
    }
    if c.input(4) is not None:
        attrs["threshold"] = c.number(4, 0.0)
    return c.emit("non_max_suppression", c.x, c.tensor(1), **attrs)


TABLE: dict[str, Row] = {
    "Col2Im": col2im,
    "DeformConv": deform_conv,
    "GridSample": grid_sample,
    "NonMaxSuppression": non_max_suppression,
    "RoiAlign": roi_align,
}

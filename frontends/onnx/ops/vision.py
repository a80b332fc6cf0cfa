"""Sampling of images at computed places: GridSample, DeformConv, RoiAlign; Col2Im; NonMaxSuppression."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aino_ir.dims import DimLike, product
from aino_ir.dtypes import i64
from aino_ir.frontends.floats import Number, extent_number, positions_number
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.integers import bound, integer, integers, sole
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import kernel_of
from aino_ir.frontends.onnx.ops.indexing import positions
from aino_ir.frontends.onnx.ops.movement import exact_quotient
from aino_ir.graph import Value

CUBIC = -0.75
"""Keys' parameter of GridSample's cubic."""


@dataclass(frozen=True)
class Tap:
    """One neighbour along one axis: i64 places that are inside, and a weight (None is 1)."""

    place: Value
    weight: Number | None


def taps(c: NodeContext, at: Number, extent: DimLike, mode: str, padding: str, low: float) -> list[Tap]:
    """Neighbours of continuous positions along an axis, with what lies outside moved in or weighted 0."""
    last = extent_number(c, extent, at.dtype) - 1.0
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
    mirrored = folded.where((folded <= span).value, back) + low
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
        size = extent_number(c, extent, g.dtype)
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


@dataclass(frozen=True)
class Regions:
    """Attributes of a RoiAlign."""

    cells: tuple[int, int]
    samples: int
    scale: float
    half: bool
    mode: str


def roi_align(c: NodeContext, node: OnnxNode) -> Value:
    """Means (or maxima) of samples of each region, on a grid of samples a cell.

    Without a sampling_ratio a cell has as many samples along an axis as pixels, rounded up: each region
    uses its own number of the most that any has.
    """
    default = "half_pixel" if c.opset >= 16 else "output_half_pixel"
    given = Regions(
        (node.int("output_height", 1), node.int("output_width", 1)),
        node.int("sampling_ratio", 0),
        node.float("spatial_scale", 1.0),
        node.str("coordinate_transformation_mode", default) == "half_pixel",
        node.str("mode", "avg"),
    )
    if given.mode not in ("avg", "max"):
        c.invalid("mode", "avg or max", given.mode)
    x, items, count = c.x, c.tensor(2), c.tensor(1).shape[0]
    rows, columns = region_taps(c, given, 0), region_taps(c, given, 1)
    heights, widths = given.cells
    places = (count, rows.samples * heights, columns.samples * widths)
    every = [[_spread(c, t, places) for t in axis.taps] for axis in (rows, columns)]
    batch = c.reshape(c.cast(items, i64), (count, 1, 1))
    terms = sampled(c, channels_last(c, x), every, batch)
    y = total(c, "add" if given.mode == "avg" else "max", terms)
    y = c.reshape(y, (count, heights, rows.samples, widths, columns.samples, x.shape[1]))
    if rows.used is None or columns.used is None:
        y = c.emit("reduce.mean" if given.mode == "avg" else "reduce.max", y, axes=(2, 4))
        return channels_first(c, y)
    return channels_first(c, _combined(c, given.mode, y, rows, columns))


@dataclass(frozen=True)
class RegionTaps:
    """Samples of every region along one axis.

    Attributes:
        taps: neighbours of the samples [regions, cells * samples].
        samples: how many a cell has (of which a region may use fewer).
        used: how many each region uses, f [regions, 1, 1]; None is all.
    """

    taps: list[Tap]
    samples: DimLike
    used: Number | None


def region_taps(c: NodeContext, given: Regions, axis: int) -> RegionTaps:
    """Where the samples of every region's cells lie along an axis."""
    x, rois, cells = c.x, c.tensor(1), given.cells[axis]
    low, high = (_corner(c, rois, k, given.scale, given.half) for k in (1 - axis, 3 - axis))
    size = high - low if given.half else (high - low).clamp(1.0, float("inf"))
    each = size / float(cells)
    used: Number | None = None
    samples: DimLike = given.samples
    if given.samples < 1:
        used = each.map("ceil").clamp(1.0, float("inf"))
        zero = c.filled((1, 1, 1), 1, used.dtype)
        most = c.emit("reduce.max", c.emit("concat", used.value, zero, axis=0), axes=(0, 1, 2))
        (samples,) = bound(c, [integer(c, c.cast(most, i64))], 1, what="the samples of a cell")
        cell = c.reshape(positions_number(c, cells, x.dtype).value, (cells, 1))
        inner = Number(c, positions_number(c, samples, x.dtype).reshaped(1, 1, samples).value)
        offsets = (inner + 0.5) / used
        steps = Number(c, c.emit("add", offsets.value, cell)).value
        steps = c.reshape(steps, (rois.shape[0], cells * samples))
    else:
        fixed = (np.arange(cells * given.samples) + 0.5) / given.samples
        steps = c.b.constant(fixed.reshape(1, -1).astype(x.dtype.numpy))
    shape = (steps.shape[0], steps.shape[1], 1) if axis == 0 else (steps.shape[0], 1, steps.shape[1])
    at = low + Number(c, c.reshape(steps, shape)) * each
    extent = extent_number(c, x.shape[2 + axis], at.dtype)
    legal = at.inside(-1.0, extent)
    found = taps(c, at.clamp(0.0, extent - 1.0), x.shape[2 + axis], "linear", "border", 0.0)
    legal_taps = [Tap(t.place, None if t.weight is None else t.weight.where(legal, 0.0)) for t in found]
    return RegionTaps(legal_taps, samples, used)


def _combined(c: NodeContext, mode: str, y: Value, rows: RegionTaps, columns: RegionTaps) -> Value:
    """Samples [regions, cells, samples, cells, samples, channels] as one value a cell, of those in use."""
    assert rows.used is not None and columns.used is not None
    count, dtype = y.shape[0], y.dtype
    masks = []
    for axis, part in ((2, rows), (4, columns)):
        line = c.cast(positions(c, 6, axis, part.samples), dtype)
        assert part.used is not None
        masks.append(c.emit("lt", line, c.reshape(part.used.value, (count, 1, 1, 1, 1, 1))))
    inside = c.emit("logical_and", *masks)
    if mode == "max":
        return c.emit("reduce.max", c.emit("select", inside, y, c.scalar(float("-inf"), dtype)), axes=(2, 4))
    summed = c.emit("reduce.sum", c.emit("select", inside, y, c.scalar(0.0, dtype)), axes=(2, 4))
    number = c.emit("mul", rows.used.value, columns.used.value)
    return c.emit("div", summed, c.reshape(number, (count, 1, 1, 1)))


def _corner(c: NodeContext, rois: Value, column: int, scale: float, half: bool) -> Number:
    part = c.emit("slice", rois, starts=(0, column), sizes=(rois.shape[0], 1), steps=(1, 1))
    at = Number(c, c.reshape(part, (rois.shape[0], 1, 1))) * scale
    return at - 0.5 if half else at


def _spread(c: NodeContext, tap: Tap, places: tuple[DimLike, ...]) -> Tap:
    weight = None if tap.weight is None else Number(c, c.emit("expand", tap.weight.value, shape=places))
    return Tap(c.emit("expand", tap.place, shape=places), weight)


def col2im(c: NodeContext, node: OnnxNode) -> Value:
    """Columns summed into an image: elements are added where they stand in the padded image, flattened."""
    x = c.x
    image, block = (
        bound(c, integers(c, 1), what="image_shape"),
        bound(c, integers(c, 2), 1, what="block_shape"),
    )
    rank = len(image)
    strides, dilations = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    pads = node.ints("pads", (0,) * (2 * rank))
    padded = [e + b + a for e, b, a in zip(image, pads[:rank], pads[rank:], strict=True)]
    space = [
        (e - (k - 1) * d - 1) // s + 1 for e, k, d, s in zip(padded, block, dilations, strides, strict=True)
    ]
    channels = exact_quotient(c, x.shape[1], product(block))
    place: Value | None = None
    for axis in range(rank):
        tap = positions(c, 2 * rank, axis, block[axis])
        cell = positions(c, 2 * rank, rank + axis, space[axis])
        at = c.emit(
            "add",
            c.emit("mul", tap, c.scalar(dilations[axis], i64)),
            c.emit("mul", cell, c.scalar(strides[axis], i64)),
        )
        at = c.emit("mul", at, integer(c, product(padded[axis + 1 :])).value)
        place = at if place is None else c.emit("add", place, at)
    assert place is not None
    rows, columns = x.shape[0] * channels, product(block) * product(space)
    places = c.emit("expand", c.reshape(place, (1, columns)), shape=(rows, columns))
    empty = c.filled((rows, product(padded)), 0, x.dtype)
    values = c.reshape(x, (rows, columns))
    summed = c.emit("scatter_elements", empty, places, values, axis=1, reduction="add")
    y = c.reshape(summed, (x.shape[0], channels, *padded))
    return c.emit("slice", y, starts=(0, 0, *pads[:rank]), sizes=(*y.shape[:2], *image), steps=[1] * y.rank)


def non_max_suppression(c: NodeContext, node: OnnxNode) -> Value:
    """(batch, class, box) of the boxes that no better one overlaps too much."""
    (limit,) = bound(c, [sole(c, 2).max(0)], what="max_output_boxes_per_class") if c.input(2) else (0,)
    bounds = [None if c.input(i) is None else c.cast(c.scalar_of(i), c.x.dtype) for i in (3, 4)]
    centred = bool(node.int("center_point_box", 0))
    return c.emit("non_max_suppression", c.x, c.tensor(1), *bounds, limit=limit, centred=centred)


def image_decoder(c: NodeContext, node: OnnxNode) -> Value:
    """The pixels of a picture file."""
    return c.emit("image.decode", c.x, colours=node.str("pixel_format", "RGB"))


TABLE: dict[str, Row] = {
    "Col2Im": col2im,
    "DeformConv": deform_conv,
    "GridSample": grid_sample,
    "ImageDecoder": image_decoder,
    "NonMaxSuppression": non_max_suppression,
    "RoiAlign": roi_align,
}

"""Access by index: gathering, scattering, selection, generated positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dtypes import f32, f64, i64
from aino_ir.frontends.onnx.export.ops.movement import indices
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row

RAW = True


def range_(g: GraphWriter, op: Any) -> Ref:
    """start, start + step ... as the op's dtype."""
    limit = g.number(g.symbols.simplify(op.start + op.size * op.step))
    return g.node("Range", g.number(op.start), limit, g.constant(np.int64(op.step)), dtype=i64)


def gather_elements(g: GraphWriter, op: Any) -> Ref:
    """One element an index."""
    return g.node("GatherElements", g.of(op.x), indices(g, op.indices), axis=op.axis)


def gather_nd(g: GraphWriter, op: Any) -> Ref:
    """Slices at coordinates."""
    return g.node("GatherND", g.of(op.x), g.cast(g.of(op.indices), i64), batch_dims=op.batch_dims)


def scatter_elements(g: GraphWriter, op: Any) -> Ref:
    """Updates at indices along an axis."""
    operands = g.of(op.x), indices(g, op.indices), g.of(op.updates)
    return g.node("ScatterElements", *operands, axis=op.axis, reduction=op.reduction)


def scatter_nd(g: GraphWriter, op: Any) -> Ref:
    """Updates at coordinates."""
    operands = g.of(op.x), g.cast(g.of(op.indices), i64), g.of(op.updates)
    return g.node("ScatterND", *operands, reduction=op.reduction)


def top_k(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """The largest or smallest elements, and where they stand."""
    x = g.of(op.x)
    return g.nodes_of("TopK", x, g.extent(op.k), dtypes=[x.dtype, i64], axis=op.axis, largest=int(op.largest))


def unique(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """Distinct elements, their first places, the inverse, and counts."""
    x = g.of(op.x)
    return g.nodes_of("Unique", x, dtypes=[x.dtype, i64, i64, i64], axis=op.axis, sorted=int(op.sorted))


def compress(g: GraphWriter, op: Any) -> Ref:
    """Slices where a condition holds."""
    return g.node("Compress", g.of(op.x), g.of(op.condition), axis=op.axis)


def reverse_sequence(g: GraphWriter, op: Any) -> Ref:
    """Leading elements in reverse."""
    x, lengths = g.of(op.x), g.cast(g.of(op.lengths), i64)
    return g.node("ReverseSequence", x, lengths, time_axis=op.time_axis, batch_axis=op.batch_axis)


def non_max_suppression(g: GraphWriter, op: Any) -> Ref:
    """Boxes that are kept; ONNX has the operator in single precision."""
    if op.boxes.dtype is f64:
        g.refuse("ONNX has no boxes in double precision")
    overlap, threshold = (None if v is None else g.cast(g.of(v), f32) for v in (op.overlap, op.threshold))
    boxes, scores = (g.cast(g.of(v), f32) for v in (op.boxes, op.scores))
    limits = g.number(op.limit), overlap, threshold
    return g.node("NonMaxSuppression", boxes, scores, *limits, center_point_box=int(op.centred))


def resample(g: GraphWriter, op: Any) -> Ref:
    """Taps gathered along an axis, weighted, summed."""
    axis, rank = op.axis % op.x.rank, op.x.rank
    x = g.cast(g.of(op.x), op.x.dtype.compute)
    taken = g.node("Gather", x, indices(g, op.positions), axis=axis)  # the table's two axes at `axis`
    weights = g.cast(g.of(op.weights), op.x.dtype.compute)
    behind = range(2, 2 + rank - axis - 1)
    weighted = g.node("Mul", taken, g.unsqueeze(weights, *behind))
    return g.node("ReduceSum", weighted, g.vector([axis + 1]), keepdims=0)


TABLE: dict[str, Row] = {
    "image.resample": resample,
    "index.compress": compress,
    "index.gather_elements": gather_elements,
    "index.gather_nd": gather_nd,
    "index.non_max_suppression": non_max_suppression,
    "index.nonzero": "NonZero",
    "index.range": range_,
    "index.reverse_sequence": reverse_sequence,
    "index.scatter_elements": scatter_elements,
    "index.scatter_nd": scatter_nd,
    "index.top_k": top_k,
    "index.unique": unique,
}

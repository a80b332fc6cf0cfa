"""Reductions and running sums over axes."""

from __future__ import annotations

from typing import Any

from onnx import helper

from aino_ir.dims import is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.export.types import element_code
from aino_ir.frontends.onnx.export.writer import Exporter, GraphWriter, Ref, Row


def reduced(g: GraphWriter, kind: str, x: Ref, op: Any) -> Ref:
    """A reduction of `x` over the op's axes; over none, each element is reduced alone."""
    if op.axes == () or op.x.rank == 0:
        alone = g.unsqueeze(x, op.x.rank)
        return g.node(kind, alone, g.vector([op.x.rank]), keepdims=0)
    axes = None if op.axes is None else g.vector(op.axes)
    return g.node(kind, x, axes, keepdims=int(op.keepdims))


def reduction(kind: str) -> Exporter:
    """A row for a reduction that ONNX has."""
    return lambda g, op: reduced(g, kind, g.of(op.x), op)


def any_(g: GraphWriter, op: Any) -> Ref:
    """Whether more than none is true."""
    count = reduced(g, "ReduceSum", g.cast(g.of(op.x), i64), op)
    return g.node("Greater", count, g.scalar(0, count))


def all_(g: GraphWriter, op: Any) -> Ref:
    """Whether none is false."""
    count = reduced(g, "ReduceSum", g.cast(g.node("Not", g.of(op.x)), i64), op)
    return g.node("Equal", count, g.scalar(0, count))


def position(kind: str) -> Exporter:
    """A row for the position of an extreme element."""

    def write(g: GraphWriter, op: Any) -> Ref:
        return g.node(
            kind,
            g.of(op.x),
            axis=op.axis,
            keepdims=int(op.keepdims),
            select_last_index=int(op.select_last_index),
        )

    return write


def running_sum(g: GraphWriter, op: Any) -> Ref:
    """CumSum, in a dtype that engines have it for."""
    x = g.of(op.x)
    assert x.dtype is not None
    if x.dtype.is_integer and x.dtype.bits < 32:
        x = g.cast(x, i64)
    axis = g.scalar(op.axis % op.x.rank, i64)
    return g.node("CumSum", x, axis, exclusive=int(op.exclusive), reverse=int(op.reverse))


def running_product(g: GraphWriter, op: Any) -> Ref:
    """A Scan that multiplies: the operator CumProd is younger than most engines."""
    x, axis = g.of(op.x), op.axis % op.x.rank
    assert x.dtype is not None
    if any(is_static(d) and d == 0 for d in op.x.shape):  # engines scan nothing badly
        return x
    rest = tuple(d for a, d in enumerate(op.x.shape) if a != axis)
    start = g.filled(1, rest, x.dtype) if rest else g.scalar(1, x)
    kind = helper.make_tensor_type_proto(element_code(x.dtype), [None] * len(rest))
    with g.inner() as body:
        names = [g.model.unique(n) for n in ("so_far", "element")]
        before, element = (Ref(n, x.dtype) for n in names)
        after = body.node("Mul", before, element)
        given = after if not op.exclusive else body.node("Identity", before)
        inputs = [helper.make_value_info(n, kind) for n in names]
        graph = body.graph("product", inputs, [(after, kind), (given, kind)])
    backward = [int(op.reverse)]
    _, y = g.nodes_of(
        "Scan",
        start,
        x,
        dtypes=[x.dtype, x.dtype],
        body=graph,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis],
        scan_input_directions=backward,
        scan_output_directions=backward,
    )
    return y


TABLE: dict[str, Row] = {
    "reduce.all": all_,
    "reduce.any": any_,
    "reduce.argmax": position("ArgMax"),
    "reduce.argmin": position("ArgMin"),
    "reduce.l1": reduction("ReduceL1"),
    "reduce.l2": reduction("ReduceL2"),
    "reduce.log_sum": reduction("ReduceLogSum"),
    "reduce.log_sum_exp": reduction("ReduceLogSumExp"),
    "reduce.max": reduction("ReduceMax"),
    "reduce.mean": reduction("ReduceMean"),
    "reduce.min": reduction("ReduceMin"),
    "reduce.prod": reduction("ReduceProd"),
    "reduce.sum": reduction("ReduceSum"),
    "reduce.sum_square": reduction("ReduceSumSquare"),
    "scan.cumprod": running_product,
    "scan.cumsum": running_sum,
}

"""Softmax and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.dims import is_static
from aino_ir.dtypes import f64
from aino_ir.frontends.onnx.export.writer import Exporter, GraphWriter, Ref, Row
from aino_ir.graph import Value


def over_axis(kind: str) -> Exporter:
    """A row for Softmax and its kin."""
    return lambda g, op: g.node(kind, g.of(op.x), axis=op.axis)


def column(g: GraphWriter, parameter: Ref, rank: int, axis: int) -> Ref:
    """A vector of one number for each index of an axis, so that it broadcasts."""
    return g.reshape(parameter, [-1 if a == axis else 1 for a in range(rank)]) if rank > 1 else parameter


def batch_norm(g: GraphWriter, op: Any) -> Ref:
    """Statistics that are given; ONNX's operator has the channels on axis 1."""
    x, axis = g.of(op.x), op.axis % op.x.rank
    vectors = [g.of(v) for v in (op.scale, op.bias, op.mean, op.variance)]
    if axis == 1:
        return g.node("BatchNormalization", x, *vectors, epsilon=op.epsilon)
    scale, bias, mean, variance = (column(g, v, op.x.rank, axis) for v in vectors)
    root = g.node("Sqrt", g.node("Add", variance, g.scalar(op.epsilon, x)))
    y = g.node("Div", g.node("Sub", x, mean), root)
    return g.node("Add", g.node("Mul", y, scale), bias)


def channels(g: GraphWriter, parameter: Value | None, number: float, op: Any) -> Ref:
    """One number a channel: the operand, or the same number for all."""
    if parameter is not None:
        return g.of(parameter)
    count, dtype = op.x.shape[1], op.x.dtype.compute
    if is_static(count):
        return g.constant([number] * int(count), dtype)
    return g.filled(number, (count,), dtype)


def group_norm(g: GraphWriter, op: Any) -> Ref:
    """Groups of channels."""
    parameters = channels(g, op.scale, 1, op), channels(g, op.bias, 0, op)
    return g.node("GroupNormalization", g.of(op.x), *parameters, num_groups=op.groups, epsilon=op.epsilon)


def instance_norm(g: GraphWriter, op: Any) -> Ref:
    """Each channel of each item; ONNX's operator wants axes behind the channels."""
    x = g.of(op.x)
    parameters = channels(g, op.scale, 1, op), channels(g, op.bias, 0, op)
    if op.x.rank > 2:
        return g.node("InstanceNormalization", x, *parameters, epsilon=op.epsilon)
    apart = g.node("InstanceNormalization", g.unsqueeze(x, 2), *parameters, epsilon=op.epsilon)
    return g.node("Squeeze", apart, g.vector([2]))


def layer_norm(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """ONNX's operator takes parameters of the shape that is normalised; others are applied behind it."""
    x, axis = g.of(op.x), op.axis % op.x.rank
    assert x.dtype is not None
    row = op.x.shape[axis:]
    if x.dtype is f64:
        return double_layer_norm(g, op, x, axis)
    given = [None if v is None else g.of(v) for v in (op.scale, op.bias)]
    whole = all(
        v is None or (v.rank == len(row) and all(map(g.proves, v.shape, row))) for v in (op.scale, op.bias)
    )
    inside: list[Ref | None] = list(given) if whole else [None, None]
    if inside[0] is None:
        inside[0] = g.constant(1.0, x.dtype) if not row else g.node("Expand", g.scalar(1, x), g.dims(row))
    made = g.nodes_of(
        "LayerNormalization",
        x,
        *inside,
        dtypes=[x.dtype] * len(op.results),
        axis=axis,
        epsilon=op.epsilon,
    )
    y = made[0]
    if not whole and given[0] is not None:
        y = g.node("Mul", y, given[0])
    if not whole and given[1] is not None:
        y = g.node("Add", y, given[1])
    return [y, *made[1:]]


def double_layer_norm(g: GraphWriter, op: Any, x: Ref, axis: int) -> Sequence[Ref]:
    """Written out: ONNX's operator has its statistics in single precision."""
    axes = g.vector(range(axis, op.x.rank))
    mean = g.node("ReduceMean", x, axes, keepdims=1)
    centred = g.node("Sub", x, mean)
    variance = g.node("ReduceMean", g.node("Mul", centred, centred), axes, keepdims=1)
    inverse = g.node("Reciprocal", g.node("Sqrt", g.node("Add", variance, g.scalar(op.epsilon, x))))
    y = g.node("Mul", centred, inverse)
    if op.scale is not None:
        y = g.node("Mul", y, g.of(op.scale))
    if op.bias is not None:
        y = g.node("Add", y, g.of(op.bias))
    return [y, mean, inverse][: len(op.results)]


def rms_norm(g: GraphWriter, op: Any) -> Ref:
    """Written out: the operator RMSNormalization is younger than most engines."""
    x, axis = g.of(op.x), op.axis % op.x.rank
    axes = g.vector(range(axis, op.x.rank))
    mean = g.node("ReduceMean", g.node("Mul", x, x), axes, keepdims=1)
    root = g.node("Sqrt", g.node("Add", mean, g.scalar(op.epsilon, x)))
    y = g.node("Div", x, root)
    return y if op.scale is None else g.node("Mul", y, g.of(op.scale))


def local_response_norm(g: GraphWriter, op: Any) -> Ref:
    """Squares of neighbouring channels."""
    return g.node("LRN", g.of(op.x), size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


def lp_norm(g: GraphWriter, op: Any) -> Ref:
    """By the norm along an axis; 0 stays 0."""
    x = g.of(op.x)
    if op.epsilon == 0.0:
        return g.node("LpNormalization", x, axis=op.axis, p=op.p)
    kind = {1: "ReduceL1", 2: "ReduceL2"}[op.p]
    norm = g.node(kind, x, g.vector([op.axis]), keepdims=1)
    return g.node("Div", x, g.node("Max", norm, g.scalar(op.epsilon, x)))


def mean_variance_norm(g: GraphWriter, op: Any) -> Ref:
    """Centred, then divided by the deviation."""
    x, axes = g.of(op.x), g.vector(op.axes)
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes, keepdims=1))
    variance = g.node("ReduceMean", g.node("Mul", centred, centred), axes, keepdims=1)
    return g.node("Div", centred, g.node("Add", g.node("Sqrt", variance), g.scalar(op.epsilon, x)))


TABLE: dict[str, Row] = {
    "normalize.batch_norm": batch_norm,
    "normalize.group_norm": group_norm,
    "normalize.instance_norm": instance_norm,
    "normalize.layer_norm": layer_norm,
    "normalize.local_response_norm": local_response_norm,
    "normalize.log_softmax": over_axis("LogSoftmax"),
    "normalize.lp_norm": lp_norm,
    "normalize.mean_variance_norm": mean_variance_norm,
    "normalize.rms_norm": rms_norm,
    "normalize.softmax": over_axis("Softmax"),
}

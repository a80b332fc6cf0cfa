"""Softmax and normalisations."""

from __future__ import annotations

from aino_ir.dims import product
from aino_ir.frontends.onnx.context import Lowering, NodeContext, Row, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def over_axis(op: str) -> Lowering:
    """A row for Softmax and its kin: before operator set 13 the axes from `axis` on are one."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        x = c.x
        if c.opset >= 13:
            return along(c, op, x, c.axis(node.int("axis", -1), x.rank))
        axis = c.axis(node.int("axis", 1), max(x.rank, 2))
        if axis == x.rank - 1:
            return along(c, op, x, axis)
        flat = c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
        return c.reshape(along(c, op, flat, 1), x.shape)

    return lower


def along(c: NodeContext, op: str, x: Value, axis: int) -> Value:
    """Softmax, its logarithm or what else works along an axis, in the precision that ONNX gives it.

    ONNX defines softmax by a function of operators, each of which rounds to its type: on half precision that
    is not the softmax that is rounded once, and a model may have been judged by it.  The pass fuse-patterns
    makes one op of the steps again where results may be more exact.
    """
    if op not in ("softmax", "log_softmax") or x.dtype is x.dtype.compute or not x.dtype.is_float:
        return c.emit(op, x, axis=axis)
    off = c.emit("sub", x, c.emit("reduce.max", x, axes=(axis,), keepdims=True))
    power = c.emit("exp", off)
    total = c.emit("reduce.sum", power, axes=(axis,), keepdims=True)
    return c.emit("div", power, total) if op == "softmax" else c.emit("sub", off, c.emit("log", total))


def batch_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Inference by given statistics, or training by the batch's own."""
    x, scale, bias, mean, variance = (c.tensor(i) for i in range(5))
    epsilon = node.float("epsilon", 1e-5)
    if node.int("training_mode", 0):
        return batch_normalization_training(c, node)
    parameters = [scale, bias, mean, variance]
    if c.opset < 9 and not node.int("spatial", 1):
        root = c.emit("sqrt", c.emit("add", variance, c.scalar(epsilon, variance.dtype)))
        centred = c.emit("div", c.emit("sub", x, mean), root)
        return [c.emit("add", c.emit("mul", centred, scale), bias)]
    parameters = [c.cast(v, x.dtype) if v.dtype.compute is not x.dtype.compute else v for v in parameters]
    return [c.emit("batch_norm", x, *parameters, epsilon=epsilon)]


def batch_normalization_training(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Statistics of the batch normalise it, and move the running ones by 1 - momentum."""
    x, scale, bias, mean, variance = (c.tensor(i) for i in range(5))
    axes = tuple(a for a in range(x.rank) if a != 1)
    now_mean = c.emit("reduce.mean", x, axes=axes)
    centred = c.emit("sub", x, c.emit("reduce.mean", x, axes=axes, keepdims=True))
    now_variance = c.emit("reduce.mean", c.emit("mul", centred, centred), axes=axes)
    momentum = node.float("momentum", 0.9)
    y = c.emit("batch_norm", x, scale, bias, now_mean, now_variance, epsilon=node.float("epsilon", 1e-5))

    def moved(old: Value, new: Value) -> Value:
        new = c.cast(new, old.dtype)
        kept = c.emit("mul", old, c.scalar(momentum, old.dtype))
        return c.emit("add", kept, c.emit("mul", new, c.scalar(1 - momentum, old.dtype)))

    return [y, moved(mean, now_mean), moved(variance, now_variance)]


def layer_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Normalise over the axes from `axis` on; the statistics are further outputs."""
    x = c.x
    stash = element_dtype(node.int("stash_type", 1), "attribute 'stash_type'", node.location)
    wide = x if x.dtype.compute.bits >= stash.compute.bits else c.cast(x, stash)
    parameters = [None if (v := c.input(i)) is None else c.cast(v, wide.dtype) for i in (1, 2)]
    results = c.emit_all(
        "layer_norm",
        wide,
        *parameters,
        axis=node.int("axis", -1),
        epsilon=node.float("epsilon", 1e-5),
        statistics=c.wants(1) or c.wants(2),
    )
    return [c.cast(results[0], x.dtype), *(c.cast(v, stash) for v in results[1:])]


def rms_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Divide by the root of the mean square over the axes from `axis` on."""
    x = c.x
    stash = element_dtype(node.int("stash_type", 1), "attribute 'stash_type'", node.location)
    wide = x if x.dtype.compute.bits >= stash.compute.bits else c.cast(x, stash)
    scale = c.cast(c.tensor(1), wide.dtype)
    y = c.emit("rms_norm", wide, scale, axis=node.int("axis", -1), epsilon=node.float("epsilon", 1e-5))
    return c.cast(y, c.tensor(1).dtype)


def group_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Scale and bias are per group before operator set 21, per channel after."""
    x, scale, bias = c.x, c.tensor(1), c.tensor(2)
    groups, epsilon = node.int("num_groups"), node.float("epsilon", 1e-5)
    if c.opset < 21:
        each = c.symbols.simplify(x.shape[1] // groups)
        scale, bias = (
            c.reshape(
                c.emit("expand", c.reshape(v, (v.shape[0], 1)), shape=(v.shape[0], each)), (x.shape[1],)
            )
            for v in (scale, bias)
        )
    return c.emit("group_norm", x, scale, bias, groups=groups, epsilon=epsilon)


def instance_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Normalise each channel of each item."""
    return c.emit("instance_norm", c.x, c.tensor(1), c.tensor(2), epsilon=node.float("epsilon", 1e-5))


def local_response_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Divide by the squares of neighbouring channels."""
    return c.emit(
        "local_response_norm",
        c.x,
        size=node.int("size"),
        alpha=node.float("alpha", 1e-4),
        beta=node.float("beta", 0.75),
        bias=node.float("bias", 1.0),
    )


def lp_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Divide by the norm along an axis."""
    return c.emit("lp_norm", c.x, axis=c.axis(node.int("axis", -1), c.x.rank), p=node.int("p", 2))


def mean_variance_normalization(c: NodeContext, node: OnnxNode) -> Value:
    """Take off the mean and divide by the deviation over axes."""
    return c.emit("mean_variance_norm", c.x, axes=c.axes(node.ints("axes", (0, 2, 3)), c.x.rank))


TABLE: dict[str, Row] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": over_axis("log_softmax"),
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
    "Softmax": over_axis("softmax"),
}

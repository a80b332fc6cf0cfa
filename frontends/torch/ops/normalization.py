"""Softmax and normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, float_info
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.frontends.torch.ops.elementwise import to_dtype
from aino_ir.frontends.torch.ops.reduction import moments
from aino_ir.graph import Value


def over_axis(op: str) -> Lowering:
    """A row for softmax and its kin."""

    def lower(
        c: NodeContext, x: Value, dim: int, half_to_float: bool = False, dtype: DType | None = None
    ) -> Value:
        line = c.line(to_dtype(c, x, c.dtype))
        return c.reshape(c.emit(op, line, axis=c.axis(dim, line.rank)), x.shape)

    return lower


def safe_softmax(c: NodeContext, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """Softmax that is zero where a whole row is -inf."""
    x = to_dtype(c, x, c.dtype)
    axis = c.axis(dim, x.rank)
    y = c.emit("softmax", x, axis=axis)
    nothing = c.emit("reduce.max", x, axes=(axis,), keepdims=True)
    return c.emit("select", c.emit("is_inf", nothing, positive=False), c.scalar(0, y.dtype), y)


def layer_norm(
    c: NodeContext,
    x: Value,
    normalized_shape: Sequence[DimLike],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    """Normalised over the last axes."""
    return _layer_norm(c, x, len(normalized_shape), weight, bias, eps, False)[0]


def native_layer_norm(
    c: NodeContext,
    x: Value,
    normalized_shape: Sequence[DimLike],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> list[Value]:
    """Normalised over the last axes, and each row's mean and 1 / deviation."""
    results = _layer_norm(c, x, len(normalized_shape), weight, bias, eps, c.wants(1) or c.wants(2))
    return [results[0], *(c.cast(v, c.dtype_of(i)) for i, v in enumerate(results[1:], 1))]


def _layer_norm(
    c: NodeContext,
    x: Value,
    axes: int,
    weight: Value | None,
    bias: Value | None,
    eps: float,
    statistics: bool,
) -> tuple[Value, ...]:
    given = [None if v is None else c.cast(v, x.dtype) for v in (weight, bias)]
    return c.emit_all("layer_norm", x, *given, axis=-axes, epsilon=eps, statistics=statistics)


def rms_norm(
    c: NodeContext,
    x: Value,
    normalized_shape: Sequence[DimLike],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    """Divided by the root of the mean square over the last axes."""
    epsilon = float(float_info(x.dtype).eps) if eps is None else eps
    scale = None if weight is None else c.cast(weight, x.dtype)
    return c.emit("rms_norm", x, scale, axis=-len(normalized_shape), epsilon=epsilon)


def group_norm(
    c: NodeContext,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalised over groups of channels."""
    given = [None if v is None else c.cast(v, x.dtype) for v in (weight, bias)]
    return c.emit("group_norm", x, *given, groups=num_groups, epsilon=eps)


def native_group_norm(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    N: DimLike,
    C: DimLike,
    HxW: DimLike,
    group: int,
    eps: float,
) -> list[Value | None]:
    """Normalised over groups of channels, and each group's mean and 1 / deviation."""
    y = group_norm(c, x, group, weight, bias, eps)
    if not (c.wants(1) or c.wants(2)):
        return [y, None, None]
    each = c.symbols.simplify(C // group)
    rows = c.reshape(x, (N, group, each * HxW))
    variance, mean = moments(c, rows, (2,), 0, False)
    root = reciprocal_root(c, variance, eps)
    return [y, c.cast(mean, c.dtype_of(1)), c.cast(root, c.dtype_of(2))]


def reciprocal_root(c: NodeContext, variance: Value, eps: float) -> Value:
    """1 / sqrt(variance + eps)"""
    return c.emit("rsqrt", c.emit("add", variance, c.scalar(eps, variance.dtype)))


def instance_norm(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Each channel of each item normalised by its own statistics, or by given ones."""
    if use_input_stats and running_mean is not None:
        c.unsupported("running statistics that are updated")
    if not use_input_stats:
        assert running_mean is not None and running_var is not None
        return with_statistics(c, x, weight, bias, running_mean, running_var, eps)
    given = [None if v is None else c.cast(v, x.dtype) for v in (weight, bias)]
    return c.emit("instance_norm", x, *given, epsilon=eps)


def with_statistics(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    eps: float,
) -> Value:
    """Channels normalised by given statistics."""
    dtype = x.dtype.compute
    size = (x.shape[1],)
    scale = c.filled(size, 1, dtype) if weight is None else c.cast(weight, dtype)
    shift = c.filled(size, 0, dtype) if bias is None else c.cast(bias, dtype)
    return c.emit(
        "batch_norm", x, scale, shift, c.cast(mean, dtype), c.cast(variance, dtype), epsilon=eps, axis=1
    )


def batch_norm_inference(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    momentum: float,
    eps: float,
) -> list[Value | None]:
    """Channels normalised by running statistics; the saved ones are empty."""
    empty = [c.filled((0,), 0, c.dtype_of(i)) if c.wants(i) else None for i in (1, 2)]
    return [with_statistics(c, x, weight, bias, running_mean, running_var, eps), *empty]


def batch_statistics(c: NodeContext, x: Value, eps: float) -> tuple[Value, Value, Value]:
    """Mean, variance and 1 / deviation of each channel over the batch, in the compute dtype."""
    axes = tuple(a for a in range(x.rank) if a != 1)
    variance, mean = moments(c, x, axes, 0, False)
    return mean, variance, reciprocal_root(c, variance, eps)


def batch_norm_training(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    training: bool,
    momentum: float,
    eps: float,
) -> list[Value | None]:
    """Channels normalised by the batch's own statistics, which are further results."""
    mean, variance, root = batch_statistics(c, x, eps)
    y = with_statistics(c, x, weight, bias, mean, variance, eps)
    return [y, c.cast(mean, c.dtype_of(1)), c.cast(root, c.dtype_of(2))]


def batch_norm_functional(
    c: NodeContext,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    training: bool,
    momentum: float,
    eps: float,
) -> list[Value | None]:
    """The same, with the new running statistics behind: they move by `momentum` towards the batch's."""
    if not training:
        empty = [c.filled((0,), 0, c.dtype_of(i)) for i in (1, 2)]
        y = with_statistics(c, x, weight, bias, running_mean, running_var, eps)
        kept = (running_mean, running_var)
        return [y, *empty, *(c.cast(v, c.dtype_of(i)) for i, v in enumerate(kept, 3))]
    mean, variance, root = batch_statistics(c, x, eps)
    y = with_statistics(c, x, weight, bias, mean, variance, eps)
    dtype = variance.dtype
    count = c.count([d for a, d in enumerate(x.shape) if a != 1], dtype)
    unbiased = c.emit("mul", variance, c.emit("div", count, c.emit("sub", count, c.scalar(1, dtype))))

    def moved(old: Value, new: Value) -> Value:
        kept = c.emit("mul", c.cast(old, dtype), c.scalar(1 - momentum, dtype))
        return c.cast(c.emit("add", c.emit("mul", new, c.scalar(momentum, dtype)), kept), old.dtype)

    saved: list[Value | None] = [y, c.cast(mean, c.dtype_of(1)), c.cast(root, c.dtype_of(2))]
    new = (moved(running_mean, mean), moved(running_var, unbiased))
    return [*saved, *(c.cast(v, c.dtype_of(i)) for i, v in enumerate(new, 3))]


TABLE: dict[str, Row] = {
    "aten._log_softmax": over_axis("log_softmax"),
    "aten._native_batch_norm_legit.no_stats": batch_norm_training,
    "aten._native_batch_norm_legit_functional": batch_norm_functional,
    "aten._native_batch_norm_legit_no_training": batch_norm_inference,
    "aten._safe_softmax": safe_softmax,
    "aten._softmax": over_axis("softmax"),
    "aten.group_norm": group_norm,
    "aten.instance_norm": instance_norm,
    "aten.layer_norm": layer_norm,
    "aten.log_softmax.int": over_axis("log_softmax"),
    "aten.native_group_norm": native_group_norm,
    "aten.native_layer_norm": native_layer_norm,
    "aten.rms_norm": rms_norm,
    "aten.softmax.int": over_axis("softmax"),
    "aten.special_log_softmax": over_axis("log_softmax"),
    "aten.special_softmax": over_axis("softmax"),
}

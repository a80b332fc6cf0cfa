"""Backward operators that are the derivatives of other operators' lowerings, by the rules of `gradients`.

The forward operator is lowered once more for the operands that the backward one gets, and differentiated;
of its results only what the gradient needs is kept.
"""

from __future__ import annotations

import inspect
from typing import Any

from aino_ir.errors.onnx import GradientMissing
from aino_ir.frontends.gradients import TABLE as RULES
from aino_ir.frontends.gradients import pullback
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.frontends.torch.ops import antialias
from aino_ir.frontends.torch.ops.activation import hardshrink, softshrink
from aino_ir.frontends.torch.ops.distance import condensed, pairwise
from aino_ir.frontends.torch.ops.movement import pad_mode
from aino_ir.frontends.torch.ops.pooling import adaptive, avg_pool, mean_of_parts
from aino_ir.frontends.torch.ops.resizing import (
    cubic_taps,
    grid_sampler_2d,
    grid_sampler_3d,
    interpolated,
    linear_taps,
    nearest,
)
from aino_ir.graph import Value


class Forward(NodeContext):
    """The call whose derivative a backward call is: its result has the type of the gradient."""

    __slots__ = ()

    def meta(self, index: int = 0) -> Any:
        """torch's fake tensor of the result: that of the gradient, which comes first."""
        if index:
            self.unsupported("further results")
        return self.node.args[0].meta["val"]  # type: ignore[union-attr]

    def wants(self, index: int) -> bool:
        """Only the first result has a gradient."""
        return index == 0


def derivative(forward: Lowering, *operands: str, gradient: str = "grad_output") -> Lowering:
    """A row for the gradients of some operands of a forward operator.

    Args:
        forward: lowers the forward operator.
        operands: whose gradients are the results, in order, where the call's `output_mask` wants them.
        gradient: the name of the gradient of the forward operator's result.

    Returns:
        A row that takes the forward row's arguments and `gradient`; `input_size` may stand in for an
        operand of which only the shape counts.
    """
    names = list(inspect.signature(forward).parameters)[1:]

    def lower(c: NodeContext, **given: Any) -> Value | list[Value | None]:
        cotangent: Value = given[gradient]
        arguments = {name: given[name] for name in names if name in given}
        if "input_size" in given:
            arguments["x"] = c.filled(given["input_size"], 0, cotangent.dtype)
        if "output_size" in names:
            arguments.setdefault("output_size", cotangent.shape[2 - cotangent.rank :])
        wanted = given.get("output_mask", [True] * len(operands))
        sources = [arguments[name] for name, wants in zip(operands, wanted, strict=True) if wants]
        made = forward(Forward(c.graph, c.node), **arguments)
        assert isinstance(made, Value)
        try:
            found = iter(pullback(c.b, RULES, [(made, cotangent)], sources))
        except GradientMissing as missing:
            c.unsupported(missing.message)
        out = [
            _present(c, next(found), arguments[name]) if wants else None
            for name, wants in zip(operands, wanted, strict=True)
        ]
        return out if len(operands) > 1 else out[0]  # type: ignore[return-value]

    return lower


def _present(c: NodeContext, gradient: Value | None, operand: Value) -> Value:
    """A gradient in its operand's dtype; zeros where nothing depends on the operand."""
    if gradient is None:
        return c.filled(operand.shape, 0, operand.dtype)
    return c.cast(gradient, operand.dtype)


def weight_norm(c: NodeContext, v: Value, g: Value, dim: int = 0) -> Value:
    """g * v / |v|, the norms being those of slices along an axis."""
    axes = tuple(a for a in range(v.rank) if a != dim % v.rank)
    wide = c.cast(v, v.dtype.compute)
    norm = c.emit("reduce.l2", wide, axes=axes, keepdims=True)
    return c.cast(c.emit("mul", wide, c.emit("div", c.cast(g, wide.dtype), norm)), v.dtype)


def weight_norm_and_norms(c: NodeContext, v: Value, g: Value, dim: int = 0) -> list[Value | None]:
    """The weights, and the norms that torch keeps for the gradient."""
    axes = tuple(a for a in range(v.rank) if a != dim % v.rank)
    norms = c.emit("reduce.l2", c.cast(v, g.dtype.compute), axes=axes, keepdims=True)
    return [weight_norm(c, v, g, dim), c.cast(norms, c.dtype_of(1))]


def saved_weight_norm(c: NodeContext, saved_v: Value, saved_g: Value, dim: int) -> Value:
    """`weight_norm` by the names of its backward operator's arguments."""
    return weight_norm(c, saved_v, saved_g, dim)


RESIZED: dict[str, Lowering] = {
    "_upsample_nearest_exact1d": nearest(1, exact=True),
    "_upsample_nearest_exact2d": nearest(2, exact=True),
    "_upsample_nearest_exact3d": nearest(3, exact=True),
    "upsample_bicubic2d": interpolated(2, cubic_taps),
    "upsample_bilinear2d": interpolated(2, linear_taps),
    "upsample_linear1d": interpolated(1, linear_taps),
    "upsample_nearest1d": nearest(1, exact=False),
    "upsample_nearest2d": nearest(2, exact=False),
    "upsample_nearest3d": nearest(3, exact=False),
    "upsample_trilinear3d": interpolated(3, linear_taps),
    **antialias.ROWS,
}
"""Resizing operators, of which only the operand's shape counts."""

TABLE: dict[str, Row] = {
    **{f"aten.{name}_backward": derivative(row, "x") for name, row in RESIZED.items()},
    **{f"aten.replication_pad{n}d_backward": derivative(pad_mode("edge"), "x") for n in (1, 2, 3)},
    "aten._adaptive_avg_pool3d_backward": derivative(adaptive(3, mean_of_parts), "x"),
    "aten._cdist_backward": derivative(pairwise, "x1", gradient="grad"),
    "aten._pdist_backward": derivative(condensed, "x", gradient="grad"),
    "aten._weight_norm_interface": weight_norm_and_norms,
    "aten._weight_norm_interface_backward": derivative(
        saved_weight_norm, "saved_v", "saved_g", gradient="grad_w"
    ),
    "aten.avg_pool2d_backward": derivative(avg_pool(2), "x"),
    "aten.avg_pool3d_backward": derivative(avg_pool(3), "x"),
    "aten.grid_sampler_2d_backward": derivative(grid_sampler_2d, "x", "grid"),
    "aten.grid_sampler_3d_backward": derivative(grid_sampler_3d, "x", "grid"),
    "aten.hardshrink_backward": derivative(hardshrink, "x", gradient="grad_out"),
    "aten.softshrink_backward": derivative(softshrink, "x"),
}

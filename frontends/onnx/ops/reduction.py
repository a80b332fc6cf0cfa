"""Reductions over axes, positions of extremes, and running sums."""

from __future__ import annotations

from aino_ir.frontends.onnx.axes import (
    around,
    axes_input,
    chosen,
    left_over,
    number_of,
    parted,
    run_time_axes,
)
from aino_ir.frontends.onnx.context import Lowering, NodeContext, Row
from aino_ir.frontends.onnx.integers import integer, sole
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

AXES_INPUT_SINCE = {"ReduceSum": 13}
"""Axes became an input at operator set 18, but for ReduceSum."""


def reduction(op: str, of_bools: str = "") -> Lowering:
    """A row for one of the Reduce operators; `of_bools` serves bool operands."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        x = c.x
        name = of_bools if of_bools and x.dtype.is_bool else op
        axes = None
        if c.opset < AXES_INPUT_SINCE.get(node.op_type, 18):
            axes = node.ints("axes", None)
        elif c.input(1) is not None:
            axes = axes_input(c, 1, x.rank)
            if axes is None:
                return over_run_time_axes(c, name)
        if not axes:
            if node.int("noop_with_empty_axes", 0):
                axes = ()
            else:
                axes = tuple(range(x.rank))
        return c.emit(name, x, axes=c.axes(axes, x.rank), keepdims=bool(node.int("keepdims", 1)))

    return lower


def over_run_time_axes(c: NodeContext, op: str) -> Value:
    """A reduction over axes that only the run will tell."""
    x, node = c.x, c.node
    axes = run_time_axes(c, 1, x.rank)
    flags = chosen(c, axes, x.rank)
    if not node.int("noop_with_empty_axes", 0):
        none = integer(c, axes.shape[0]).eq(0)
        flags = [flag | none for flag in flags]
    pairs = parted(c, x, flags)
    y = c.emit(op, pairs, axes=tuple(range(1, 2 * x.rank, 2)), keepdims=False)
    if node.int("keepdims", 1):
        return y
    count = x.rank - number_of(c, 1, axes)
    return c.reshape(y, left_over(c, y.shape, flags, count))


def extreme(op: str) -> Lowering:
    """A row for ArgMax and ArgMin."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        return c.emit(
            op,
            c.x,
            axis=c.axis(node.int("axis", 0), c.x.rank),
            keepdims=bool(node.int("keepdims", 1)),
            select_last_index=bool(node.int("select_last_index", 0)),
        )

    return lower


def running(op: str) -> Lowering:
    """A row for CumSum and CumProd."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        x, axis = c.x, sole(c, 1)
        exclusive, reverse = bool(node.int("exclusive", 0)), bool(node.int("reverse", 0))
        if axis.static is not None:
            return c.emit(op, x, axis=c.axis(axis.static, x.rank), exclusive=exclusive, reverse=reverse)
        lines = around(c, x, integer(c, run_time_axes(c, 1, x.rank)))
        y = c.emit(op, lines, axis=1, exclusive=exclusive, reverse=reverse)
        return c.reshape(y, x.shape)

    return lower


def hardmax(c: NodeContext, node: OnnxNode) -> Value:
    """One at the first largest element of each row, zero elsewhere."""
    x = c.x
    axis = node.int("axis", -1 if c.opset >= 13 else 1)
    axis = c.axis(axis, x.rank)
    rows = x
    if c.opset < 13:
        from aino_ir.dims import product

        rows, axis = c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:]))), 1
    best = c.emit("argmax", rows, axis=axis, keepdims=True)
    positions = c.emit("range", start=0, size=rows.shape[axis], step=1, dtype=best.dtype)
    positions = c.reshape(positions, [rows.shape[axis] if a == axis else 1 for a in range(rows.rank)])
    return c.reshape(c.cast(c.emit("eq", best, positions), x.dtype), x.shape)


TABLE: dict[str, Row] = {
    "ArgMax": extreme("argmax"),
    "ArgMin": extreme("argmin"),
    "CumProd": running("cumprod"),
    "CumSum": running("cumsum"),
    "Hardmax": hardmax,
    "ReduceL1": reduction("reduce.l1"),
    "ReduceL2": reduction("reduce.l2"),
    "ReduceLogSum": reduction("reduce.log_sum"),
    "ReduceLogSumExp": reduction("reduce.log_sum_exp"),
    "ReduceMax": reduction("reduce.max", "reduce.any"),
    "ReduceMean": reduction("reduce.mean"),
    "ReduceMin": reduction("reduce.min", "reduce.all"),
    "ReduceProd": reduction("reduce.prod"),
    "ReduceSum": reduction("reduce.sum"),
    "ReduceSumSquare": reduction("reduce.sum_square"),
}

"""Ops that StableHLO has an operation for and index notation would tell badly: one row each.

A row takes the writer, the op, its present operands and the values of symbols, and gives the results.
Every other op goes by its definition (`defined.py`, `loops.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aino_ir.codegen.stablehlo.elementwise import load, store
from aino_ir.codegen.stablehlo.space import Space
from aino_ir.codegen.stablehlo.types import Tensor, tensor_type
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.dtypes import i64
from aino_ir.loops.expr import identity
from aino_ir.op import Op

Symbols = Mapping[str, int]
Row = Callable[[Writer, Any, Sequence[Tensor], Symbols], list[Tensor]]


def shape_of(w: Writer, op: Op, symbols: Symbols, result: int = 0) -> tuple[int, ...]:
    """The shape of a result, in numbers."""
    return Space(w, (), symbols).numbers(op.results[result].shape)


def _reshape(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    return [w.reshape(operands[0], shape_of(w, op, symbols))]


def _same(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    return [operands[0]]


def _concat(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    dtype = operands[0].dtype
    if dtype.bits < 8:  # XLA's CPU backend dies of concatenations of such types
        operands = [load(w, x) for x in operands]
    return [store(w, w.concatenate(operands, op.axis % operands[0].rank), dtype)]


def _conv(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    x, weights, *bias = (load(w, v) for v in operands)
    spatial = list(range(x.rank - 2))
    pads = [[b, a] for b, a in zip(op.pads_before, op.pads_after, strict=True)]
    places = ", ".join(map(str, spatial))
    numbers = f"[b, f, {places}]x[o, i, {places}]->[b, f, {places}]"
    window = f"{{stride = {list(op.strides)}, pad = {pads}, rhs_dilate = {list(op.dilations)}}}"
    precision = "#stablehlo<precision HIGHEST>"
    text = (
        f"stablehlo.convolution({x.name}, {weights.name}) dim_numbers = {numbers}, window = {window} "
        f"{{batch_group_count = 1 : i64, feature_group_count = {op.groups} : i64, "
        f"precision_config = [{precision}, {precision}]}}"
    )
    shape = shape_of(w, op, symbols)
    result = tensor_type(x.dtype, shape)
    out = w.emit(text, f"({x.type}, {weights.type}) -> {result}", x.dtype, shape)
    for b in bias:
        out = w.same("add", out, w.broadcast(b, [1], shape))
    return [store(w, out, op.result.dtype)]


def _max_pool(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    x = load(w, operands[0])
    return [store(w, _windows(w, op, x, "max", "maximum", symbols), op.result.dtype)]


def _windows(w: Writer, op: Any, x: Tensor, combiner: str, name: str, symbols: Symbols) -> Tensor:
    """A reduction over the windows of a pool; what is outside is the combiner's neutral element."""
    shape = shape_of(w, op, symbols)
    after = [
        max(0, (out - 1) * s + (k - 1) * d + 1 - extent - before)
        for out, extent, k, s, d, before in zip(
            shape[2:], x.shape[2:], op.kernel, op.strides, op.dilations, op.pads_before, strict=True
        )
    ]
    x = _cut(w, x, op, shape)
    start = w.constant(identity(combiner, x.dtype), x.dtype)
    pads = [[0, 0], [0, 0], *([b, a] for b, a in zip(op.pads_before, after, strict=True))]
    result = w.fresh(x.dtype, shape)
    sizes = {
        "window_dimensions": (1, 1, *op.kernel),
        "window_strides": (1, 1, *op.strides),
        "base_dilations": (1,) * x.rank,
        "window_dilations": (1, 1, *op.dilations),
    }
    attributes = ", ".join(f"{key} = array<i64: {', '.join(map(str, v))}>" for key, v in sizes.items())
    attributes += f", padding = dense<{pads}> : tensor<{x.rank}x2xi64>"
    w.line(f'{result.name} = "stablehlo.reduce_window"({x.name}, {start.name}) <{{{attributes}}}> ({{')
    with w.region():
        a, b = w.fresh(x.dtype, ()), w.fresh(x.dtype, ())
        w.line(f"^bb0({a.name}: {a.type}, {b.name}: {b.type}):")
        w.give_back([w.same(name, a, b)])
    w.line(f"}}) : ({x.type}, {start.type}) -> {result.type}")
    return result


def _cut(w: Writer, x: Tensor, op: Any, shape: tuple[int, ...]) -> Tensor:
    """x without the elements behind the last window, which a window reduction would make results of."""
    stops = list(x.shape)
    for axis, (out, k, s, d, before) in enumerate(
        zip(shape[2:], op.kernel, op.strides, op.dilations, op.pads_before, strict=True), 2
    ):
        stops[axis] = max(0, min(stops[axis], (out - 1) * s + (k - 1) * d + 1 - before))
    return w.slice(x, [0] * x.rank, stops)


def _top_k(w: Writer, op: Any, operands: Sequence[Tensor], symbols: Symbols) -> list[Tensor]:
    """A stable sort of values and positions, of which the first k stay; NaN is the greatest value."""
    shape = shape_of(w, op, symbols)
    source = operands[0]
    axis = op.axis % source.rank
    x = load(w, source)
    positions = w.broadcast(w.iota(x.shape[axis]), [axis], x.shape)
    values, order = w.fresh(x.dtype, x.shape), w.fresh(i64, x.shape)
    label = f"%sorted{values.name[1:]}"
    w.line(
        f'{label}:2 = "stablehlo.sort"({x.name}, {positions.name}) '
        f"<{{dimension = {axis} : i64, is_stable = true}}> ({{"
    )
    with w.region():
        a, b, p, q = (w.fresh(d, ()) for d in (x.dtype, x.dtype, i64, i64))
        w.line(f"^bb0({', '.join(f'{v.name}: {v.type}' for v in (a, b, p, q))}):")
        first, second = (a, b) if op.largest else (b, a)
        before = w.compare("GT", first, second)
        if x.dtype.is_float:
            is_nan, other = w.compare("NE", first, first), w.compare("EQ", second, second)
            before = w.same("or", before, w.same("and", is_nan, other))
        w.give_back([before])
    w.line(f"}}) : ({x.type}, {positions.type}) -> ({values.type}, {order.type})")
    stops = list(shape)
    cut = [
        w.slice(Tensor(f"{label}#{n}", v.dtype, v.shape), [0] * v.rank, stops)
        for n, v in enumerate((values, order))
    ]
    return [store(w, cut[0], source.dtype), cut[1]]


ROWS: dict[str, Row] = {
    "core.bind": _same,
    "core.relayout": _same,
    "index.top_k": _top_k,
    "nn.conv": _conv,
    "nn.max_pool": _max_pool,
    "tensor.concat": _concat,
    "tensor.reshape": _reshape,
}
"""Op name -> how it is written."""

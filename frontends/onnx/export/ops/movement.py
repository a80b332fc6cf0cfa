"""Ops that move data, and those that hold programs together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i32, i64
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row

RAW = True

PAST_THE_START = -(2**62)
"""Where a slice that runs backwards to the first element ends; ONNX takes -1 for the last one."""


def constant(g: GraphWriter, op: Any) -> Ref:
    """An initializer."""
    return g.handle(op.value)


def dims(g: GraphWriter, op: Any) -> Ref:
    """Extents as a vector."""
    return g.dims(op.dims)


def fused(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """The ops of a group, one after the other."""
    from aino_ir.frontends.onnx.export.model import write_block

    (body,) = op.regions
    for argument, value in zip(body.args, op.inputs, strict=True):
        g.refs[argument] = g.refs[value]
    return write_block(g, body)


def itself(g: GraphWriter, op: Any) -> Ref:
    """The operand: a layout changes no meaning, nor does it that numbers are extents from here on."""
    return g.of(op.x)


def reshape(g: GraphWriter, op: Any) -> Ref:
    """Another shape."""
    return g.reshape(g.of(op.x), op.shape)


def transpose(g: GraphWriter, op: Any) -> Ref:
    """Another order of axes."""
    return g.transpose(g.of(op.x), op.perm)


def expand(g: GraphWriter, op: Any) -> Ref:
    """A broadcast."""
    return g.node("Expand", g.of(op.x), g.dims(op.shape))


def concat(g: GraphWriter, op: Any) -> Ref:
    """Operands one behind the other."""
    return g.node("Concat", *[g.of(v) for v in op.inputs], axis=op.axis)


def slice_(g: GraphWriter, op: Any) -> Ref:
    """Elements at even steps; axes that stay whole are left out."""
    x = g.of(op.x)
    moves = list(enumerate(zip(op.starts, op.sizes, op.steps, op.x.shape, strict=True)))
    cut = [
        (axis, start, size, step)
        for axis, (start, size, step, extent) in moves
        if not (is_static(start) and start == 0 and step == 1 and g.proves(size, extent))
    ]
    if not cut:
        return x
    starts = g.dims([start for _, start, _, _ in cut])
    ends = [end_of(g, start, size, step) for _, start, size, step in cut]
    end = ends[0] if len(ends) == 1 else g.node("Concat", *ends, axis=0)
    axes, steps = g.vector([axis for axis, *_ in cut]), [step for *_, step in cut]
    strides = None if all(s == 1 for s in steps) else g.vector(steps)
    return g.node("Slice", x, starts, end, axes, strides)


def end_of(g: GraphWriter, start: DimLike, size: DimLike, step: int) -> Ref:
    """Where a slice ends, exclusive."""
    end = g.symbols.simplify(start + size * step)
    if step > 0:
        return g.extent(end)
    if isinstance(end, int):
        return g.vector([end if end >= 0 else PAST_THE_START])
    if g.symbols.prove_ge(end, 0):
        return g.extent(end)
    found = g.extent(end)
    below = g.node("Less", found, g.vector([0]))
    return g.node("Where", below, g.vector([PAST_THE_START]), found, dtype=i64)


def pad(g: GraphWriter, op: Any) -> Ref:
    """What surrounds x; mirrored borders with the border element are gathered."""
    x = g.of(op.x)
    if op.mode == "symmetric":
        for axis, (before, after, extent) in enumerate(zip(op.before, op.after, op.x.shape, strict=True)):
            if is_static(before) and before == 0 and is_static(after) and after == 0:
                continue
            if not (isinstance(before, int) and isinstance(after, int) and isinstance(extent, int)):
                g.refuse("it mirrors borders of symbolic extents")
            widths = int(before), int(after)
            positions = np.pad(np.arange(int(extent)), widths, mode="symmetric").tolist()
            x = g.node("Gather", x, g.vector(positions), axis=axis)
        return x
    pads = g.dims((*op.before, *op.after))
    fill = g.scalar(op.value, x) if op.mode == "constant" and op.value else None
    mode = None if op.mode == "constant" else op.mode
    return g.node("Pad", x, pads, fill, mode=mode)


def gather(g: GraphWriter, op: Any) -> Ref:
    """Slices at indices."""
    return g.node("Gather", g.of(op.x), indices(g, op.indices), axis=op.axis)


def indices(g: GraphWriter, value: Any) -> Ref:
    """Indices in a dtype that ONNX takes for them."""
    ref = g.refs[value]
    return ref if ref.dtype in (i32, i64) else g.cast(ref, i64)


TABLE: dict[str, Row] = {
    "core.bind": itself,
    "core.constant": constant,
    "core.dims": dims,
    "core.fused": fused,
    "core.relayout": itself,
    "tensor.concat": concat,
    "tensor.expand": expand,
    "tensor.gather": gather,
    "tensor.pad": pad,
    "tensor.reshape": reshape,
    "tensor.slice": slice_,
    "tensor.transpose": transpose,
}

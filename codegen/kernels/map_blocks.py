"""Maps that turn memory over: lanes run along one axis in the result and along another in an operand.

Walked row by row such a map touches a cache line, often a page, for every element.  In square blocks
that are turned over in registers both sides are read and written in whole vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.codegen.kernels.emit import is_heavy, name_index
from aino_ir.codegen.kernels.map_points import at_row, emit_point, emit_row
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, ceildiv, dmin, is_static, product
from aino_ir.kernels import KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, Read, splat
from aino_ir.loops.expr_tree import walk

ACROSS = 16
"""Coordinates across a unit: what a cache line of an operand holds, in 4-byte elements."""

ALONG = 256
"""Coordinates along a unit."""


def across_axis(spec: KernelSpec, program: Compute, lane: Axis | None, lanes: int) -> Axis | None:
    """The axis along which an operand is contiguous that is not so along the lanes, or None."""
    if lane is None or lanes < 4 or lanes & (lanes - 1) or is_heavy(spec) or not _wide(lane, lanes):
        return None
    if not all(slope(r.addr(r.index), lane.name) == 1 for r in spec.results):
        return None
    axes = [a for a in program.axes if a is not lane and _wide(a, lanes)]
    return next((a for a in axes if any(_turns(spec, n, lane, a) for n in _reads(spec, program))), None)


def _wide(axis: Axis, lanes: int) -> bool:
    return not is_static(axis.extent) or int(axis.extent) >= lanes  # type: ignore[arg-type]


def _reads(spec: KernelSpec, program: Compute) -> list[Read]:
    exprs = [program.result_expr, *(r.expr for r in spec.results if r.expr is not None)]
    return [n for e in exprs for n in walk(e) if isinstance(n, Read)]


def _turns(spec: KernelSpec, node: Read, lane: Axis, across: Axis) -> bool:
    """Whether a read is contiguous across the lanes and far apart along them, and needs no mask."""
    if node.default is not None or any(isinstance(c, Expr) for c in node.index):
        return False
    address = spec.operands[node.operand].addr(node.index)  # type: ignore[arg-type]
    along = slope(address, lane.name)
    return slope(address, across.name) == 1 and along is not None and along not in (0, 1)


def turned_blocks(
    b: LoopBuilder, place: Placement, outer: tuple[Axis, ...], across: Axis, lane: Axis, lanes: int
) -> None:
    """All elements: units of ACROSS x ALONG, in square blocks of registers, then what is left over."""
    program = place.spec.program
    assert isinstance(program, Compute)
    nodes = [n for n in _reads(place.spec, program) if _turns(place.spec, n, lane, across)]
    slabs, strips = ceildiv(across.extent, ACROSS), ceildiv(lane.extent, ALONG)
    with b.units(product(a.extent for a in outer) * slabs * strips) as unit:
        strip = name_index(b, unit % strips, "strip")
        rest = name_index(b, unit // strips, "rest")
        slab = name_index(b, rest % slabs, "slab")
        with at_row(b, outer, rest // slabs) as at:
            top, left = slab * ACROSS, strip * ALONG
            bottom, right = dmin(top + ACROSS, across.extent), dmin(left + ALONG, lane.extent)
            wide = left + (right - left) // lanes * lanes
            deep = top + (bottom - top) // lanes * lanes
            with b.loop(lane.name, left, wide, step=lanes) as i:
                with b.loop(across.name, top, deep, step=lanes) as j:
                    _block(b, place, nodes, {**at, lane.name: i, across.name: j}, across, lane, lanes)
            with b.loop(across.name, top, deep) as j:
                emit_row(b, place, {**at, across.name: j}, lane, wide, right, lanes)
            with b.loop(across.name, deep, bottom) as j:
                emit_row(b, place, {**at, across.name: j}, lane, left, right, lanes)


def _block(
    b: LoopBuilder,
    place: Placement,
    nodes: list[Read],
    at: Mapping[str, DimLike],
    across: Axis,
    lane: Axis,
    lanes: int,
) -> None:
    """lanes x lanes elements: operands are read across, turned over, and used along."""
    columns: dict[int, list[Expr]] = {}
    for node in nodes:
        points = [Point({**at, lane.name: at[lane.name] + i}, across.name, lanes) for i in range(lanes)]
        columns[id(node)] = transposed(b, [splat(place.expr(node, p), lanes) for p in points])
    for j in range(lanes):
        point = Point({**at, across.name: at[across.name] + j}, lane.name, lanes)
        emit_point(place, point, lambda node, j=j: columns[id(node)][j] if id(node) in columns else None)  # type: ignore[misc]

"""Maps: every result element is one expression of operands at mapped coordinates.

Serves elementwise groups, broadcasts, transposes, slices, gathers, pads and concatenations.  Lanes
run along the axis that is contiguous in the result and in most operands; a unit is a block of rows
(or of one long row), so that its loop overhead is small and units can be split over threads.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.canonical import merge_axes, slope
from aino_ir.codegen.kernels.emit import emit_checks, vector_lanes
from aino_ir.codegen.kernels.map_blocks import across_axis, turned_blocks
from aino_ir.codegen.kernels.map_points import at_row, emit_row
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, ceildiv, dmin, is_static, product
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Read
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

UNIT_ELEMENTS = 4096
"""Elements a unit should hold: enough to hide its overhead, few enough to balance threads."""


class MapGenerator:
    """Elementwise and data-movement kernels."""

    name = "map"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate: the analytic choice of lanes is right for maps."""
        if not isinstance(spec.program, Compute) or spec.program.reduce:
            yield Reject(self.name, "not a map")
            return
        lanes = vector_lanes(spec, target)
        cost = moved_bytes(spec) / 20e9 + 1e-6
        yield Candidate(self.name, f"map, {lanes} lanes", (("lanes", lanes),), cost=cost, error_class="exact")

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """Loops: units over row blocks, rows, then vectors with a masked tail."""
        merged = merge_axes(spec)
        lanes = dict(candidate.params)["lanes"]
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, merged)
        emit_checks(place)
        program = merged.program
        assert isinstance(program, Compute)
        outer, lane = split_lane_axis(merged, program)
        if any(is_static(a.extent) and a.extent == 0 for a in program.axes):
            with b.units(0):
                pass
            return b.finish(header(spec, candidate))
        across = across_axis(merged, program, lane, lanes)
        if across is not None and lane is not None:
            rest = tuple(a for a in outer if a is not across)
            turned_blocks(b, place, rest, across, lane, lanes)
        else:
            _emit_units(b, place, outer, lane, lanes)
        return b.finish(header(spec, candidate))


def _emit_units(
    b: LoopBuilder, place: Placement, outer: tuple[Axis, ...], lane: Axis | None, lanes: int
) -> None:
    rows = product(a.extent for a in outer)
    width: DimLike = lane.extent if lane is not None else 1
    if is_static(width) and width < UNIT_ELEMENTS:
        per_unit = max(1, UNIT_ELEMENTS // max(1, int(width)))  # type: ignore[arg-type]
        with b.units(ceildiv(rows, per_unit)) as unit:
            with (
                b.loop("row", unit * per_unit, dmin((unit + 1) * per_unit, rows)) as row,
                at_row(b, outer, row) as at,
            ):
                emit_row(b, place, at, lane, 0, width, lanes)
        return
    blocks = ceildiv(width, UNIT_ELEMENTS)
    with b.units(rows * blocks) as unit, at_row(b, outer, unit // blocks) as at:
        start = (unit % blocks) * UNIT_ELEMENTS
        emit_row(b, place, at, lane, start, dmin(start + UNIT_ELEMENTS, width), lanes)


def split_lane_axis(spec: KernelSpec, program: Compute) -> tuple[tuple[Axis, ...], Axis | None]:
    """(the other axes, the axis that lanes run along): unit stride in results first, then in operands."""
    if not program.axes:
        return (), None
    best = max(range(len(program.axes)), key=lambda i: (_contiguity(spec, program, program.axes[i]), i))
    return program.axes[:best] + program.axes[best + 1 :], program.axes[best]


def _contiguity(spec: KernelSpec, program: Compute, axis: Axis) -> tuple[int, int]:
    if is_static(axis.extent) and axis.extent == 1:
        return (-1, 0)
    written = sum(1 for r in spec.results if slope(r.addr(r.index), axis.name) == 1)
    exprs = [program.result_expr, *(r.expr for r in spec.results if r.expr is not None)]
    read = 0
    for e in exprs:
        for node in walk(e):
            if isinstance(node, Read) and all(not hasattr(c, "lanes") for c in node.index):
                address = spec.operands[node.operand].addr(node.index)  # type: ignore[arg-type]
                read += 1 if slope(address, axis.name) == 1 else 0
    return (written, read)


def moved_bytes(spec: KernelSpec) -> float:
    """Bytes of all operands and results, symbolic extents taken for 1024 elements."""
    total = 0.0
    for o in (*spec.operands, *spec.results):
        size = product(o.shape)
        total += (int(size) if is_static(size) else 1024) * o.dtype.bytes  # type: ignore[arg-type]
    return total

"""Kernels for a GPU whose threads make elements of the result, each for itself.

A thread makes a vector of up to 16 bytes along the axis that is contiguous in results and most operands, of
reductions (pooling, depthwise convolution, sums that lie across) term after term, where that leaves threads
enough; else single elements.  Neighbouring threads have neighbouring elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.map import split_lane_axis
from aino_ir.codegen.kernels.map_points import emit_point
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, ceildiv, is_static, product
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, VecType, binary, const, identity, select, splat
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

WIDE_BYTES = 16
MOST_LANES = 8

FEW = 32
"""Vectors along an axis below which a thread does as well with one element."""

FEW_IN_SHORT_ROWS = 3
"""The same where vectors fill rows, or where addresses are computed for many terms, and lanes share them."""

BUSY = 1 << 14
"""Threads that must be left then."""


def map_lanes(spec: KernelSpec) -> tuple[Axis, int] | None:
    """The axis that vectors run along and their lanes; None where single elements do as well."""
    program = spec.program
    assert isinstance(program, Compute)
    if not program.axes:
        return None
    _, lane = split_lane_axis(spec, program)
    if lane is None or any(slope(r.addr(r.index), lane.name) != 1 for r in spec.results):
        return None
    widest = max(max(o.dtype.bytes, o.dtype.compute.bytes // 2) for o in (*spec.operands, *spec.results))
    lanes, extent = min(MOST_LANES, WIDE_BYTES // widest), extent_or(lane.extent, 1024)
    if lanes < 2:
        return None
    if program.combiner is None and extent >= FEW * lanes:
        return lane, lanes
    threads = math.prod(extent_or(a.extent, 1024) for a in program.axes) // lanes
    if threads < BUSY or extent < FEW_IN_SHORT_ROWS * lanes or (program.combiner is None and extent % lanes):
        return None
    return lane, lanes


class ElementGenerator:
    """A `Compute` with a thread for each vector or element; reductions are loops of the thread."""

    name = "element"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate for every computation."""
        if not isinstance(spec.program, Compute):
            yield Reject(self.name, "not index notation over axes")
            return
        vectors = map_lanes(merge_axes(drop_unit_axes(spec)))
        what = "element" if vectors is None else f"{vectors[1]} elements"
        yield Candidate(self.name, f"a thread for each {what}", cost=1e-5)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        canonical = merge_axes(drop_unit_axes(spec))
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, canonical)
        emit_checks(place)
        vectors = map_lanes(canonical)
        if vectors is None:
            _elements(b, place)
        else:
            _vectors(b, place, *vectors)
        return b.finish(header(spec, candidate))


def _vectors(b: LoopBuilder, place: Placement, lane: Axis, lanes: int) -> None:
    """A unit for each vector; the last one of a row may be cut short."""
    program = place.spec.program
    assert isinstance(program, Compute)
    extents = {a.name: a.extent for a in program.axes if a is not lane}
    extents[lane.name] = ceildiv(lane.extent, lanes)
    with b.units(product(extents.values())) as unit:
        *outer, vector = b.split(unit, extents)
        start = vector * lanes
        at = {**dict(zip(extents, outer, strict=False)), lane.name: start}
        if is_static(lane.extent) and int(lane.extent) % lanes == 0:  # type: ignore[arg-type]
            _point(b, place, Point(at, lane.name, lanes))
            return
        with b.when(Condition(start + lanes, "<=", lane.extent)):
            _point(b, place, Point(at, lane.name, lanes))
        with b.otherwise():
            _point(b, place, Point(at, lane.name, lanes, lane.extent - start))


def _elements(b: LoopBuilder, place: Placement) -> None:
    """A unit for each element."""
    program = place.spec.program
    assert isinstance(program, Compute)
    with b.units(product(a.extent for a in program.axes)) as unit:
        at: dict[str, DimLike] = {}
        if program.axes:
            extents = {a.name: a.extent for a in program.axes}
            at = dict(zip(extents, b.split(unit, extents), strict=True))
        _point(b, place, Point(at))


def _point(b: LoopBuilder, place: Placement, point: Point) -> None:
    """The results at a point, of reductions with the terms before."""
    program = place.spec.program
    assert isinstance(program, Compute)
    if program.combiner is None:
        emit_point(place, point)
        return
    accumulators: dict[int, Expr] = {0: _reduced(b, place, program, point).read()}  # even of one term
    values = [
        place.expr(r.expr if r.expr is not None else program.result_expr, point, accumulators)
        for r in place.spec.results
    ]
    for number, value in enumerate(values):
        place.store(number, point, value)


def _reduced(b: LoopBuilder, place: Placement, program: Compute, point: Point) -> Reg:
    """The reductions at a point, term after term."""
    assert program.combiner is not None
    dtype, lanes = program.body.dtype, point.lanes
    first = const(program.combiner == "and" if dtype.is_bool else identity(program.combiner, dtype), dtype)
    total = b.reg("total", VecType(dtype, lanes), splat(first, lanes))
    with ExitStack() as stack:
        here = dict(point.at)
        for axis in program.reduce:
            here[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
        term = replace(point, at=here)
        inside: Expr | None = None
        if program.where is not None:
            inside = place.expr(program.where, term)
            if inside.lanes == 1:
                stack.enter_context(b.when(inside))
        value = splat(place.expr(program.body, term), lanes)
        if inside is not None and inside.lanes > 1:
            value = b.let(select(inside, value, splat(first, lanes)))
        b.set(total, binary(program.combiner, total.read(), value))
    return total

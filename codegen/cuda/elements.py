"""Kernels for a GPU whose threads make elements of the result, each for itself.

Of a map a thread makes a vector of up to 16 bytes along the axis that is contiguous in results and most
operands; of a reduction one element, term after term.  Neighbouring threads have neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

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
from aino_ir.loops.expr import Expr, VecType, binary, const, identity
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

WIDE_BYTES = 16
MOST_LANES = 8

FEW = 32
"""Vectors along an axis below which a thread does as well with one element."""


def map_lanes(spec: KernelSpec) -> tuple[Axis, int] | None:
    """The axis that vectors run along and their lanes; None where single elements do as well."""
    program = spec.program
    assert isinstance(program, Compute)
    if program.combiner is not None or not program.axes:
        return None
    _, lane = split_lane_axis(spec, program)
    if lane is None or any(slope(r.addr(r.index), lane.name) != 1 for r in spec.results):
        return None
    widest = max(max(o.dtype.bytes, o.dtype.compute.bytes // 2) for o in (*spec.operands, *spec.results))
    lanes = min(MOST_LANES, WIDE_BYTES // widest)
    if lanes < 2 or extent_or(lane.extent, 1024) < FEW * lanes:
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
            emit_point(place, Point(at, lane.name, lanes))
            return
        with b.when(Condition(start + lanes, "<=", lane.extent)):
            emit_point(place, Point(at, lane.name, lanes))
        with b.otherwise():
            emit_point(place, Point(at, lane.name, lanes, lane.extent - start))


def _elements(b: LoopBuilder, place: Placement) -> None:
    """A unit for each element."""
    program = place.spec.program
    assert isinstance(program, Compute)
    with b.units(product(a.extent for a in program.axes)) as unit:
        at: dict[str, DimLike] = {}
        if program.axes:
            extents = {a.name: a.extent for a in program.axes}
            at = dict(zip(extents, b.split(unit, extents), strict=True))
        accumulators: dict[int, Expr] = {}
        if program.combiner is not None:  # sums of one term are sums still
            accumulators[0] = _reduced(b, place, program, at).read()
        point = Point(at)
        values = [
            place.expr(r.expr if r.expr is not None else program.result_expr, point, accumulators)
            for r in place.spec.results
        ]
        for number, value in enumerate(values):
            place.store(number, point, value)


def _reduced(b: LoopBuilder, place: Placement, program: Compute, at: dict[str, DimLike]) -> Reg:
    """The reduction of one element, term after term."""
    assert program.combiner is not None
    dtype = program.body.dtype
    first = const(program.combiner == "and" if dtype.is_bool else identity(program.combiner, dtype), dtype)
    total = b.reg("total", VecType(dtype), first)
    with ExitStack() as stack:
        here = dict(at)
        for axis in program.reduce:
            here[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
        point = Point(here)
        if program.where is not None:
            stack.enter_context(b.when(place.expr(program.where, point)))
        b.set(total, binary(program.combiner, total.read(), place.expr(program.body, point)))
    return total

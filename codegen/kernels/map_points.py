"""What maps are made of: the coordinates of a row, the elements of a row, all results at a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import is_heavy, name_index
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, is_static
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read

UNROLL_VECTORS = 4
"""Vectors per step of the inner loop when the expression is cheap."""


@contextmanager
def at_row(b: LoopBuilder, outer: tuple[Axis, ...], row: DimLike) -> Iterator[dict[str, DimLike]]:
    """Coordinates of the outer axes at a flat row number, each named once."""
    at: dict[str, DimLike] = {}
    rest = row
    for axis in reversed(outer[1:]):
        at[axis.name] = name_index(b, rest % axis.extent, axis.name)
        rest = rest // axis.extent
    if outer:
        at[outer[0].name] = name_index(b, rest, outer[0].name)
    yield at


def emit_row(
    b: LoopBuilder,
    place: Placement,
    at: dict[str, DimLike],
    lane: Axis | None,
    start: DimLike,
    stop: DimLike,
    lanes: int,
) -> None:
    """Elements start..stop of one row: whole steps of several vectors, of one vector, a masked rest."""
    if lane is None or (is_static(stop) and is_static(start) and stop - start == 1):
        coordinates = at if lane is None else {**at, lane.name: start}
        emit_point(place, Point(coordinates))
        return
    vectors = 1 if is_heavy(place.spec) else UNROLL_VECTORS
    wide = start + (stop - start) // (lanes * vectors) * (lanes * vectors)
    whole = start + (stop - start) // lanes * lanes
    if vectors > 1:
        with b.loop(lane.name, start, wide, step=lanes * vectors) as i:
            for v in range(vectors):
                emit_point(place, Point({**at, lane.name: i + v * lanes}, lane.name, lanes))
    with b.loop(lane.name, wide if vectors > 1 else start, whole, step=lanes) as i:
        emit_point(place, Point({**at, lane.name: i}, lane.name, lanes))
    with b.when(Condition(stop, ">", whole)):
        emit_point(place, Point({**at, lane.name: whole}, lane.name, lanes, stop - whole))


def emit_point(place: Placement, point: Point, read: Callable[[Read], Expr | None] | None = None) -> None:
    """All results at one point; `read` is asked first for operands."""
    values = []
    for number, result in enumerate(place.spec.results):
        program = place.spec.program
        assert isinstance(program, Compute)
        e = result.expr if result.expr is not None else program.result_expr
        values.append((number, place.expr(e, point, read=read)))
    for number, value in values:
        place.store(number, point, value)

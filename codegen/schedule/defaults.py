"""A schedule for every computation: vectors along a contiguous axis, rows in registers, outer loops parallel.

This is the ground under the special generators: it needs no packing and knows no pattern, and is right
for any axes, combiner and dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.emit import expressions
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.compute import Axis, Compute
from aino_ir.dims import is_static
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Call, Expr, Read
from aino_ir.loops.expr_tree import walk
from aino_ir.target import Target

SPARE_REGISTERS = 4
"""Vector registers that are left for operands beside the tile."""

MOST_ROWS = 6
VECTORS = 2
"""Size of a tile with a reduction inside: rows, and vectors in a row."""


@dataclass(frozen=True)
class Tiling:
    """What a default schedule is made of.

    Attributes:
        lane: axis of the vectors, or None (scalar loops).
        row: axis of the tile's rows, or None.
        vectors, rows: size of the tile.
    """

    lane: Axis | None
    row: Axis | None
    vectors: int = 1
    rows: int = 1

    @property
    def positions(self) -> int:
        """Registers that the tile takes."""
        return self.vectors * self.rows


def default_schedule(spec: KernelSpec, target: Target, lanes: int) -> Schedule:
    """A good schedule of a spec's program.

    Args:
        spec: canonical (unit axes dropped, neighbours merged); its program is a `Compute`.
        target: how many registers there are.
        lanes: elements of a vector.
    """
    program = spec.program
    assert isinstance(program, Compute)
    tiling = default_tiling(spec, target, lanes)
    s = Schedule(program)
    inner: list[str] = []
    outer = [a.name for a in program.axes]
    if tiling.row is not None:
        place = outer.index(tiling.row.name)
        outer[place], row = s.split(tiling.row, tiling.rows)
        inner.append(row)
    if tiling.lane is not None and not _reduces(program, tiling.lane):
        place = outer.index(tiling.lane.name)
        block, lane = s.split(tiling.lane, lanes)
        if tiling.vectors > 1:
            block, vector = s.split(block, tiling.vectors)
            inner.append(vector)
        outer[place] = block
        s.reorder(*outer, *_reduction(s), *inner, lane)
        s.vectorize(lane)
    elif tiling.lane is not None:
        _, lane = s.split(tiling.lane, lanes)
        s.vectorize(lane)
    else:
        s.reorder(*outer, *_reduction(s), *inner)
    for name in inner:
        s.unroll(name)
    while len(outer) > 1:
        outer[:2] = [s.fuse(outer[0], outer[1])]
    if outer:
        s.parallel(outer[0])
    return s


def default_tiling(spec: KernelSpec, target: Target, lanes: int) -> Tiling:
    """Which axes the lanes and the rows run along, and how large the tile is."""
    program = spec.program
    assert isinstance(program, Compute)
    lane = _best_lane(spec, program.axes, lanes, least=0)
    if lane is None:
        return Tiling(_best_lane(spec, program.reduce, lanes, least=1), None)
    if not program.reduce or any(isinstance(n, Call) for n in walk(program.body)):
        return Tiling(lane, None)
    row = _best_row(program, lane)
    extent = int(lane.extent) if is_static(lane.extent) else 1 << 20  # type: ignore[arg-type]
    vectors = VECTORS if extent >= VECTORS * lanes else 1
    if row is None:
        return Tiling(lane, None, vectors)
    most = min(MOST_ROWS, (target.vector_registers - SPARE_REGISTERS) // vectors)
    rows = min(most, int(row.extent)) if is_static(row.extent) else most  # type: ignore[arg-type]
    return Tiling(lane, row, vectors, rows) if rows > 1 else Tiling(lane, None, vectors)


def _reduction(s: Schedule) -> list[str]:
    return [a.name for a in s.axes if a.reduces]


def _reduces(program: Compute, axis: Axis) -> bool:
    return axis in program.reduce


def _best_lane(spec: KernelSpec, axes: tuple[Axis, ...], lanes: int, least: int) -> Axis | None:
    """The axis along which most accesses are neighbours and none is gathered; the later one in a tie."""
    scored = [(_neighbours(spec, axis), axis) for axis in axes if _long_enough(axis, lanes)]
    best = max((score for score, _ in scored if score is not None), default=None)
    if best is None or best <= least:
        return None
    return next(axis for score, axis in reversed(scored) if score == best)


def _long_enough(axis: Axis, lanes: int) -> bool:
    return lanes > 1 and (not is_static(axis.extent) or int(axis.extent) >= max(2, lanes // 2))  # type: ignore[arg-type]


def _neighbours(spec: KernelSpec, axis: Axis) -> int | None:
    """Accesses with unit stride along an axis, less those with another; None where an index is computed."""
    score = 0
    for e in expressions(spec):
        for node in walk(e):
            if not isinstance(node, Read):
                continue
            if any(isinstance(c, Expr) for c in node.index):
                if axis.name in axes_of(node):
                    return None
                continue
            score += _score(spec.operands[node.operand].addr(node.index), axis)  # type: ignore[arg-type]
    for result in spec.results:
        score += _score(result.addr(result.index), axis)
    return score


def _score(address: object, axis: Axis) -> int:
    step = slope(address, axis.name)  # type: ignore[arg-type]
    return {0: 0, 1: 1}.get(step, -1) if isinstance(step, int) else -1


def _best_row(program: Compute, lane: Axis) -> Axis | None:
    """The longest other axis along which some operand that moves with the lanes stays."""
    reads = [n for n in walk(program.body) if isinstance(n, Read)]
    found = [
        a
        for a in program.axes
        if a is not lane and any(lane.name in axes_of(n) and a.name not in axes_of(n) for n in reads)
    ]
    return max(found, key=lambda a: int(a.extent) if is_static(a.extent) else 1 << 20, default=None)  # type: ignore[arg-type]

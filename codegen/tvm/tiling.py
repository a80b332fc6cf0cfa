"""Schedules for TVM: AINO's traces whose splits come out even wherever the extents let them.

TVM guards the iterations that an uneven split leaves over one by one, which costs a loop its vectors; so a
factor is a divisor of its extent if any is near, and a vector may have an odd number of lanes (LLVM cuts it
to what the machine has).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.kernels.roles import Roles
from aino_ir.codegen.kernels.tiles import step_cycles
from aino_ir.codegen.schedule.defaults import default_tiling
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike
from aino_ir.kernels import KernelSpec
from aino_ir.target import Target

VECTOR_CHOICES = (6, 5, 4, 3, 2, 1)
MOST_ROWS = 14

STREAMED = 24.0
"""Bytes that the second cache gives in a cycle."""

UNEVEN = 2.0
"""How much longer a step takes when rows are tested one by one."""


@dataclass(frozen=True)
class Tile:
    """A register tile.

    Attributes:
        row, lane: the axes of its rows and of its lanes, if it has any.
        rows, vectors, lanes: how many rows, how many vectors in a row, and lanes of a vector.
    """

    row: Axis | None
    lane: Axis | None
    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.vectors * self.lanes

    def __str__(self) -> str:
        return f"{self.rows}x{self.width}"


def contraction_tile(roles: Roles, target: Target, lanes: int) -> Tile:
    """The register tile of a sum of products that takes the fewest cycles by the model of `tiles`."""
    width = vector_width(_extent(roles.lane), lanes)
    each = -(-width // lanes)  # registers of one vector
    blocks = -(-_extent(roles.lane) // width)
    row_extent = _extent(roles.row)
    terms = prod(_extent(a) for a in roles.reduction if a.name in _lane_axes(roles))
    best, least = Tile(None, roles.lane, 1, 1, width), float("inf")
    for vectors in VECTOR_CHOICES:
        if blocks % vectors:
            continue
        registers = vectors * each
        most = min(MOST_ROWS, (target.vector_registers - registers - 1) // registers, row_extent)
        for rows in range(1, max(1, most) + 1):
            uneven = row_extent % rows
            if uneven and rows < most:
                continue
            cycles = step_cycles(rows, registers, float(rows + registers), 0.0)
            if terms * registers * target.vector_bytes > target.l1_bytes // 2:
                cycles = max(cycles, registers * target.vector_bytes / STREAMED)
            cycles /= rows * registers
            cycles *= UNEVEN if uneven else 1.0
            if cycles < least:
                least = cycles
                best = Tile(roles.row if rows > 1 else None, roles.lane, rows, vectors, width)
    return best


def contraction_schedule(roles: Roles, tile: Tile, target: Target) -> Schedule:
    """Outer loops over threads, the reduction around a tile of registers.

    What the lanes' factor does not depend on is walked through inside of its panels, so that each of them is
    read from memory once, unless the cache holds them all.
    """
    program = roles.spec.program
    assert isinstance(program, Compute) and tile.lane is not None
    s = Schedule(program)
    shared = _lane_axes(roles)
    outer = [a.name for a in program.axes if a not in (tile.lane, tile.row)]
    inner: list[str] = []
    rows = None
    if tile.row is not None:
        rows, row = s.split(tile.row, tile.rows)
        inner.append(row)
    block, lane = s.split(tile.lane, tile.lanes)
    if tile.vectors > 1:
        block, vector = s.split(block, tile.vectors)
        inner.append(vector)
    walked = [*outer, *([rows] if rows is not None else [])]
    if fits_cache(roles, target):
        tiles = [*walked, block]
    else:
        tiles = [*(n for n in walked if n in shared), block, *(n for n in walked if n not in shared)]
    order = [a.name for a in roles.reduction]
    s.reorder(*tiles, *order, *inner, lane)
    for name in inner:
        s.unroll(name)
    s.vectorize(lane)
    _parallel(s, tiles)
    return s


def _lane_axes(roles: Roles) -> frozenset[str]:
    """The axes that the factor of the lanes depends on."""
    return frozenset(axes_of(roles.factors[roles.lane_factor()]))


def fits_cache(roles: Roles, target: Target) -> bool:
    """Whether all that the lanes' factor holds stays in half of the second cache."""
    program = roles.spec.program
    assert isinstance(program, Compute)
    elements = prod(_extent(a) for a in (roles.lane, *program.reduce))
    return elements * program.body.dtype.bytes <= target.l2_bytes // 2


def plain_schedule(spec: KernelSpec, target: Target, lanes: int) -> tuple[Schedule, Tile]:
    """Vectors along the contiguous axis, the other loops over threads, a reduction inside."""
    program = spec.program
    assert isinstance(program, Compute)
    found = default_tiling(spec, target, lanes)
    lane = found.lane if found.lane in program.axes else None
    s = Schedule(program)
    outer = [a.name for a in program.axes]
    reduction = [a.name for a in program.reduce]
    if lane is None:
        s.reorder(*outer, *reduction)
        _parallel(s, outer)
        return s, Tile(None, None, 1, 1, 1)
    width = vector_width(_extent(lane), lanes)
    block, inner = s.split(lane, width)
    place = outer.index(lane.name)
    outer[place] = block
    s.reorder(*outer, *reduction, inner)
    s.vectorize(inner)
    _parallel(s, outer)
    return s, Tile(None, lane, 1, 1, width)


def _parallel(s: Schedule, loops: list[str]) -> None:
    """One loop over threads for all that are outside."""
    loops = list(loops)
    while len(loops) > 1:
        loops[:2] = [s.fuse(loops[0], loops[1])]
    if loops:
        s.parallel(loops[0])


def vector_width(extent: int, lanes: int) -> int:
    """Lanes of a vector along an axis: a divisor of its extent near the machine's number, if there is one."""
    if extent % lanes == 0 or extent <= 2 * lanes:
        return min(extent, lanes) if extent % lanes == 0 or lanes == 1 else extent
    best = max(f for f in range(1, 2 * lanes + 1) if extent % f == 0)
    return best if best * 2 >= lanes else lanes


def number(dim: DimLike) -> int:
    """An extent that is known to be one."""
    assert isinstance(dim, int), f"{dim} has symbols"
    return dim


def _extent(axis: Axis | None) -> int:
    return number(axis.extent) if axis is not None else 1

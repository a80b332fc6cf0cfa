"""Schedules for TVM: AINO's traces whose splits come out even.

TVM guards the iterations that an uneven split leaves over one by one, which costs a loop its vectors.  So the
sums of a product are counted in whole tiles: rows that are too many read the last one again, lanes that are
too many the zeros at the end of a packed constant, and only what is written is tested.  Elsewhere a factor is
a divisor of its extent if any is near, and a vector may have an odd number of lanes (LLVM cuts it to what the
machine has).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.kernels.contract import panel_packings, plain_use
from aino_ir.codegen.kernels.emit import result_size
from aino_ir.codegen.kernels.roles import Roles
from aino_ir.codegen.kernels.tiles import step_cycles
from aino_ir.codegen.schedule.defaults import default_tiling
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Read
from aino_ir.loops.expr_tree import walk
from aino_ir.target import Target

VECTOR_CHOICES = (6, 5, 4, 3, 2, 1)
MOST_ROWS = 14

WORKSPACE = 1024
"""Bytes from which on TVM takes memory from its runtime: sums that lie there are written at each step."""

STREAMED = 24.0
"""Bytes that the second cache gives in a cycle."""

GUARDED = 8.0
"""How much longer a step takes when lanes are tested one by one: it has no vectors."""

POINTERS = 8
"""Rows that have a pointer of their own in a register; the others' are fetched at every step."""

TILE_CYCLES = 10.0
"""What a tile takes beside its steps."""


@dataclass(frozen=True)
class Tile:
    """A register tile.

    Attributes:
        row, lane: the axes of its rows and of its lanes, if it has any.
        rows, vectors, lanes: how many rows, how many vectors in a row, and lanes of a vector.
        whole: names of the axes along which sums are counted in whole tiles.
        clamped: those of them where coordinates past the end stand for the last one; others read padding.
        cycles: of all sums and results at one point of the outer axes, modelled; 0 where nobody asks.
    """

    row: Axis | None
    lane: Axis | None
    rows: int
    vectors: int
    lanes: int
    whole: frozenset[str] = frozenset()
    clamped: frozenset[str] = frozenset()
    cycles: float = 0.0

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.vectors * self.lanes

    def counted(self, axis: Axis) -> Axis:
        """An axis as the sums are counted along it."""
        if axis.name not in self.whole:
            return axis
        step = self.rows if self.row is not None and axis.name == self.row.name else self.width
        return replace(axis, extent=-(-number(axis.extent) // step) * step)

    def __str__(self) -> str:
        return f"{self.rows}x{self.width}"


def contraction_tile(roles: Roles, target: Target, lanes: int) -> Tile:
    """The register tile of a sum of products that takes the fewest cycles."""
    return min(_tiles(roles, target, lanes), key=lambda tile: tile.cycles)


def _tiles(roles: Roles, target: Target, lanes: int) -> Iterator[Tile]:
    """Every tile that fits the registers, priced; the widest first, which wins a tie."""
    rows, columns = _extent(roles.row), _extent(roles.lane)
    padded_rows = roles.row is not None and lies_in_panels(roles, roles.row)
    padded_lanes = lies_in_panels(roles, roles.lane)
    widths = dict.fromkeys([vector_width(columns, lanes), *([lanes] if padded_lanes else [])])
    for width in widths:
        for vectors in VECTOR_CHOICES:
            registers = vectors * -(-width // lanes)
            if vectors > -(-columns // width) or registers + 2 > target.vector_registers:
                continue
            ragged = columns % (vectors * width) != 0
            if ragged and vectors > 1 and not padded_lanes:
                continue
            lane = {roles.lane.name} if ragged and padded_lanes else set()
            held = (WORKSPACE - 1) // (registers * target.vector_bytes)
            most = min(MOST_ROWS, (target.vector_registers - registers - 1) // registers, held, rows)
            for count in range(1, max(1, most) + 1):
                row = roles.row if count > 1 else None
                rest = {row.name} if row is not None and rows % count else set()
                whole, clamped = frozenset(lane | rest), frozenset(() if padded_rows else rest)
                tile = Tile(row, roles.lane, count, vectors, width, whole, clamped)
                yield replace(tile, cycles=_cycles(roles, tile, registers, target))


def _cycles(roles: Roles, tile: Tile, registers: int, target: Target) -> float:
    """Modelled cycles of a tile's sums and results, all terms, at one point of the outer axes."""
    rows, columns = _extent(roles.row), _extent(roles.lane)
    terms = prod(_extent(a) for a in roles.reduction)
    near = prod(_extent(a) for a in roles.reduction if a.name in _lane_axes(roles))
    fetched = max(0, tile.rows - POINTERS) if tile.clamped else 0
    step = step_cycles(tile.rows, registers, float(tile.rows + registers + fetched), 0.0)
    if near * registers * target.vector_bytes > target.l1_bytes // 2:
        step = max(step, registers * target.vector_bytes / STREAMED)
    ragged = columns % tile.width != 0
    if ragged and roles.lane.name not in tile.whole:
        step *= GUARDED
    tiles = -(-rows // tile.rows) * -(-columns // tile.width)
    found = tiles * (terms * step + TILE_CYCLES + 2.0 * tile.rows * registers)
    return found + (rows * columns * result_size(roles.spec) if ragged else 0.0)


def lies_in_panels(roles: Roles, axis: Axis) -> bool:
    """Whether all that moves with an axis is packed in panels along it: their ends are zeros."""
    packings = dict(panel_packings(roles, 1, 1))
    for factor in roles.factors:
        for read in (n for n in walk(factor) if isinstance(n, Read) and axis.name in axes_of(n)):
            use = plain_use(read, roles) if read.operand in packings else None
            if use is None:
                return False
            ((tiled, _),) = packings[read.operand].layout.tiles
            if use.axes.get(tiled) != axis.name:
                return False
    return True


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

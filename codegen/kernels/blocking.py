"""Cache blocking of contractions: how many rows, panels and reduction steps a unit walks at a time.

A unit keeps a chunk of the row factor in L2 and streams panels of the packed lane factor past it.
Where the reduction is so long that neither fits, it is cut (Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication", 2008): a slab of a panel then stays in L1 while all row
tiles of the chunk pass it, and partial sums wait in scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.kernels.roles import Roles, extent_or
from aino_ir.codegen.kernels.tiles import FMAS_PER_CYCLE, Tile
from aino_ir.dims import is_static
from aino_ir.loops.expr import Read
from aino_ir.loops.expr_tree import walk
from aino_ir.target import Target

SYMBOLIC_EXTENT = 128
"""What a symbolic extent is taken for in the model."""

FAR_BYTES = 12.0
"""Bytes a cycle that one core streams from beyond its L2."""

NEAR_BYTES = 24.0
"""Bytes a cycle of partial sums that move between registers and L2."""

STREAM_BYTES = 26.0
"""Bytes a cycle of a panel too long for L1 that registers get from L2."""

FEW_TILES = 8
"""Row tiles below which all rows of one outer point belong to one unit."""

UNITS_PER_CORE = 4
"""Units a core should get, so that threads share the work evenly."""

LINE_BYTES = 64
"""Bytes of a cache line: what a panel writes or reads less of than a line, its neighbours come back to."""


@dataclass(frozen=True)
class Blocking:
    """How a unit walks its part of the result.

    Attributes:
        chunk: row tiles (or outer points) of a unit.
        group: panels of a unit.
        depth: reduction steps between visits to the partial sums; 0 = all.
        cycles: modelled cycles lost to moving data.
        arrival: those of them in which data comes from beyond L2.
    """

    chunk: int
    group: int = 1
    depth: int = 0
    cycles: float = 0.0
    arrival: float = 0.0


def choose_blocking(
    roles: Roles, tile: Tile, lanes: int, target: Target, element_bytes: float = 4
) -> Blocking:
    """The better of whole and cut reductions, by the bytes they move; factors have so many each element."""
    whole = _whole(roles, tile, lanes, target, element_bytes)
    cut = _cut(roles, tile, lanes, target)
    return cut if cut is not None and cut.cycles < whole.cycles else whole


def walks_outer_points(roles: Roles, rows_of_tile: int) -> bool:
    """Whether a unit's chunk counts outer points (all rows of each) rather than row tiles."""
    if not roles.outer:
        return False
    if roles.row_guards or roles.row is None:
        return True
    return is_static(roles.row.extent) and int(roles.row.extent) <= FEW_TILES * rows_of_tile  # type: ignore[arg-type]


def _whole(roles: Roles, tile: Tile, lanes: int, target: Target, each: float) -> Blocking:
    """Every tile sums all steps in registers: a chunk's rows fill half of L2, lines it shares with them."""
    rows, columns, steps, outer = _extents(roles)
    row_bytes = max(1, int(each * steps) // _taps(roles)) + _shared_lines(roles, tile, lanes) * LINE_BYTES
    if walks_outer_points(roles, tile.rows):
        per_point, points, repeats = rows * row_bytes, outer, 1
    else:
        per_point, points, repeats = tile.rows * row_bytes, -(-rows // tile.rows), outer
    panels = -(-columns // (tile.vectors * lanes))
    fitting = max(1, target.l2_bytes // 2 // max(1, per_point))
    wanted = max(1, points * panels // (UNITS_PER_CORE * target.cores))
    chunk = balanced(points, max(1, min(fitting, points, wanted)))
    panel_bytes = each * steps * tile.vectors * lanes
    far = -(-points // chunk) * repeats * panels * panel_bytes  # a long panel streams on from L3 unseen
    step = tile.rows * tile.vectors / FMAS_PER_CYCLE
    late = max(0.0, each * tile.vectors * lanes / STREAM_BYTES - step)
    streamed = panel_bytes > target.l1_bytes * 3 // 4
    near = outer * -(-rows // tile.rows) * panels * steps * late if streamed else 0.0
    return Blocking(chunk, cycles=far / FAR_BYTES + near, arrival=far / FAR_BYTES)


def _shared_lines(roles: Roles, tile: Tile, lanes: int) -> int:
    """Cache lines of a row that the next panel comes back to, where panels are thin.

    A unit walks a panel down its whole chunk before the next begins; what both touch should still be near.
    """
    rows, columns, _, outer = _extents(roles)
    width = tile.vectors * lanes
    if columns <= width:
        return 0
    lines = int(roles.spec.results[0].dtype.bytes * width < LINE_BYTES)
    for node in (n for f in roles.factors for n in walk(f)):
        if not isinstance(node, Read) or roles.lane.name not in axes_of(node):
            continue
        operand = roles.spec.operands[node.operand]
        if not operand.constant and operand.dtype.bytes * width < LINE_BYTES:
            elements = prod(extent_or(d, SYMBOLIC_EXTENT) for d in operand.shape)
            lines += max(1, elements // max(1, rows * columns * outer))
    return lines


def _cut(roles: Roles, tile: Tile, lanes: int, target: Target) -> Blocking | None:
    """The reduction in blocks: a slab of a panel stays in L1, partial sums in L2; None where it cannot be."""
    rows, columns, steps, outer = _extents(roles)
    width = tile.vectors * lanes
    deepest = target.l1_bytes * 3 // 4 // (4 * width)
    plain = len(roles.loops) == 1 and not roles.clamped and not roles.unrolled and roles.row is not None
    if not plain or not _reads_plainly(roles):
        return None
    if not all(is_static(a.extent) for a in (roles.row, *roles.loops)):  # type: ignore[union-attr]
        return None
    if walks_outer_points(roles, tile.rows) or steps < 2 * deepest or rows < FEW_TILES * tile.rows:
        return None
    depth = balanced(steps, deepest, 4)
    tiles, panels = -(-rows // tile.rows), -(-columns // width)
    chunk = balanced(tiles, max(1, target.l2_bytes * 3 // 8 // (4 * depth * tile.rows)))
    chunks = -(-tiles // chunk)
    fitting = max(1, target.l2_bytes * 3 // 8 // (4 * chunk * tile.rows * width))
    wanted = panels * chunks * outer // (UNITS_PER_CORE * target.cores)
    group = balanced(panels, max(1, min(fitting, panels, wanted)))
    blocks = -(-steps // depth)
    far = 4.0 * steps * outer * (chunks * columns + -(-panels // group) * rows)
    near = 8.0 * rows * columns * outer * (blocks - 1)
    return Blocking(chunk, group, depth, far / FAR_BYTES + near / NEAR_BYTES, far / FAR_BYTES)


def balanced(total: int, most: int, multiple: int = 1) -> int:
    """The size of as few equal parts of `total` as are no longer than `most`, rounded up to a multiple.

    Of nothing it is `multiple`: a size is at least 1.
    """
    parts = max(1, -(-total // most))
    size = max(1, -(-total // parts))
    return -(-size // multiple) * multiple


def _reads_plainly(roles: Roles) -> bool:
    """Whether the factors are plain reads, the lane factor one that lies in panels: packed or staged."""
    if roles.staged is not None:
        return isinstance(roles.factors[1 - roles.staged], Read)
    lane = roles.factors[roles.lane_factor()]
    if not all(isinstance(f, Read) for f in roles.factors) or not isinstance(lane, Read):
        return False
    row = roles.row.name if roles.row is not None else ""
    return roles.spec.operands[lane.operand].constant and row not in axes_of(lane)


def rows_and_columns(roles: Roles) -> tuple[int, int]:
    """Extents of the results; assumed ones where a run decides."""
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    return rows, extent_or(roles.lane.extent, SYMBOLIC_EXTENT)


def _extents(roles: Roles) -> tuple[int, int, int, int]:
    """(rows, columns, reduction steps, outer points)."""
    rows, columns = rows_and_columns(roles)
    reduced = (*roles.clamped, *roles.unrolled, *roles.loops)
    steps = prod(extent_or(a.extent, SYMBOLIC_EXTENT) for a in reduced)
    outer = prod(extent_or(a.extent, SYMBOLIC_EXTENT) for a in roles.outer)
    return rows, columns, steps, outer


def _taps(roles: Roles) -> int:
    """Input elements are read once a tap: rows overlap, so taps do not multiply the footprint."""
    taps = 1
    for axis in (*roles.clamped, *roles.unrolled):
        taps *= extent_or(axis.extent, 1)
    return taps

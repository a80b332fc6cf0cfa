"""A factor of a contraction copied into panels by the kernel itself: packing of what changes every run.

A unit first writes the factor's values for its panel into scratch, [reduction step][lane], and then reads
vectors from there for all its rows.  Weights of a training step, transposed operands and gathers of lanes
that lie apart cost one pass over the panel then, instead of one for each row tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import prod

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import Blocking, walks_outer_points
from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.roles import Roles, extent_or
from aino_ir.codegen.kernels.tiles import Tile
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.compute import Axis
from aino_ir.dims import DimLike, dmin, is_static
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, Read, splat
from aino_ir.loops.expr_tree import walk
from aino_ir.target import Target

CONTIGUOUS_CYCLES = 0.4
"""Cycles an element whose lanes are contiguous where they lie."""

TURNED_CYCLES = 1.0
"""Cycles an element that is turned over in registers, a square block at a time."""

GATHERED_CYCLES = 2.5
"""Cycles an element that is fetched by itself."""


class Staging:
    """The panel of one factor in scratch.

    Args:
        b: the kernel under construction.
        place: reads operands.
        roles: with the number of the factor that is staged.
        width: lanes of a panel.
        lanes: of a vector.
        depth: reduction steps that it holds, 0 = all.
    """

    def __init__(
        self, b: LoopBuilder, place: Placement, roles: Roles, width: int, lanes: int, depth: int
    ) -> None:
        assert roles.staged is not None
        self.b = b
        self.place = place
        self.roles = roles
        self.width = width
        self.lanes = lanes
        self.factor = roles.factors[roles.staged]
        self.depth = depth
        dtype = self.factor.dtype
        steps = depth or _steps(roles)
        self.buffer = b.alloc("staged", dtype, steps * width)
        self.first: DimLike = 0

    @property
    def moves(self) -> bool:
        """Whether the panel depends on where the unit stands among the outer axes."""
        return bool({a.name for a in self.roles.outer} & axes_of(self.factor))

    def load(self, at: Mapping[str, DimLike], vector: int) -> Expr:
        """Lanes of the panel at a reduction step."""
        return self.b.load(self.buffer, self._offset(at, vector), self.lanes)

    def fill(
        self,
        at: Mapping[str, DimLike],
        start: DimLike,
        counts: Sequence[DimLike | None],
        first: DimLike = 0,
    ) -> None:
        """Write the panel whose lanes start at `start`.

        Args:
            at: where the unit stands among the outer axes.
            start: coordinate of the first lane.
            counts: valid lanes of each vector; None = all.
            first: the first step of the panel, where the only reduction loop is cut.
        """
        self.first = first
        axes = sorted(self.roles.reduction, key=self._slope, reverse=True)
        turned = self._turns(axes) and all(c is None for c in counts)
        with ExitStack() as stack:
            here = dict(at)
            for axis in axes[:-1]:
                here[axis.name] = stack.enter_context(self.b.loop(axis.name, 0, axis.extent))
            axis = axes[-1]
            count: DimLike = axis.extent
            if self.depth:
                count = dmin(self.depth, count - first)
            whole: DimLike = 0
            if turned:
                whole = count // self.lanes * self.lanes
                with self.b.loop(axis.name, 0, whole, step=self.lanes) as k:
                    self._turn({**here, axis.name: first + k}, axis.name, start, len(counts))
            with self.b.loop(axis.name, whole, count) as k:
                self._copy({**here, axis.name: first + k}, start, counts)

    def _copy(self, at: Mapping[str, DimLike], start: DimLike, counts: Sequence[DimLike | None]) -> None:
        """One reduction step, vector by vector."""
        lane = self.roles.lane.name
        for j, count in enumerate(counts):
            point = Point({**at, lane: start + j * self.lanes}, lane, self.lanes, count)
            value = splat(self.place.expr(self.factor, point), self.lanes)
            self.b.store(self.buffer, self._offset(at, j), value)

    def _turn(self, at: Mapping[str, DimLike], axis: str, start: DimLike, vectors: int) -> None:
        """As many steps as a vector has lanes: read along the reduction, turned over, written along lanes."""
        lane, lanes = self.roles.lane.name, self.lanes
        for j in range(vectors):
            points = [Point({**at, lane: start + j * lanes + i}, axis, lanes) for i in range(lanes)]
            rows = [splat(self.place.expr(self.factor, p), lanes) for p in points]
            for i, row in enumerate(transposed(self.b, rows)):
                self.b.store(self.buffer, self._offset({**at, axis: at[axis] + i}, j), row)

    def _offset(self, at: Mapping[str, DimLike], vector: int) -> DimLike:
        position: DimLike = 0
        for axis in self.roles.reduction:
            position = position * axis.extent + at[axis.name]
        return (position - self.first) * self.width + vector * self.lanes

    def _slope(self, axis: Axis) -> int:
        return abs(slope_along(self.roles, axis.name))

    def _turns(self, axes: Sequence[Axis]) -> bool:
        lanes = self.lanes
        return bool(axes) and lanes > 1 and lanes & (lanes - 1) == 0 and turns(self.roles, axes[-1], lanes)


def _steps(roles: Roles) -> int:
    return prod([extent_or(a.extent, 1) for a in roles.reduction])


def slope_along(roles: Roles, name: str) -> int:
    """Elements from one coordinate of an axis to the next in the staged factor's first operand."""
    assert roles.staged is not None
    read = next(n for n in walk(roles.factors[roles.staged]) if isinstance(n, Read))
    step = slope(roles.spec.operands[read.operand].addr(read.index), name)  # type: ignore[arg-type]
    return int(step) if isinstance(step, int) else 0


def turns(roles: Roles, axis: Axis, lanes: int) -> bool:
    """Whether square blocks along a reduction axis and the lanes are read contiguously along the axis."""
    if slope_along(roles, roles.lane.name) == 1 or slope_along(roles, axis.name) != 1:
        return False
    return is_static(axis.extent) and int(axis.extent) >= lanes  # type: ignore[arg-type]


def staging_cycles(roles: Roles, tile: Tile, lanes: int, blocking: Blocking) -> float:
    """Modelled cycles of all copying into panels."""
    assert roles.staged is not None
    width = tile.vectors * lanes
    outer = prod(extent_or(a.extent, 128) for a in roles.outer)
    moving = bool({a.name for a in roles.outer} & roles.factor_axes[roles.staged])
    if walks_outer_points(roles, tile.rows):
        visits = outer if moving else -(-outer // blocking.chunk)
    else:
        rows = extent_or(roles.row.extent, 128) if roles.row is not None else 1
        visits = outer * -(-rows // (tile.rows * blocking.chunk))
    panels = -(-extent_or(roles.lane.extent, 128) // width)
    steps = prod(extent_or(a.extent, 128) for a in roles.reduction)
    return visits * panels * width * steps * _element_cycles(roles, lanes)


def _element_cycles(roles: Roles, lanes: int) -> float:
    if slope_along(roles, roles.lane.name) == 1:
        return CONTIGUOUS_CYCLES
    return TURNED_CYCLES if any(turns(roles, a, lanes) for a in roles.reduction) else GATHERED_CYCLES


def staged_bytes(roles: Roles, tile: Tile, lanes: int, blocking: Blocking) -> int:
    """Scratch that the panel takes."""
    steps = blocking.depth or prod(extent_or(a.extent, 128) for a in roles.reduction)
    return steps * tile.vectors * lanes * roles.factors[0].dtype.bytes


def fits(roles: Roles, tile: Tile, lanes: int, blocking: Blocking, target: Target) -> bool:
    """Whether the panel stays in the second level of cache, beside rows and results."""
    return staged_bytes(roles, tile, lanes, blocking) <= target.l2_bytes * 3 // 4

"""Convolutions with a sparse kernel of several taps: what they are made of, and what pixels in lanes cost.

An input of such a product is one tap of one channel.  Pixels come to lie in scratch memory so that every
tap is the same picture from another offset: rows of a few vectors, one copy for each residue of rows and
columns modulo the strides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aino_ir.codegen.kernels.canonical import drop_unit_axes, slope
from aino_ir.codegen.kernels.sparse_costs import (
    NEAR_SHARE,
    TURN_CYCLES,
    candidate,
    lane_cycles,
    parts_for,
)
from aino_ir.codegen.kernels.sparse_roles import SparseProduct, factors_of, unfit, weight_axes
from aino_ir.codegen.kernels.streams import Array, Stream
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.kernels import Candidate, KernelSpec
from aino_ir.loops.expr import Const, Expr, Read
from aino_ir.target import Target

LEAST_VECTORS, MOST_VECTORS = 4, 14
"""Vectors of pixels of a block: sums wait for each other where they are fewer, registers end."""

COPY_VECTOR, COPY_TESTED = 6.0, 22.0
"""Cycles of a vector of pixels that is copied, and of one whose columns may lie outside."""

MASKED_WRITE = 12.0
"""Cycles of a vector of results of which some lanes are left out."""


@dataclass(frozen=True)
class Spatial:
    """One spatial axis: x is read at ``at * stride + tap * dilation - before``.

    Attributes:
        at: the axis of the results, or None where there is one.
        tap: the axis of the kernel, or None where it has one tap.
    """

    at: Axis | None = None
    tap: Axis | None = None
    stride: int = 1
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Results along it."""
        return int(self.at.extent) if self.at is not None else 1  # type: ignore[arg-type]

    @property
    def taps(self) -> int:
        """Taps along it."""
        return int(self.tap.extent) if self.tap is not None else 1  # type: ignore[arg-type]

    @property
    def plain(self) -> bool:
        """Whether results lie where they are read."""
        return self.tap is None and self.stride == 1

    def fits(self, size: int) -> bool:
        """Whether blocks of so many need no test of bounds, which plain axes do not have, or get one."""
        return not self.plain or self.extent % size == 0

    @property
    def phases(self) -> int:
        """Residues of coordinates that taps meet, 0 to one less."""
        return min(self.stride, self.taps)

    @property
    def pace(self) -> int:
        """Steps within a residue from one of its taps to the next."""
        return self.dilation if self.stride == 1 else 1

    @property
    def reach(self) -> int:
        """Steps within a residue from the first tap to the last."""
        return (self.taps - 1) // self.stride * self.pace

    def taps_of(self, phase: int) -> int:
        """How many taps have a residue."""
        return len(range(phase, self.taps, self.stride))


@dataclass(frozen=True)
class WindowRoles(SparseProduct):
    """A convolution with a sparse kernel.

    Attributes:
        channel: the axis of input channels, or None where there is one.
        vertical, horizontal: the spatial axes; lanes run along the second.
    """

    channel: Axis | None
    vertical: Spatial
    horizontal: Spatial

    @property
    def channels(self) -> int:
        """Input channels."""
        return int(self.channel.extent) if self.channel is not None else 1  # type: ignore[arg-type]

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.vertical.taps * self.horizontal.taps

    @property
    def turned(self) -> bool:
        """Whether channels lie in order, not pixels."""
        assert self.horizontal.at is not None
        in_order = self.x_slope(self.horizontal.at) == self.horizontal.stride
        return self.channel is not None and not in_order and self.x_slope(self.channel) == 1


@dataclass(frozen=True)
class Picture:
    """How the pixels of a block lie for one channel: [phase of rows][phase of columns][rows][columns].

    Attributes:
        vertical, horizontal: the spatial axes.
        rows, columns: of a block of results, columns in vectors.
        lanes: of a vector.
        channels: of a chunk.
    """

    vertical: Spatial
    horizontal: Spatial
    rows: int
    columns: int
    lanes: int
    channels: int

    @property
    def height(self) -> int:
        """Rows of a phase."""
        return self.rows + self.vertical.reach

    @property
    def pitch(self) -> int:
        """Elements from row to row: whole vectors."""
        return (self.columns + math.ceil(self.horizontal.reach / self.lanes)) * self.lanes

    @property
    def size(self) -> int:
        """Elements of a channel."""
        return self.vertical.phases * self.horizontal.phases * self.height * self.pitch

    def phase(self, down: int, across: int) -> int:
        """Where the pixels of two residues start."""
        return (down * self.horizontal.phases + across) * self.height * self.pitch

    def tap(self, down: int, across: int) -> int:
        """Where the pixels that a tap meets start."""
        v, h = self.vertical, self.horizontal
        start = self.phase(down % v.stride, across % h.stride)
        return start + down // v.stride * v.pace * self.pitch + across // h.stride * h.pace

    @property
    def last(self) -> int:
        """The last start of any tap of any channel."""
        v, h = self.vertical, self.horizontal
        taps = [self.tap(down, across) for down in range(v.taps) for across in range(h.taps)]
        return (self.channels - 1) * self.size + max(taps)

    def of(self, inputs: Array) -> Array:
        """Where the pixels of inputs (channel, then tap) start, chunk by chunk."""
        v, h = self.vertical, self.horizontal
        taps = [self.tap(down, across) for down in range(v.taps) for across in range(h.taps)]
        channel, tap = inputs // len(taps), inputs % len(taps)
        starts: Array = channel % self.channels * self.size + np.asarray(taps)[tap]
        return starts


def analyse_windows(spec: KernelSpec) -> WindowRoles | str:
    """The roles of a convolution with a sparse kernel of several taps, or why a spec is none."""
    reason = unfit(spec)
    if reason is not None:
        return reason
    spec = drop_unit_axes(spec)
    program = spec.program
    assert isinstance(program, Compute)
    factors = factors_of(spec)
    if isinstance(factors, str):
        return factors
    weight, x = factors
    found = weight_axes(spec, program, weight)
    if isinstance(found, str):
        return found
    output, names = found
    placed = _spatial(program, x, output)
    if isinstance(placed, str):
        return placed
    channel, vertical, horizontal = placed
    if vertical.plain and horizontal.plain:
        return "a single tap at every pixel"
    reduced = [a for a in (channel, vertical.tap, horizontal.tap) if a is not None]
    if {a.name for a in reduced} != {a.name for a in program.reduce}:
        return "it sums over more than channels and taps"
    zeros = spec.operands[weight.operand].zeros
    assert zeros is not None
    axes = (names[output.name], *(names[a.name] for a in reduced))
    inside = {a.name for a in (output, vertical.at, horizontal.at) if a is not None}
    outer = tuple(a for a in program.axes if a.name not in inside)
    return WindowRoles(spec, weight.operand, zeros, axes, x, output, outer, channel, vertical, horizontal)


def _spatial(program: Compute, x: Expr, output: Axis) -> tuple[Axis | None, Spatial, Spatial] | str:
    """(channels, vertical, horizontal) by the coordinates at which x is read."""
    if not isinstance(x, Read) or any(isinstance(c, Expr) for c in x.index):
        return "the other factor is computed"
    if x.default is not None and not (isinstance(x.default, Const) and x.default.value == 0):
        return "what lies outside is not zero"
    channel: Axis | None = None
    spatial: list[Spatial] = []
    for c in x.index:
        assert not isinstance(c, Expr)
        at, tap = _mentioned(c, program.axes), _mentioned(c, program.reduce)
        if len(at) > 1 or len(tap) > 1 or output in at:
            return "a coordinate depends on several axes"
        if not at and not tap:
            continue
        if not at and isinstance(c, Dim) and c.as_symbol() == tap[0].name and channel is None:
            channel = tap[0]
            continue
        made = _axis_of(c, at, tap)
        if isinstance(made, str):
            return made
        spatial.append(made)
    plane = spatial[-2:]
    if not plane or plane[-1].at is None or not all(s.plain for s in spatial[:-2]):
        return "no plane of pixels"
    return channel, plane[0] if len(plane) == 2 else Spatial(), plane[-1]


def _mentioned(c: DimLike, axes: tuple[Axis, ...]) -> list[Axis]:
    names = c.free_symbols() if isinstance(c, Dim) else frozenset()
    return [a for a in axes if a.name in names]


def _axis_of(c: DimLike, at: list[Axis], tap: list[Axis]) -> Spatial | str:
    stride = slope(c, at[0].name) if at else 1
    dilation = slope(c, tap[0].name) if tap else 1
    if not isinstance(stride, int) or not isinstance(dilation, int) or stride < 1 or dilation < 1:
        return "a coordinate is not linear"
    if not all(is_static(a.extent) for a in (*at, *tap)):
        return "extents that the run decides"
    if dilation > 1 and (stride > 1 or not at):
        return "taps with gaps at every other pixel"
    return Spatial(at[0] if at else None, tap[0] if tap else None, stride, dilation)


def window_candidates(roles: WindowRoles, lanes: int, target: Target) -> Iterator[Candidate]:
    """Blocks of a few rows of a few vectors of pixels."""
    wide = math.ceil(roles.horizontal.extent / lanes)
    for columns in range(1, min(wide, MOST_VECTORS) + 1):
        if columns > 1 and math.ceil(wide / columns) == math.ceil(wide / (columns - 1)):
            continue  # as many blocks as with fewer columns
        for rows in range(1, roles.vertical.extent + 1):
            if rows * columns > MOST_VECTORS:
                break
            most = roles.vertical.extent * wide
            fits = roles.vertical.fits(rows) and roles.horizontal.fits(columns * lanes)
            if fits and rows * columns >= min(LEAST_VECTORS, most):
                yield _candidate(roles, rows, columns, lanes, target)


def _candidate(roles: WindowRoles, rows: int, columns: int, lanes: int, target: Target) -> Candidate:
    whole = Picture(roles.vertical, roles.horizontal, rows, columns, lanes, roles.channels)
    near = max(1, int(NEAR_SHARE * target.l1_bytes) // (whole.size * roles.element))
    chunks = math.ceil(roles.channels / near)
    channels = math.ceil(roles.channels / chunks)
    if roles.turned and chunks > 1:
        channels = math.ceil(channels / lanes) * lanes
    picture = Picture(roles.vertical, roles.horizontal, rows, columns, lanes, channels)
    chunk = channels * roles.taps if channels < roles.channels else 0
    stream = Stream(roles.zeros, roles.axes, 1, chunk)
    vectors = rows * columns
    down = math.ceil(roles.vertical.extent / rows)
    across = math.ceil(roles.horizontal.extent / lanes / columns)
    blocks = down * across * roles.times
    parts = parts_for(blocks, max(1, stream.outputs // (16 * lanes)))
    copied = TURN_CYCLES * lanes if roles.turned else COPY_VECTOR if across == 1 else COPY_TESTED
    cycles = parts * roles.channels * (picture.size / lanes) * copied
    cycles += lane_cycles(roles, stream, vectors, channels * picture.size * roles.element, target)
    assert roles.horizontal.at is not None
    if roles.result_slope(roles.horizontal.at) != 1:
        write = TURN_CYCLES * lanes * vectors
    else:
        write = MASKED_WRITE * rows if roles.horizontal.extent % lanes else 0.0
    cycles += stream.outputs * (3 * vectors + write)
    name = f"nonzeros {stream.count}, {rows}x{columns * lanes} pixels"
    params: dict[str, object] = {
        "lanes_along": "pixels",
        "lanes": lanes,
        "rows": rows,
        "vectors": vectors,
        "parts": parts,
    }
    name += f", {stream.chunks} chunks" if stream.chunks > 1 else ""
    return candidate(roles, stream, name, blocks * cycles, params, picture)

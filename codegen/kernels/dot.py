"""Contractions of 8-bit integers with constant weights: four products a lane and instruction.

The weights are packed so that a vector holds, for each lane (an output channel), four neighbours along
the reduction; four bytes of the activation are repeated over all lanes.  What adds them up is the loop
language's `Dot`; each instruction set spells it with what it has, always exactly:

- where the weights are known to lie within -64..64, two products with u8 fit 16 bits, and the instruction
  that adds pairs with saturation cannot saturate (2 * 64 * 255 = 32640 < 2^15);
- else products are formed from bytes that were widened to 16 bits;
- where the target has an instruction that adds four products of bytes in 32 bits, it needs no proof.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import SYMBOLIC_EXTENT, Blocking, choose_blocking
from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.contract import CLOCK, CODE_BUDGET, code_size
from aino_ir.codegen.kernels.contract_loops import UNROLL_STEPS, ContractLoops, Shape
from aino_ir.codegen.kernels.emit import emit_checks, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import Roles, analyse, extent_or, is_plain
from aino_ir.codegen.kernels.tiles import LOADS_PER_CYCLE, Tile, legal_tiles, split_tiles
from aino_ir.compute import Axis
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i8, i32, u8
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import DOT, Cast, Const, Expr, Read, Shuffle, VecType, const, dot
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target
from aino_ir.types import Layout

BEST = 4
"""Candidates that are offered: the best by the model."""

LEAST_CYCLES = 2.0
"""Cycles of the shortest step: a sum waits for the one before it."""


@dataclass(frozen=True)
class Parts:
    """The factors of a contraction of bytes.

    Attributes:
        roles: with the axis of the quartets as the innermost loop.
        x: the activation, read along that axis at unit stride.
        w: the constant weights, which vary with the lanes.
        axis: the reduction axis that is taken four at a time.
        narrow: whether two products fit 16 bits.
    """

    roles: Roles
    x: Read
    w: Read
    axis: Axis
    narrow: bool


def parts_of(spec: KernelSpec) -> Parts | str:
    """The factors of a spec, or why it is no contraction of bytes that quartets can do."""
    roles = analyse(spec)
    if isinstance(roles, str):
        return roles
    reads = [f.x for f in roles.factors if isinstance(f, Cast) and isinstance(f.x, Read)]
    if len(reads) != 2 or roles.factors[0].dtype is not i32:
        return "the factors are no 8-bit integers that are summed in 32 bits"
    reads.sort(key=lambda r: roles.lane.name in axes_of(r))
    x, w = reads
    row = roles.row.name if roles.row is not None else ""
    given, weights = roles.spec.operands[x.operand], roles.spec.operands[w.operand]
    if roles.lane.name in axes_of(x):
        return "both factors vary along the lanes"
    if given.dtype not in (i8, u8) or weights.dtype is not i8:
        return "no product of bytes with i8 weights"
    if not weights.constant or not is_plain(w) or w.default is not None or row in axes_of(w):
        return "the weights are no constants that can be packed"
    if any(isinstance(c, Expr) for c in x.index):
        return "data decides which elements are read"
    address = given.addr(x.index)  # type: ignore[arg-type]
    fitting = [a for a in roles.loops if slope(address, a.name) == 1 and a.name in axes_of(w)]
    if not fitting or not is_static(fitting[-1].extent):
        return "the activation is not contiguous along the reduction"
    axis = fitting[-1]
    loops = (*(a for a in roles.loops if a is not axis), axis)
    narrow = weights.narrow and given.dtype is u8
    return Parts(replace(roles, loops=loops), x, w, axis, narrow)


class DotGenerator:
    """Sums of products of bytes, four a lane.

    Args:
        most: candidates that are offered.
    """

    name = "dot"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The best register tiles by the model, each with the packing of the weights."""
        parts = parts_of(spec)
        if isinstance(parts, str):
            yield Reject(self.name, parts)
            return
        lanes = vector_lanes(spec, target)
        roles = parts.roles
        rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
        columns = extent_or(roles.lane.extent, SYMBOLIC_EXTENT)
        tiles = [
            t
            for t in legal_tiles(target, rows, -(-columns // lanes))
            if t.rows * t.vectors + (1 if parts.narrow else 2) * t.vectors + 3 <= target.vector_registers
        ]
        tiles.sort(key=lambda t: code_size(roles, t))
        small = [t for t in tiles if code_size(roles, t) <= CODE_BUDGET * DOT] or tiles[:1]
        found = [_candidate(parts, t, lanes, target) for t in small]
        yield from sorted(found, key=lambda c: c.cost)[: self.most]

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        parts = parts_of(spec)
        assert isinstance(parts, Parts)
        params = dict(candidate.params)
        spec_ = parts.roles.spec
        packed = {
            i: replace(spec_.operands[i], layout=p.layout, allocated=None) for i, p in candidate.packings
        }
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec_, packed)
        emit_checks(place)
        blocking = Blocking(params["chunk"], params["group"], 0)
        shape = Shape(Tile(params["rows"], params["vectors"]), params["lanes"], blocking)
        DotLoops(b, place, parts, shape).emit()
        return b.finish(header(spec, candidate))


def _candidate(parts: Parts, tile: Tile, lanes: int, target: Target) -> Candidate:
    roles = parts.roles
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    columns = extent_or(roles.lane.extent, SYMBOLIC_EXTENT)
    steps, outer = 1, 1
    for axis in (*roles.clamped, *roles.unrolled, *roles.loops):
        extent = extent_or(axis.extent, SYMBOLIC_EXTENT)
        steps *= -(-extent // DOT) if axis is parts.axis else extent
    for axis in roles.outer:
        outer *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    cycles = 0.0
    for tile_rows, row_count in split_tiles(rows, tile.rows):
        for vectors, count in split_tiles(-(-columns // lanes), tile.vectors):
            per_tile = step_cycles(tile_rows, vectors, parts.narrow, target) * steps
            cycles += row_count * count * (per_tile + 10 + 2.0 * tile_rows * vectors)
    blocking = choose_blocking(roles, tile, lanes, target, element_bytes=1)
    proof = "pairs of products fit 16 bits" if parts.narrow else "products widened to 16 bits"
    if target.multiplies_bytes:
        proof = "products added in 32 bits"
    return Candidate(
        "dot",
        f"bytes, tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}, {proof}",
        (
            ("rows", tile.rows),
            ("vectors", tile.vectors),
            ("lanes", lanes),
            ("chunk", blocking.chunk),
            ("group", blocking.group),
        ),
        ((parts.w.operand, Packing(_panel_layout(parts, tile.vectors * lanes))),),
        cost=(outer * cycles + blocking.cycles) / CLOCK,
        error_class="exact",
    )


def step_cycles(rows: int, vectors: int, narrow: bool, target: Target) -> float:
    """Cycles of one step of four products: multiplications, other vector operations, loads, latency."""
    products = rows * vectors
    ports = 2.0 if target.vector_bytes >= 64 else 3.0
    operations = 3.0 * products if narrow else 4.0 * products + 2.0 * rows + 3.0 * vectors
    multiplications = 2.0 * products
    if target.multiplies_bytes:
        operations = multiplications = float(products)
    return max(
        multiplications / 2.0,
        operations / ports,
        (rows + vectors) / LOADS_PER_CYCLE,
        LEAST_CYCLES,
    )


def _panel_layout(parts: Parts, width: int) -> Layout:
    """[panel][other axes, reductions in loop order][quartet][channel of the panel][byte of the quartet]."""
    roles, w = parts.roles, parts.w
    order = [a.name for a in (*roles.clamped, *roles.unrolled, *roles.loops)]
    names = {a: str(c) for a, c in enumerate(w.index) if not is_static(c)}  # type: ignore[arg-type]
    lane = next(a for a, n in names.items() if n == roles.lane.name)
    byte = next(a for a, n in names.items() if n == parts.axis.name)
    others = [a for a in range(len(w.index)) if a not in (lane, byte)]
    others.sort(key=lambda a: (order.index(names[a]) + 1 if names.get(a) in order else 0, a))
    outer = ((lane, "o"), *((a, None) for a in others), (byte, "o"))
    return Layout((*outer, (lane, "i"), (byte, "i")), ((lane, width), (byte, DOT)))


class DotLoops(ContractLoops):
    """Emits one contraction of bytes."""

    def __init__(self, b: LoopBuilder, place: Placement, parts: Parts, shape: Shape) -> None:
        super().__init__(b, place, parts.roles, shape)
        self.parts = parts

    def _loops(
        self, loops: list[Axis], at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        if len(loops) > 1:
            super()._loops(loops, at, points, acc)
            return
        (axis,) = loops
        extent = int(axis.extent)  # type: ignore[arg-type]
        whole = extent - extent % DOT
        if whole <= UNROLL_STEPS * DOT:
            for start in range(0, whole, DOT):
                self._quartets({**at, axis.name: start}, points, acc)
        else:
            with self.b.loop(axis.name, 0, whole, step=DOT, unroll=2) as k:
                self._quartets({**at, axis.name: k}, points, acc)
        if extent % DOT:
            self._quartets({**at, axis.name: whole}, points, acc, extent % DOT)

    def _quartets(
        self,
        at: dict[str, DimLike],
        points: list[list[Point]],
        acc: RegTile,
        count: int | None = None,
    ) -> None:
        """One step of four products a lane (`count` of them, the rest zero) at every point of the tile."""
        for i, row in enumerate(points):
            x = self._activation({**at, **row[0].at}, count)
            if x is None:
                continue
            for j, point in enumerate(row):
                w = self._weights({**at, **point.at})
                self.b.set(acc[i, j], dot(acc[i, j].read(), x, w, self.parts.narrow))

    def _activation(self, at: dict[str, DimLike], count: int | None) -> Expr | None:
        """Four bytes repeated over all lanes; None where they are zero."""
        lanes = self.shape.lanes
        x = self.place.load(self.parts.x, Point(at, self.parts.axis.name, DOT, count))
        if isinstance(x, Const):
            return None if x.value == 0 else const(x.value, x.dtype, DOT * lanes)
        pattern = tuple(range(DOT)) * lanes
        return self.b.let(Shuffle(x, x, pattern, VecType(x.dtype, DOT * lanes)), "x")

    def _weights(self, at: dict[str, DimLike]) -> Expr:
        """The quartets of one vector of channels; beyond the last channel the packing holds zeros."""
        read = self.parts.w
        operand = self.place.operands[read.operand]
        coordinates = tuple(Point(at).shifted(c) for c in read.index)  # type: ignore[arg-type]
        address = operand.addr(coordinates)
        return self.b.load(self.place.buffers[read.operand], address, DOT * self.shape.lanes)

"""Contractions of bytes and of bf16 with constant weights: four or two products a lane and instruction.

The weights are packed so that a vector holds, for each lane (an output channel), four neighbours along
the reduction; four bytes of the activation are repeated over all lanes.  What adds them up is the loop
language's `Dot`; each instruction set spells it with what it has, always exactly.  Where the target has an
instruction that adds four products of bytes in 32 bits, that needs no proof; else products are formed from
bytes that were widened to 16 bits.

Where the weights are small enough that sums of two products with u8 fit 16 bits (`aino_ir.short_sums`), the
pairs of a step are formed by one instruction (`DotPairs`), and those of as many steps as fit are added up
before they are widened (`AddPairs`).

Two bf16 share a lane in the same way (`DotHalves`); products are exact in f32, in which they add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import SYMBOLIC_EXTENT, choose_blocking, rows_and_columns
from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.contract import CLOCK, CODE_BUDGET, code_size
from aino_ir.codegen.kernels.contract_loops import UNROLL_STEPS, ContractLoops, Shape
from aino_ir.codegen.kernels.emit import vector_lanes
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.roles import Roles, analyse, extent_or, is_plain
from aino_ir.codegen.kernels.tiled import BEST, begin_kernel, cheapest, tile_params, tile_shape
from aino_ir.codegen.kernels.tiles import (
    FMA_LATENCY,
    FMAS_PER_CYCLE,
    LOADS_PER_CYCLE,
    Tile,
    legal_tiles,
    split_tiles,
)
from aino_ir.compute import Axis
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import bf16, i8, i32, u8
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.dot_expr import DOT, add_pairs, dot, dot_halves, dot_pairs
from aino_ir.loops.expr import Cast, Const, Expr, Read, Shuffle, VecType, const
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.short_sums import DEPTHS
from aino_ir.target import Target
from aino_ir.types import Layout

INSTRUCTIONS_PER_CYCLE = 4.0
"""What is begun in a cycle, loads included."""

LEAST_CYCLES = 2.0
"""Cycles of the shortest step: a sum waits for the one before it."""

HALVES = 2
"""Neighbours that a lane of bf16 has."""

HALF_LATENCY = 6.0
"""Cycles of the instruction that adds two products of bf16; two multiply-adds take longer."""


@dataclass(frozen=True)
class Parts:
    """The factors of a contraction of bytes, or of bf16.

    Attributes:
        roles: with the axis of the neighbours as the innermost loop.
        x: the activation, read along that axis at unit stride.
        w: the constant weights, which vary with the lanes.
        axis: the reduction axis that is taken several at a time.
        each: neighbours along it that share a lane.
        depth: steps whose pairs of products add up in 16 bits, 0 where not even one does.
    """

    roles: Roles
    x: Read
    w: Read
    axis: Axis
    each: int
    depth: int

    @property
    def halves(self) -> bool:
        """Whether it is one of bf16."""
        return self.each == HALVES


def parts_of(spec: KernelSpec) -> Parts | str:
    """The factors of a spec, or why it is no contraction of bytes or bf16 that share lanes."""
    roles = analyse(spec)
    if isinstance(roles, str):
        return roles
    reads, each = neighbours(roles)
    if not each:
        return "the factors are neither bf16 nor 8-bit integers that are summed in 32 bits"
    reads.sort(key=lambda r: roles.lane.name in axes_of(r))
    x, w = reads
    row = roles.row.name if roles.row is not None else ""
    given, weights = roles.spec.operands[x.operand], roles.spec.operands[w.operand]
    if roles.lane.name in axes_of(x):
        return "both factors vary along the lanes"
    if each == DOT and (given.dtype not in (i8, u8) or weights.dtype is not i8):
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
    depth = 0
    if weights.short is not None and given.dtype is u8:
        place = next(a for a, c in enumerate(w.index) if isinstance(c, Dim) and c.as_symbol() == axis.name)
        steps = -(-int(axis.extent) // DOT)  # type: ignore[arg-type]
        depth = min(weights.short.depths[place], 1 << (steps - 1).bit_length())
    return Parts(replace(roles, loops=loops), x, w, axis, each, depth)


def neighbours(roles: Roles) -> tuple[list[Read], int]:
    """The reads of both factors and how many neighbours share a lane of 32 bits; 0 where they cannot."""
    bytes_ = [f.x for f in roles.factors if isinstance(f, Cast) and isinstance(f.x, Read)]
    if len(bytes_) == 2 and roles.factors[0].dtype is i32:
        return bytes_, DOT
    plain = [f for f in roles.factors if isinstance(f, Read)]
    if len(plain) == 2 and all(roles.spec.operands[r.operand].dtype is bf16 for r in plain):
        return plain, HALVES
    return [], 0


class DotGenerator:
    """Sums of products of bytes, four a lane, and of bf16, two a lane.

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
        rows, columns = rows_and_columns(roles)
        tiles = sorted(legal_tiles(target, rows, -(-columns // lanes)), key=lambda t: code_size(roles, t))
        small = [t for t in tiles if code_size(roles, t) <= CODE_BUDGET * parts.each] or tiles[:1]
        depths = [d for d in (0, *DEPTHS) if d <= parts.depth and not (d and target.multiplies_bytes)]
        found = [
            _candidate(parts, t, depth, lanes, target)
            for depth in depths
            for t in small
            if registers(t, depth) + int(parts.halves) <= target.vector_registers
        ]
        yield from cheapest(found, self.most)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        parts = parts_of(spec)
        assert isinstance(parts, Parts)
        b, place = begin_kernel(spec, parts.roles.spec, candidate)
        DotLoops(b, place, parts, tile_shape(candidate), dict(candidate.params)["depth"]).emit()
        return b.finish(header(spec, candidate))


def registers(tile: Tile, depth: int) -> int:
    """Vectors that a step of a tile holds: sums, weights, an activation, and what products need.

    Of several steps, weights and one row's activations are held together (see `DotLoops`).
    """
    products = tile.rows * tile.vectors
    if depth <= 1:
        return products + (1 if depth else 2) * tile.vectors + 3
    return products + depth * (tile.vectors + 1) + 2


def _candidate(parts: Parts, tile: Tile, depth: int, lanes: int, target: Target) -> Candidate:
    roles = parts.roles
    rows, columns = rows_and_columns(roles)
    steps, outer = 1, 1
    for axis in (*roles.clamped, *roles.unrolled, *roles.loops):
        extent = extent_or(axis.extent, SYMBOLIC_EXTENT)
        steps *= -(-extent // parts.each) if axis is parts.axis else extent
    for axis in roles.outer:
        outer *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    cycles = 0.0
    for tile_rows, row_count in split_tiles(rows, tile.rows):
        for vectors, count in split_tiles(-(-columns // lanes), tile.vectors):
            if parts.halves:
                per_tile = half_step_cycles(tile_rows, vectors, target) * steps
            else:
                per_tile = step_cycles(tile_rows, vectors, depth, target) * steps
            cycles += row_count * count * (per_tile + 10 + 2.0 * tile_rows * vectors)
    blocking = choose_blocking(roles, tile, lanes, target, element_bytes=DOT // parts.each)
    kind = "bf16" if parts.halves else "bytes"
    proof = f"{2 * depth} products fit 16 bits" if depth else "products widened to 16 bits"
    if parts.halves:
        proof = "two products in f32"
    elif target.multiplies_bytes:
        proof = "products added in 32 bits"
    return Candidate(
        "dot",
        f"{kind}, tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}, {proof}",
        (*tile_params(tile, lanes, blocking), ("depth", depth)),
        ((parts.w.operand, Packing(_layout(parts, tile.vectors * lanes))),),
        cost=(outer * cycles + blocking.cycles) / CLOCK,
        arrival=blocking.arrival / CLOCK,
        error_class="reordered" if parts.halves else "exact",
    )


def half_step_cycles(rows: int, vectors: int, target: Target) -> float:
    """Cycles of one step of two products of bf16: one instruction each, or halves cut out and multiplied."""
    products, loads = rows * vectors, rows + vectors
    if target.multiplies_halves:
        operations, least = float(products), HALF_LATENCY
    else:
        operations, least = 2.0 * products, 2 * FMA_LATENCY
    return max(
        operations / FMAS_PER_CYCLE,
        loads / LOADS_PER_CYCLE,
        (operations + 3 * loads) / INSTRUCTIONS_PER_CYCLE,
        least,
    )


def step_cycles(rows: int, vectors: int, depth: int, target: Target) -> float:
    """Cycles of one step of four products: multiplications, other vector operations, loads, latency.

    With `depth`, a step has one multiplication and one addition a product, and the last of so many steps
    another of each to widen them; without, bytes are widened before they are multiplied.
    """
    products = rows * vectors
    ports = 2.0 if target.vector_bytes >= 64 else 3.0
    if depth:
        operations, multiplications = (2.0 + 1.0 / depth) * products, (1.0 + 1.0 / depth) * products
    else:
        operations, multiplications = 4.0 * products + 2.0 * rows + 3.0 * vectors, 2.0 * products
    if target.multiplies_bytes:
        operations = multiplications = float(products)
    loads = rows + vectors
    return max(
        multiplications / 2.0,
        operations / ports,
        loads / LOADS_PER_CYCLE,
        (operations + loads) / INSTRUCTIONS_PER_CYCLE,
        LEAST_CYCLES,
    )


def _layout(parts: Parts, width: int) -> Layout:
    order = [a.name for a in parts.roles.reduction]
    return neighbour_layout(parts.w, parts.axis.name, parts.roles.lane.name, width, parts.each, order)


def neighbour_layout(w: Read, axis: str, lane: str, width: int, each: int, order: Sequence[str]) -> Layout:
    """[panel][other axes, reductions in loop order][neighbours][channel of the panel][one of them].

    Args:
        w: the read of the weights.
        axis: the reduction axis that so many neighbours are taken of at a time.
        lane: the axis of the channels, of which a panel has `width`.
        each: neighbours that share a lane.
        order: reduction axes from the outermost loop to the innermost.
    """
    names = {a: str(c) for a, c in enumerate(w.index) if not is_static(c)}  # type: ignore[arg-type]
    channel = next(a for a, n in names.items() if n == lane)
    byte = next(a for a, n in names.items() if n == axis)
    others = [a for a in range(len(w.index)) if a not in (channel, byte)]
    others.sort(key=lambda a: (order.index(names[a]) + 1 if names.get(a) in order else 0, a))
    outer = ((channel, "o"), *((a, None) for a in others), (byte, "o"))
    return Layout((*outer, (channel, "i"), (byte, "i")), ((channel, width), (byte, each)))


class DotLoops(ContractLoops):
    """Emits one contraction of bytes, or of bf16."""

    def __init__(self, b: LoopBuilder, place: Placement, parts: Parts, shape: Shape, depth: int) -> None:
        super().__init__(b, place, parts.roles, shape)
        self.parts = parts
        self.depth = depth

    def _loops(
        self, loops: list[Axis], at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        if len(loops) > 1:
            super()._loops(loops, at, points, acc)
            return
        (axis,) = loops
        extent, each = int(axis.extent), self.parts.each  # type: ignore[arg-type]
        step = each * max(1, self.depth)
        whole = extent - extent % step
        if whole <= UNROLL_STEPS * each:
            for start in range(0, whole, step):
                self._run({**at, axis.name: start}, axis.name, step, points, acc)
        else:
            with self.b.loop(axis.name, 0, whole, step=step, unroll=max(1, 2 * each // step)) as k:
                self._run({**at, axis.name: k}, axis.name, step, points, acc)
        if extent > whole:
            self._run({**at, axis.name: whole}, axis.name, extent - whole, points, acc)

    def _run(
        self, at: dict[str, DimLike], axis: str, count: int, points: list[list[Point]], acc: RegTile
    ) -> None:
        """So many neighbours along the reduction at every point of the tile, as few steps as they need."""
        each = self.parts.each
        steps = [
            ({**at, axis: at[axis] + start}, None if start + each <= count else count - start)
            for start in range(0, count, each)
        ]
        for i, row in enumerate(points):
            factors = [(here, self._activation({**here, **row[0].at}, part)) for here, part in steps]
            for j, point in enumerate(row):
                pairs: Expr | None = None
                for here, x in factors:
                    if x is None:
                        continue
                    w = self._weights({**here, **point.at})
                    if self.parts.halves:
                        self.b.set(acc[i, j], dot_halves(acc[i, j].read(), x, w))
                        continue
                    if not self.depth:
                        self.b.set(acc[i, j], dot(acc[i, j].read(), x, w))
                        continue
                    more = dot_pairs(x, w)
                    pairs = self.b.let(more if pairs is None else pairs + more)
                if pairs is not None:
                    self.b.set(acc[i, j], add_pairs(acc[i, j].read(), pairs))

    def _activation(self, at: dict[str, DimLike], count: int | None) -> Expr | None:
        """A few neighbours repeated over all lanes; None where they are zero."""
        lanes, each, halves = self.shape.lanes, self.parts.each, self.parts.halves
        point = Point(at, self.parts.axis.name, each)
        if count is not None and not self._may_read_on(point):
            point = replace(point, count=count)
        x = self.place.load(self.parts.x, point, bits=halves)
        if isinstance(x, Const):
            return None if x.value == 0 else const(x.value, x.dtype, each * lanes)
        pattern = tuple(range(each)) * lanes
        return self.b.let(Shuffle(x, x, pattern, VecType(x.dtype, each * lanes)), "x")

    def _may_read_on(self, point: Point) -> bool:
        """Whether a whole quartet is the operand's own: bytes behind the axis meet weights of zero."""
        read, symbols = self.parts.x, self.b.symbols
        operand = self.place.operands[read.operand]
        if self.parts.halves or read.default is not None or operand.allocated is not None:
            return False  # zero times what is not finite would be NaN
        last = {**point.at, self.parts.axis.name: point.at[self.parts.axis.name] + DOT - 1}
        address = operand.addr(tuple(Point(last).shifted(c) for c in read.index))  # type: ignore[arg-type]
        return symbols.prove_ge(operand.bound - 1, address) is True

    def _weights(self, at: dict[str, DimLike]) -> Expr:
        """The neighbours of one vector of channels; beyond the last channel the packing holds zeros."""
        read = self.parts.w
        operand = self.place.operands[read.operand]
        coordinates = tuple(Point(at).shifted(c) for c in read.index)  # type: ignore[arg-type]
        address = operand.addr(coordinates)
        lanes, halves = self.parts.each * self.shape.lanes, self.parts.halves
        return self.b.load(self.place.buffers[read.operand], address, lanes, bits=halves)

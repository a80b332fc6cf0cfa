"""Contractions of bytes whose whole sums fit 16 bits: depthwise convolutions, those of a single channel.

Where the positive and the negative weights of a channel are small enough (`aino_ir.short_sums`), neither a
product with a byte nor any sum of them leaves 16 bits, whatever the activation is.  A vector then holds
twice as many sums as one of 32 bits, and a product is one multiplication and one addition of 16 bits, which
every instruction set with vectors has.  Sums are widened once, before they are scaled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import choose_blocking
from aino_ir.codegen.kernels.contract import CLOCK, CODE_BUDGET, code_size, panel_packings
from aino_ir.codegen.kernels.contract_loops import ContractLoops, Shape
from aino_ir.codegen.kernels.emit import vector_lanes
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.roles import Roles, analyse, extent_or, is_plain, strided_operand
from aino_ir.codegen.kernels.tiled import BEST, begin_kernel, cheapest, tile_params, tile_shape
from aino_ir.codegen.kernels.tiles import LOADS_PER_CYCLE, Tile, legal_tiles, split_tiles
from aino_ir.compute import Compute
from aino_ir.dims import Dim, is_static
from aino_ir.dtypes import DType, i8, i16, u8
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Binary, Cast, Expr, Read, Shuffle, VecType, cast
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

MULTIPLICATIONS_PER_CYCLE = 2.0
OPERATIONS_PER_CYCLE = 3.0

FINISHING_CYCLES = 2.0
"""Cycles of a native vector of sums that is scaled and written, as in the other contractions' models."""


def short_roles(spec: KernelSpec) -> tuple[Roles, DType] | str:
    """The roles of a contraction whose sums fit 16 bits and the dtype that it is summed in, or why not."""
    program = spec.program
    if not isinstance(program, Compute) or not isinstance(program.body, Binary):
        return "not a sum of products"
    factors = (program.body.a, program.body.b)
    reads = [f.x for f in factors if isinstance(f, Cast) and isinstance(f.x, Read)]
    if len(reads) != 2 or factors[0].dtype.is_float:
        return "the factors are no 8-bit integers"
    weights = [r for r in reads if _fits(spec, program, r)]
    if not weights or any(spec.operands[r.operand].dtype not in (i8, u8) for r in reads):
        return "sums of products are not known to fit 16 bits"
    roles = analyse(spec)
    if isinstance(roles, str):
        return roles
    if not is_static(roles.lane.extent):
        return "a symbolic number of lanes"
    wide = roles.factors[0].dtype
    narrow = tuple(cast(f.x, i16) for f in roles.factors if isinstance(f, Cast))
    if any(strided_operand(roles.spec, f, roles.lane.name) for f in narrow):
        return "bytes would be gathered one by one"
    return replace(roles, factors=narrow), wide  # type: ignore[arg-type]


def _fits(spec: KernelSpec, program: Compute, read: Read) -> bool:
    """Whether a factor is a constant of which a sum takes each element of one slice at most once."""
    operand = spec.operands[read.operand]
    if operand.short is None or not operand.short.whole or not operand.constant or not is_plain(read):
        return False
    reduced = {a.name for a in program.reduce}
    first, *others = (c.as_symbol() if isinstance(c, Dim) else None for c in read.index)
    moving = [name for name in others if name is not None]
    return first not in reduced and set(moving) <= reduced and len(moving) == len(set(moving))


class ShortProductsGenerator:
    """Sums of products of bytes in 16 bits.

    Args:
        most: candidates that are offered.
    """

    name = "short"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The best register tiles by the model, each with the packing of the weights."""
        found = short_roles(spec)
        if isinstance(found, str):
            yield Reject(self.name, found)
            return
        roles, _ = found
        native = vector_lanes(spec, target)
        widths = (2 * native, native) if native > 1 else (1,)
        candidates = [
            _candidate(roles, tile, lanes, native, target)
            for lanes in widths
            for tile in _tiles(roles, lanes, target)
        ]
        yield from cheapest(candidates, self.most)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        found = short_roles(spec)
        assert not isinstance(found, str)
        roles, wide = found
        b, place = begin_kernel(spec, roles.spec, candidate)
        ShortLoops(b, place, roles, tile_shape(candidate), wide, dict(candidate.params)["native"]).emit()
        return b.finish(header(spec, candidate))


def _tiles(roles: Roles, lanes: int, target: Target) -> list[Tile]:
    """Tiles that are not too much code."""
    rows = extent_or(roles.row.extent, 1) if roles.row is not None else 1
    columns = extent_or(roles.lane.extent, 1)
    tiles = legal_tiles(target, rows, -(-columns // lanes), _row_vector(roles))
    tiles = [t for t in tiles if registers(t) <= target.vector_registers or t == Tile(1, 1)]
    tiles.sort(key=lambda t: code_size(roles, t))
    return [t for t in tiles if code_size(roles, t) <= CODE_BUDGET] or tiles[:1]


def registers(tile: Tile) -> int:
    """Vectors that a row of taps holds: sums, what it reads with its neighbours, weights, a product."""
    return 2 * tile.rows * tile.vectors + 3 * tile.vectors + 2


def _row_vector(roles: Roles) -> bool:
    """Whether a factor moves with rows and lanes both: it is read as vectors for every row."""
    row = roles.row.name if roles.row is not None else ""
    return any({row, roles.lane.name} <= names for names in roles.factor_axes)


def _candidate(roles: Roles, tile: Tile, lanes: int, native: int, target: Target) -> Candidate:
    rows = extent_or(roles.row.extent, 1) if roles.row is not None else 1
    columns = extent_or(roles.lane.extent, 1)
    steps, outer = 1, 1
    for axis in roles.reduction:
        steps *= extent_or(axis.extent, 1)
    for axis in roles.outer:
        outer *= extent_or(axis.extent, 1)
    vectors = _row_vector(roles)
    cycles = 0.0
    for tile_rows, row_count in split_tiles(rows, tile.rows):
        for width, count in split_tiles(-(-columns // lanes), tile.vectors):
            products = tile_rows * width
            per_tile = step_cycles(tile_rows, width, vectors) * steps + 10
            per_tile += FINISHING_CYCLES * products * lanes / native
            cycles += row_count * count * per_tile
    blocking = choose_blocking(roles, tile, lanes, target, element_bytes=1)
    return Candidate(
        "short",
        f"sums in 16 bits, tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}",
        (*tile_params(tile, lanes, blocking), ("native", native)),
        panel_packings(roles, tile.rows, tile.vectors * lanes),
        cost=(outer * cycles + blocking.cycles) / CLOCK,
        arrival=blocking.arrival / CLOCK,
        error_class="exact",
    )


def step_cycles(rows: int, vectors: int, row_vector: bool) -> float:
    """Cycles of one product at every point of a tile: multiplications, all operations, loads.

    Factors are widened as they are loaded; vectors of the row factor are shared by neighbouring taps.
    """
    products = rows * vectors
    given = products / 2 if row_vector else float(rows)
    return max(
        products / MULTIPLICATIONS_PER_CYCLE,
        (2 * products + given + vectors) / OPERATIONS_PER_CYCLE,
        (given + vectors) / LOADS_PER_CYCLE,
    )


class ShortLoops(ContractLoops):
    """Emits one contraction whose sums have 16 bits.

    Args:
        wide: dtype that a finished sum has.
        native: lanes of a vector of it.
    """

    def __init__(
        self, b: LoopBuilder, place: Placement, roles: Roles, shape: Shape, wide: DType, native: int
    ) -> None:
        super().__init__(b, place, roles, shape)
        self.wide = wide
        self.native = native

    def _write(self, point: Point, value: Expr) -> None:
        """Widen a vector of sums and write it, as many lanes at a time as a wide vector has."""
        assert point.axis is not None
        for start in range(0, point.lanes, self.native):
            count = None if point.count is None else int(point.count) - start  # type: ignore[arg-type]
            if count is not None and count <= 0:
                return
            lanes = min(self.native, point.lanes - start)
            at = {**point.at, point.axis: point.at[point.axis] + start}
            here = Point(at, point.axis, lanes, None if count is not None and count >= lanes else count)
            part = value
            if lanes < point.lanes:
                pattern = tuple(range(start, start + lanes))
                part = self.b.let(Shuffle(value, value, pattern, VecType(value.dtype, lanes)))
            super()._write(here, self.b.let(cast(part, self.wide)))

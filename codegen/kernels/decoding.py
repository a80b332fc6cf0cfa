"""Products of few rows with constant weights of 4 or 8 bits, which memory should bound: decoding is cheap.

A weight stands for ``(q - zero) * scale``, where scale and zero are the same for a channel, or for a run of
neighbours along the reduction (a group).  What is constant along a run is taken out of its sum::

    sum over runs of scale * (sum over the run of x * (q - zero))

so that a weight costs what makes a float of its integer, and one multiply-add for each row of a tile.

Eight weights of 4 bits share a word (`Words`); a vector of words has one for each lane (an output).  A mask
leaves half of a vector's weights alone in the upper half of their byte; moving that byte to the top of the
word, one instruction where bytes can be shuffled, gives the weight as a signed integer times 2^28, by which
the sum of the run is divided.  Unsigned weights and those with a zero point go to the bottom of the word.

Sums that are scaled at last may leave the floats where sums of scaled products would not: a tile that is not
finite is computed once more, as the definition says.

Scales and zero points are stored panel by panel like the weights: a unit reads few, contiguous streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import SYMBOLIC_EXTENT, Blocking, choose_blocking
from aino_ir.codegen.kernels.contract import (
    BEST,
    CLOCK,
    DECODINGS_PER_CYCLE,
    Use,
    packed_operands,
    panel_layout,
    plain_use,
)
from aino_ir.codegen.kernels.contract_loops import ContractLoops, Shape
from aino_ir.codegen.kernels.emit import emit_checks, expressions, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import Roles, analyse, extent_or
from aino_ir.codegen.kernels.tiles import (
    FMA_LATENCY,
    FMAS_PER_CYCLE,
    LOADS_PER_CYCLE,
    Tile,
    legal_tiles,
    split_tiles,
)
from aino_ir.codegen.kernels.words import NIBBLES, Words
from aino_ir.compute import Axis
from aino_ir.dim_form import FloorDiv
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import f32, i32
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Binary,
    Cast,
    Expr,
    Read,
    cast,
    const,
    fma,
    index,
    reduce_lanes,
    splat,
    unary,
    walk,
)
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

WEIGHTS = ("i4", "u4", "i8", "u8")

STEP = NIBBLES
"""Reduction steps that a turn of the innermost loop takes."""

PREFETCH_BYTES = 2048
"""How far ahead weights are asked for; the hardware's own prefetching stops at the end of a page."""

LINE_BYTES = 64

TOP = 28
"""Where a weight of 4 bits stands that was moved to the top of its word."""

UPPER_HALVES, LOWER_HALVES, TOP_BYTE = -0x0F0F0F10, 0x0F0F0F0F, -0x01000000
"""Masks of a word: the upper half of each byte, the lower half of each, the last byte."""

CHECK_CYCLES = 12.0
"""Cycles in which a tile is seen to be finite."""


@dataclass(frozen=True)
class Parts:
    """The factors of a product with weights of few bits.

    Attributes:
        roles: with one reduction loop.
        number: which factor is the weights.
        w: the read of the integers.
        whole: what is multiplied with the activation, a float made of the integers alone (and zero points).
        scale: what it is multiplied with behind the sum of a run, or None.
        run: neighbours along the reduction that share scale and zero; the whole extent, if all do.
    """

    roles: Roles
    number: int
    w: Read
    whole: Expr
    scale: Expr | None
    run: int

    @property
    def axis(self) -> Axis:
        """The reduction."""
        return self.roles.loops[0]

    @property
    def extent(self) -> int:
        """Reduction steps."""
        return int(self.axis.extent)  # type: ignore[arg-type]

    @property
    def narrow(self) -> bool:
        """Whether weights have 4 bits."""
        return self.roles.spec.operands[self.w.operand].dtype.bits == 4

    @property
    def tops(self) -> bool:
        """Whether weights may be multiplied with as they stand at the top of a word."""
        dtype = self.roles.spec.operands[self.w.operand].dtype
        return self.narrow and dtype.is_signed and not any(isinstance(n, Binary) for n in walk(self.whole))

    def parameters(self) -> list[Read]:
        """Reads of scales and zero points, each once."""
        found = [n for e in (self.whole, self.scale) if e is not None for n in walk(e) if isinstance(n, Read)]
        return [n for n in dict.fromkeys(found) if n is not self.w]


def parts_of(spec: KernelSpec) -> Parts | str:
    """The factors of a spec, or why it is no product with weights of few bits."""
    roles = analyse(spec)
    if isinstance(roles, str):
        return roles
    if roles.clamped or roles.unrolled or len(roles.loops) != 1 or not is_static(roles.loops[0].extent):
        return "more than one reduction"
    row = roles.row.name if roles.row is not None else ""
    for number, factor in enumerate(roles.factors):
        split = _whole_and_scale(factor)
        if (
            split is None
            or roles.lane.name in roles.factor_axes[1 - number]
            or row in roles.factor_axes[number]
        ):
            continue
        found = _parts(roles, number, *split)
        if found is not None:
            return found
    return "no factor that is decoded from constants of 4 or 8 bits"


def _whole_and_scale(factor: Expr) -> tuple[Expr, Expr | None] | None:
    """(the float of an integer, what it is multiplied with) of a decoded factor."""
    if isinstance(factor, Binary) and factor.op == "mul":
        for whole, scale in ((factor.a, factor.b), (factor.b, factor.a)):
            if _is_whole(whole) and not _is_whole(scale):
                return whole, scale
    return (factor, None) if _is_whole(factor) else None


def _is_whole(e: Expr) -> bool:
    return isinstance(e, Cast) and e.dtype is f32 and e.x.dtype.is_integer


def _parts(roles: Roles, number: int, whole: Expr, scale: Expr | None) -> Parts | None:
    axis, operands = roles.loops[0], roles.spec.operands
    reads = list(dict.fromkeys(n for n in walk(roles.factors[number]) if isinstance(n, Read)))
    moving = [n for n in reads if any(c is axis.dim for c in n.index)]
    if len(moving) != 1 or not all(operands[n.operand].constant and n.default is None for n in reads):
        return None
    (w,) = moving
    use = plain_use(w, roles)
    if w not in list(walk(whole)) or operands[w.operand].dtype.name not in WEIGHTS or use is None:
        return None
    everywhere = [n for e in expressions(roles.spec) for n in walk(e) if isinstance(n, Read)]
    if roles.lane.name not in use.axes.values() or any(n.operand == w.operand for n in everywhere if n != w):
        return None
    runs = {_run(c, axis) for n in reads if n is not w for c in n.index}
    runs.discard(0)
    if None in runs or len(runs) > 1:
        return None
    extent = int(axis.extent)  # type: ignore[arg-type]
    run = min([extent, *(r for r in runs if r is not None)])
    found = Parts(roles, number, w, whole, scale, run)
    return None if found.narrow and run < extent and run % NIBBLES else found


def _run(coordinate: DimLike | Expr, axis: Axis) -> int | None:
    """How long a coordinate stays the same along the reduction; 0: always; None: it moves some other way."""
    if isinstance(coordinate, Expr):
        return None
    if not isinstance(coordinate, Dim) or axis.name not in coordinate.free_symbols():
        return 0
    for _, atoms in coordinate.terms():
        for atom in atoms:
            if isinstance(atom, FloorDiv) and isinstance(atom.b, int) and coordinate is axis.dim // atom.b:
                return atom.b
    return None


class DecodingGenerator:
    """Products with constant weights of 4 or 8 bits, decoded once for all rows of a tile.

    Args:
        most: candidates that are offered.
    """

    name = "decoding"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The best register tiles by the model, each with the packings of weights, scales and zero points."""
        parts = parts_of(spec)
        if isinstance(parts, str):
            yield Reject(self.name, parts)
            return
        lanes = vector_lanes(spec, target)
        rows, columns = _extents(parts.roles)
        tiles = legal_tiles(target, rows, -(-columns // lanes))
        fitting = [t for t in tiles if registers(t) <= target.vector_registers] or tiles[:1]
        found = [_candidate(parts, t, lanes, target) for t in fitting]
        yield from sorted(found, key=lambda c: c.cost)[: self.most]

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        parts = parts_of(spec)
        assert isinstance(parts, Parts)
        params = dict(candidate.params)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, parts.roles.spec, packed_operands(parts.roles.spec, candidate))
        emit_checks(place)
        blocking = Blocking(params["chunk"], params["group"])
        shape = Shape(Tile(params["rows"], params["vectors"]), params["lanes"], blocking)
        DecodingLoops(b, place, parts, shape).emit()
        return b.finish(header(spec, candidate))


def registers(tile: Tile) -> int:
    """Vectors that a step holds: sums of the run, masked words, an activation, a weight in the making."""
    return tile.rows * tile.vectors + tile.vectors + 3


def _extents(roles: Roles) -> tuple[int, int]:
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    return rows, extent_or(roles.lane.extent, SYMBOLIC_EXTENT)


def _candidate(parts: Parts, tile: Tile, lanes: int, target: Target) -> Candidate:
    roles = parts.roles
    rows, columns = _extents(roles)
    outer = 1
    for axis in roles.outer:
        outer *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    runs = -(-parts.extent // max(1, parts.run))
    cycles = 0.0
    for tile_rows, row_count in split_tiles(rows, tile.rows):
        for vectors, count in split_tiles(-(-columns // lanes), tile.vectors):
            products = tile_rows * vectors
            per_tile = step_cycles(tile_rows, vectors, parts, target) * parts.extent
            per_tile += runs * (FMA_LATENCY + products) + 10 + 2.0 * products
            per_tile += CHECK_CYCLES
            cycles += row_count * count * per_tile
    blocking = choose_blocking(roles, tile, lanes, target, element_bytes=0.5 if parts.narrow else 1)
    bits = 4 if parts.narrow else 8
    return Candidate(
        "decoding",
        f"{bits} bits, tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}",
        (
            ("rows", tile.rows),
            ("vectors", tile.vectors),
            ("lanes", lanes),
            ("chunk", blocking.chunk),
            ("group", blocking.group),
        ),
        _packings(parts, tile.vectors * lanes),
        cost=(outer * cycles + blocking.cycles) / CLOCK,
        arrival=blocking.arrival / CLOCK,
    )


def step_cycles(rows: int, vectors: int, parts: Parts, target: Target) -> float:
    """Cycles of one reduction step of a tile: vector operations, loads, or the latency of the sums."""
    products = rows * vectors
    ports = 2.0 if target.vector_bytes >= 64 else DECODINGS_PER_CYCLE
    return max(
        products / FMAS_PER_CYCLE,
        (products + vectors * decoding_operations(parts)) / ports,
        (rows + vectors / (NIBBLES if parts.narrow else 1)) / LOADS_PER_CYCLE,
        FMA_LATENCY,
    )


def decoding_operations(parts: Parts) -> float:
    """Vector operations that make a float of a weight: a byte is moved and converted, a word has masks.

    With a zero point there is a subtraction; the sign of 4 bits takes two operations at the bottom of a word.
    """
    between = sum(1 for n in walk(parts.whole) if isinstance(n, Binary))
    if not parts.narrow:
        return 2.0 + between
    signed = parts.roles.spec.operands[parts.w.operand].dtype.is_signed and not parts.tops
    return 2.0 + 3.0 / NIBBLES + between + (2.0 if signed else 0.0)


def _packings(parts: Parts, width: int) -> tuple[tuple[int, Packing], ...]:
    """Weights in panels of words, scales and zero points in panels beside them."""
    roles, lane = parts.roles, parts.roles.lane
    use = plain_use(parts.w, roles)
    assert use is not None
    axis = next(a for a, name in use.axes.items() if name == parts.axis.name)
    transform = Words(axis) if parts.narrow else None
    layout = panel_layout(use, lane.name, width, [parts.axis.name])
    out = {parts.w.operand: Packing(layout, transform)}
    for node in parts.parameters():
        along = {a: lane.name for a, c in enumerate(node.index) if c is lane.dim}
        if len(along) == 1 and node.operand not in out:
            use = Use(roles.spec.operands[node.operand], node.operand, along)
            out[node.operand] = Packing(panel_layout(use, lane.name, width, []))
    return tuple(sorted(out.items()))


class DecodingLoops(ContractLoops):
    """Emits one product with weights of few bits."""

    def __init__(self, b: LoopBuilder, place: Placement, parts: Parts, shape: Shape) -> None:
        super().__init__(b, place, parts.roles, shape)
        self.parts = parts

    def _loops(
        self, loops: list[Axis], at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        """The whole reduction; once more by its definition where a sum left the floats."""
        if not self.parts.extent:
            return
        self._runs(at, points, acc)
        sums: list[Expr] = [acc[i, j].read() * 0.0 for i in range(acc.shape[0]) for j in range(acc.shape[1])]
        total: Expr = sums[0]
        for other in sums[1:]:
            total = total + other
        with self.b.when(unary("isnan", self.b.let(reduce_lanes("add", total)))):
            for reg in acc:
                self.b.set(reg, const(0, f32, self.shape.lanes))
            self._by_definition(at, points, acc)

    def _by_definition(self, at: dict[str, DimLike], points: list[list[Point]], acc: RegTile) -> None:
        """Sums of x * ((q - zero) * scale), a step at a time."""
        axis, factor = self.parts.axis, self.roles.factors[self.parts.number]
        with self.b.loop(axis.name, 0, axis.extent) as k:
            here = {**at, axis.name: k}
            weights = []
            for point in points[0]:
                there = _placed(point, here)
                own = {self.parts.w: self._element(here, point)} if self.parts.narrow else {}
                weights.append(self.b.let(splat(self.place.expr(factor, there, read=own.get), point.lanes)))
            self._multiply(here, points, acc, weights)

    def _element(self, at: dict[str, DimLike], point: Point) -> Expr:
        """The weight of 4 bits that stands at a step of the reduction, wherever in its word."""
        k = at[self.parts.axis.name]
        place = cast(index(k % 4 * 8 + k // 4 % 2 * 4), i32)
        value = (self._word(at, point) >> place) & 15
        return (value ^ 8) - 8 if self._signed else value

    @property
    def _signed(self) -> bool:
        return self.roles.spec.operands[self.parts.w.operand].dtype.is_signed

    def _multiply(
        self, at: dict[str, DimLike], points: list[list[Point]], sums: RegTile, weights: Sequence[Expr]
    ) -> None:
        """sums += x * weights at one step, for all rows."""
        for j, weight in enumerate(weights):
            for i, row in enumerate(points):
                x = self._factor(1 - self.parts.number, i, j, _placed(row[j], at))
                if x is not None:
                    self.b.set(sums[i, j], fma(x, weight, sums[i, j].read()))
        self._factors.clear()

    def _runs(self, at: dict[str, DimLike], points: list[list[Point]], acc: RegTile) -> None:
        extent, run = self.parts.extent, self.parts.run
        whole = extent // run
        with self.b.loop("run", 0, whole) as number:
            self._run(at, number * run, run, points, acc)
        if extent % run:
            self._run(at, whole * run, extent % run, points, acc)

    def _run(
        self,
        at: dict[str, DimLike],
        start: DimLike,
        count: int,
        points: list[list[Point]],
        acc: RegTile,
    ) -> None:
        """Neighbours that share scale and zero point: acc += scale * sum."""
        b, name = self.b, self.parts.axis.name
        here = {**at, name: start}
        known = [self._parameters(here, point) for point in points[0]]
        part = b.reg_tile("part", acc.shape, acc[0, 0].type, 0)
        whole = count - count % STEP
        with b.loop("step", 0, whole // STEP) as number:
            self._turn({**at, name: start + number * STEP}, STEP, points, part, known)
        if count > whole:
            self._turn({**at, name: start + whole}, count - whole, points, part, known)
        for j, point in enumerate(points[0]):
            scale = self.parts.scale
            if scale is not None:
                scale = self.place.expr(scale, _placed(point, here), read=known[j].get)
            for i in range(acc.shape[0]):
                total: Expr = part[i, j].read()
                if self.parts.tops:
                    total = total * 2.0**-TOP
                old = acc[i, j].read()
                b.set(acc[i, j], old + total if scale is None else fma(total, scale, old))

    def _parameters(self, at: dict[str, DimLike], point: Point) -> dict[Read, Expr]:
        """Scales and zero points of a vector of outputs, loaded once for a run."""
        here = _placed(point, at)
        return {n: self.b.let(self.place.load(n, here)) for n in self.parts.parameters()}

    def _turn(
        self,
        at: dict[str, DimLike],
        count: int,
        points: list[list[Point]],
        part: RegTile,
        known: list[dict[Read, Expr]],
    ) -> None:
        """A few steps of the reduction: all that share words."""
        self._prefetch(at, points[0])
        name = self.parts.axis.name
        words = [self._word(at, p) for p in points[0]] if self.parts.narrow else []
        halves: list[Expr] = []
        for step in range(count):
            if words and step % 4 == 0:
                halves = [self.b.let(_half(w, step // 4, self.parts.tops), "half") for w in words]
            here = {**at, name: at[name] + step}
            weights = []
            for j, point in enumerate(points[0]):
                weight = self._weight(halves[j : j + 1], step % 4, _placed(point, here), known[j])
                weights.append(self.b.let(weight, "w"))
            self._multiply(here, points, part, weights)

    def _weight(self, half: list[Expr], byte: int, here: Point, known: dict[Read, Expr]) -> Expr:
        """A vector of weights as floats: cut out of a byte of masked words, or read."""
        if half and self.parts.tops:
            return cast(_top_byte(half[0], byte), f32)
        own = {}
        if half:
            value = _low_byte(half[0], byte)
            own[self.parts.w] = (value ^ 8) - 8 if self._signed else value
        return self.place.expr(self.parts.whole, here, read={**known, **own}.get)

    def _address(self, at: dict[str, DimLike], point: Point) -> DimLike:
        """Where the weights, or words, of a vector of outputs are."""
        read, name = self.parts.w, self.parts.axis.name
        place = {**at, **point.at}
        if self.parts.narrow:
            place[name] = place[name] // NIBBLES
        return self.place.operands[read.operand].addr(tuple(Point(place).shifted(c) for c in read.index))  # type: ignore[arg-type]

    def _word(self, at: dict[str, DimLike], point: Point) -> Expr:
        buffer = self.place.buffers[self.parts.w.operand]
        return self.b.let(self.b.load(buffer, self._address(at, point), point.lanes), "word")

    def _prefetch(self, at: dict[str, DimLike], row: list[Point]) -> None:
        """Ask for what a turn some way behind this one will read: its vectors lie one behind the other."""
        number = self.parts.w.operand
        each = self.place.operands[number].dtype.bytes
        bytes_ = self.shape.width * (each if self.parts.narrow else STEP)
        first = self._address(at, row[0])
        for offset in range(0, bytes_, LINE_BYTES):
            self.b.prefetch(self.place.buffers[number], first + (PREFETCH_BYTES + offset) // each)


def _placed(point: Point, at: dict[str, DimLike]) -> Point:
    return Point({**at, **point.at}, point.axis, point.lanes, point.count)


def _half(word: Expr, half: int, tops: bool) -> Expr:
    """One half of each byte of a word alone: at the upper end of the byte, or at the lower."""
    if tops:
        return (word if half else word << 4) & UPPER_HALVES
    return (word >> 4 if half else word) & LOWER_HALVES


def _top_byte(word: Expr, byte: int) -> Expr:
    """A byte of a word moved to its top, zeros below."""
    if byte == 0:
        return word << 24
    return (word << (24 - 8 * byte) if byte < 3 else word) & TOP_BYTE


def _low_byte(word: Expr, byte: int) -> Expr:
    """A byte of a word moved to its bottom, zeros above."""
    return (word >> 8 * byte if byte else word) & 255

"""One row times weights of 4 bits in integers: the row's f32 as fixed point of 24 bits, three bytes each.

Making a float of a weight and multiplying it costs more than three operations, and memory may deliver
faster than that.  Bytes are multiplied many at a time, so the row is cut into blocks, and each of its
elements is rounded to a multiple of a unit, a 2^23rd of the block's largest magnitude: three signed bytes
(limbs)::

    sum of x * (q - zero) = unit * (65536 * S2 + 256 * S1 + S0),   Si = sum of limb i * (q - zero)

The sums of limbs are exact.  What is lost is half a unit of each x, about what f32 loses of the block's
largest element; a sum of floats loses as much whenever that one is in it.  A block whose largest magnitude is
no ordinary float makes the result NaN on purpose, and the tile is computed by its definition.

The limbs are made once a call by every thread, in scratch: for eight steps eight bytes of each limb, in the
order in which a word (`WordBytes`) holds its weights.
"""

from __future__ import annotations

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.contract_loops import Shape
from aino_ir.codegen.kernels.decoding_loops import STEP, DecodingLoops, placed
from aino_ir.codegen.kernels.decoding_parts import Parts
from aino_ir.dims import DimLike
from aino_ir.dtypes import f32, i8, i16, i32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.dot_expr import add_pairs, dot, dot_pairs
from aino_ir.loops.expr import (
    Binary,
    Expr,
    Shuffle,
    VecType,
    cast,
    compare,
    const,
    fma,
    index,
    maximum,
    reduce_lanes,
    select,
    splat,
    unary,
)
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.registers import RegTile
from aino_ir.target import Target

LIMBS = 3
QUARTET = 4
"""Neighbours whose products with a limb are added in one lane."""

WIDEST = 127 << 16
"""What the largest magnitude of a block stands for: three signed bytes hold it, and one more."""

CHUNK = 32
"""Steps whose sums of products of a byte with 4 bits fit 16 bits: 32 / 2 * 15 * 128 < 2^15."""

BLOCKS = (128, 64, 32)
"""How many steps may have a unit in common, the largest that divides a group."""

SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""Largest magnitudes of a block that have a unit."""

STAGING_CYCLES = 2.0
"""Cycles an element of the row that is made limbs of."""


def block_of(parts: Parts, target: Target) -> int:
    """Steps of a block; 0 where a product cannot be done so: several rows, 8 bits, no instructions for it."""
    roles = parts.roles
    strict = roles.spec.numerics == "strict"
    if not parts.narrow or roles.row is not None or roles.outer or strict or target.vector_bytes < 32:
        return 0
    if sum(1 for n in walk(parts.whole) if isinstance(n, Binary)) > 1 or parts.extent % parts.run:
        return 0
    return next((b for b in BLOCKS if parts.run % b == 0), 0)


def step_operations(target: Target) -> float:
    """Vector operations of a reduction step: masks, products with three limbs, their sums."""
    products = 2.0 * LIMBS * (1.0 if target.multiplies_bytes else 2.0)
    widened = 0.0 if target.multiplies_bytes else 2.0 * LIMBS * STEP / CHUNK
    return (3.0 + products + widened) / STEP


def block_operations() -> float:
    """Vector operations behind a block: zero points, floats of the sums, scales."""
    return 3.0 * LIMBS + 3.0


class FixedPointLoops(DecodingLoops):
    """Emits one product of a row with weights of 4 bits.

    Args:
        block: steps that have a unit in common.
        dots: whether one instruction multiplies bytes and adds four products in 32 bits.
    """

    def __init__(
        self, b: LoopBuilder, place: Placement, parts: Parts, shape: Shape, block: int, dots: bool
    ) -> None:
        super().__init__(b, place, parts, shape)
        self.block = block
        self.dots = dots
        self.limbs = b.alloc("limbs", i8, parts.extent * LIMBS)
        self.units = b.alloc("units", f32, parts.extent // block)
        self.totals = b.alloc("totals", i32, parts.extent // block * LIMBS)

    def emit(self) -> None:
        """The limbs of the row, then units as in every contraction."""
        with self.b.prologue(), self.b.loop("block", 0, self.parts.extent // self.block) as number:
            self._make_limbs(number)
        super().emit()

    # -- the row ------------------------------------------------------------------------------------

    def _make_limbs(self, number: DimLike) -> None:
        """Limbs of a block, their sums, and its unit."""
        b, vector = self.b, VecType(f32, STEP)
        largest = b.reg("largest", vector, 0)
        with b.loop("step", 0, self.block // STEP) as step:
            b.set(largest, maximum(largest.read(), unary("abs", self._row(number, step))))
        top = b.let(reduce_lanes("max", largest.read()), "top")
        ordinary = b.let(compare("ge", top, SMALLEST) & compare("le", top, LARGEST))
        unit = select(ordinary | compare("eq", top, 0.0), top * (1.0 / WIDEST), float("nan"))
        b.store(self.units, number, unit)
        factor = b.let(select(ordinary, const(float(WIDEST), f32) / top, 0.0), "factor")
        sums = b.reg_tile("sum", (LIMBS,), VecType(i32, STEP), 0)
        with b.loop("step", 0, self.block // STEP) as step:
            scaled = self._row(number, step) * splat(factor, STEP)
            rest = b.let(cast(unary("round", scaled), i32), "whole")
            for limb in range(LIMBS):
                low = b.let((rest << 24) >> 24 if limb < LIMBS - 1 else rest, "limb")
                b.store(self.limbs, self._place(number, step, limb), cast(low, i8))
                b.set(sums[limb], sums[limb].read() + low)
                rest = b.let((rest - low) >> 8, "rest")
        for limb in range(LIMBS):
            b.store(self.totals, number * LIMBS + limb, reduce_lanes("add", sums[limb].read()))

    def _row(self, number: DimLike, step: DimLike) -> Expr:
        """Eight neighbours of the row; where it is not finite, whatever that makes: it is not used."""
        name = self.parts.axis.name
        point = Point({name: number * self.block + step * STEP}, name, STEP)
        return splat(self.place.expr(self.roles.factors[1 - self.parts.number], point), STEP)

    def _place(self, number: DimLike, step: DimLike, limb: int) -> DimLike:
        """Where the eight bytes of a limb are."""
        return ((number * (self.block // STEP) + step) * LIMBS + limb) * STEP

    # -- products -----------------------------------------------------------------------------------

    def _runs(self, at: dict[str, DimLike], points: list[list[Point]], acc: RegTile) -> None:
        with self.b.loop("block", 0, self.parts.extent // self.block) as number:
            self._block(number, {**at, self.parts.axis.name: number * self.block}, points[0], acc)

    def _block(self, number: DimLike, at: dict[str, DimLike], row: list[Point], acc: RegTile) -> None:
        """acc += scale * unit * (sum of the limbs' sums)."""
        b, lanes, chunk = self.b, self.shape.lanes, CHUNK // STEP
        sums = b.reg_tile("sum", (LIMBS, len(row)), VecType(i32, lanes), 0)
        with b.loop("chunk", 0, self.block // CHUNK) as part:
            pairs = sums
            if not self.dots:
                pairs = b.reg_tile("pairs", sums.shape, VecType(i16, 2 * lanes), 0)
            with b.loop("step", 0, chunk) as step:
                self._step_of(number, part * chunk + step, at, row, pairs)
            if not self.dots:
                for sum_, both in zip(sums, pairs, strict=True):
                    b.set(sum_, add_pairs(sum_.read(), both.read()))
        unit = b.load(self.units, number)
        for j, point in enumerate(row):
            here = placed(point, at)
            offset = self._offset(here)
            total: Expr = const(0.0, f32, lanes)
            for limb in reversed(range(LIMBS)):
                own = splat(b.load(self.totals, number * LIMBS + limb), lanes) * offset
                moved = cast(sums[limb, j].read() + own, f32)
                total = moved if limb == LIMBS - 1 else fma(total, 256.0, moved)
            total = total * splat(unit, lanes)
            old = acc[0, j].read()
            scale = self.parts.scale
            if scale is None:
                b.set(acc[0, j], old + total)
            else:
                b.set(acc[0, j], fma(total, splat(self.place.expr(scale, here), lanes), old))

    def _step_of(
        self,
        number: DimLike,
        step: DimLike,
        at: dict[str, DimLike],
        row: list[Point],
        sums: RegTile,
    ) -> None:
        """Eight steps of the reduction: the halves of a word's bytes times the limbs."""
        b, lanes = self.b, self.shape.lanes
        here = {**at, self.parts.axis.name: at[self.parts.axis.name] + step * STEP}
        self._prefetch(here, row)
        for j, point in enumerate(row):
            bytes_ = self._bytes(here, point)
            for half, weights in enumerate((b.let(bytes_ & 15, "half"), b.let(bytes_ >> 4, "half"))):
                for limb in range(LIMBS):
                    place = self._place(number, step, limb) + half * QUARTET
                    few = b.load(self.limbs, place, QUARTET)
                    x = Shuffle(few, few, tuple(range(QUARTET)) * lanes, VecType(i8, QUARTET * lanes))
                    old = sums[limb, j].read()
                    b.set(sums[limb, j], dot(old, weights, x) if self.dots else old + dot_pairs(weights, x))

    def _offset(self, here: Point) -> Expr:
        """What is added to each stored weight: less the zero point, less 8 where a sign was moved up."""
        zero = {self.parts.w: const(-8 if self.parts.signed else 0, i32)}
        whole = self.parts.whole.x  # type: ignore[attr-defined]
        return splat(self.place.expr(whole, here, read=zero.get), self.shape.lanes)

    def _address(self, at: dict[str, DimLike], point: Point) -> DimLike:
        read, name = self.parts.w, self.parts.axis.name
        place = {**at, **point.at, name: at[name] // STEP * QUARTET}
        return self.place.operands[read.operand].addr(tuple(Point(place).shifted(c) for c in read.index))  # type: ignore[arg-type]

    def _bytes(self, at: dict[str, DimLike], point: Point) -> Expr:
        """The words of a vector of outputs, byte by byte."""
        buffer = self.place.buffers[self.parts.w.operand]
        return self.b.let(self.b.load(buffer, self._address(at, point), QUARTET * point.lanes), "bytes")

    def _element(self, at: dict[str, DimLike], point: Point) -> Expr:
        k = at[self.parts.axis.name]
        buffer = self.place.buffers[self.parts.w.operand]
        first = self._address(at, point) + k % QUARTET
        byte = self.b.load(buffer, first, point.lanes, stride=QUARTET)
        value = (cast(byte, i32) >> cast(index(k // QUARTET % 2 * 4), i32)) & 15
        return value - 8 if self.parts.signed else value

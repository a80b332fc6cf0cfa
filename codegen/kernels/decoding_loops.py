"""The loops of products with weights of few bits that are multiplied as floats; see `decoding`."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.contract_loops import ContractLoops, Shape
from aino_ir.codegen.kernels.decoding_parts import Parts
from aino_ir.codegen.kernels.words import NIBBLES
from aino_ir.compute import Axis
from aino_ir.dims import DimLike
from aino_ir.dtypes import f32, i32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, Read, cast, const, fma, index, reduce_lanes, splat, unary
from aino_ir.loops.registers import RegTile

STEP = NIBBLES
"""Reduction steps that a turn of the innermost loop takes."""

PREFETCH_BYTES = 2048
"""How far ahead weights are asked for; the hardware's own prefetching stops at the end of a page."""

LINE_BYTES = 64

TOP = 28
"""Where a weight of 4 bits stands that was moved to the top of its word."""

UPPER_HALVES, LOWER_HALVES, TOP_BYTE = -0x0F0F0F10, 0x0F0F0F0F, -0x01000000
"""Masks of a word: the upper half of each byte, the lower half of each, the last byte."""


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
                there = placed(point, here)
                own = {self.parts.w: self._element(here, point)} if self.parts.narrow else {}
                weights.append(self.b.let(splat(self.place.expr(factor, there, read=own.get), point.lanes)))
            self._multiply(here, points, acc, weights)

    def _element(self, at: dict[str, DimLike], point: Point) -> Expr:
        """The weight of 4 bits that stands at a step of the reduction, wherever in its word."""
        k = at[self.parts.axis.name]
        place = cast(index(k % 4 * 8 + k // 4 % 2 * 4), i32)
        value = (self._word(at, point) >> place) & 15
        return (value ^ 8) - 8 if self.parts.signed else value

    def _multiply(
        self, at: dict[str, DimLike], points: list[list[Point]], sums: RegTile, weights: Sequence[Expr]
    ) -> None:
        """sums += x * weights at one step, for all rows."""
        for j, weight in enumerate(weights):
            for i, row in enumerate(points):
                x = self._factor(1 - self.parts.number, i, j, placed(row[j], at))
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
                scale = self.place.expr(scale, placed(point, here), read=known[j].get)
            for i in range(acc.shape[0]):
                total: Expr = part[i, j].read()
                if self.parts.tops:
                    total = total * 2.0**-TOP
                old = acc[i, j].read()
                b.set(acc[i, j], old + total if scale is None else fma(total, scale, old))

    def _parameters(self, at: dict[str, DimLike], point: Point) -> dict[Read, Expr]:
        """Scales and zero points of a vector of outputs, loaded once for a run."""
        here = placed(point, at)
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
                weight = self._weight(halves[j : j + 1], step % 4, placed(point, here), known[j])
                weights.append(self.b.let(weight, "w"))
            self._multiply(here, points, part, weights)

    def _weight(self, half: list[Expr], byte: int, here: Point, known: dict[Read, Expr]) -> Expr:
        """A vector of weights as floats: cut out of a byte of masked words, or read."""
        if half and self.parts.tops:
            return cast(_top_byte(half[0], byte), f32)
        own = {}
        if half:
            value = _low_byte(half[0], byte)
            own[self.parts.w] = (value ^ 8) - 8 if self.parts.signed else value
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
        bytes_ = self.shape.width * STEP // (2 if self.parts.narrow else 1)
        first = self._address(at, row[0])
        for offset in range(0, bytes_, LINE_BYTES):
            self.b.prefetch(self.place.buffers[number], first + (PREFETCH_BYTES + offset) // each)


def placed(point: Point, at: dict[str, DimLike]) -> Point:
    """A point that also stands at `at`."""
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

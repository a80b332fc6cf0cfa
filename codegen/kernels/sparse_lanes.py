"""Products with single nonzero weights where lanes run along what the weights do not vary with.

A unit is a block of a few vectors (of rows, of pixels) and a group of outputs.  The block's inputs come
to lie in order, chunk by chunk, so that a chunk stays in the first cache while every output picks what it
wants from it: a nonzero costs a broadcast and a multiply-add per vector.  Between chunks, sums wait in
scratch memory.  Results whose outputs lie in order are turned over, two vectors of outputs at a time: a
cache line of them is written at once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.sparse_loops import SparseLoops
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.dims import DimLike, ceildiv, dmin
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, const, fma, reduce_lanes, splat
from aino_ir.loops.registers import RegTile

LINE_BYTES = 64
"""Of a cache line."""

OUTPUTS_AHEAD = 4
"""Outputs from one whose results are on their way into the cache to the one that is written."""


@dataclass(frozen=True)
class Block:
    """What a unit works on at some time.

    Attributes:
        at: coordinates of the outer axes.
        number: of the block.
        chunk, first, last: which chunk of inputs, its first input, and the first of the next.
    """

    at: dict[str, DimLike]
    number: DimLike
    chunk: DimLike = 0
    first: DimLike = 0
    last: DimLike = 0


def turned_outputs(outputs: int, lanes: int) -> int:
    """Outputs that are turned over at a time: a cache line of them, where there are as many."""
    return lanes if outputs <= lanes else 2 * lanes


class LaneLoops(SparseLoops):
    """What is common to rows and pixels; subclasses say where they lie."""

    width: int
    """Lanes of a block, in all its vectors."""
    in_order: bool
    """Whether results of neighbouring lanes are neighbours."""

    @abstractmethod
    def stage(self, block: Block) -> None:
        """Bring a chunk of inputs in order, and `note` every vector of it."""

    @abstractmethod
    def place_of(self, block: Block, step: DimLike) -> DimLike:
        """Where the input of a step of the stream lies, for `read`."""

    @abstractmethod
    def each_place(self, block: Block, body: Callable[[DimLike], None]) -> None:
        """`body` on every place of a chunk, in loops."""

    @abstractmethod
    def read(self, block: Block, place: DimLike, v: int) -> Expr:
        """One vector of an input."""

    @abstractmethod
    def write_vector(self, block: Block, output: DimLike, v: int, value: Expr) -> None:
        """One vector of an output's results, where these are in order."""

    @abstractmethod
    def write_outputs(
        self, block: Block, lane: DimLike, output: DimLike, count: DimLike | None, value: Expr
    ) -> None:
        """Results of neighbouring outputs at one lane of the block, `count` of them."""

    @abstractmethod
    def expect_outputs(self, block: Block, lane: DimLike, output: DimLike) -> None:
        """Hint that results here are written soon: their line arrives in the cache meanwhile."""

    @abstractmethod
    def expect_inputs(self, block: Block, share: DimLike, shares: int) -> None:
        """Hint that the next block comes soon: one of so many shares of its inputs."""

    def emit_blocks(self, blocks: DimLike) -> None:
        """Emit the units of so many blocks."""
        b, shape, stream = self.b, self.shape, self.stream
        turn = turned_outputs(stream.outputs, shape.lanes)
        step = math.ceil(math.ceil(stream.outputs / turn) / shape.parts) * turn
        self.turn = turn
        self.several = stream.chunks > 1
        self.group = step
        waiting = step if self.several else 0 if self.in_order else turn
        self.sums = b.alloc("sums", self.dtype, waiting * self.width) if waiting else ""
        self.found = b.alloc("found", self.dtype, self.width)

        def unit(at: dict[str, DimLike], number: DimLike, group: DimLike) -> None:
            first = name_index(b, group * step, "first")
            self._unit(Block(at, number), first, dmin(first + step, stream.outputs))

        self.units(blocks, -(-stream.outputs // step), unit)

    def _unit(self, block: Block, first: DimLike, last: DimLike) -> None:
        b, stream = self.b, self.stream
        inputs, size = stream.inputs, stream.chunk or stream.inputs
        if self.several:
            with b.loop("clear", 0, (last - first) * self.width, step=self.shape.lanes) as place:
                b.store(self.sums, place, const(0.0, self.dtype, self.shape.lanes))
        with b.loop("chunk", 0, stream.chunks) as chunk:
            stop = dmin(chunk * size + size, inputs)
            here = replace(block, chunk=chunk, first=chunk * size, last=stop)
            poison = self._poison(here)
            self.either_way(poison, lambda careful: self._outputs(here, first, last, careful))
        if self.several:
            self._write_waiting(block, first, last)

    def _poison(self, block: Block) -> Expr:
        b, vectors = self.b, self.shape.vectors
        self.poison = b.reg_tile("poison", (vectors,), self.vector, 0)
        self.stage(block)
        total: Expr = self.poison[0].read()
        for v in range(1, vectors):
            total = total + self.poison[v].read()
        return b.let(reduce_lanes("add", b.let(total)), "poison")

    def note(self, x: Expr, number: int) -> None:
        """Zero times x into one of the sums that tell whether everything is finite."""
        poison = self.poison[number % self.shape.vectors]
        self.b.set(poison, fma(x, 0.0, poison.read()))

    # -- sums -----------------------------------------------------------------------------------------

    def _outputs(self, block: Block, first: DimLike, last: DimLike, careful: bool) -> None:
        """The sums of a chunk, and what becomes of them."""
        b = self.b
        if careful:
            self._count(block)
        if self.several:
            with b.loop("output", first, last) as n:
                self._keep(n - first, self._sums(block, n, n - first, careful, earlier=True))
        elif self.in_order:
            with b.loop("output", first, last) as n:
                for v, value in enumerate(self._sums(block, n, n - first, careful)):
                    self.write_vector(block, n, v, value)
        else:
            with b.loop("tile", first, last, step=self.turn) as tile:
                with b.loop("output", tile, dmin(tile + self.turn, last)) as n:
                    self._keep(n - tile, self._sums(block, n, n - first, careful))
                self._write_turned(block, tile, 0)

    def _keep(self, row: DimLike, values: Sequence[Expr]) -> None:
        for v, value in enumerate(values):
            self.b.store(self.sums, row * self.width + v * self.shape.lanes, value)

    def _kept(self, row: DimLike, v: int) -> Expr:
        return self.b.load(self.sums, row * self.width + v * self.shape.lanes, self.shape.lanes)

    def _sums(
        self, block: Block, n: DimLike, number: DimLike, careful: bool, earlier: bool = False
    ) -> list[Expr]:
        """An output, `number` of its group, for every vector of the block; on top of earlier chunks."""
        b, vectors, lanes = self.b, self.shape.vectors, self.shape.lanes
        begin, end = self.span(block.chunk * self.stream.panels + n)
        if not careful:
            share = block.chunk * self.group + number
            self.expect_inputs(block, share, self.stream.chunks * self.group)
            if self.in_order and not self.several:
                self._expect_vectors(block, n)
        acc = b.reg_tile("acc", (vectors,), self.vector, 0)
        if earlier:
            for v in range(vectors):
                b.set(acc[v], self._kept(number, v))
        touched = b.reg_tile("touched", (vectors,), self.vector, 0) if careful else None
        with b.loop("step", begin, end, unroll=0 if careful else 2) as j:
            place = self.place_of(block, j)
            w = b.let(splat(b.load(self.values, j), lanes), "w")
            for v in range(vectors):
                x = self.read(block, place, v)
                b.set(acc[v], fma(x, w, acc[v].read()))
                if touched is not None:
                    b.set(touched[v], touched[v].read() + self.not_finite(x))
        values = [b.let(acc[v].read()) for v in range(vectors)]
        if touched is None:
            return values
        return [
            self.corrected(value, b.let(touched[v].read()), b.load(self.found, v * lanes, lanes))
            for v, value in enumerate(values)
        ]

    def _expect_vectors(self, block: Block, n: DimLike) -> None:
        for lane in range(0, self.width, max(1, LINE_BYTES // self.dtype.bytes)):
            self.expect_outputs(block, lane, n + OUTPUTS_AHEAD)

    def _count(self, block: Block) -> None:
        """How many inputs of a chunk are not finite in each lane."""
        b, vectors = self.b, self.shape.vectors
        counts: RegTile = b.reg_tile("counts", (vectors,), self.vector, 0)

        def add(place: DimLike) -> None:
            for v in range(vectors):
                b.set(counts[v], counts[v].read() + self.not_finite(self.read(block, place, v)))

        self.each_place(block, add)
        for v in range(vectors):
            b.store(self.found, v * self.shape.lanes, counts[v].read())

    # -- results --------------------------------------------------------------------------------------

    def _write_waiting(self, block: Block, first: DimLike, last: DimLike) -> None:
        """What all chunks made of the outputs."""
        b = self.b
        if self.in_order:
            with b.loop("output", first, last) as n:
                self._expect_vectors(block, n)
                for v in range(self.shape.vectors):
                    self.write_vector(block, n, v, self._kept(n - first, v))
            return
        with b.loop("tile", 0, ceildiv(last - first, self.turn)) as tile:
            row = name_index(b, tile * self.turn, "row")
            self._write_turned(block, first + row, row)

    def _write_turned(self, block: Block, tile: DimLike, row: DimLike) -> None:
        """Sums [output][lane] from some row on become lanes of outputs."""
        b, lanes, outputs = self.b, self.shape.lanes, self.stream.outputs
        with b.loop("turn", 0, self.width, step=lanes) as g:
            for i in range(lanes):
                self.expect_outputs(block, g + i, tile + self.turn)
            for part in range(0, self.turn, lanes):
                with ExitStack() as stack:
                    if part and outputs % self.turn:
                        stack.enter_context(b.when(Condition(outputs, ">", tile + part)))
                    self._write_square(block, tile + part, row + part, g)

    def _write_square(self, block: Block, output: DimLike, row: DimLike, g: DimLike) -> None:
        lanes, outputs = self.shape.lanes, self.stream.outputs
        count = None if outputs % lanes == 0 else outputs - output
        loads = [self.b.load(self.sums, (row + j) * self.width + g, lanes) for j in range(lanes)]
        for i, value in enumerate(transposed(self.b, loads)):
            self.write_outputs(block, g + i, output, count, value)

"""Attention whose products are f32, in one pass over the keys, without tensor cores.

A block takes 32 queries of a head, four neighbouring threads each.  Blocks of 32 keys and values come to
shared memory; a thread has a quarter of its query and of the result's sums in registers, vectors of four
elements in turn with the other three, so that a warp reads 64 bytes that lie together.  Partial products of
a key are combined by exchanges; maxima and sums go along as in `flash_attention`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

from aino_ir.codegen.cuda.attention_blocks import (
    AttentionBlockGenerator,
    AttentionBlocks,
    over_quads,
    too_wide,
)
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.attention import INFINITY, KEY, QUERY, WIDTH
from aino_ir.dims import DimLike, align
from aino_ir.dtypes import f32
from aino_ir.kernels import Attention, Candidate, KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Expr,
    VecType,
    call,
    const,
    fma,
    index,
    maximum,
    reduce_lanes,
    splat,
)
from aino_ir.loops.registers import Reg, RegTile
from aino_ir.target import Target

TILE = 32
"""Queries of a block, and keys that it has in shared memory."""

PARTS = 4
"""Threads of a query."""

LANES = 4
THREADS = TILE * PARTS
CHUNK = PARTS * LANES
"""Elements that the threads of a query take side by side."""

TOGETHER = 8
"""Keys between two looks at the maximum."""

MOST_WIDTH = 192
"""Of queries and of values: 48 KB hold 32 of both, and registers a quarter of each."""


class _Kernel(AttentionBlocks):
    step = CHUNK

    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        super().__init__(b, place, params)
        self.query: DimLike = 0
        """The query of this thread, as it may be read."""
        self.part: DimLike = 0
        self.keys = b.share("key_tile", f32, TILE * self.width)
        self.values = b.share("value_tile", f32, TILE * self.value_width)

    def emit(self) -> None:
        """Units: blocks of queries of a head."""
        with self.units(TILE, THREADS) as (first, limit):
            row, self.part = self.b.split(self.b.thread, {"row": TILE, "part": PARTS})
            self.query = self.readable(first + row)
            self._attend(first + row, row, first, limit)

    def _attend(self, own: DimLike, row: DimLike, first_query: DimLike, limit: DimLike) -> None:
        """All blocks of keys that some query sees, then the results."""
        b, p = self.b, self.program
        self._fill(0, self.keys, first_query, (p.queries, p.width))
        b.barrier()
        query = [b.let(self._chunk(self.keys, row, self.width, c), "q") for c in range(self.width // CHUNK)]
        best = b.reg("best", VecType(f32), -INFINITY)
        total = b.reg("total", VecType(f32), 0)
        sums = b.reg_tile("sum", (self.value_width // CHUNK,), VecType(f32, LANES), 0)
        with b.loop("first", 0, limit, step=TILE) as first:
            b.barrier()
            self._fill(1, self.keys, first, (p.keys, p.width))
            self._fill(2, self.values, first, (p.keys, p.value_width))
            b.barrier()
            with b.loop("near", 0, TILE, step=TOGETHER) as near:
                rows = [near + n for n in range(TOGETHER)]
                logits = [self._logit(query, first, r) for r in rows]
                weights, fade = self._softmax(logits, best, total)
                self._add_values(rows, weights, fade, sums)
        self._store(own, total, sums)

    def _fill(self, operand: int, tile: str, first: DimLike, extents: tuple[DimLike, DimLike]) -> None:
        """Rows `first` and after of an operand into shared memory, zeros where there are none."""
        b, (rows, width) = self.b, extents
        padded = int(align(width, CHUNK))  # type: ignore[arg-type]
        row, node = QUERY if operand == 0 else KEY, self.node(operand)
        with b.loop("fill", 0, TILE * padded // THREADS, unroll=4) as step:
            number = b.thread + step * THREADS
            line = b.index(index(number // padded), 0, TILE - 1, "line")
            d = b.index(index(number % padded), 0, padded - 1, "d")
            inside = Condition(first + line, "<", rows).expr()
            with b.when(inside & Condition(d, "<", width).expr()):
                point = Point({**self.at, row: first + line, WIDTH: d})
                b.store(tile, line * padded + d, self.place.load(node, point))
            with b.otherwise():
                b.store(tile, line * padded + d, const(0, f32))

    def _chunk(self, tile: str, row: DimLike, width: int, chunk: int) -> Expr:
        """The elements of a row's chunk that belong to this thread."""
        return self.b.load(tile, row * width + chunk * CHUNK + self.part * LANES, LANES)

    def _logit(self, query: list[Expr], first: DimLike, row: DimLike) -> Expr:
        """The logit of a key, known to the four threads of a query."""
        b = self.b
        products: Expr = const(0, f32, LANES)
        for chunk, own in enumerate(query):
            key_part = b.let(self._chunk(self.keys, row, self.width, chunk), "k")
            products = b.let(fma(own, key_part, products))
        product = over_quads(b, operator.add, b.let(reduce_lanes("add", products)))
        seen = Condition(first + row, "<", self.end_of_keys(self.query)).expr()
        return self.logit(self.query, first + row, product, seen)

    def _softmax(self, logits: list[Expr], best: Reg, total: Reg) -> tuple[list[Expr], Expr]:
        """Weights that belong to the maximum so far, and what the sums so far are worth by it."""
        b = self.b
        old = b.let(best.read())
        found = old
        for logit in logits:
            found = maximum(found, logit)
        found = b.let(found)
        shift, fade = self.shift_and_fade(old, found)
        weights = [b.let(call("exp", b.let(logit - shift)), "weight") for logit in logits]
        added = weights[0]
        for weight in weights[1:]:
            added = added + weight
        b.set(total, total.read() * fade + added)
        b.set(best, found)
        return weights, fade

    def _add_values(self, rows: list[DimLike], weights: list[Expr], fade: Expr, sums: RegTile) -> None:
        b = self.b
        for chunk in range(self.value_width // CHUNK):
            faded = b.let(sums[chunk].read() * splat(fade, LANES))
            for row, weight in zip(rows, weights, strict=True):
                value = b.let(self._chunk(self.values, row, self.value_width, chunk), "v")
                faded = b.let(fma(splat(weight, LANES), value, faded))
            b.set(sums[chunk], faded)

    def _store(self, own: DimLike, total: Reg, sums: RegTile) -> None:
        """Sums over totals, for queries that there are."""
        b, p = self.b, self.program
        scale = self.scale(b.let(total.read()))
        with b.when(Condition(own, "<", p.queries)):
            for chunk in range(self.value_width // CHUNK):
                value = b.let(sums[chunk].read() * splat(scale, LANES))
                d = chunk * CHUNK + self.part * LANES
                with b.when(Condition(d + LANES, "<=", p.value_width)):
                    self._store_lanes(d, None, value)
                with b.otherwise(), b.when(Condition(d, "<", p.value_width)):
                    self._store_lanes(d, p.value_width - d, value)

    def _store_lanes(self, d: DimLike, count: DimLike | None, value: Expr) -> None:
        result = self.place.spec.results[0]
        assert result.expr is not None
        point = Point({**self.at, QUERY: self.query, WIDTH: d}, WIDTH, LANES, count)
        self.place.store(0, point, splat(self.place.expr(result.expr, point, {0: value}), LANES))


class BlockAttentionGenerator(AttentionBlockGenerator):
    """Kernels of `Attention` programs that are computed in f32."""

    name = "block attention"
    kernel = _Kernel

    def suitable(self, spec: KernelSpec, target: Target) -> Attention | str:
        """Programs computed in f32."""
        program = spec.program
        if not isinstance(program, Attention):
            return "not an attention"
        if any(o.dtype.compute is not f32 for o in spec.operands[:3]):
            return "computed in another type than f32"
        return too_wide(program, MOST_WIDTH) or program

    def offered(self, program: Attention) -> Iterator[Candidate]:
        """One candidate."""
        yield Candidate(self.name, f"a block for {TILE} queries, {TILE} keys at a time", cost=1e-6)

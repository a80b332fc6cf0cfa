"""Attention of 16-bit floats on tensor cores, in one pass over the keys.

A block takes some queries of a head, each of its warps 16.  Blocks of keys and values come to shared memory
in a pipeline of two stages.  A warp multiplies its queries with the keys, applies the score, keeps each row's
maximum and sum as it goes along (scaling what it has whenever the maximum grows) and multiplies the weights,
rounded to 16 bits, with the values; logits and weights never leave registers.  The sum is that of the
rounded weights, so that results are means of values whatever rounding does.  Which keys a query sees is asked
of those blocks alone that some query sees in part.

Here is what all such kernels do, and the one that multiplies by `mma`, of 64 queries a block.

Follows T. Dao, "FlashAttention-2" (2023).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, product
from typing import ClassVar

from aino_ir.codegen.cuda.attention_blocks import (
    AttentionBlockGenerator,
    AttentionBlocks,
    over_quads,
    too_wide,
)
from aino_ir.codegen.cuda.panels import Panel, Source, panel_shape
from aino_ir.codegen.cuda.product import Run
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.attention import INFINITY, KEY, QUERY, WIDTH
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.dims import DimLike, align, ceildiv, dmax
from aino_ir.dtypes import DType, bf16, f16, f32, i32, i64, u32
from aino_ir.kernels import Attention, Candidate, KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Expr,
    VecType,
    binary,
    cast,
    compare,
    const,
    fma,
    index,
    select,
)
from aino_ir.loops.registers import RegTile
from aino_ir.loops.warp import WARP
from aino_ir.target import Target

WARPS = 4
QUERIES = 16
"""Queries of a warp."""

STAGES = 2
MOST_WIDTH = 128
"""Of queries and of values: sums of a row are in registers."""

SHARED_BYTES = 48 << 10

LOG2E = 1.4426950408889634

Tile = list[Expr]
"""Of eight keys what a thread has: two neighbours of each of its two rows."""


def keys_of_a_stage(width: int, value_width: int) -> int:
    """As many keys as shared memory holds twice, with their values."""
    return 64 if 2 * STAGES * 64 * (width + value_width) <= SHARED_BYTES else 32


class FlashKernel(AttentionBlocks):
    """A kernel of warps that have 16 queries each, whatever multiplies.

    Products are spread over a warp as `mma` has them; fragments too.
    """

    warps: int
    keys: int
    """Of a stage."""

    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        super().__init__(b, place, params)
        self.half: DType = place.spec.operands[0].dtype
        self.rows: tuple[DimLike, DimLike] = (0, 0)
        """The queries that this thread has a part of, as they may be read."""
        self.quad: DimLike = 0
        self.log2e = const(LOG2E, f32)

    def panel(self, name: str, operand: int, lines: int, terms: int, stages: int, cut: int = 0) -> Panel:
        """Memory for queries, keys or, with keys as terms, values."""
        p, node = self.program, self.node(operand)
        address = self.place.spec.operands[operand].addr(node.index)  # type: ignore[arg-type]
        along, rows = (QUERY, p.queries) if operand == 0 else (KEY, p.keys)
        of_rows = Run(slope(address, along), rows, True)
        of_width = Run(slope(address, WIDTH), p.value_width if operand == 2 else p.width, True)
        term, line = (of_rows, of_width) if operand == 2 else (of_width, of_rows)
        shape = replace(panel_shape(term, line, (lines, terms), self.half), cut=cut)
        return Panel(self.b, self.place, name, min(operand, 1), shape, stages, self.warps * WARP)

    def source(self, operand: int) -> Source:
        """What fills a panel."""
        p, at = self.program, self.at
        if operand == 0:
            return Source(self.node(0), p.queries, p.width, lambda q, d: {**at, QUERY: q, WIDTH: d})
        if operand == 1:
            return Source(self.node(1), p.keys, p.width, lambda key, d: {**at, KEY: key, WIDTH: d})
        return Source(self.node(2), p.value_width, p.keys, lambda d, key: {**at, KEY: key, WIDTH: d})

    # -- what multiplies

    key_panel: Panel
    value_panel: Panel

    def begin(self, first: DimLike) -> None:
        """Fetch the queries, the block's from `first` on."""
        raise NotImplementedError

    def products(self, stage: DimLike) -> list[Tile]:
        """Products of the queries with a stage's keys."""
        raise NotImplementedError

    def add_values(self, stage: DimLike, weights: list[Expr], sums: RegTile) -> None:
        """Add the weights' products with a stage's values: fragments of a first factor, four for 16 keys."""
        raise NotImplementedError

    publish: ClassVar[bool] = False
    """Whether panels are read by groups."""

    # -- the whole

    def emit(self) -> None:
        """Units: blocks of queries of a head."""
        b = self.b
        with self.units(self.warps * QUERIES, self.warps * WARP) as (start, limit):
            lane = b.index(index(b.thread % WARP), 0, WARP - 1, "lane")
            row, self.quad = b.split(lane, {"row": 8, "quad": 4})
            warp = b.index(index(b.thread // WARP), 0, self.warps - 1, "warp")
            first = start + warp * QUERIES + row
            own = (first, first + 8)
            self.rows = (self.readable(own[0]), self.readable(own[1]))
            self.begin(start)
            self._attend(own, start, limit)

    def _attend(self, own: tuple[DimLike, DimLike], start: DimLike, limit: DimLike) -> None:
        """All blocks of keys that some query sees, first those that all see whole; then the results."""
        b = self.b
        best = b.reg_tile("best", (2,), VecType(f32), -INFINITY)
        total = b.reg_tile("total", (2,), VecType(f32), 0)
        sums = b.reg_tile("sum", (self.value_width // 8, 4), VecType(f32), 0)
        whole, steps = dmax(0, self.end_of_keys(start)) // self.keys, ceildiv(limit, self.keys)
        self._fill(0, 0, steps)
        for first, end, masked in ((0, whole, False), (whole, steps, True)):
            with b.loop("step", first, end) as step:
                b.await_copies(0, publish=self.publish)
                b.barrier()
                later = b.index(index((step + 1) % STAGES), 0, STAGES - 1, "later")
                self._fill(step + 1, later, steps)
                stage = b.index(index(step % STAGES), 0, STAGES - 1, "stage")
                logits = self._logits(self.products(stage), step * self.keys, masked)
                self.add_values(stage, self._softmax(logits, best, total, sums), sums)
        self._store(own, total, sums)

    def _fill(self, step: DimLike, stage: DimLike, steps: DimLike) -> None:
        """Begin to fetch a block of keys and values."""
        b = self.b
        first = step * self.keys
        with b.when(Condition(step, "<", steps)):
            self.key_panel.fill(self.source(1), stage, first, 0)
            self.value_panel.fill(self.source(2), stage, 0, first)
        b.close_copies()

    def _logits(self, products: list[Tile], first: DimLike, masked: bool) -> list[Tile]:
        """Logits of keys from `first` on; `masked` where some of them may not be seen."""
        ends = [self._end(row, first) for row in self.rows] if masked else []
        out = []
        for n, tile in enumerate(products):
            logits = []
            for i, found in enumerate(tile):
                column, row = 8 * n + i % 2, i // 2
                seen = compare("gt", ends[row], const(column, i32)) if masked else None
                key = first + self.quad * 2 + column
                logits.append(self.logit(self.rows[row], key, found, seen))
            out.append(logits)
        return out

    def _end(self, row: DimLike, first: DimLike) -> Expr:
        """How many keys after this thread's first one a query sees, in few bits."""
        rest = self.end_of_keys(row) - first - self.quad * 2
        bounded = binary("min", binary("max", index(rest), const(0, i64)), const(self.keys, i64))
        return self.b.let(cast(bounded, i32), "end")

    def _softmax(self, logits: list[Tile], best: RegTile, total: RegTile, sums: RegTile) -> list[Expr]:
        """Weights that belong to the maxima so far, as fragments; sums and totals are scaled to them."""
        b = self.b
        weights: list[Expr] = [const(0, u32)] * (2 * len(logits))
        for row in range(2):
            mine = [tile[2 * row : 2 * row + 2] for tile in logits]
            old = b.let(best[row].read())
            found = old
            for logit in chain(*mine):
                (found,) = b.warp("larger_f32", found, logit)
            found = over_quads(b, self._larger, found)
            shift, fade = self._shift_and_fade(old, found)
            added: Expr = const(0, f32)
            for n, pair in enumerate(mine):
                exact = [self._power(fma(x, self.log2e, -shift)) for x in pair]
                weights[2 * n + row] = b.warp(f"pack_{self.half}", *exact, hint="weight")[0]
                left, right = b.warp(f"unpack_{self.half}", weights[2 * n + row])
                added = added + left + right
            b.set(total[row], total[row].read() * fade + added)
            b.set(best[row], found)
            for column, part in product(range(self.value_width // 8), range(2)):
                place = sums[column, 2 * row + part]
                b.set(place, place.read() * fade)
        return weights

    def _larger(self, x: Expr, y: Expr) -> Expr:
        return self.b.warp("larger_f32", x, y)[0]

    def _power(self, x: Expr) -> Expr:
        return self.b.warp("exp2_f32", x)[0]

    def _shift_and_fade(self, old: Expr, found: Expr) -> tuple[Expr, Expr]:
        """As `shift_and_fade`, to the base 2: both shifts are rounded alike, so that errors cancel."""
        b = self.b
        none = compare("eq", found, -INFINITY)
        shift = b.let(select(none, const(0, f32), b.let(found * self.log2e)), "shift")
        return shift, self._power(b.let(b.let(old * self.log2e) - shift))

    def _store(self, own: tuple[DimLike, DimLike], total: RegTile, sums: RegTile) -> None:
        """Sums over totals, for queries that there are."""
        b, p = self.b, self.program
        result = self.place.spec.results[0]
        assert result.expr is not None
        for row in range(2):
            scale = self.scale(over_quads(b, operator.add, b.let(total[row].read())))
            with b.when(Condition(own[row], "<", p.queries)):
                for column, part in product(range(self.value_width // 8), range(2)):
                    d = column * 8 + self.quad * 2 + part
                    with b.when(Condition(d, "<", p.value_width)):
                        value = b.let(sums[column, 2 * row + part].read() * scale)
                        point = Point({**self.at, QUERY: own[row], WIDTH: d})
                        self.place.store(0, point, self.place.expr(result.expr, point, {0: value}))


class _Kernel(FlashKernel):
    step = 16
    warps = WARPS

    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        super().__init__(b, place, params)
        self.keys = keys_of_a_stage(self.width, self.value_width)
        self.key_panel = self.panel("key_panels", 1, self.keys, self.width, STAGES)
        self.value_panel = self.panel("value_panels", 2, self.value_width, self.keys, STAGES)
        self.queries: list[tuple[Expr, ...]] = []

    def begin(self, first: DimLike) -> None:
        """Queries are fragments."""
        self.queries = [self._query_fragment(term) for term in range(0, self.width, 16)]

    def _query_fragment(self, term: int) -> tuple[Expr, ...]:
        """16 terms of the warp's queries, as a first factor."""
        out: list[Expr] = []
        for i in range(4):
            pair = []
            for part in range(2):
                d = place = term + i // 2 * 8 + self.quad * 2 + part
                if term + 16 > int(self.program.width):  # type: ignore[arg-type]
                    bound = index(self.program.width - 1)
                    d = self.b.index(binary("min", index(place), bound), 0, self.program.width - 1, "d")
                point = Point({**self.at, QUERY: self.rows[i % 2], WIDTH: d})
                pair.append(self.place.load(self.node(0), point))
            out += self.b.warp(f"pack_{self.half}", *pair, hint="query")
        return tuple(out)

    def products(self, stage: DimLike) -> list[Tile]:
        """Of eight keys each."""
        b, mma = self.b, f"mma_{self.half}"
        out: list[Tile] = []
        for line in range(0, self.keys, 16):
            tiles: list[tuple[Expr, ...]] = [(const(0, f32),) * 4] * 2
            for number, query in enumerate(self.queries):
                keys = self.key_panel.fragments(stage, line, 16 * number)
                tiles = [b.warp(mma, *query, *keys[2 * n : 2 * n + 2], *tiles[n]) for n in range(2)]
            out += map(list, tiles)
        return out

    def add_values(self, stage: DimLike, weights: list[Expr], sums: RegTile) -> None:
        """16 keys and eight elements of a value at a time."""
        b = self.b
        for term in range(0, self.keys, 16):
            rows = weights[term // 4 : term // 4 + 4]
            for line in range(0, self.value_width, 16):
                values = self.value_panel.fragments(stage, line, term)
                for n in range(2):
                    totals = [sums[line // 8 + n, i] for i in range(4)]
                    old = [t.read() for t in totals]
                    found = b.warp(f"mma_{self.half}", *rows, *values[2 * n : 2 * n + 2], *old)
                    for register, value in zip(totals, found, strict=True):
                        b.set(register, value)


def of_halves(spec: KernelSpec) -> Attention | str:
    """The attention of a spec whose operands are 16-bit floats, or why it is none for tensor cores."""
    if not isinstance(spec.program, Attention):
        return "not an attention"
    dtypes = {o.dtype for o in spec.operands[:3]}
    if len(dtypes) != 1 or not dtypes <= {bf16, f16}:
        return f"operands of {', '.join(sorted(d.name for d in dtypes))}"
    return too_wide(spec.program, MOST_WIDTH) or spec.program


class FlashAttentionGenerator(AttentionBlockGenerator):
    """Kernels of `Attention` programs of 16-bit floats."""

    name = "flash attention"
    kernel = _Kernel

    def suitable(self, spec: KernelSpec, target: Target) -> Attention | str:
        """Programs of one type of 16 bits."""
        return of_halves(spec)

    def offered(self, program: Attention) -> Iterator[Candidate]:
        """One candidate."""
        widths = (program.width, program.value_width)
        keys = keys_of_a_stage(*(int(align(w, _Kernel.step)) for w in widths))  # type: ignore[arg-type]
        name = f"tensor cores, {WARPS * QUERIES} queries, {keys} keys at a time"
        yield Candidate(self.name, name, cost=1e-7, error_class="approximate")

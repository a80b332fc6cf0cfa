"""Attention of 16-bit floats on tensor cores, in one pass over the keys.

A block takes 64 queries of a head, each of its four warps 16.  Blocks of keys and values come to shared
memory in a pipeline of two stages.  A warp multiplies its queries with the keys, applies the score, keeps
each row's maximum and sum as it goes along (scaling what it has whenever the maximum grows) and multiplies
the weights, rounded to 16 bits, with the values; logits and weights never leave registers.  The sum is that
of the rounded weights, so that results are means of values whatever rounding does.

Follows T. Dao, "FlashAttention-2" (2023).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

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
from aino_ir.dims import DimLike, align, ceildiv
from aino_ir.dtypes import DType, bf16, f16, f32
from aino_ir.kernels import Attention, Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Expr,
    VecType,
    binary,
    call,
    cast,
    const,
    index,
    maximum,
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


def keys_of_a_stage(width: int, value_width: int) -> int:
    """As many keys as shared memory holds twice, with their values."""
    return 64 if 2 * STAGES * 64 * (width + value_width) <= SHARED_BYTES else 32


class _Kernel(AttentionBlocks):
    step = 16

    def __init__(self, b: LoopBuilder, place: Placement) -> None:
        super().__init__(b, place)
        self.half: DType = place.spec.operands[0].dtype
        self.keys = keys_of_a_stage(self.width, self.value_width)
        self.rows: tuple[DimLike, DimLike] = (0, 0)
        """The queries that this thread has a part of, as they may be read."""
        self.quad: DimLike = 0
        self.key_panel = self._panel("key_panels", 1, self.keys, self.width)
        self.value_panel = self._panel("value_panels", 2, self.value_width, self.keys)

    def _panel(self, name: str, operand: int, lines: int, terms: int) -> Panel:
        p, node = self.program, self.node(operand)
        address = self.place.spec.operands[operand].addr(node.index)  # type: ignore[arg-type]
        of_keys = Run(slope(address, KEY), p.keys, True)
        of_width = Run(slope(address, WIDTH), p.width if operand == 1 else p.value_width, True)
        term, line = (of_width, of_keys) if operand == 1 else (of_keys, of_width)
        shape = panel_shape(term, line, (lines, terms), self.half)
        return Panel(self.b, self.place, name, 1, shape, STAGES, WARPS * WARP)

    def emit(self) -> None:
        """Units: blocks of queries of a head."""
        b = self.b
        with self.units(WARPS * QUERIES, WARPS * WARP) as (start, limit):
            lane = b.index(index(b.thread % WARP), 0, WARP - 1, "lane")
            row, self.quad = b.split(lane, {"row": 8, "quad": 4})
            warp = b.index(index(b.thread // WARP), 0, WARPS - 1, "warp")
            first = start + warp * QUERIES + row
            own = (first, first + 8)
            self.rows = (self.readable(own[0]), self.readable(own[1]))
            self._attend(own, limit)

    def _attend(self, own: tuple[DimLike, DimLike], limit: DimLike) -> None:
        """All blocks of keys that some query sees, then the results."""
        b = self.b
        queries = [self._query_fragment(term) for term in range(0, self.width, 16)]
        best = b.reg_tile("best", (2,), VecType(f32), -INFINITY)
        total = b.reg_tile("total", (2,), VecType(f32), 0)
        sums = b.reg_tile("sum", (self.value_width // 8, 4), VecType(f32), 0)
        steps = ceildiv(limit, self.keys)
        self._fill(0, 0, steps)
        with b.loop("step", 0, steps) as step:
            b.await_copies(0)
            b.barrier()
            later = b.index(index((step + 1) % STAGES), 0, STAGES - 1, "later")
            self._fill(step + 1, later, steps)
            stage = b.index(index(step % STAGES), 0, STAGES - 1, "stage")
            logits = self._logits(stage, step * self.keys, queries)
            weights = self._softmax(logits, best, total, sums)
            self._add_values(stage, weights, sums)
        self._store(own, total, sums)

    def _fill(self, step: DimLike, stage: DimLike, steps: DimLike) -> None:
        """Begin to fetch a block of keys and values."""
        b, p = self.b, self.program
        first = step * self.keys
        with b.when(Condition(step, "<", steps)):
            keys = Source(self.node(1), p.keys, p.width, lambda key, d: {**self.at, KEY: key, WIDTH: d})
            self.key_panel.fill(keys, stage, first, 0)
            values = Source(
                self.node(2), p.value_width, p.keys, lambda d, key: {**self.at, KEY: key, WIDTH: d}
            )
            self.value_panel.fill(values, stage, 0, first)
        b.close_copies()

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

    def _logits(self, stage: DimLike, first: DimLike, queries: list[tuple[Expr, ...]]) -> list[list[Expr]]:
        """Logits of this thread by columns of eight keys: two of each row."""
        b, mma = self.b, f"mma_{self.half}"
        out: list[list[Expr]] = []
        for line in range(0, self.keys, 16):
            tiles: list[tuple[Expr, ...]] = [(const(0, f32),) * 4] * 2
            for number, query in enumerate(queries):
                keys = self.key_panel.fragments(stage, line, 16 * number)
                tiles = [b.warp(mma, *query, *keys[2 * n : 2 * n + 2], *tiles[n]) for n in range(2)]
            for n, tile in enumerate(tiles):
                start = first + line + 8 * n + self.quad * 2
                out.append([self.logit(self.rows[i // 2], start + i % 2, x) for i, x in enumerate(tile)])
        return out

    def _softmax(
        self, logits: list[list[Expr]], best: RegTile, total: RegTile, sums: RegTile
    ) -> list[list[Expr]]:
        """Weights that belong to the maxima so far; sums and totals are scaled to them."""
        b = self.b
        weights = [list(tile) for tile in logits]
        for row in range(2):
            mine = [(n, 2 * row + part) for n, part in product(range(len(logits)), range(2))]
            old = b.let(best[row].read())
            found = old
            for n, i in mine:
                found = maximum(found, logits[n][i])
            found = over_quads(b, "max", b.let(found))
            shift, fade = self.shift_and_fade(old, found)
            added: Expr = const(0, f32)
            for n, i in mine:
                exact = b.let(call("exp", b.let(logits[n][i] - shift)))
                weights[n][i] = b.let(cast(cast(exact, self.half), f32), "weight")
                added = added + weights[n][i]
            b.set(total[row], total[row].read() * fade + added)
            b.set(best[row], found)
            for column, part in product(range(self.value_width // 8), range(2)):
                place = sums[column, 2 * row + part]
                b.set(place, place.read() * fade)
        return weights

    def _add_values(self, stage: DimLike, weights: list[list[Expr]], sums: RegTile) -> None:
        b = self.b
        for term in range(0, self.keys, 16):
            left, right = weights[term // 8], weights[term // 8 + 1]
            pairs = ((left[0], left[1]), (left[2], left[3]), (right[0], right[1]), (right[2], right[3]))
            rows = [b.warp(f"pack_{self.half}", *pair)[0] for pair in pairs]
            for line in range(0, self.value_width, 16):
                values = self.value_panel.fragments(stage, line, term)
                for n in range(2):
                    totals = [sums[line // 8 + n, i] for i in range(4)]
                    old = [t.read() for t in totals]
                    found = b.warp(f"mma_{self.half}", *rows, *values[2 * n : 2 * n + 2], *old)
                    for register, value in zip(totals, found, strict=True):
                        b.set(register, value)

    def _store(self, own: tuple[DimLike, DimLike], total: RegTile, sums: RegTile) -> None:
        """Sums over totals, for queries that there are."""
        b, p = self.b, self.program
        result = self.place.spec.results[0]
        assert result.expr is not None
        for row in range(2):
            scale = self.scale(over_quads(b, "add", b.let(total[row].read())))
            with b.when(Condition(own[row], "<", p.queries)):
                for column, part in product(range(self.value_width // 8), range(2)):
                    d = column * 8 + self.quad * 2 + part
                    with b.when(Condition(d, "<", p.value_width)):
                        value = b.let(sums[column, 2 * row + part].read() * scale)
                        point = Point({**self.at, QUERY: own[row], WIDTH: d})
                        self.place.store(0, point, self.place.expr(result.expr, point, {0: value}))


class FlashAttentionGenerator(AttentionBlockGenerator):
    """Kernels of `Attention` programs of 16-bit floats."""

    name = "flash attention"
    kernel = _Kernel

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate."""
        program = spec.program
        if not isinstance(program, Attention):
            yield Reject(self.name, "not an attention")
            return
        dtypes = {o.dtype for o in spec.operands[:3]}
        if len(dtypes) != 1 or not dtypes <= {bf16, f16}:
            yield Reject(self.name, f"operands of {', '.join(sorted(d.name for d in dtypes))}")
            return
        wide = too_wide(program, MOST_WIDTH)
        if wide:
            yield Reject(self.name, wide)
            return
        widths = (program.width, program.value_width)
        keys = keys_of_a_stage(*(int(align(w, _Kernel.step)) for w in widths))  # type: ignore[arg-type]
        name = f"tensor cores, {WARPS * QUERIES} queries, {keys} keys at a time"
        yield Candidate(self.name, name, cost=1e-7, error_class="approximate")

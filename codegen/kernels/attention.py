"""Attention: softmax(score(Q K^T)) V per (batch, head), logits of a few rows at a time in scratch.

A unit packs K^T of its head once, then walks blocks of queries: logits by register tiles, an exact
softmax over each whole row, and the product with V.  Nothing but a block's logits is ever stored.
A block is one register tile of queries where K and V fit L2 (its logits then stay in L1), else
several, so that K and V are read from afar once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import emit_checks, name_index, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import axis_name
from aino_ir.dims import DimLike, align, ceildiv, dmin, is_static, symbol
from aino_ir.dtypes import boolean
from aino_ir.kernels import Attention, Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Expr,
    PrefixMask,
    Read,
    VecType,
    call,
    compare,
    const,
    fma,
    maximum,
    reduce_lanes,
    select,
    splat,
)
from aino_ir.loops.expr_tree import map_expr
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

BATCH, HEAD, QUERY, KEY, WIDTH = (axis_name(n) for n in ("b", "h", "q", "k", "d"))
"""Axes of an `Attention` program; WIDTH is that of the values."""

INFINITY = float("inf")

MOST_TILES = 8
"""Register tiles of queries in a block."""

SYMBOLIC_KEYS = 1024
"""How many keys a symbolic number is taken for."""


class AttentionGenerator:
    """Kernels of `Attention` programs."""

    name = "attention"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One tile per target: rows x 2 vectors, as a GEMM would take."""
        program = spec.program
        if not isinstance(program, Attention):
            yield Reject(self.name, "not an attention")
            return
        lanes = vector_lanes(spec, target)
        rows = (target.vector_registers - 4) // 2
        heads = program.batch * program.heads
        blocks = 1
        if is_static(heads) and int(heads) < 2 * target.cores:  # type: ignore[arg-type]
            blocks = -(-2 * target.cores // max(1, int(heads)))  # type: ignore[arg-type]
        tiles, depth = _blocking(program, rows, target)
        params = (("rows", rows), ("lanes", lanes), ("blocks", blocks), ("tiles", tiles), ("depth", depth))
        name = f"rows {rows} x {tiles}, {blocks} units a head, {depth} keys at a time"
        yield Candidate(self.name, name, params, cost=1e-4)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        params = dict(candidate.params)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        emit_checks(place)
        _Loops(b, place, params).emit()
        return b.finish(header(spec, candidate))


def _blocking(program: Attention, rows: int, target: Target) -> tuple[int, int]:
    """(register tiles of a block of queries, keys whose values are read for all of them in turn)."""
    keys, width = extent_or(program.keys, SYMBOLIC_KEYS), extent_or(program.width, 64)
    value_width = extent_or(program.value_width, 64)
    depth = max(64, target.l2_bytes // 4 // (4 * value_width) // 64 * 64)
    if 4 * keys * (width + value_width) <= target.l2_bytes // 2:
        return 1, -(-keys // 64) * 64
    return max(1, min(MOST_TILES, target.l2_bytes * 3 // 8 // (4 * keys * rows))), depth


@dataclass(frozen=True)
class KeyBlock:
    """Keys first..stop-1 of the `limit` that are visible."""

    first: DimLike
    stop: DimLike
    limit: DimLike


class _Loops:
    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        self.b, self.place = b, place
        self.rows, self.lanes, self.blocks = params["rows"], params["lanes"], params["blocks"]
        self.tall, self.depth = params["rows"] * params["tiles"], params["depth"]
        program = place.spec.program
        assert isinstance(program, Attention)
        self.program = program
        self.dtype = place.spec.operands[0].dtype.compute
        self.score = map_expr(program.score, lambda e: Accumulator(e.type) if isinstance(e, Arg) else None)
        lanes = self.lanes
        self.keys_wide = align(program.keys, 2 * lanes)
        self.packed = b.alloc("keys", self.dtype, self.keys_wide * program.width)
        rest = int(program.queries) % self.rows if is_static(program.queries) else 0  # type: ignore[arg-type]
        held = self.tall + rest  # the rest stands behind whole tiles
        self.logits = b.alloc("logits", self.dtype, self.keys_wide * held)
        self.scales = b.alloc("scales", self.dtype, held)
        self.cut = not is_static(program.keys) or int(program.keys) > self.depth  # type: ignore[arg-type]
        self.sums_wide = align(program.value_width, lanes)
        self.sums = b.alloc("sums", self.dtype, self.sums_wide * held) if self.cut else ""

    def emit(self) -> None:
        """Units: one head, or a block of queries of one."""
        b, p = self.b, self.program
        per_block = align(ceildiv(p.queries, self.blocks), self.rows)
        blocks = ceildiv(p.queries, per_block)
        with b.units(p.batch * p.heads * blocks) as unit:
            block = name_index(b, unit % blocks, "block")
            head = name_index(b, unit // blocks % p.heads, "head")
            batch = name_index(b, unit // (blocks * p.heads), "batch")
            at = {BATCH: batch, HEAD: head}
            shared = p.heads is not p.kv_heads
            kv = name_index(b, head // (p.heads // p.kv_heads), "kv_head") if shared else head
            self._pack_keys(batch, kv)
            start = block * per_block
            stop = dmin(start + per_block, p.queries)
            with b.loop("q_block", start, stop, step=self.tall) as first:
                self._query_block(at, kv, first, dmin(first + self.tall, stop))

    def _read(self, operand: int, index: tuple[DimLike, ...], point: Point) -> Expr:
        node = Read(operand, index, VecType(self.dtype))
        return self.place.load(node, point)

    def _pack_keys(self, batch: DimLike, kv: DimLike) -> None:
        """scratch[d][key] = K[batch, kv, key, d], lanes past the last key zero."""
        b, p, lanes = self.b, self.program, self.lanes
        key = symbol(KEY)
        with b.loop("key", 0, p.keys, step=lanes) as k:
            with b.when(Condition(k + lanes, "<=", p.keys)):
                self._pack_block(batch, kv, key, Point({KEY: k}, KEY, lanes))
            with b.otherwise():
                self._pack_block(batch, kv, key, Point({KEY: k}, KEY, lanes, p.keys - k))
        with b.loop("pad", align(p.keys, lanes), self.keys_wide, step=lanes) as k:
            with b.loop("d", 0, p.width) as d:
                b.store(self.packed, d * self.keys_wide + k, const(0, self.dtype, lanes))

    def _pack_block(self, batch: DimLike, kv: DimLike, key: DimLike, point: Point) -> None:
        with self.b.loop("d", 0, self.program.width, unroll=4) as d:
            value = self._read(1, (batch, kv, key, d), point)
            self.b.store(self.packed, d * self.keys_wide + point.at[KEY], splat(value, self.lanes))

    # -- one tile of queries --------------------------------------------------------------------------

    def _query_block(self, at: dict[str, DimLike], kv: DimLike, first: DimLike, stop: DimLike) -> None:
        """Queries first..stop-1: all logits, then all softmaxes, then all sums of values."""
        b, p, wide = self.b, self.program, 2 * self.lanes
        limit = dmin(p.keys, stop + p.offset) if p.causal else p.keys  # keys that any query sees
        with b.loop("k", 0, align(limit, wide), step=wide) as k:
            self._tiles(first, stop, lambda q, rows, row: self._logits(at, q, rows, row, k, limit))
        with b.loop("row", 0, stop - first) as row:
            b.store(self.scales, row, self._softmax(row, limit))
        if not self.cut:
            block = KeyBlock(0, limit, limit)
            self._tiles(first, stop, lambda q, rows, row: self._values(at, kv, q, rows, row, block))
            return
        with b.loop("k_block", 0, limit, step=self.depth) as k:
            block = KeyBlock(k, dmin(k + self.depth, limit), limit)
            self._tiles(first, stop, lambda q, rows, row: self._values(at, kv, q, rows, row, block))

    def _tiles(self, first: DimLike, stop: DimLike, body: Callable[[DimLike, int, DimLike], None]) -> None:
        """Run `body(q, rows, row)` for whole register tiles of queries, then for the exact rest.

        `row` is q's place in scratch.
        """
        b, rows, queries = self.b, self.rows, self.program.queries
        whole = first + (stop - first) // rows * rows
        with b.loop("q", first, whole, step=rows) as q:
            body(q, rows, q - first)
        if not is_static(queries):
            with b.loop("q", whole, stop) as q:
                body(q, 1, q - first)
        elif rest := int(queries) % rows:  # type: ignore[arg-type]
            with b.when(Condition(stop, ">=", queries)):
                body(queries - rest, rest, (stop - first) // rows * rows)

    def _logits(
        self, at: dict[str, DimLike], q: DimLike, rows: int, row: DimLike, k: DimLike, limit: DimLike
    ) -> None:
        b, lanes, wide = self.b, self.lanes, 2 * self.lanes
        acc = b.reg_tile("acc", (rows, 2), VecType(self.dtype, lanes), 0)
        with b.loop("d", 0, self.program.width, unroll=2) as d:
            keys = [b.load(self.packed, d * self.keys_wide + k + j * lanes, lanes) for j in range(2)]
            for i in range(rows):
                x = splat(self._read(0, (at[BATCH], at[HEAD], q + i, d), Point({})), lanes)
                x = b.let(x, "x")
                for j in range(2):
                    b.set(acc[i, j], fma(x, keys[j], acc[i, j].read()))
        with b.when(Condition(k + wide, "<=", limit)):
            self._store_logits(at, q, rows, row, k, acc, None)
        with b.otherwise():
            self._store_logits(at, q, rows, row, k, acc, limit)

    def _store_logits(
        self,
        at: dict[str, DimLike],
        q: DimLike,
        rows: int,
        row: DimLike,
        k: DimLike,
        acc: RegTile,
        limit: DimLike | None,
    ) -> None:
        b, lanes = self.b, self.lanes
        for i in range(rows):
            for j in range(2):
                first = k + j * lanes
                count = None if limit is None else limit - first
                point = Point({**at, QUERY: q + i, KEY: first}, KEY, lanes, count)
                raw = b.let(acc[i, j].read())
                value = splat(self.place.expr(self.score, point, accumulators={0: raw}), lanes)
                if count is not None:
                    mask = PrefixMask(count, VecType(boolean, lanes))
                    value = select(mask, value, const(-INFINITY, self.dtype, lanes))
                b.store(self.logits, (row + i) * self.keys_wide + first, b.let(value))

    def _softmax(self, number: DimLike, limit: DimLike) -> Expr:
        """Turn a row of logits into exp(x - max); returns 1 / sum."""
        b, lanes = self.b, self.lanes
        row, end = number * self.keys_wide, align(limit, 2 * lanes)
        lowest = const(-INFINITY, self.dtype, lanes)
        tops = [b.reg("top", VecType(self.dtype, lanes), lowest) for _ in range(2)]
        with b.loop("k", 0, end, step=2 * lanes) as k:
            for j, best in enumerate(tops):
                b.set(best, maximum(best.read(), b.load(self.logits, row + k + j * lanes, lanes)))
        top = b.let(reduce_lanes("max", b.let(maximum(tops[0].read(), tops[1].read()))), "top")
        if self.program.masked_rows_zero:  # a row without any key: exp(-inf - 0) = 0 everywhere
            top = b.let(select(compare("eq", top, -INFINITY), const(0, self.dtype), top), "top")
        shift = b.let(splat(top, lanes), "shift")
        sums = [b.reg("sum", VecType(self.dtype, lanes), const(0, self.dtype, lanes)) for _ in range(2)]
        with b.loop("k", 0, end, step=2 * lanes) as k:
            for j, partial in enumerate(sums):
                offset = row + k + j * lanes
                e = b.let(call("exp", b.load(self.logits, offset, lanes) - shift), "e")
                b.store(self.logits, offset, e)
                b.set(partial, partial.read() + e)
        total = b.let(reduce_lanes("add", b.let(sums[0].read() + sums[1].read())), "total")
        if self.program.masked_rows_zero:
            total = b.let(select(compare("eq", total, 0), const(1, self.dtype), total), "total")
        return b.let(const(1, self.dtype) / total, "scale")

    def _values(
        self, at: dict[str, DimLike], kv: DimLike, q: DimLike, rows: int, row: DimLike, block: KeyBlock
    ) -> None:
        b, lanes, width = self.b, self.lanes, self.program.value_width
        whole = width // (2 * lanes) * (2 * lanes)
        with b.loop("d", 0, whole, step=2 * lanes) as d:
            self._value_tile(at, kv, q, rows, row, block, [(d, None), (d + lanes, None)])
        with b.loop("d", whole, width, step=lanes) as d:
            count = None if is_static(width) and int(width) % lanes == 0 else width - d  # type: ignore[arg-type]
            self._value_tile(at, kv, q, rows, row, block, [(d, count)])

    def _value_tile(
        self,
        at: dict[str, DimLike],
        kv: DimLike,
        q: DimLike,
        rows: int,
        row: DimLike,
        block: KeyBlock,
        columns: list[tuple[DimLike, DimLike | None]],
    ) -> None:
        """Add a block of keys' values to the sums of a tile; behind the last key, scale and write them."""
        b, lanes = self.b, self.lanes
        acc = b.reg_tile("acc", (rows, len(columns)), VecType(self.dtype, lanes), 0)
        if self.cut:
            with b.when(Condition(block.first, ">", 0)):
                for i, j in product(range(rows), range(len(columns))):
                    b.set(acc[i, j], b.load(self.sums, (row + i) * self.sums_wide + columns[j][0], lanes))
        lane = symbol(WIDTH)
        with b.loop("k", block.first, block.stop, unroll=2) as k:
            values = []
            for d, count in columns:
                v = self._read(2, (at[BATCH], kv, k, lane), Point({WIDTH: d}, WIDTH, lanes, count))
                values.append(b.let(splat(v, lanes), "v"))
            for i in range(rows):
                x = b.let(splat(b.load(self.logits, (row + i) * self.keys_wide + k), lanes), "p")
                for j, v in enumerate(values):
                    b.set(acc[i, j], fma(x, v, acc[i, j].read()))
        if not self.cut:
            self._write(at, q, rows, row, columns, acc)
            return
        with b.when(Condition(block.stop, ">=", block.limit)):
            self._write(at, q, rows, row, columns, acc)
        with b.otherwise():
            for i, j in product(range(rows), range(len(columns))):
                b.store(self.sums, (row + i) * self.sums_wide + columns[j][0], acc[i, j].read())

    def _write(
        self,
        at: dict[str, DimLike],
        q: DimLike,
        rows: int,
        row: DimLike,
        columns: list[tuple[DimLike, DimLike | None]],
        acc: RegTile,
    ) -> None:
        b, lanes = self.b, self.lanes
        result = self.place.spec.results[0]
        assert result.expr is not None
        for i in range(rows):
            scale = b.let(splat(b.load(self.scales, row + i), lanes), "scale")
            for j, (d, count) in enumerate(columns):
                point = Point({**at, QUERY: q + i, WIDTH: d}, WIDTH, lanes, count)
                value = b.let(acc[i, j].read() * scale)
                self.place.store(0, point, self.place.expr(result.expr, point, accumulators={0: value}))

"""Attention: softmax(score(Q K^T)) V per (batch, head), logits of a few rows at a time in scratch.

A unit packs K^T of its head once, then walks query tiles: logits by register tiles, an exact
softmax over the whole row, and the product with V.  Nothing but the tile's logits is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import emit_checks, name_index, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
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
    map_expr,
    maximum,
    reduce_lanes,
    select,
    splat,
)
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

INFINITY = float("inf")


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
        params = (("rows", rows), ("lanes", lanes), ("blocks", blocks))
        yield Candidate(self.name, f"rows {rows}, {blocks} query blocks a head", params, cost=1e-4)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        params = dict(candidate.params)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        emit_checks(place)
        _Loops(b, place, params["rows"], params["lanes"], params["blocks"]).emit()
        return b.finish(header(spec, candidate))


class _Loops:
    def __init__(self, b: LoopBuilder, place: Placement, rows: int, lanes: int, blocks: int) -> None:
        self.b, self.place, self.rows, self.lanes, self.blocks = b, place, rows, lanes, blocks
        program = place.spec.program
        assert isinstance(program, Attention)
        self.program = program
        self.dtype = place.spec.operands[0].dtype.compute
        self.score = map_expr(
            program.score, lambda e: Accumulator(e.type) if isinstance(e, Arg) else None
        )
        self.keys_wide = align(program.keys, 2 * lanes)
        self.packed = b.alloc("keys", self.dtype, self.keys_wide * program.width)
        self.logits = b.alloc("logits", self.dtype, self.keys_wide * rows)

    def emit(self) -> None:
        """Units: one head, or a block of queries of one."""
        b, p = self.b, self.program
        per_block = align(ceildiv(p.queries, self.blocks), self.rows)
        blocks = ceildiv(p.queries, per_block)
        with b.units(p.batch * p.heads * blocks) as unit:
            block = name_index(b, unit % blocks, "block")
            head = name_index(b, unit // blocks % p.heads, "head")
            batch = name_index(b, unit // (blocks * p.heads), "batch")
            at = {"b": batch, "h": head}
            kv = name_index(b, head // (p.heads // p.kv_heads), "kv_head") if p.heads is not p.kv_heads else head
            self._pack_keys(batch, kv)
            start = block * per_block
            stop = dmin(start + per_block, p.queries)
            whole = start + (stop - start) // self.rows * self.rows
            with b.loop("q", start, whole, step=self.rows) as q:
                self._tile(at, kv, q, self.rows)
            with b.loop("q", whole, stop) as q:
                self._tile(at, kv, q, 1)

    def _read(self, operand: int, index: tuple[DimLike, ...], point: Point) -> Expr:
        node = Read(operand, index, VecType(self.dtype))
        return self.place.load(node, point)

    def _pack_keys(self, batch: DimLike, kv: DimLike) -> None:
        """scratch[d][key] = K[batch, kv, key, d], lanes past the last key zero."""
        b, p, lanes = self.b, self.program, self.lanes
        key = symbol("key")
        with b.loop("key", 0, p.keys, step=lanes) as k:
            with b.when(Condition(k + lanes, "<=", p.keys)):
                self._pack_block(batch, kv, key, Point({"key": k}, "key", lanes))
            with b.otherwise():
                self._pack_block(batch, kv, key, Point({"key": k}, "key", lanes, p.keys - k))
        with b.loop("pad", align(p.keys, lanes), self.keys_wide, step=lanes) as k:
            with b.loop("d", 0, p.width) as d:
                b.store(self.packed, d * self.keys_wide + k, const(0, self.dtype, lanes))

    def _pack_block(self, batch: DimLike, kv: DimLike, key: DimLike, point: Point) -> None:
        with self.b.loop("d", 0, self.program.width, unroll=4) as d:
            value = self._read(1, (batch, kv, key, d), point)
            self.b.store(self.packed, d * self.keys_wide + point.at["key"], splat(value, self.lanes))

    # -- one tile of queries --------------------------------------------------------------------------

    def _tile(self, at: dict[str, DimLike], kv: DimLike, q: DimLike, rows: int) -> None:
        limit = self._visible_keys(q, rows)
        self._all_logits(at, q, rows, limit)
        scales = [self._softmax(i, limit) for i in range(rows)]
        self._weighted_values(at, kv, q, rows, limit, scales)

    def _visible_keys(self, q: DimLike, rows: int) -> DimLike:
        """Keys that any row of the tile can see."""
        p = self.program
        return dmin(p.keys, q + rows + p.offset) if p.causal else p.keys

    def _all_logits(self, at: dict[str, DimLike], q: DimLike, rows: int, limit: DimLike) -> None:
        b, lanes, wide = self.b, self.lanes, 2 * self.lanes
        with b.loop("k", 0, align(limit, wide), step=wide) as k:
            acc = b.reg_tile("acc", (rows, 2), VecType(self.dtype, lanes), 0)
            with b.loop("d", 0, self.program.width, unroll=2) as d:
                keys = [b.load(self.packed, d * self.keys_wide + k + j * lanes, lanes) for j in range(2)]
                for i in range(rows):
                    x = splat(self._read(0, (at["b"], at["h"], q + i, d), Point({})), lanes)
                    x = b.let(x, "x")
                    for j in range(2):
                        b.set(acc[i, j], fma(x, keys[j], acc[i, j].read()))
            with b.when(Condition(k + wide, "<=", limit)):
                self._store_logits(at, q, rows, k, acc, None)
            with b.otherwise():
                self._store_logits(at, q, rows, k, acc, limit)

    def _store_logits(
        self, at: dict[str, DimLike], q: DimLike, rows: int, k: DimLike, acc: object, limit: DimLike | None
    ) -> None:
        b, lanes = self.b, self.lanes
        for i in range(rows):
            for j in range(2):
                first = k + j * lanes
                count = None if limit is None else limit - first
                point = Point({**at, "q": q + i, "k": first}, "k", lanes, count)
                raw = b.let(acc[i, j].read())  # type: ignore[index]
                value = splat(self.place.expr(self.score, point, accumulators={0: raw}), lanes)
                if count is not None:
                    mask = PrefixMask(count, VecType(boolean, lanes))
                    value = select(mask, value, const(-INFINITY, self.dtype, lanes))
                b.store(self.logits, i * self.keys_wide + first, b.let(value))

    def _softmax(self, i: int, limit: DimLike) -> Expr:
        """Turn a row of logits into exp(x - max); returns 1 / sum."""
        b, lanes = self.b, self.lanes
        row, end = i * self.keys_wide, align(limit, 2 * lanes)
        tops = [b.reg("top", VecType(self.dtype, lanes), const(-INFINITY, self.dtype, lanes)) for _ in range(2)]
        with b.loop("k", 0, end, step=2 * lanes) as k:
            for j, top in enumerate(tops):
                b.set(top, maximum(top.read(), b.load(self.logits, row + k + j * lanes, lanes)))
        top = b.let(reduce_lanes("max", b.let(maximum(tops[0].read(), tops[1].read()))), "top")
        if self.program.masked_rows_zero:  # a row without any key: exp(-inf - 0) = 0 everywhere
            top = b.let(select(compare("eq", top, -INFINITY), const(0, self.dtype), top), "top")
        shift = b.let(splat(top, lanes), "shift")
        sums = [b.reg("sum", VecType(self.dtype, lanes), const(0, self.dtype, lanes)) for _ in range(2)]
        with b.loop("k", 0, end, step=2 * lanes) as k:
            for j, total in enumerate(sums):
                offset = row + k + j * lanes
                e = b.let(call("exp", b.load(self.logits, offset, lanes) - shift), "e")
                b.store(self.logits, offset, e)
                b.set(total, total.read() + e)
        total = b.let(reduce_lanes("add", b.let(sums[0].read() + sums[1].read())), "total")
        if self.program.masked_rows_zero:
            total = b.let(select(compare("eq", total, 0), const(1, self.dtype), total), "total")
        return b.let(const(1, self.dtype) / total, "scale")

    def _weighted_values(
        self, at: dict[str, DimLike], kv: DimLike, q: DimLike, rows: int, limit: DimLike, scales: list[Expr]
    ) -> None:
        b, lanes, width = self.b, self.lanes, self.program.value_width
        whole = width // (2 * lanes) * (2 * lanes)
        with b.loop("d", 0, whole, step=2 * lanes) as d:
            self._value_tile(at, kv, q, rows, limit, scales, [(d, None), (d + lanes, None)])
        with b.loop("d", whole, width, step=lanes) as d:
            count = None if is_static(width) and int(width) % lanes == 0 else width - d  # type: ignore[arg-type]
            self._value_tile(at, kv, q, rows, limit, scales, [(d, count)])

    def _value_tile(
        self,
        at: dict[str, DimLike],
        kv: DimLike,
        q: DimLike,
        rows: int,
        limit: DimLike,
        scales: list[Expr],
        columns: list[tuple[DimLike, DimLike | None]],
    ) -> None:
        b, lanes = self.b, self.lanes
        result = self.place.spec.results[0]
        acc = b.reg_tile("acc", (rows, len(columns)), VecType(self.dtype, lanes), 0)
        lane = symbol("d")
        with b.loop("k", 0, limit, unroll=2) as k:
            for j, (d, count) in enumerate(columns):
                v = self._read(2, (at["b"], kv, k, lane), Point({"d": d}, "d", lanes, count))
                for i in range(rows):
                    x = b.let(splat(b.load(self.logits, i * self.keys_wide + k), lanes), "p")
                    b.set(acc[i, j], fma(x, splat(v, lanes), acc[i, j].read()))
        assert result.expr is not None
        for i in range(rows):
            scale = b.let(splat(scales[i], lanes), "scale")
            for j, (d, count) in enumerate(columns):
                point = Point({**at, "q": q + i, "d": d}, "d", lanes, count)
                value = b.let(acc[i, j].read() * scale)
                self.place.store(0, point, self.place.expr(result.expr, point, accumulators={0: value}))



"""What the kernels of attention by blocks of threads have in common.

A block takes some queries of a head and walks the keys once.  For each query it keeps the largest logit so
far and sums that belong to it, which fade whenever it grows; at the end sums are divided by the weights'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.attention import BATCH, HEAD, INFINITY, KEY, QUERY, WIDTH
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import axis_name
from aino_ir.dims import DimLike, align, ceildiv, dmin, is_static, symbol
from aino_ir.dtypes import f32
from aino_ir.kernels import Attention, Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Expr,
    Read,
    Select,
    VecType,
    binary,
    call,
    compare,
    const,
    index,
    select,
)
from aino_ir.loops.expr_tree import map_expr, walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

KV_HEAD = axis_name("kv")


def too_wide(program: Attention, most: int) -> str:
    """Why heads are not for a kernel that takes them up to a width, or ""."""
    widths = (program.width, program.value_width)
    if all(is_static(w) and 0 < int(w) <= most for w in widths):  # type: ignore[arg-type]
        return ""
    return f"heads of {widths[0]} and {widths[1]}, {most} at most"


def over_quads(b: LoopBuilder, combined: Callable[[Expr, Expr], Expr], x: Expr) -> Expr:
    """A value of f32 combined over four neighbouring threads, known to all of them."""
    for distance in (1, 2):
        (other,) = b.warp("exchange_f32", x, parameter=distance)
        x = b.let(combined(x, other))
    return x


class AttentionBlocks:
    """One kernel under construction.

    Args:
        b, place: the kernel.
        params: of the candidate.
        step: widths of heads are padded to multiples of it.
    """

    step: ClassVar[int]

    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        self.b = b
        self.place = place
        program = place.spec.program
        assert isinstance(program, Attention)
        self.program = program
        self.width, self.value_width = (
            int(align(w, self.step))  # type: ignore[arg-type]
            for w in (program.width, program.value_width)
        )
        score = _unmasked(program)
        self.score = map_expr(score, lambda e: Accumulator(e.type) if isinstance(e, Arg) else None)
        self.reads_score = any(isinstance(e, Read) for e in walk(self.score))
        self.at: dict[str, DimLike] = {}
        """Batch and head of the block."""

    def emit(self) -> None:
        """All of it."""
        raise NotImplementedError

    @contextmanager
    def units(self, queries: int, threads: int) -> Iterator[tuple[DimLike, DimLike]]:
        """Units are blocks of so many queries of a head; yields the first query, and the end of the keys."""
        b, p = self.b, self.program
        blocks = ceildiv(p.queries, queries)
        with b.units(p.batch * p.heads * blocks, threads) as unit:
            batch, head, block = b.split(unit, {"batch": p.batch, "head": p.heads, "block": blocks})
            kv = b.index(index(head // (p.heads // p.kv_heads)), 0, p.kv_heads - 1, "kv_head")
            self.at = {BATCH: batch, HEAD: head, KV_HEAD: kv}
            first = block * queries
            yield first, self.end_of_keys(first + queries - 1)

    def readable(self, query: DimLike) -> DimLike:
        """A query as it may be read: none behind the last one."""
        last = self.program.queries - 1
        return self.b.index(binary("min", index(query), index(last)), 0, last, "query")

    def node(self, operand: int) -> Read:
        """Elements of queries, keys or values by their place."""
        head, row = (HEAD, QUERY) if operand == 0 else (KV_HEAD, KEY)
        return Read(operand, tuple(symbol(n) for n in (BATCH, head, row, WIDTH)), VecType(f32))

    def logit(self, query: DimLike, column: DimLike, product: Expr, seen: Expr | None) -> Expr:
        """The logit of a key for a readable query; minus infinity where it is not `seen` (None: it is)."""
        b, keys = self.b, self.program.keys
        key = b.index(index(column), 0, None, "key")
        if self.reads_score and seen is not None:
            key = b.index(binary("min", index(key), index(keys - 1)), 0, keys - 1, "key")
        point = Point({**self.at, QUERY: query, KEY: key})
        logit = self.place.expr(self.score, point, accumulators={0: product})
        return b.let(logit if seen is None else select(seen, logit, -INFINITY), "logit")

    def end_of_keys(self, query: DimLike) -> DimLike:
        """Behind the last key that a query sees."""
        p = self.program
        return dmin(p.keys, query + p.offset + 1) if p.causal else p.keys

    def shift_and_fade(self, old: Expr, found: Expr) -> tuple[Expr, Expr]:
        """What logits are moved by for a new maximum, and what sums so far are worth by it."""
        b = self.b
        shift = b.let(select(compare("eq", found, -INFINITY), const(0, f32), found), "shift")
        return shift, b.let(call("exp", b.let(old - shift)), "fade")

    def scale(self, whole: Expr) -> Expr:
        """What sums are multiplied by, from the sum of the weights."""
        b = self.b
        if self.program.masked_rows_zero:
            whole = b.let(select(compare("eq", whole, 0.0), const(1, f32), whole))
        return b.let(const(1, f32) / whole, "scale")


def _unmasked(program: Attention) -> Expr:
    """The score without the selection of the keys that a causal program sees: kernels have that anyway."""
    seen = compare("le", index(symbol(KEY)), index(symbol(QUERY) + program.offset))
    if not program.causal:
        return program.score
    return map_expr(program.score, lambda e: e.a if isinstance(e, Select) and e.condition == seen else None)


class AttentionBlockGenerator:
    """Offers and builds kernels of one kind."""

    name: str
    kernel: ClassVar[type[AttentionBlocks]]

    def suitable(self, spec: KernelSpec, target: Target) -> Attention | str:
        """The attention of a spec, or why the kernels do not do it."""
        raise NotImplementedError

    def offered(self, program: Attention) -> Iterator[Candidate]:
        """The candidates for a suitable program."""
        raise NotImplementedError

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """What is offered, or one refusal."""
        program = self.suitable(spec, target)
        if isinstance(program, str):
            yield Reject(self.name, program)
        else:
            yield from self.offered(program)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        emit_checks(place)
        self.kernel(b, place, dict(candidate.params)).emit()
        return b.finish(header(spec, candidate))

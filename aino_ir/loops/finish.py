"""The last step of building a kernel: symbols, scratch offsets, the name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aino_ir.dims import DimLike, align, free_symbols
from aino_ir.dims import symbol as make_symbol
from aino_ir.dtypes import DType
from aino_ir.errors.loops import LoopNameError
from aino_ir.loops.dead import DeadCode
from aino_ir.loops.printer import print_loops
from aino_ir.loops.stmt import Alloc, Fail, LoopFn, Param, Share, Stmt, walk_statements
from aino_ir.symbols import Symbols

SCRATCH_ALIGNMENT = 64
"""Bytes; every scratch buffer starts on such a boundary."""

_LOWEST = -(1 << 63)


def assemble(
    *,
    name: str,
    params: tuple[Param, ...],
    declared: list[str],
    used: Iterable[str],
    symbols: Symbols,
    units: DimLike,
    body: tuple[Stmt, ...],
    prologue: tuple[Stmt, ...],
    scratch: Mapping[str, tuple[DType, DimLike]],
    shared: Mapping[str, tuple[DType, int]],
    threads: int,
    header: tuple[str, ...],
) -> LoopFn:
    """A `LoopFn` from what a builder gathered.

    Symbols that are used without having been declared follow the declared ones in sorted order.

    Raises:
        LoopNameError: a symbol is used that the table does not hold.
    """
    dead = DeadCode((prologue, body))
    body, prologue = dead.prune(body), dead.prune(prologue)
    allocs, total = place_scratch(scratch)
    sizes = (units, total, *(p.size for p in params), *(a.size for a in allocs))
    needed = dead.used.union(*map(free_symbols, sizes))
    names = [*declared, *sorted((needed & set(used)) - set(declared))]
    for symbol in names:
        if symbol not in symbols:
            raise LoopNameError(kernel=name, name=symbol, problem="is used as a symbol but declared nowhere")
    draft = LoopFn(
        name=name,
        params=params,
        symbols=tuple(names),
        units=units,
        body=body,
        prologue=(*(Share(n, d, size) for n, (d, size) in shared.items()), *allocs, *prologue),
        scratch_bytes=symbols.simplify(total),
        threads=threads,
        can_fail=any(isinstance(s, Fail) for block in (prologue, body) for s in walk_statements(block)),
        facts=tuple(_fact(symbols, symbol) for symbol in names),
    )
    digest = hashlib.sha256(print_loops(draft).encode()).hexdigest()[:8]
    return replace(draft, name=f"{name}_{digest}", header=header)


def place_scratch(scratch: Mapping[str, tuple[DType, DimLike]]) -> tuple[list[Alloc], DimLike]:
    """Aligned offsets for scratch buffers, constant sizes first; and the bytes they take in all."""
    offset: DimLike = 0
    allocs = []
    for name, (dtype, size) in sorted(scratch.items(), key=lambda item: not isinstance(item[1][1], int)):
        allocs.append(Alloc(name, dtype, size, offset))
        offset = offset + align(size * dtype.bytes, SCRATCH_ALIGNMENT)
    return allocs, offset


def _fact(symbols: Symbols, name: str) -> tuple[str, int, int | None]:
    lo, hi = symbols.interval(make_symbol(name))
    return name, _LOWEST if lo is None else lo, hi

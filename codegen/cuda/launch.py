"""How a kernel is launched: what its device functions take, in order, as data.

`aino_ir.codegen.cuda.writer` declares parameters by it, and whoever launches kernels by hand (the
runtime, through the driver) fills arguments by it.
"""

from __future__ import annotations

from typing import Any

from aino_ir.codegen.cstyle.usage import analyse
from aino_ir.dims import free_symbols, is_static, product
from aino_ir.kernels import Kernel
from aino_ir.library_calls import CUBLAS, Matrix, ProductCall
from aino_ir.loops.stmt import (
    Alloc,
    BindIndex,
    Comment,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    Let,
    LoopFn,
    Share,
    Signals,
    Stmt,
    TileMap,
    walk_statements,
)
from aino_ir.loops.warp import BLOCK
from aino_ir.target import Target

Argument = tuple[str, int]
"""(kind, number): ``view`` and ``status`` with the place among the views, ``symbol`` with that among the
kernel's symbols, ``scratch``, ``lo`` and ``hi``.  Each has eight bytes; but ``map``, with the place among the
kernel's maps of tiles, has 128, and its ``shift`` says how many elements before the view it begins."""

EVERYWHERE = (Let, BindIndex, DeclareReg, Alloc, Share, Signals, TileMap, Comment)
"""Statements before the units that every thread repeats; the others are checks."""

MOST_CHECK_BLOCKS = 32
"""Of one kernel's checks: a device begins them at once."""


def arguments(fn: LoopFn) -> list[Argument]:
    """What the device functions of a kernel take, in order: only what they read."""
    usage = analyse(fn)
    out = [("view", number) for number, param in enumerate(fn.params) if usage.is_read(param.name)]
    if usage.fails:
        out.append(("status", len(fn.params)))
    out += [("symbol", number) for number, symbol in enumerate(fn.symbols) if usage.is_read(symbol)]
    for number, made in enumerate(tile_maps(fn)):
        out += [("map", number), ("shift", number)] if usage.is_read(made.name) else []
    return [*out, ("scratch", 0), ("lo", 0), ("hi", 0)]


def tile_maps(fn: LoopFn) -> list[TileMap]:
    """A kernel's maps of tiles."""
    return [s for s in fn.prologue if isinstance(s, TileMap)]


def map_facts(fn: LoopFn, made: TileMap) -> list[Any]:
    """A map as JSON holds it: view, bytes of an element, lines, whether rounded, extents, strides."""
    view = next(n for n, param in enumerate(fn.params) if param.name == made.buffer)
    sizes = [[_number_or_text(d) for d in dims] for dims in (made.extents, made.strides)]
    return [view, fn.params[view].dtype.bytes, made.lines, made.rounded, *sizes]


def has_checks(fn: LoopFn) -> bool:
    """Whether something is tested before the units, by a device function of its own."""
    return any(not isinstance(s, EVERYWHERE) for s in fn.prologue)


def check_nests(fn: LoopFn) -> dict[int, tuple[For, ...]]:
    """The loops of the checks whose points threads can share, by their place in the prologue.

    Nothing where some statement has other effects than to fail: then one thread does all of it.
    """
    pure = (For, If, Let, BindIndex, Fail, Comment)
    checks = {n: s for n, s in enumerate(fn.prologue) if not isinstance(s, EVERYWHERE)}
    if not all(isinstance(s, pure) for s in walk_statements(checks.values())):
        return {}
    return {n: _nest(s) for n, s in checks.items() if isinstance(s, For)}


def _nest(outer: For) -> tuple[For, ...]:
    """Loops around one body and nothing else, whose bounds are known before the first of them."""
    found, inner = [outer], outer.body
    while len(inner) == 1 and isinstance(inner[0], For):
        bounds = free_symbols(inner[0].lo) | free_symbols(inner[0].hi)
        if inner[0].step != 1 or any(s.var in bounds for s in found):
            break
        found.append(inner[0])
        inner = inner[0].body
    return tuple(found) if outer.step == 1 else ()


def check_threads(fn: LoopFn) -> int:
    """Threads that do the checks: one, or whole blocks that share the points."""
    points = [product(s.hi - s.lo for s in nest) for nest in check_nests(fn).values()]
    if not points:
        return 1
    limit = MOST_CHECK_BLOCKS * BLOCK
    most = max(int(p) if is_static(p) else limit for p in points)  # type: ignore[arg-type]
    return min(limit, max(1, -(-most // BLOCK)) * BLOCK)


def most_threads(fn: LoopFn) -> int:
    """Threads of a block that does units: registers must suffice for so many."""
    return fn.threads if fn.threads > 1 else BLOCK


def repeated(fn: LoopFn) -> tuple[Stmt, ...]:
    """What every thread does before its unit."""
    return tuple(s for s in fn.prologue if isinstance(s, EVERYWHERE))


DECLARED_BYTES = 48 << 10
"""Shared memory that code may declare; more must be asked for by the launch."""

BOUNDARY = 1024
"""Where buffers of shared memory that is asked for start: a repetition of the longest pattern of swaps."""

SHARED_BYTES = {
    **dict.fromkeys(("sm_90", "sm_90a", "sm_100", "cuda-emu"), 227 << 10),
    "sm_80": 163 << 10,
}
"""Shared memory that a block may ask for, by architecture; 99 KB on the others."""


def shared_bytes(target: Target) -> int:
    """Shared memory that a block of a target may ask for."""
    return SHARED_BYTES.get(target.isa, 99 << 10)


def asked_places(fn: LoopFn) -> dict[str, int]:
    """Where shared buffers start in what a launch asks for; empty where the kernel declares them.

    Products of groups want the boundaries, whatever the size.
    """
    shared = [s for s in fn.prologue if isinstance(s, Share)]
    grouped = any(isinstance(s, GroupProduct) for s in walk_statements(fn.body))
    if not grouped and sum(s.size * s.dtype.bytes for s in shared) <= DECLARED_BYTES:
        return {}
    places, end = {}, 0
    for s in shared:
        places[s.name] = end
        end += -(-s.size * s.dtype.bytes // BOUNDARY) * BOUNDARY
    return places


def asked_bytes(fn: LoopFn) -> int:
    """Shared memory that a launch of a kernel asks for."""
    places = asked_places(fn)
    sizes = {s.name: s.size * s.dtype.bytes for s in fn.prologue if isinstance(s, Share)}
    return max((start + sizes[name] for name, start in places.items()), default=0)


def launch_facts(fn: LoopFn) -> dict[str, Any]:
    """What a launch of a kernel needs to know, as JSON holds it."""
    return {
        "entry": f"{fn.name}_kernel",
        "checks": f"{fn.name}_checks" if has_checks(fn) else "",
        "check_threads": check_threads(fn),
        "threads": fn.threads,
        "arguments": [list(argument) for argument in arguments(fn)],
        "maps": [map_facts(fn, made) for made in tile_maps(fn)],
        "symbols": list(fn.symbols),
        "units": _number_or_text(fn.units),
        "scratch": _number_or_text(fn.scratch_bytes),
        "shared": asked_bytes(fn),
        "can_fail": fn.can_fail,
    }


def kernel_facts(kernel: Kernel) -> dict[str, Any]:
    """What a launch of a kernel needs to know, and what a library does in its place."""
    facts, call = launch_facts(kernel.function), kernel.candidate.library
    return facts if call is None else {**facts, "library": _call_row(call)}


def _call_row(call: ProductCall) -> dict[str, Any]:
    """A call as JSON holds it."""
    extents = (call.rows, call.columns, call.terms, call.stack)
    return {
        "name": CUBLAS,
        "extents": [_number_or_text(d) for d in extents],
        "matrices": [_matrix_row(m) for m in call.matrices],
        "compute": call.compute,
        "bias": call.bias,
        "residual": None if call.residual is None else _matrix_row(call.residual),
        "activation": call.activation,
    }


def _matrix_row(m: Matrix) -> list[Any]:
    """Matrices as JSON holds them."""
    return [m.view, m.dtype, _number_or_text(m.leading), _number_or_text(m.stride), m.turned]


def _number_or_text(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)

"""How a kernel is launched: what its device functions take, in order, as data.

`aino_ir.codegen.cuda.writer` declares parameters by it, and whoever launches kernels by hand (the
runtime, through the driver) fills arguments by it.
"""

from __future__ import annotations

from typing import Any

from aino_ir.codegen.cstyle.usage import analyse
from aino_ir.loops.stmt import Alloc, BindIndex, Comment, DeclareReg, Let, LoopFn, Share, Stmt

Argument = tuple[str, int]
"""(kind, number): ``view`` and ``status`` with the place among the views, ``symbol`` with that among the
kernel's symbols, ``scratch``, ``lo`` and ``hi``.  Each has eight bytes."""

EVERYWHERE = (Let, BindIndex, DeclareReg, Alloc, Share, Comment)
"""Statements before the units that every thread repeats; the others are checks."""


def arguments(fn: LoopFn) -> list[Argument]:
    """What the device functions of a kernel take, in order: only what they read."""
    usage = analyse(fn)
    out = [("view", number) for number, param in enumerate(fn.params) if usage.is_read(param.name)]
    if usage.fails:
        out.append(("status", len(fn.params)))
    out += [("symbol", number) for number, symbol in enumerate(fn.symbols) if usage.is_read(symbol)]
    return [*out, ("scratch", 0), ("lo", 0), ("hi", 0)]


def has_checks(fn: LoopFn) -> bool:
    """Whether something is tested before the units, by a device function of one thread."""
    return any(not isinstance(s, EVERYWHERE) for s in fn.prologue)


def repeated(fn: LoopFn) -> tuple[Stmt, ...]:
    """What every thread does before its unit."""
    return tuple(s for s in fn.prologue if isinstance(s, EVERYWHERE))


def launch_facts(fn: LoopFn) -> dict[str, Any]:
    """What a launch of a kernel needs to know, as JSON holds it."""
    return {
        "entry": f"{fn.name}_kernel",
        "checks": f"{fn.name}_checks" if has_checks(fn) else "",
        "threads": fn.threads,
        "arguments": [list(argument) for argument in arguments(fn)],
        "symbols": list(fn.symbols),
        "units": _number_or_text(fn.units),
        "scratch": _number_or_text(fn.scratch_bytes),
        "can_fail": fn.can_fail,
    }


def _number_or_text(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)

"""StableHLO text, bytecode or what `jax.jit(f).lower(...)` gives, as a module."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aino_ir.builder import Builder
from aino_ir.errors.stablehlo import (
    MlirMissing,
    StableHloUnreadable,
    StableHloUnsupported,
)
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.stablehlo.context import tensor_type
from aino_ir.frontends.stablehlo.locations import location_of
from aino_ir.frontends.stablehlo.lower import FunctionLowering
from aino_ir.frontends.stablehlo.ops import row_of
from aino_ir.graph import Module

STRUCTURE = frozenset({"func.func", "func.return", "func.call", "stablehlo.return", "builtin.module"})


def load_stablehlo(x: Any) -> Module:
    """The module of a StableHLO program: its function ``main``, with all that it calls inlined.

    Args:
        x: a path to text or bytecode, the text or bytes themselves, or a `jax.stages.Lowered`.

    Raises:
        MlirMissing: jax is not installed.
        StableHloUnreadable: it is no MLIR module with a function `main`.
        StableHloUnsupported: operations have no lowering; all of them are named.
        StableHloError: E0183, E0184, with the Python line at fault where the module tells it.
    """
    try:
        from jax.interpreters import mlir
        from jaxlib.mlir import ir
    except ImportError as missing:
        raise MlirMissing(reason=str(missing)) from missing
    if hasattr(x, "compiler_ir"):
        parsed = x.compiler_ir("stablehlo")
        with parsed.context:
            return _module(parsed, "the lowered function")
    what, data = _content(x)
    with mlir.make_ir_context():
        try:
            parsed = ir.Module.parse(data)
        except ir.MLIRError as error:
            raise StableHloUnreadable(what=what, reason=_first_line(str(error))) from error
        return _module(parsed, what)


def _content(x: Any) -> tuple[str, str | bytes]:
    """(how errors call it, text or bytecode)."""
    if isinstance(x, (bytes, bytearray, memoryview)):
        return "the module", bytes(x)
    if isinstance(x, str) and "\n" in x:
        return "the module", x
    try:
        return os.fspath(x), Path(x).read_bytes()
    except OSError as error:
        raise StableHloUnreadable(what=os.fspath(x), reason=error.strerror or str(error)) from error


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "error:" in line]
    return lines[0] if lines else text.strip().splitlines()[0]


def _module(parsed: Any, what: str) -> Module:
    functions = {f.attributes["sym_name"].value: f for f in parsed.body.operations if _is_function(f)}
    main = functions.get("main")
    if main is None:
        raise StableHloUnreadable(what=what, reason="it has no function 'main'")
    _require_supported(parsed)
    attributes = parsed.operation.attributes
    given = attributes["sym_name"].value if "sym_name" in attributes else "main"
    b = Builder(Module(re.sub(r"\W", "_", given) or "main").add_function())
    (block,) = main.regions[0].blocks
    arguments = [
        b.input(f"arg{n}", tensor_type(argument.type, f"argument {n}"))
        for n, argument in enumerate(block.arguments)
    ]
    results = FunctionLowering(b, functions).block(block, arguments)
    for n, value in enumerate(results):
        b.output(f"result{n}", value)
    b.finish()
    remove_dead(b.function.block)
    return b.function.module


def _is_function(op: Any) -> bool:
    return bool(op.operation.name == "func.func")


def _require_supported(parsed: Any) -> None:
    """Refuse operations without a lowering, all of them at once."""
    lines: dict[str, None] = {}
    names: set[str] = set()
    for op in _walk(parsed.operation):
        if op.name in STRUCTURE or row_of(op.name) is not None:
            continue
        target = f" to {op.attributes['call_target_name']}" if op.name == "stablehlo.custom_call" else ""
        names.add(f"{op.name}{target}")
        where = location_of(str(op.location)) or "a line that is not told"
        lines[f"  {op.name}{target} at {where}"] = None
    if lines:
        raise StableHloUnsupported(count=len(names), operations="\n".join(lines))


def _walk(op: Any) -> Iterator[Any]:
    """An operation's descendants; the regions of reductions are patterns, not programs."""
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                if inner.operation.name not in PATTERNS:
                    yield from _walk(inner.operation)


PATTERNS = frozenset(
    {
        "stablehlo.reduce",
        "stablehlo.reduce_window",
        "stablehlo.scatter",
        "stablehlo.select_and_scatter",
        "stablehlo.sort",
    }
)
"""Operations whose regions say how two elements are combined."""

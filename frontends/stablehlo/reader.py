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
from aino_ir.frontends.complex_numbers import Complex, joined, split
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.stablehlo.context import is_complex, tensor_type
from aino_ir.frontends.stablehlo.locations import location_of
from aino_ir.frontends.stablehlo.lower import FunctionLowering
from aino_ir.frontends.stablehlo.ops import CUSTOM_CALL, call_target, row_of
from aino_ir.frontends.stablehlo.ops.complex import COMPLEX
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType

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
    arguments = [_input(b, n, argument.type) for n, argument in enumerate(block.arguments)]
    results = FunctionLowering(b, functions).block(block, arguments)
    for n, value in enumerate(results):
        b.output(f"result{n}", joined(Emitter(b), value) if isinstance(value, Complex) else value)
    b.finish()
    remove_dead(b.function.block)
    return b.function.module


def _input(b: Builder, number: int, type_: Any) -> Value | Complex:
    """An input; complex numbers come as real ones with a last axis of two."""
    what = f"argument {number}"
    given = tensor_type(type_, what)
    if not is_complex(type_):
        return b.input(f"arg{number}", given)
    pairs = TensorType(given.dtype, (*given.shape, 2))
    return split(Emitter(b), b.input(f"arg{number}", pairs))


def _is_function(op: Any) -> bool:
    return bool(op.operation.name == "func.func")


def _require_supported(parsed: Any) -> None:
    """Refuse operations without a lowering, all of them at once."""
    lines: dict[str, None] = {}
    names: set[str] = set()
    for op in _walk(parsed.operation):
        if op.name in STRUCTURE or row_of(op) is not None or op.name in COMPLEX:
            continue
        target = f' to "{call_target(op)}"' if op.name == CUSTOM_CALL else ""
        names.add(f"{op.name}{target}")
        where = location_of(str(op.location)) or "a line that is not told"
        lines[f"  {op.name}{target} at {where}"] = None
    if lines:
        raise StableHloUnsupported(count=len(names), operations="\n".join(lines))


def _walk(op: Any) -> Iterator[Any]:
    """An operation's descendants."""
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _walk(inner.operation)

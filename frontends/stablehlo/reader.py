"""StableHLO text, bytecode or what `jax.jit(f).lower(...)` gives, as a module."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
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
from aino_ir.frontends.dim_specs import DimSpec
from aino_ir.frontends.dimensions import Dimensions
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.stablehlo.context import element_dtype, extents_of, is_complex
from aino_ir.frontends.stablehlo.locations import location_of
from aino_ir.frontends.stablehlo.lower import FunctionLowering
from aino_ir.frontends.stablehlo.ops import CUSTOM_CALL, call_target, row_of
from aino_ir.frontends.stablehlo.ops.complex import COMPLEX
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType

POLYMORPHIC = "jax.uses_shape_polymorphism"
"""Attribute of modules that `jax.export` wrote for symbolic shapes; these promise extents of at least 1."""

STRUCTURE = frozenset({"func.func", "func.return", "func.call", "stablehlo.return", "builtin.module"})


def load_stablehlo(x: Any, dims: Mapping[str, DimSpec] | None = None) -> Module:
    """The module of a StableHLO program: its function ``main``, with all that it calls inlined.

    Args:
        x: a path to text or bytecode, the text or bytes themselves, a `jax.stages.Lowered` or a
            `jax.export.Exported`.
        dims: bounds or values of symbolic extents: of an `Exported` by the names that they have there,
            else by argument and axis, such as ``arg0_1``.

    Raises:
        DimensionUnknown, DimensionInvalid: `dims` names no extent of the arguments, or says no bounds.
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
            return _module(parsed, "the lowered function", {}, dims)
    names = exported_names(x) if hasattr(x, "in_avals") else {}
    what, data = _content(x.mlir_module() if hasattr(x, "in_avals") else x)
    with mlir.make_ir_context():
        try:
            parsed = ir.Module.parse(data)
        except ir.MLIRError as error:
            raise StableHloUnreadable(what=what, reason=_first_line(str(error))) from error
        return _module(parsed, what, names, dims)


def exported_names(exported: Any) -> dict[tuple[int, int], str]:
    """The names of symbolic extents of a `jax.export.Exported`, by (argument, axis).

    An extent that is no name alone (``2*n``) has none: it is a symbol of its own, and the module's own
    checks say what it must be.
    """
    kept = [exported.in_avals[n] for n in exported.module_kept_var_idx]
    extents = {(n, a): str(d) for n, aval in enumerate(kept) for a, d in enumerate(aval.shape)}
    return {place: text for place, text in extents.items() if text.isidentifier()}


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


def _module(
    parsed: Any, what: str, names: Mapping[tuple[int, int], str], dims: Mapping[str, DimSpec] | None
) -> Module:
    functions = {f.attributes["sym_name"].value: f for f in parsed.body.operations if _is_function(f)}
    main = functions.get("main")
    if main is None:
        raise StableHloUnreadable(what=what, reason="it has no function 'main'")
    _require_supported(parsed)
    attributes = parsed.operation.attributes
    given = attributes["sym_name"].value if "sym_name" in attributes else "main"
    b = Builder(Module(re.sub(r"\W", "_", given) or "main").add_function())
    (block,) = main.regions[0].blocks
    made = Dimensions(b.function.symbols, dims, least=1 if POLYMORPHIC in attributes else 0)
    arguments = [_input(b, n, argument.type, made, names) for n, argument in enumerate(block.arguments)]
    made.finish()
    results = FunctionLowering(b, functions).block(block, arguments)
    for n, value in enumerate(results):
        b.output(f"result{n}", joined(Emitter(b), value) if isinstance(value, Complex) else value)
    b.finish()
    remove_dead(b.function.block)
    return b.function.module


def _input(
    b: Builder, number: int, type_: Any, made: Dimensions, names: Mapping[tuple[int, int], str]
) -> Value | Complex:
    """An input; complex numbers come as real ones with a last axis of two."""
    name = f"arg{number}"
    shape = [
        made.extent(names.get((number, axis)) if extent is None else extent, name, axis)
        for axis, extent in enumerate(extents_of(type_))
    ]
    given = TensorType(element_dtype(type_, f"argument {number}"), tuple(shape))
    if not is_complex(type_):
        return b.input(name, given)
    pairs = TensorType(given.dtype, (*given.shape, 2))
    return split(Emitter(b), b.input(name, pairs))


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

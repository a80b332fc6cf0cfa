"""What native code cannot be made for, found before any kernel is specified, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator

from aino_ir.codegen.lower.decided import DecidedSymbols
from aino_ir.dims import free_symbols
from aino_ir.dtypes import Kind
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.graph import Function
from aino_ir.op import Op, Trait
from aino_ir.target import Target
from aino_ir.types import TensorType, Type

MOST_LISTED = 10
"""Operators that one error names."""

NEED_NONE = frozenset({"core.bind", "core.constant", "core.fused"})
"""Ops that need no definition of their own: they are memory, or hold it inside."""


def require_native(function: Function, target: Target) -> None:
    """Refuse a function that cannot become native code.

    Raises:
        OperatorsUnsupported: names every op that has no native code, and every such input.
    """
    found = list(obstacles(function))
    if found:
        listed = "; ".join(dict.fromkeys(text for _, text in found[:MOST_LISTED]))
        more = f"; and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
        raise OperatorsUnsupported(
            loc=found[0][0] or None, count=len(found), target=target, operators=listed + more
        )


def obstacles(function: Function) -> Iterator[tuple[str, str]]:
    """(where, what) of everything that has no native code."""
    for name, value in zip(function.input_names, function.inputs, strict=True):
        reason = type_obstacle(value.type)
        if reason:
            yield "", f"input '{name}': {reason}"
    for op in function.block:
        reason = obstacle(op)
        if reason:
            yield str(op.loc), f"{op.name}: {reason}"


def region_obstacle(op: Op) -> str:
    """Why control flow has no native code: extents that turns change, or an op in a region."""
    assert op.block is not None and op.block.function is not None
    function = op.block.function
    for value in (*op.present_operands(), *op.results, *(a for r in op.regions for a in r.args)):
        if not known_before(function, value.type):
            return "control flow over extents that are decided at run time has no native code yet"
    for inner in (i for region in op.regions for i in region):
        reason = obstacle(inner)
        if reason:
            return f"{inner.name} at '{inner.loc}' in it: {reason}"
    return ""


def known_before(function: Function, type_: Type) -> bool:
    """Whether a tensor's extents follow from those of the function's arguments and what single ops decide."""
    if not isinstance(type_, TensorType) or type_.is_static:
        return True
    names = entry_symbols(function) | set(DecidedSymbols(function).names)
    return all(free_symbols(function.symbols.canonical(d)) <= names for d in type_.shape)


def entry_symbols(function: Function) -> frozenset[str]:
    """Symbols in the types of a function's arguments, and what these are known to equal."""
    shapes = [v.type.shape for v in function.block.args if isinstance(v.type, TensorType)]
    dims = [d for shape in shapes for d in shape]
    return frozenset().union(
        *map(free_symbols, dims), *(free_symbols(function.symbols.canonical(d)) for d in dims)
    )


def obstacle(op: Op) -> str:
    """Why an op has no native code on any target for C, as far as the op alone tells; else empty."""
    if op.has(Trait.TERMINATOR):
        return ""
    for value in (*op.operands, *op.results):
        reason = type_obstacle(value.type) if value is not None else ""
        if reason:
            return reason
    if op.regions and op.name != "core.fused":
        return region_obstacle(op)
    if op.has(Trait.VIEW) or op.name in NEED_NONE:
        return ""
    return "" if type(op).define is not Op.define else "it has no definition as loops"


def type_obstacle(type_: Type) -> str:
    """Why values of a type cannot be in native code; empty when they can."""
    if not isinstance(type_, TensorType):
        return f"values of type {type_} have no native code"
    return f"dtype {type_.dtype} has no native code" if type_.dtype.kind is Kind.COMPLEX else ""

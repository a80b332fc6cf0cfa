"""What native code cannot be made for, found before any kernel is specified, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aino_ir.codegen.lower.decided import DecidedSymbols, entry_symbols, extents
from aino_ir.codegen.lower.regions import LoopParts
from aino_ir.dims import Dim, free_symbols
from aino_ir.dtypes import Kind
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.graph import Function
from aino_ir.interp import evaluates
from aino_ir.op import Op, Trait
from aino_ir.ops.control import If
from aino_ir.ops.core import is_data
from aino_ir.target import Target
from aino_ir.types import TensorType, Type

NEED_NONE = frozenset({"core.bind", "core.constant", "core.fused"})
"""Ops that need no definition of their own: they are memory, or hold it inside."""


def require_native(function: Function, target: Target) -> None:
    """Refuse a function that cannot become native code altogether.

    Raises:
        OperatorsUnsupported: names every op that has no native code, and every such input.
    """
    refuse(list(obstacles(function)), target)


def refuse(found: Sequence[tuple[str, str]], target: Target) -> None:
    """Refuse (where, what) that has no code on a target, all of it at once; nothing when there is none.

    Raises:
        OperatorsUnsupported: there is some.
    """
    if found:
        places = dict.fromkeys(f"{what} ({where})" if where else what for where, what in found)
        raise OperatorsUnsupported(count=len(found), target=target, operators="; ".join(places))


def obstacles(function: Function) -> Iterator[tuple[str, str]]:
    """(where, what) of everything that has no native code."""
    yield from interface_obstacles(function)
    for op in function.block:
        reason = obstacle(op)
        if reason:
            yield str(op.loc), f"{op.name}: {reason}"


def region_obstacle(op: Op) -> str:
    """Why control flow has no native code: an op in a region, or extents that no step could bind."""
    assert op.block is not None and op.block.function is not None
    for inner in (i for region in op.regions for i in region):
        reason = obstacle(inner)
        if reason:
            return f"{inner.name} at '{inner.loc}' in it: {reason}"
    function = op.block.function
    decided = DecidedSymbols(function)
    known = entry_symbols(function) | set(decided.names)
    for value in (*op.present_operands(), *op.results, *(a for r in op.regions for a in r.args)):
        if not all(free_symbols(function.symbols.canonical(d)) <= known for d in extents(value)):
            return f"%{value.id} has extents that nothing decides"
    return "" if isinstance(op, If) else loop_obstacle(op, decided)


def loop_obstacle(op: Op, decided: DecidedSymbols) -> str:
    """Extents of carried values that turns change must be plain symbols, each of one extent."""
    parts = LoopParts.of(op)
    seen: set[str] = set()
    for argument in parts.arguments:
        for d in extents(argument):
            names = free_symbols(d) & {n for n, loop in decided.carried.items() if loop is op}
            if names and (not isinstance(d, Dim) or d.as_symbol() is None or names & seen):
                return "one symbol stands for several extents of carried values"
            seen |= names
    return ""


def interface_obstacles(function: Function) -> Iterator[tuple[str, str]]:
    """(where, what) of the arguments that native code cannot take."""
    names = (*function.input_names, *(s.name for s in function.states))
    for name, value in zip(names, function.block.args, strict=True):
        reason = type_obstacle(value.type)
        if reason:
            yield "", f"input '{name}': {reason}"


def host_ops(function: Function) -> dict[Op, str]:
    """Ops of a function that have no native code -> why; data is nobody's obstacle."""
    found = ((op, obstacle(op)) for op in function.block if not is_data(op))
    return {op: reason for op, reason in found if reason}


def runs_in_python(op: Op) -> bool:
    """Whether the interpreter can run an op."""
    return evaluates(type(op)) or type(op).decompose is not Op.decompose


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
    if op.name == "core.bind" and op.operands[0] is not None and op.operands[0].dtype.bits < 8:
        return f"numbers of dtype {op.operands[0].dtype} decide nothing in native code"
    if op.has(Trait.VIEW) or op.name in NEED_NONE:
        return ""
    return "" if type(op).define is not Op.define else "it has no definition as loops"


def type_obstacle(type_: Type) -> str:
    """Why values of a type cannot be in native code; empty when they can."""
    if not isinstance(type_, TensorType):
        return f"values of type {type_} have no native code"
    return f"dtype {type_.dtype} has no native code" if type_.dtype.kind is Kind.COMPLEX else ""

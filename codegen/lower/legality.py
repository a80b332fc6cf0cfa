"""What native code cannot be made for, found before any kernel is specified, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator

from aino_ir.dtypes import Kind
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.graph import Function
from aino_ir.op import Op, Trait
from aino_ir.target import Target
from aino_ir.types import TensorType, Type

MOST_LISTED = 10
"""Operators that one error names."""

NEED_NONE = frozenset({"core.constant", "core.fused"})
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


def obstacle(op: Op) -> str:
    """Why an op has no native code on any target for C, as far as the op alone tells; else empty."""
    if op.has(Trait.TERMINATOR):
        return ""
    for value in (*op.operands, *op.results):
        reason = type_obstacle(value.type) if value is not None else ""
        if reason:
            return reason
    if op.regions and op.name != "core.fused":
        return "control flow has no native code yet"
    if op.has(Trait.VIEW) or op.name in NEED_NONE:
        return ""
    return "" if type(op).define is not Op.define else "it has no definition as loops"


def type_obstacle(type_: Type) -> str:
    """Why values of a type cannot be in native code; empty when they can."""
    if not isinstance(type_, TensorType):
        return f"values of type {type_} have no native code"
    return f"dtype {type_.dtype} has no native code" if type_.dtype.kind is Kind.COMPLEX else ""

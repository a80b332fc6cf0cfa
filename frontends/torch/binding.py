"""Arguments of an ATen call by the names of its schema, handed to the row that lowers it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch

from aino_ir.errors.torch import AtenUnsupported
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row, argument_types

RENAMED = {"self": "x", "input": "x", "from": "low", "to": "high"}
"""ATen's argument names that Python keeps for itself, or that several operators spell differently."""

IGNORED = frozenset(
    {"layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "generator", "sparse_grad"}
)
"""Arguments that say where and how results are stored: they change no value."""


def bound_arguments(context: NodeContext, row: Row | None) -> partial[Any]:
    """The call of a row with a node's arguments."""
    node = context.node
    if row is None:
        raise AtenUnsupported(count=1, operators=f"  {node.target}({argument_types(node)})")
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        assert not isinstance(row, str)
        argument = context.graph.argument
        named = {name: argument(value) for name, value in node.kwargs.items()}
        return partial(row, context, *(argument(a) for a in node.args), **named)
    return bound_call(context, row, node.target, node.args, node.kwargs)


def bound_call(
    context: NodeContext, row: Row, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> partial[Any]:
    """The call of a row with arguments of an operator that has a schema."""
    given = arguments_of(context, target, args, kwargs)
    if isinstance(row, str):
        operands = [v for v in given.values() if v is not None]
        return partial(context.emit_all, row, *operands)
    taken, defaults = parameters(row), _defaults(target)
    if taken is None:
        return partial(row, context, **given)
    for name, value in given.items():  # what the row does not know must have its default
        if name not in taken and value != defaults.get(name, value):
            context.unsupported(f"{name}={value}")
    return partial(row, context, **{k: v for k, v in given.items() if k in taken})


def arguments_of(
    context: NodeContext, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """A call's arguments by name; those that are left out have their defaults."""
    out: dict[str, Any] = {}
    for position, argument in enumerate(target._schema.arguments):
        if argument.name in IGNORED:
            continue
        if position < len(args):
            value: Any = args[position]
        elif argument.name in kwargs:
            value = kwargs[argument.name]
        else:
            value = argument.default_value
        out[RENAMED.get(argument.name, argument.name)] = context.graph.argument(_typed(argument, value))
    return out


def _typed(argument: Any, value: Any) -> Any:
    """Defaults of schemas hold dtypes as numbers."""
    if isinstance(value, int) and str(argument.real_type) in ("ScalarType", "Optional[ScalarType]"):
        return _SCALAR_TYPES[value]
    return value


_SCALAR_TYPES = {4: torch.int64, 5: torch.float16, 6: torch.float32, 7: torch.float64, 11: torch.bool}


@cache
def parameters(row: Lowering) -> frozenset[str] | None:
    """The arguments that a row takes; None for all of them, as ``**arguments``."""
    found = list(inspect.signature(row).parameters.values())[1:]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found):
        return None
    return frozenset(p.name for p in found)


@cache
def _defaults(target: Any) -> dict[str, Any]:
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    return {
        RENAMED.get(a.name, a.name): a.default_value
        for a in target._schema.arguments
        if a.has_default_value()
    }

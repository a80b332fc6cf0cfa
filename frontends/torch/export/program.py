"""From a module to a GraphModule: inputs, ops in order, states, outputs."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import fx

from aino_ir.constants import Const
from aino_ir.dims import is_static
from aino_ir.dtypes import integer_range
from aino_ir.errors.export import ExtentNotExportable
from aino_ir.frontends.torch.dtypes import STORED
from aino_ir.frontends.torch.export.functions import OPERANDS, TABLE
from aino_ir.frontends.torch.export.structure import STRUCTURE, unpacked
from aino_ir.frontends.torch.export.tensors import Tensors, Trainable, tensor_of
from aino_ir.frontends.torch.export.writer import (
    FORMAT,
    MOVABLE,
    SAME_BITS_IN_I64,
    Extent,
    GraphWriter,
    identifier,
)
from aino_ir.frontends.torch.program import BUFFERS
from aino_ir.graph import Block, Function, Module, State, Value
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Constant
from aino_ir.ops.normalize import BatchNorm
from aino_ir.ops.quant import Quantize
from aino_ir.ops.tensor import Pad
from aino_ir.pattern import constant_of
from aino_ir.types import TensorType


def module_of(module: Module, trainable: Trainable | None, keep_zeros: bool = False) -> fx.GraphModule:
    """The `main` of a module; see `to_torch`."""
    made = module_with_tensors(module, trainable)[0]
    if keep_zeros:
        for parameter in made.parameters():
            if parameter.dim() >= 2 and bool((parameter == 0).any()):
                kept = parameter.detach() != 0
                parameter.register_hook(partial(torch.mul, kept))  # type: ignore[no-untyped-call]
    return made


def module_with_tensors(module: Module, trainable: Trainable | None) -> tuple[fx.GraphModule, Tensors]:
    """The same, and what its parameters and buffers stand for."""
    main = module.main
    tensors = Tensors(trainable, fixed_constants(module))
    writer = GraphWriter(tensors, main.symbols)
    write_inputs(writer, main)
    buffers = write_states(writer, main)
    results = write_block(writer, main.block)
    count = len(main.output_names)
    for buffer, value in zip(buffers, results[count:], strict=True):
        writer.call(torch.ops.aten.copy_.default, buffer, writer.method("detach", value))
    outputs = tuple(results[:count])
    made = writer.finish(outputs[0] if count == 1 else outputs, identifier(module.name))
    tensors.restore_passing(made)
    return made, tensors


def fixed_constants(module: Module) -> set[tuple[object, ...]]:
    """Identities of constants that are not trained: what the author called buffers, statistics, scales."""
    named = set(json.loads(module.metadata.get(BUFFERS, "[]")))
    fixed = set()
    for op in module.walk():
        if isinstance(op, Constant) and op.value.name in named:
            fixed.add(op.value.identity)
        described: Sequence[Value | None] = ()
        if isinstance(op, BatchNorm):
            described = (op.mean, op.variance)
        elif op.name.startswith("quant."):
            described = op.operands[1:]
        fixed.update(v.op.value.identity for v in described if v is not None and isinstance(v.op, Constant))
    return fixed


def write_inputs(writer: GraphWriter, main: Function) -> None:
    """A parameter an input; one that may be left out has None in its place."""
    required = [n for n in main.input_names if n not in main.defaults]
    for name, value in sorted(
        zip(main.input_names, main.inputs, strict=True), key=lambda pair: pair[0] not in required
    ):
        writer.dtype_of(value)
        if name not in main.defaults:
            writer.bind(value, writer.placeholder(name))
            continue
        given, default = writer.placeholder(name, None), writer.constant(main.defaults[name])
        writer.bind(value, writer.call(given_or_default, given, default))


def given_or_default(given: torch.Tensor | None, default: torch.Tensor) -> torch.Tensor:
    """An input, or what it is when the caller leaves it out."""
    return default if given is None else given


def write_states(writer: GraphWriter, main: Function) -> list[fx.Node]:
    """Buffers of the states; calls read copies, since autograd may need old values after the update."""
    buffers = []
    for state, value in zip(main.states, main.state_args, strict=True):
        writer.dtype_of(value)
        buffer = writer.attribute(writer.tensors.state(state.name, first_value(state)))
        writer.bind(value, writer.method("clone", buffer))
        buffers.append(buffer)
    return buffers


def first_value(state: State) -> torch.Tensor:
    """What a state holds before the first call."""
    assert isinstance(state.type, TensorType)
    if isinstance(state.init, Const):
        return tensor_of(state.init.array(), state.type.dtype)
    unknown = next((d for d in state.type.shape if not is_static(d)), None)
    if unknown is not None:
        raise ExtentNotExportable(dim=unknown, format=FORMAT, symbol=f"state '{state.name}'")
    return torch.zeros(
        [int(d) for d in state.type.shape if isinstance(d, int)], dtype=STORED[state.type.dtype.name]
    )


def write_block(writer: GraphWriter, block: Block) -> list[fx.Node]:
    """Write the ops of a block; returns what it yields."""
    for op in block:
        if op.has(Trait.TERMINATOR):
            return [writer.nodes[v] for v in op.present_operands()]
        outer, writer.op = writer.op, op
        try:
            write_op(writer, op)
        finally:
            writer.op = outer
    raise AssertionError("a block ends with a terminator")


def write_op(writer: GraphWriter, op: Op) -> None:
    """Write one op and bind its results."""
    for result in op.results:
        writer.dtype_of(result)
    special = STRUCTURE.get(op.name)
    if special is not None:
        for result, node in zip(op.results, special(writer, op), strict=True):
            writer.bind(result, node)
        return
    function = TABLE.get(op.name)
    if function is None:
        writer.refuse("no function of PyTorch does this")
    refuse_wide_unsigned(writer, op)
    how = OPERANDS[op.name]
    made = writer.call(function, *operands_of(writer, op, how), **facts_of(writer, op, function))
    nodes = [made] if len(op.results) == 1 else unpacked(writer, op, made)
    for result, node in zip(op.results, nodes, strict=True):
        as_stored = how == "stored" or (how == "moved" and result.dtype.name in MOVABLE)
        writer.bind(result, node if as_stored else writer.rounded(node, result.dtype))


def operands_of(writer: GraphWriter, op: Op, how: str) -> Iterator[Any]:
    """Operands in declared order: a list where there may be any number, None where one is absent."""
    segments = op.segments()
    for name, kind in op.declaration.operands:
        start, stop = segments[name]
        values = [writer.of(v, how) for v in op.operands[start:stop]]
        yield values if kind == "variadic" else values[0] if values else None


@cache
def keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters; none of a builtin, which takes operands alone."""
    try:
        return tuple(inspect.signature(function).parameters)
    except ValueError:
        return ()


def facts_of(writer: GraphWriter, op: Op, function: Callable[..., Any]) -> dict[str, Any]:
    """What a function wants to know of an op."""
    wanted = keywords(function)
    facts: dict[str, Any] = {}
    for name, attribute in op.declaration.attrs:
        if name in wanted:
            facts[name] = argument(writer, attribute.kind, getattr(op, name))
    for name, find in FACTS.items():
        if name in wanted and name not in facts:
            facts[name] = find(writer, op)
    return facts


def argument(writer: GraphWriter, kind: str, value: Any) -> Any:
    """An attribute as an argument of a call."""
    if value is None:
        return None
    if kind == "dim":
        return writer.extent(value)
    if kind == "dims":
        return writer.extents(value)
    return list(value) if isinstance(value, tuple) else value.name if kind == "dtype" else value


def limits(writer: GraphWriter, op: Op) -> tuple[Any, Any]:
    """The least and the greatest value of the first operand's dtype."""
    dtype = next(op.present_operands()).dtype
    return (-math.inf, math.inf) if dtype.is_float else integer_range(dtype)


def result_shape(writer: GraphWriter, op: Op) -> list[Extent]:
    """Extents of the first result."""
    return writer.extents(op.results[0].shape)


MOVEMENTS = {"nn.max_pool", "tensor.pad", "tensor.reshape", "tensor.slice", "tensor.transpose"}
"""Ops that give the same whether numbers are rounded before or after them."""


def rounded_source(writer: GraphWriter, op: Op) -> tuple[Any, ...]:
    """What a dequantised operand was rounded from: x, scale, zero, dtype; () where it is stored so."""
    codes = next(op.present_operands())
    x, made = unrounded(writer, codes)
    if x is None or made is None:
        return ()
    return (x, writer.of(made.scale), writer.of(made.zero), made.to.name)


def unrounded(writer: GraphWriter, codes: Value) -> tuple[fx.Node | None, Quantize | None]:
    """The floats that codes were rounded from, moved as the codes were, and what rounded them."""
    op = codes.op
    if isinstance(op, Quantize):
        return writer.of(op.x), op
    if op is None or op.name not in MOVEMENTS:
        return None, None
    key = ("unrounded", codes)
    if key not in writer.made:
        x, made = unrounded(writer, next(op.present_operands()))
        facts = None if made is None else moved_floats(writer, op, made)
        writer.made[key] = (
            (writer.call(TABLE[op.name], x, **facts), made) if facts is not None else (None, None)
        )
    return writer.made[key]  # type: ignore[no-any-return]


def moved_floats(writer: GraphWriter, op: Op, made: Quantize) -> dict[str, Any] | None:
    """What moves floats as `op` moves the codes that `made` gave; None where each has a grid of its own."""
    facts = facts_of(writer, op, TABLE[op.name])
    grid = [constant_of(v) if v is not None else None for v in (made.scale, made.zero)]
    if any(v is not None and any(d != 1 for d in v.shape) for v in (made.scale, made.zero)):
        return None
    if isinstance(op, Pad) and op.mode == "constant":
        scale, zero = (None if c is None else float(c.array().reshape(())) for c in grid)
        if scale is None or (made.zero is not None and zero is None):
            return None
        facts["value"] = (op.value - (zero or 0.0)) * scale
    return facts


FACTS: dict[str, Callable[[GraphWriter, Any], Any]] = {
    "anchor": lambda writer, op: writer.anchor(),
    "bits": lambda writer, op: next(op.present_operands()).dtype.bits,
    "limits": limits,
    "rounded": rounded_source,
    "shape": result_shape,
    "stored": lambda writer, op: next(op.present_operands()).dtype.name,
}
"""What functions may want to know of an op beside its attributes."""


def refuse_wide_unsigned(writer: GraphWriter, op: Op) -> None:
    """Refuse arithmetic on 64-bit integers without a sign where it is not that of those with one."""
    if OPERANDS[op.name] != "computed" or op.name in SAME_BITS_IN_I64:
        return
    if any(v.dtype.name == "u64" for v in op.present_operands() if isinstance(v.type, TensorType)):
        writer.refuse("PyTorch has no such arithmetic on u64")

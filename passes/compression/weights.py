"""The weights of a model: constants that products with reductions read, found on the ops' index maps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from aino_ir.compute import Compute
from aino_ir.constants import Const
from aino_ir.dims import Dim
from aino_ir.graph import Module, Value
from aino_ir.loops.expr import Binary, Read
from aino_ir.op import Op
from aino_ir.pattern import constant_of

Array = np.ndarray[Any, Any]

QUOTED = re.compile(r"'([^']+)'")


@dataclass(frozen=True)
class Use:
    """One product that reads a weight.

    Attributes:
        op: the op.
        outputs: axes of the weight that the result has; inputs: those that are summed over.
        data: what the weight is multiplied with.
        channel: (axis of the weight, axis of the data) that one and the same reduction walks plainly, or
            None (grouped convolutions).
    """

    op: Op
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    data: Value
    channel: tuple[int, int] | None


@dataclass
class Weight:
    """A constant and everything that reads it as a weight; tied weights are one.

    Attributes:
        name: unique in the module: of the constant where it has one, else of the node.
        places: everything that a pattern of ignored names may mean.
    """

    handle: Const
    name: str
    places: tuple[str, ...]
    uses: list[Use] = field(default_factory=list)

    @property
    def op(self) -> str:
        """Name of the op that uses it."""
        return self.uses[0].op.name

    def macs(self) -> int:
        """Multiply-adds of all uses; 0 where extents are symbolic."""
        costs = [u.op.cost() for u in self.uses]
        return sum(c // 2 for c in costs if isinstance(c, int))


def weights(module: Module) -> list[Weight]:
    """The weights of a module's functions and regions, in program order."""
    found: dict[int, Weight] = {}
    taken: Counter[str] = Counter()
    for op in module.walk():
        for handle, use in weight_uses(op):
            weight = found.get(id(handle))
            if weight is None:
                weight = found[id(handle)] = _named(handle, op, taken)
            weight.uses.append(use)
    return list(found.values())


def _named(handle: Const, op: Op, taken: Counter[str]) -> Weight:
    nodes = [n for entry in op.loc.entries for n in QUOTED.findall(entry)]
    base = handle.name.removesuffix(".weight") or next(iter(nodes), "") or op.name
    taken[base] += 1
    name = base if taken[base] == 1 else f"{base}#{taken[base]}"
    places = dict.fromkeys(p for p in (name, base, handle.name, *nodes, *op.loc.entries) if p)
    return Weight(handle, name, tuple(places))


def ignored(places: Iterable[str], patterns: tuple[str, ...]) -> bool:
    """Whether a pattern (``head*``) means one of the places."""
    return any(fnmatchcase(place, p) for p in patterns for place in places)


def weight_uses(op: Op) -> Iterator[tuple[Const, Use]]:
    """The constant factor of an op's product, if it has one: a float of two axes at least."""
    parts = product_of(op)
    if parts is None:
        return
    compute, factors = parts
    operands = list(op.present_operands())
    for factor, other in (factors, factors[::-1]):
        handle = constant_of(operands[factor.operand])
        if handle is None or not handle.dtype.is_float or len(handle.shape) < 2:
            continue
        if constant_of(operands[other.operand]) is not None:
            continue
        reduced = {a.name for a in compute.reduce}
        spatial = {a.name for a in compute.axes}
        inputs = tuple(a for a, c in enumerate(factor.index) if symbols_of(c) & reduced)
        outputs = tuple(a for a, c in enumerate(factor.index) if symbols_of(c) & spatial)
        if inputs and outputs and not set(inputs) & set(outputs):
            channel = _channel(factor, other, reduced)
            yield handle, Use(op, outputs, inputs, operands[other.operand], channel)


def product_of(op: Op) -> tuple[Compute, tuple[Read, Read]] | None:
    """The definition and factors of an op that is a sum of products of two operands."""
    compute = op.define()
    if not isinstance(compute, Compute) or not compute.reduce or compute.combiner != "add":
        return None
    body = compute.body
    if not isinstance(body, Binary) or body.op != "mul" or compute.where is not None:
        return None
    if not isinstance(body.a, Read) or not isinstance(body.b, Read):
        return None
    return compute, (body.a, body.b)


def _channel(weight: Read, data: Read, reduced: set[str]) -> tuple[int, int] | None:
    for axis, c in enumerate(weight.index):
        name = c.as_symbol() if isinstance(c, Dim) else None
        if name not in reduced:
            continue
        for other, d in enumerate(data.index):
            if isinstance(d, Dim) and d.as_symbol() == name:
                return axis, other
    return None


def symbols_of(c: object) -> frozenset[str] | set[str]:
    """Symbols of a coordinate; none for numbers and data-dependent ones."""
    return c.free_symbols() if isinstance(c, Dim) else frozenset()


def as_matrix(array: Array, use: Use) -> Array:
    """A weight as [outputs, other inputs, channels]: channels are the inputs that lie next to each other."""
    channel = use.channel[0] if use.channel is not None else use.inputs[0]
    others = tuple(a for a in use.inputs if a != channel)
    rest = tuple(a for a in range(array.ndim) if a not in (*use.outputs, *use.inputs))
    order = (*use.outputs, *rest, *others, channel)
    outputs = int(np.prod([array.shape[a] for a in (*use.outputs, *rest)], dtype=np.int64))
    return np.asarray(array.transpose(order).reshape(outputs, -1, array.shape[channel]))


def from_matrix(matrix: Array, shape: tuple[int, ...], use: Use) -> Array:
    """The inverse of `as_matrix`, for a weight of some shape."""
    channel = use.channel[0] if use.channel is not None else use.inputs[0]
    others = tuple(a for a in use.inputs if a != channel)
    rest = tuple(a for a in range(len(shape)) if a not in (*use.outputs, *use.inputs))
    order = (*use.outputs, *rest, *others, channel)
    turned = matrix.reshape([shape[a] for a in order])
    return np.asarray(turned.transpose(np.argsort(order)))

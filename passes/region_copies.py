"""Standalone copies of the two regions of a rewrite site, with smaller extents where that is possible.

What a region reads becomes arguments; lazy constants become the ops that compute them.  Extents are
shrunk by one substitution in the types of arguments and in extent attributes of both sides; every
other type follows by inference, and where that fails the extents stay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dims import is_static
from aino_ir.graph import Block, Function, Module, Value
from aino_ir.op import Op, Trait
from aino_ir.pattern import constant_of
from aino_ir.types import TensorType

SMALL = 8
"""Extents up to this one stay: kernels, heads, axes that mean something."""

Shrink = Mapping[int, int]


@dataclass
class Copy:
    """A region as a function of its own.

    Attributes:
        function: arguments and ops.
        arguments: argument -> (identity of what it stands for, the original value or handle).
        values: original value -> its copy.
    """

    function: Function
    arguments: dict[Value, tuple[Hashable, Value | Const]] = field(default_factory=dict)
    values: dict[Value, Value] = field(default_factory=dict)

    @property
    def ops(self) -> list[Op]:
        """Copied ops, in order."""
        return list(self.function.block)


class Copier:
    """Copies one region.

    Args:
        source: the function that it is cut from (for its symbols).
        identity: what tells values that are the same on both sides.
        held: the handle behind a value that is a constant.
        real: identities of handles whose bytes matter: they stay constants.
        shrink: extent -> smaller extent.
    """

    def __init__(
        self,
        source: Function,
        identity: Callable[[Value], Hashable],
        held: Callable[[Value], Const | None],
        real: set[Hashable],
        shrink: Shrink,
    ) -> None:
        self.identity = identity
        self.held = held
        self.real = real
        self.shrink = shrink
        self.copy = Copy(Module("region").add_function())
        self.copy.function.symbols = source.symbols.clone()
        self.builder = Builder(self.copy.function, record=False)
        self._leaves: dict[Hashable, Value] = {}
        self._made: dict[Hashable, Value] = {}

    def region(self, ops: list[Op], outputs: list[Value]) -> Copy:
        """Copy ops in order, and whatever outputs come from outside them."""
        for op in ops:
            operands = [None if v is None else self.value(v) for v in op.operands]
            copied = self._op(op, operands)
            self.copy.values.update(zip(op.results, copied.results, strict=True))
            for result, made in zip(op.results, copied.results, strict=True):
                self._made.setdefault(self.identity(result), made)
        for value in outputs:
            self.value(value)
        return self.copy

    def value(self, value: Value) -> Value:
        """The copy of a value: computed, a constant, or an argument."""
        known = self.copy.values.get(value)
        if known is None:  # another site may have found it equal to one that was made here
            known = self._made.get(self.identity(value))
        if known is None:
            handle = self.held(value)
            known = (
                self._leaf(self.identity(value), value.type, value)
                if handle is None
                else self.constant(handle)
            )
            self.copy.values[value] = known
        return known

    def constant(self, handle: Const) -> Value:
        """A constant: lazy ones by their ops, real ones as data, others as arguments."""
        if handle.block is not None:
            return self._inlined(handle.block, [self.constant(c) for c in handle.inputs])
        if handle.identity in self.real or not handle.dtype.is_float:
            return self.builder.constant(handle)
        return self._leaf(("constant", handle.identity), handle.type, handle)

    def _leaf(self, identity: Hashable, type: Any, original: Value | Const) -> Value:
        known = self._leaves.get(identity)
        if known is None:
            known = self._leaves[identity] = self.copy.function.add_argument(self._type(type))
            self.copy.arguments[known] = (identity, original)
        return known

    def _inlined(self, block: Block, arguments: list[Value]) -> Value:
        values = dict(zip(block.args, arguments, strict=True))
        for op in block:
            if op.has(Trait.TERMINATOR):
                return values[next(op.present_operands())]
            handle = constant_of(op.results[0]) if op.results else None
            if handle is not None:
                values[op.results[0]] = self.constant(handle)
                continue
            copied = self._op(op, [None if v is None else values[v] for v in op.operands])
            values.update(zip(op.results, copied.results, strict=True))
        raise AssertionError("a constant's region has no terminator")

    def _op(self, op: Op, operands: list[Value | None]) -> Op:
        if op.regions:
            return self._with_regions(op, operands)
        return self.builder.op(type(op), *operands, **self._attributes(op))

    def _with_regions(self, op: Op, operands: list[Value | None]) -> Op:
        from aino_ir.clone import copy_block

        regions = []
        for region in op.regions:
            if op.name == "core.fused":
                regions.append(self._fused_body(region, [v for v in operands if v is not None]))
                continue
            copied = Block(self.copy.function)
            copy_block(region, copied, {})
            regions.append(copied)
        return self.builder.op(type(op), *operands, regions=regions, **self._attributes(op))

    def _fused_body(self, region: Block, operands: list[Value]) -> Block:
        def body(b: Builder, *arguments: Value) -> list[Value]:
            values = dict(zip(region.args, arguments, strict=True))
            for op in region:
                if op.has(Trait.TERMINATOR):
                    break
                inner = [None if v is None else values[v] for v in op.operands]
                copied = b.op(type(op), *inner, **self._attributes(op))
                values.update(zip(op.results, copied.results, strict=True))
            return [values[v] for v in region.terminator.present_operands()]

        return self.builder.region([v.type for v in operands], body)

    def _attributes(self, op: Op) -> dict[str, Any]:
        attrs = op.attrs()
        if self.shrink:
            for key, attr in op.declaration.attrs:
                if attr.kind == "dims" and attrs[key] is not None:
                    attrs[key] = tuple(self._extent(d) for d in attrs[key])
        return attrs

    def _type(self, type: Any) -> Any:
        if not isinstance(type, TensorType):
            return type
        return TensorType(type.dtype, tuple(self._extent(d) for d in type.shape))

    def _extent(self, d: Any) -> Any:
        return self.shrink.get(d, d) if is_static(d) else d


def shrinking(shapes: list[tuple[Any, ...]], kept: set[int], from_axis: int) -> Shrink:
    """Distinct small numbers for the large extents at `from_axis` and behind, but those in `kept`."""
    found = {
        int(d)
        for shape in shapes
        for axis, d in enumerate(shape)
        if is_static(d) and d > SMALL and d not in kept and axis >= from_axis
    }
    fixed = {int(d) for shape in shapes for d in shape if is_static(d)}
    free = (n for n in range(SMALL - 3, 10_000) if n not in fixed)
    return dict(zip(sorted(found), free, strict=False))

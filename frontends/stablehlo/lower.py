"""Walks functions and regions of StableHLO and makes each operation's ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aino_ir.builder import Builder
from aino_ir.errors.base import AinoError
from aino_ir.errors.stablehlo import StableHloLoweringFault, StableHloVariant
from aino_ir.frontends.stablehlo.context import OpContext, tensor_type
from aino_ir.frontends.stablehlo.locations import location_of
from aino_ir.frontends.stablehlo.ops import row_of
from aino_ir.graph import Block, Value

RETURNS = frozenset({"func.return", "stablehlo.return"})


class FunctionLowering:
    """One function, or a region of one, on its way into a block.

    Args:
        b: builds at the end of the block.
        functions: the functions of the module by name; calls of them are inlined.
        outer: values around a region.
        calls: names of the functions that are being inlined.
    """

    def __init__(
        self,
        b: Builder,
        functions: Mapping[str, Any],
        outer: Mapping[Any, Value] | None = None,
        calls: tuple[str, ...] = ("main",),
    ) -> None:
        self.b = b
        self.functions = functions
        self.values: dict[Any, Value] = dict(outer or {})
        self.calls = calls

    def block(self, block: Any, arguments: Sequence[Value]) -> list[Value]:
        """The values that a block returns."""
        self.values.update(zip(block.arguments, arguments, strict=True))
        for op in block.operations:
            operation = op.operation
            operands = [self.values[v] for v in operation.operands]
            if operation.name in RETURNS:
                return operands
            self.b.loc = location_of(str(operation.location)) or self.b.loc
            results = self._lowered(operation, operands)
            self.values.update(zip(operation.results, results, strict=True))
        return []

    def _lowered(self, op: Any, operands: Sequence[Value]) -> list[Value]:
        if op.name == "func.call":
            return self._call(op, operands)
        c = OpContext(self.b, self, op)
        row = row_of(op.name)
        assert row is not None, op.name
        try:
            made = c.emit(row, *operands) if isinstance(row, str) else row(c, *operands)
        except AinoError as error:
            if isinstance(error, StableHloVariant) or error.loc is not None:
                raise
            raise StableHloLoweringFault(loc=self.b.loc, op=op.name, reason=str(error.message)) from error
        results = [made] if isinstance(made, Value) else list(made)
        for result, value in zip(op.results, results, strict=True):
            promised = tensor_type(result.type, f"a result of {op.name}")
            if value.type.logical() != promised:  # type: ignore[union-attr]
                reason = f"it gives {value.type}, the module says {promised}"
                raise StableHloLoweringFault(loc=self.b.loc, op=op.name, reason=reason)
        return results

    def _call(self, op: Any, operands: Sequence[Value]) -> list[Value]:
        name = op.attributes["callee"].value
        if name in self.calls or name not in self.functions:
            what = "a function that calls itself" if name in self.calls else f"an unknown function {name}"
            raise StableHloVariant(loc=self.b.loc, op=op.name, what=what)
        (block,) = self.functions[name].regions[0].blocks
        inner = FunctionLowering(self.b, self.functions, None, (*self.calls, name))
        return inner.block(block, operands)

    # -- regions ------------------------------------------------------------------------------------

    def captures(self, regions: Sequence[Any]) -> list[Any]:
        """MLIR values that regions read from around them, in order of their first use."""
        found: dict[Any, None] = {}
        for region in regions:
            own: set[Any] = set()
            for block in region.blocks:
                _collect(block, own, found)
        return [v for v in found if v in self.values]

    def inside(self, b: Builder, captured: Sequence[Any], values: Sequence[Value]) -> FunctionLowering:
        """The lowering of a region whose captures are `values`."""
        return FunctionLowering(b, self.functions, dict(zip(captured, values, strict=True)), self.calls)

    def region(self, region: Any, captured: Sequence[Any]) -> Block:
        """A block that runs a region without arguments; its own are the captures."""
        (source,) = region.blocks

        def body(b: Builder, *arguments: Value) -> list[Value]:
            return self.inside(b, captured, arguments).block(source, [])

        return self.b.region([self.values[v].type for v in captured], body)


def _collect(block: Any, own: set[Any], found: dict[Any, None]) -> None:
    """Values that a block reads and does not make, those of nested regions included."""
    own.update(block.arguments)
    for op in block.operations:
        operation = op.operation
        for value in operation.operands:
            if value not in own:
                found[value] = None
        for region in operation.regions:
            for nested in region.blocks:
                _collect(nested, own, found)
        own.update(operation.results)

"""Walks functions and regions of StableHLO and makes each operation's ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from aino_ir.builder import Builder
from aino_ir.dims import is_static
from aino_ir.errors.base import AinoError
from aino_ir.errors.stablehlo import StableHloLoweringFault, StableHloVariant
from aino_ir.frontends.complex_numbers import Complex, by_parts, parts_of, whole_of
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.stablehlo.context import OpContext, element_dtype, extents_of, is_complex
from aino_ir.frontends.stablehlo.locations import location_of
from aino_ir.frontends.stablehlo.ops import row_of
from aino_ir.frontends.stablehlo.ops.complex import COMPLEX, FOR_BOTH, PARTWISE
from aino_ir.graph import Block, Value
from aino_ir.types import TensorType

Number: TypeAlias = "Value | Complex"

RETURNS = frozenset({"func.return", "stablehlo.return"})


class FunctionLowering:
    """One function, or a region of one, on its way into a block.

    Args:
        b: builds at the end of the block.
        functions: the functions of the module by name; calls of them are inlined.
        outer: values around a region.
        calls: names of the functions that are being inlined.
        pointwise: whether a region of scalars is run on whole tensors, whose shapes it does not tell.
    """

    def __init__(
        self,
        b: Builder,
        functions: Mapping[str, Any],
        outer: Mapping[Any, Number] | None = None,
        calls: tuple[str, ...] = ("main",),
        pointwise: bool = False,
    ) -> None:
        self.b = b
        self.functions = functions
        self.values: dict[Any, Number] = dict(outer or {})
        self.calls = calls
        self.pointwise = pointwise

    def block(self, block: Any, arguments: Sequence[Number]) -> list[Any]:
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

    def _lowered(self, op: Any, operands: Sequence[Number]) -> list[Number]:
        if op.name == "func.call":
            return self._call(op, operands)
        c = OpContext(self.b, self, op)
        try:
            made = self._made(c, operands)
        except AinoError as error:
            if isinstance(error, StableHloVariant) or error.loc is not None:
                raise
            raise StableHloLoweringFault(loc=self.b.loc, op=op.name, reason=str(error.message)) from error
        results: list[Number] = [made] if isinstance(made, (Value, Complex)) else list(made)
        for result, value in zip(op.results, results, strict=True):
            if self.pointwise:
                continue
            given = value.real.type if isinstance(value, Complex) else value.type
            assert isinstance(given, TensorType)
            if not fits(given, result.type) or isinstance(value, Complex) != is_complex(result.type):
                reason = f"it gives {given}, the module says {result.type}"
                raise StableHloLoweringFault(loc=self.b.loc, op=op.name, reason=reason)
        return results

    def _made(self, c: OpContext, operands: Sequence[Number]) -> Any:
        """What the operation's row makes: that for complex numbers where it takes or gives any."""
        op = c.op
        complex_ones = any(isinstance(x, Complex) for x in operands) or any(
            is_complex(r.type) for r in op.results
        )
        row = row_of(op)
        if complex_ones and op.name not in FOR_BOTH:
            if op.name in PARTWISE and row is not None and not isinstance(row, str):
                return by_parts(c, partial(row, c, *operands))
            row = COMPLEX.get(op.name)
            if row is None:
                c.unsupported("complex numbers")
        if row is None:
            c.unsupported("its use in this region")
        return c.emit(row, *operands) if isinstance(row, str) else row(c, *operands)  # type: ignore[arg-type]

    def _call(self, op: Any, operands: Sequence[Number]) -> list[Number]:
        name = op.attributes["callee"].value
        if name in self.calls or name not in self.functions:
            what = "a function that calls itself" if name in self.calls else f"an unknown function {name}"
            raise StableHloVariant(loc=self.b.loc, op=op.name, what=what)
        (block,) = self.functions[name].regions[0].blocks
        inner = FunctionLowering(self.b, self.functions, None, (*self.calls, name), self.pointwise)
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

    def captured(self, captures: Sequence[Any]) -> list[Value]:
        """The values of captures, complex ones as their two parts."""
        return parts_of([self.values[v] for v in captures])

    def inside(
        self, b: Builder, captures: Sequence[Any], values: Sequence[Value], pointwise: bool = False
    ) -> FunctionLowering:
        """The lowering of a region whose captures have the values (see `captured`).

        Numbers that follow from extents are made anew inside, where they decide extents too.
        """
        outer = [self.values[v] for v in captures]
        whole = whole_of(values, [isinstance(v, Complex) for v in outer])
        whole = [self.extents(b, v) or inner for v, inner in zip(outer, whole, strict=True)]
        return FunctionLowering(
            b,
            self.functions,
            dict(zip(captures, whole, strict=True)),
            self.calls,
            self.pointwise or pointwise,
        )

    def extents(self, b: Builder, value: Number) -> Value | None:
        """A value of numbers that follow from symbolic extents, made by another builder; or None."""
        if isinstance(value, Complex) or value.dtype.is_bool:
            return None
        dims = self.b.known(value)
        if dims is None or all(is_static(d) for d in dims):
            return None
        made = Emitter(b)
        return made.cast(made.reshape(made.emit("dims", dims=dims), value.shape), value.dtype)

    def region(self, region: Any, captures: Sequence[Any]) -> Block:
        """A block that runs a region without arguments; its own are the captures."""
        (source,) = region.blocks

        def body(b: Builder, *arguments: Value) -> list[Value]:
            return parts_of(self.inside(b, captures, arguments).block(source, []))

        return self.b.region([v.type for v in self.captured(captures)], body)


def fits(given: TensorType, promised: Any) -> bool:
    """Whether a value is what an MLIR type says, as far as it says."""
    extents = extents_of(promised)
    return (
        given.dtype is element_dtype(promised, "a result")
        and len(extents) == given.rank
        and all(e is None or not is_static(d) or d == e for e, d in zip(extents, given.shape, strict=True))
    )


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

"""Calls between functions of a module: the symbols of the function called get names of the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.dims import DimLike, free_symbols, substitute
from aino_ir.dtypes import i64
from aino_ir.infer import InferContext
from aino_ir.op import Op, dims_attr, str_attr, strs_attr, variadic_operand
from aino_ir.ops.control import check_same_type
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Function


class Call(Op):
    """results = what the function `callee` of the module makes of the operands.

    `symbols` names symbols of that function, `dims` says what they are here; its types are renamed by
    them, and symbols left out are those of the same name here.  `decided` are symbols of the caller whose
    values the last result holds, i64: extents and numbers that the function decides and that its other
    results do not tell.
    """

    name = "core.call"
    inputs = variadic_operand()
    callee = str_attr()
    symbols = strs_attr(())
    dims = dims_attr(())
    decided = strs_attr(())

    def infer(self, ic: InferContext) -> list[Type]:
        callee = ic.callee(self.callee)
        if callee is None:
            ic.bad_attribute("callee", "a function of the module", self.callee)
        if callee.states:
            ic.bad_attribute("callee", "a function without state", self.callee)
        if len(self.symbols) != len(self.dims):
            ic.bad_attribute("dims", f"{len(self.symbols)} extents", len(self.dims))
        names = dict(zip(self.symbols, self.dims, strict=True))
        parameters = [renamed(v.type, names) for v in callee.inputs]
        results = [renamed(v.type, names) for v in callee.outputs]
        self._check_names(ic, [*parameters, *results])
        self._check_operands(ic, callee, parameters)
        if self.decided and results[-1:] != [TensorType(i64, (len(self.decided),))]:
            ic.bad_attribute("decided", "as many as the last result has elements", self.decided)
        return list(results)

    def _check_names(self, ic: InferContext, types: Sequence[Type]) -> None:
        """Demand that all symbols, renamed, are the caller's."""
        for name in frozenset().union(*map(type_symbols, types)):
            if name not in ic.symbols:
                ic.bad_attribute("symbols", f"to name '{name}'", self.symbols)
        unknown = [name for name in self.decided if name not in ic.symbols]
        if unknown:
            ic.bad_attribute("decided", "symbols of the caller", unknown)

    def _check_operands(self, ic: InferContext, callee: Function, parameters: Sequence[Type]) -> None:
        if len(self.inputs) != len(parameters):
            ic.bad_operand(f"operands for '{self.callee}'", str(len(parameters)), len(self.inputs))
        for name, wanted, given in zip(callee.input_names, parameters, self.inputs, strict=True):
            check_same_type(ic, wanted, given.type, f"input '{name}'")

    def known_bindings(self, bindings: Mapping[str, int]) -> dict[str, int]:
        """Values of the called function's symbols, as far as the caller's follow from those known."""
        assert self.block is not None and self.block.function is not None
        table = self.block.function.symbols
        out = {}
        for name, dim in zip(self.symbols, self.dims, strict=True):
            if free_symbols(dim) <= bindings.keys() or free_symbols(table.canonical(dim)) <= bindings.keys():
                out[name] = table.evaluate(dim, bindings)
        return out

    def decide(self, results: Any, bindings: dict[str, int]) -> None:
        """Enter the values of the symbols that the called function has decided."""
        if self.decided:
            numbers = np.asarray(results[-1]).tolist()
            bindings.update(zip(self.decided, map(int, numbers), strict=True))

    def evaluate(self, ev: Any, *arrays: Any) -> tuple[Any, ...]:
        from aino_ir.interp import run_function

        assert self.block is not None and self.block.function is not None
        callee = self.block.function.module.functions[self.callee]
        results = run_function(callee, arrays, ev.precision, bindings=self.known_bindings(ev.bindings))
        self.decide(results, ev.bindings)
        return results


def renamed(type_: Type, names: Mapping[str, DimLike]) -> Type:
    """A type with other extents for its symbols, row-major."""
    if isinstance(type_, SequenceType):
        return SequenceType(renamed(type_.element, names))
    if isinstance(type_, OptionalType):
        return OptionalType(renamed(type_.element, names))
    if isinstance(type_, MapType):
        return type_
    shape = tuple(substitute(d, names) for d in type_.shape)
    return StringType(shape) if isinstance(type_, StringType) else TensorType(type_.dtype, shape)


def type_symbols(type_: Type) -> frozenset[str]:
    """Names of the symbols in a type."""
    while isinstance(type_, (SequenceType, OptionalType)):
        type_ = type_.element
    return frozenset() if isinstance(type_, MapType) else frozenset().union(*map(free_symbols, type_.shape))

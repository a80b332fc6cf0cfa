"""Symbolic extents of a program's inputs: torch's symbols become AINO's, with bounds and names.

A dimension is named by the `torch.export.Dim` that the caller made it with, else after the input and
the axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aino_ir.dims import DimLike, floordiv
from aino_ir.errors.torch import SymbolUnsupported, TorchDimUnknown
from aino_ir.frontends.dim_specs import DimSpec as DimSpec
from aino_ir.frontends.dim_specs import checked_spec, symbol_name
from aino_ir.frontends.torch.expressions import NoDim, dim_of, expression_of, linear_root
from aino_ir.symbols import Origin, Symbols

UNCHECKED_LOWER = 2
"""torch gives this lower bound to every dynamic extent while tracing and does not enforce it."""

FAR = 2**62
"""Bounds of at least this magnitude are none."""


class TorchDimensions:
    """Makes symbols for the dynamic dimensions of a program's inputs.

    Args:
        symbols: the table that they go to.
        ranges: torch's range constraints, by symbol.
        names: (input, axis) -> the name that the caller gave the dimension.
        specs: the caller's bounds and extents, by name.

    Attributes:
        table: what torch's symbols stand for, by name.
    """

    def __init__(
        self,
        symbols: Symbols,
        ranges: Mapping[Any, Any],
        names: Mapping[tuple[str, int], str] | None = None,
        specs: Mapping[str, DimSpec] | None = None,
    ) -> None:
        self.symbols = symbols
        self.table: dict[str, DimLike] = {}
        self._ranges = {str(symbol): values for symbol, values in ranges.items()}
        self._names = dict(names or {})
        self._specs = {name: checked_spec(name, spec) for name, spec in (specs or {}).items()}
        self._known: dict[str, str] = {}

    def declare(self, inputs: Sequence[tuple[str, Sequence[Any]]]) -> list[tuple[DimLike, ...]]:
        """Shapes of the inputs, given as (name, torch's extents)."""
        axes = [(name, axis, extent) for name, shape in inputs for axis, extent in enumerate(shape)]
        for name, axis, extent in axes:
            if not isinstance(extent, int) and expression_of(extent).is_Symbol:
                self._symbol(name, axis, expression_of(extent))
        for name, axis, extent in axes:
            if not isinstance(extent, int):
                self._root(name, axis, expression_of(extent))
        self._finish()
        return [tuple(self.extent(e, f"the extent of input {name}") for e in shape) for name, shape in inputs]

    def extent(self, number: Any, what: str) -> DimLike:
        """An extent of torch's in AINO's terms; SymbolUnsupported when it is none."""
        if isinstance(number, int):
            return int(number)
        try:
            return self.symbols.simplify(dim_of(expression_of(number), self.table))
        except NoDim as problem:
            raise SymbolUnsupported(what=what, got=expression_of(number)) from problem

    def _symbol(self, name: str, axis: int, symbol: Any) -> None:
        """An axis whose extent is one of torch's symbols."""
        if str(symbol) in self.table:
            return
        low, high = self._bounds(str(symbol))
        self.table[str(symbol)] = self._new(name, axis, low, high)

    def _root(self, name: str, axis: int, expression: Any) -> None:
        """An axis whose extent is an expression: its symbol, when no axis has that one alone."""
        if all(str(symbol) in self.table for symbol in expression.free_symbols):
            return
        found = linear_root(expression)
        if found is None:
            raise SymbolUnsupported(what=f"the extent of input {name}", got=expression)
        root, factor, offset = found
        low, high = self._bounds(str(root))
        whole = self._new(
            name, axis, max(low * factor + offset, 0), None if high is None else high * factor + offset
        )
        if not isinstance(whole, int):
            self.symbols.assume_divisible(whole - offset, factor, f"input {name}: axis {axis}")
        self.table[str(root)] = floordiv(whole - offset, factor)

    def _bounds(self, symbol: str) -> tuple[int, int | None]:
        values = self._ranges.get(symbol)
        low = 0 if values is None else finite(values.lower)
        high = None if values is None else finite(values.upper)
        if low is None or low == UNCHECKED_LOWER:
            low = 0
        return max(low, 0), high

    def _new(self, name: str, axis: int, low: int, high: int | None) -> DimLike:
        called = self._names.get((name, axis), f"{name}_{axis}")
        spec = self._specs.get(called)
        self._known.setdefault(called, called)
        if isinstance(spec, int):
            return spec
        if spec is not None:
            low = max(low, spec[0])
            high = spec[1] if high is None else high if spec[1] is None else min(high, spec[1])
        return self.symbols.new(
            self.symbols.fresh(symbol_name(called)), low, high, origin=Origin.input(name, axis)
        )

    def _finish(self) -> None:
        for name in self._specs:
            if name not in self._known:
                raise TorchDimUnknown(name=name, known=", ".join(self._known) or "none")


def finite(bound: Any) -> int | None:
    """A bound as a number, None for an infinity."""
    if not isinstance(bound, int) and not getattr(bound, "is_Integer", False):
        return None
    return None if abs(int(bound)) >= FAR else int(bound)

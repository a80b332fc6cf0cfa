"""Symbolic dimensions of a model's inputs: names, bounds, and what the caller says about them.

A named dimension (``dim_param``) is one symbol wherever it occurs; an unnamed one gets a symbol of its
own, named after the input and the axis.
"""

from __future__ import annotations

from collections.abc import Mapping

from aino_ir.dims import DimLike
from aino_ir.errors.onnx import DimensionUnknown
from aino_ir.frontends.dim_specs import DimSpec as DimSpec
from aino_ir.frontends.dim_specs import checked_spec, symbol_name
from aino_ir.frontends.onnx.names import quote
from aino_ir.symbols import Origin, Symbols


class Dimensions:
    """Makes symbols for the dimensions of a graph's inputs.

    Args:
        symbols: the table that they go to.
        specs: the caller's bounds and extents, by the model's own names (of unnamed dimensions: by
            ``input_axis``).
        least: the least extent of a dimension that the caller says nothing of.
    """

    def __init__(self, symbols: Symbols, specs: Mapping[str, DimSpec] | None = None, least: int = 0) -> None:
        self.symbols = symbols
        self.specs = {name: checked_spec(name, spec) for name, spec in (specs or {}).items()}
        self.least = least
        self.made: dict[str, DimLike] = {}

    def extent(self, declared: int | str | None, name: str, axis: int) -> DimLike:
        """The extent of an input's axis: a number, or a symbol."""
        if isinstance(declared, int):
            return declared
        key = declared if declared is not None else f"{name}_{axis}"
        found = self.made.get(key)
        if found is None or declared is None:
            found = self.made[key] = self._make(key, Origin.input(name, axis))
        return found

    def finish(self) -> None:
        """Refuse specifications of dimensions that have not occurred."""
        for name in self.specs:
            if name not in self.made:
                known = ", ".join(quote(known) for known in self.made) or "none"
                raise DimensionUnknown(name=quote(name), known=known)

    def _make(self, key: str, origin: Origin) -> DimLike:
        spec = self.specs.get(key, (self.least, None))
        if isinstance(spec, int):
            return spec
        low, high = spec
        return self.symbols.new(self.symbols.fresh(symbol_name(key)), low, high, origin=origin)

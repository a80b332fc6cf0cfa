"""Symbolic dimensions of a model's inputs: names, bounds, and what the caller says about them.

A named dimension (``dim_param``) is one symbol wherever it occurs; an unnamed one gets a symbol of its
own, named after the input and the axis.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import TypeAlias

from aino_ir.dims import DimLike
from aino_ir.errors.onnx import DimensionInvalid, DimensionUnknown
from aino_ir.frontends.onnx.names import quote
from aino_ir.symbols import Origin, Symbols

DimSpec: TypeAlias = "int | tuple[int, int | None]"
"""What a caller may say: an extent that fixes the dimension, or its inclusive bounds (None: unbounded)."""


class Dimensions:
    """Makes symbols for the dimensions of a graph's inputs.

    Args:
        symbols: the table that they go to.
        specs: the caller's bounds and extents, by the model's own names (of unnamed dimensions: by
            ``input_axis``).
    """

    def __init__(self, symbols: Symbols, specs: Mapping[str, DimSpec] | None = None) -> None:
        self.symbols = symbols
        self.specs = {name: _checked(name, spec) for name, spec in (specs or {}).items()}
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
        spec = self.specs.get(key, (0, None))
        if isinstance(spec, int):
            return spec
        low, high = spec
        return self.symbols.new(self.symbols.fresh(symbol_name(key)), low, high, origin=origin)


def symbol_name(text: str) -> str:
    """A symbol name like `text`, with room left for the short names of loop variables."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII).strip("_")[:40]
    short = len(stem) < 3 or re.fullmatch(r"[a-z]{1,3}\d+", stem) is not None
    reserved = keyword.iskeyword(stem) or stem in {"min", "max"}
    return f"dim_{stem}" if short or reserved or not stem[0].isalpha() else stem


def _checked(name: str, spec: object) -> DimSpec:
    """`spec` when it is an extent or bounds; DimensionInvalid otherwise."""
    if isinstance(spec, int) and not isinstance(spec, bool) and spec >= 0:
        return spec
    if isinstance(spec, (tuple, list)) and len(spec) == 2:
        low, high = spec
        whole = isinstance(low, int) and isinstance(high, (int, type(None)))
        if whole and low >= 0 and (high is None or high >= low):
            return (low, high)
    raise DimensionInvalid(name=quote(name), got=quote(repr(spec))[1:-1])

"""What a caller may say about a model's dimensions, and the symbol names that they get."""

from __future__ import annotations

import keyword
import re
from typing import TypeAlias

from aino_ir.errors.onnx import DimensionInvalid

DimSpec: TypeAlias = "int | tuple[int, int | None]"
"""An extent that fixes a dimension, or its inclusive bounds (None: unbounded)."""

LONGEST = 80
"""Characters of what a caller said that an error shows."""


def symbol_name(text: str) -> str:
    """A symbol name like `text`, with room left for the short names of loop variables."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII).strip("_")[:40]
    short = len(stem) < 3 or re.fullmatch(r"[a-z]{1,3}\d+", stem) is not None
    reserved = keyword.iskeyword(stem) or stem in {"min", "max"}
    return f"dim_{stem}" if short or reserved or not stem[0].isalpha() else stem


def checked_spec(name: str, spec: object) -> DimSpec:
    """`spec` when it is an extent or bounds; DimensionInvalid otherwise."""
    if isinstance(spec, int) and not isinstance(spec, bool) and spec >= 0:
        return spec
    if isinstance(spec, (tuple, list)) and len(spec) == 2:
        low, high = spec
        whole = isinstance(low, int) and isinstance(high, (int, type(None)))
        if whole and low >= 0 and (high is None or high >= low):
            return (low, high)
    raise DimensionInvalid(name=ascii(name)[:LONGEST], got=ascii(spec)[:LONGEST])

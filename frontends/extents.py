"""What the extent of an axis tells about symbols; both exporters read extents off values with it."""

from __future__ import annotations

from typing import NamedTuple

from aino_ir.dims import Dim


class Line(NamedTuple):
    """An extent that is scale * symbol + offset, so that it tells the symbol."""

    symbol: str
    scale: int
    offset: int


def line_of(dim: Dim) -> Line | None:
    """The symbol that an extent tells, or None."""
    name = dim.as_symbol()
    if name is not None:
        return Line(name, 1, 0)
    terms = dim.terms()
    if len(terms) != 1 or len(terms[0][1]) != 1:
        return None
    (scale, (atom,)) = terms[0]
    inner = getattr(atom, "name", None)
    return None if inner is None else Line(inner, scale, dim.constant)

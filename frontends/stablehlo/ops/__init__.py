"""Which StableHLO operation becomes what: one table a family, merged here."""

from __future__ import annotations

from aino_ir.frontends.stablehlo.context import Row
from aino_ir.frontends.stablehlo.ops import (
    control,
    elementwise,
    indexing,
    movement,
    ordering,
    products,
    reductions,
)

FAMILIES = (control, elementwise, indexing, movement, ordering, products, reductions)

_ROWS: dict[str, Row] = {name: row for family in FAMILIES for name, row in family.ROWS.items()}


def row_of(name: str) -> Row | None:
    """The row of an operation such as ``stablehlo.add``, or None."""
    return _ROWS.get(name)

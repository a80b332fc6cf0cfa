"""Which StableHLO operation becomes what: one table a family, merged here."""

from __future__ import annotations

from typing import Any

from aino_ir.frontends.stablehlo.context import Row
from aino_ir.frontends.stablehlo.ops import (
    bits,
    control,
    elementwise,
    factorizations,
    indexing,
    movement,
    ordering,
    products,
    random,
    reductions,
    scatters,
    special,
    windows,
)

FAMILIES = (
    bits,
    control,
    elementwise,
    factorizations,
    indexing,
    movement,
    ordering,
    products,
    random,
    reductions,
    scatters,
    special,
    windows,
)
CUSTOM_CALL = "stablehlo.custom_call"

_ROWS: dict[str, Row] = {name: row for family in FAMILIES for name, row in family.ROWS.items()}


def row_of(op: Any) -> Row | None:
    """The row of an operation such as ``stablehlo.add``, or of what a custom call names; or None."""
    return _ROWS.get(f"call {call_target(op)}" if op.name == CUSTOM_CALL else op.name)


def call_target(op: Any) -> str:
    """What a custom call names."""
    return str(op.attributes["call_target_name"].value)

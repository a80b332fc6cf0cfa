"""Lowerings of ONNX operators: one module a family, each with a `TABLE` of rows by operator name.

A row is the name of an IR op that takes the same operands in the same order, or a function
``(context, node) -> value or values``.  Rows serve every operator set version; the functions read
`node.opset` where versions differ.
"""

from __future__ import annotations

import importlib
import pkgutil

from aino_ir.errors.usage import BadExtension
from aino_ir.frontends.onnx.context import Row

TABLE: dict[tuple[str, str], Row] = {}
"""(domain, operator) -> row."""

REGISTERED: set[tuple[str, str]] = set()
"""Operators whose rows came from other packages; the installed onnx need not know them."""


def register_row(domain: str, operator: str, row: Row) -> None:
    """Add the row of an operator that has none yet.

    Raises:
        BadExtension: the operator has a row.
    """
    _enter(domain, operator, row)
    REGISTERED.add((domain, operator))


def _enter(domain: str, operator: str, row: Row) -> None:
    if (domain, operator) in TABLE:
        raise BadExtension(kind="operator", name=f"{domain}::{operator}", reason="it has a row already")
    TABLE[domain, operator] = row


for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    _family = importlib.import_module(f"{__name__}.{_module}")
    for _name, _row in _family.TABLE.items():
        _enter(getattr(_family, "DOMAIN", ""), _name, _row)

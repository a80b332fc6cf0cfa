"""Lowerings of ATen operators: one module a family, each with a `TABLE` of rows by operator name.

A name is an overload such as ``aten.add.Tensor``, or ``aten.add`` for all overloads.  A row is the name of
an IR op that takes the same tensors in the same order, or a function of the context and the call's
arguments by their ATen names, `self` and `input` being called `x`.  An operator that has a row is kept
whole when a program is decomposed; whatever has none, torch takes apart.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import torch

from aino_ir.errors.usage import BadExtension
from aino_ir.frontends.torch.context import Row

TABLE: dict[str, Row] = {}
"""Operator -> row."""


def register_row(operator: str, row: Row) -> None:
    """Add the row of an operator that has none yet, such as ``mylib.myop.default``.

    Raises:
        BadExtension: the operator has a row.
    """
    if operator in TABLE:
        raise BadExtension(kind="operator", name=operator, reason="it has a row already")
    TABLE[operator] = row


def operator_name(target: Any) -> str:
    """An operator's name in the tables: ``aten.add.Tensor``, ``higher_order.cond``."""
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target._name}"
    return str(target)


def row_of(target: Any) -> Row | None:
    """The row of an operator: its overload's, or that of all its overloads."""
    name = operator_name(target)
    found = TABLE.get(name)
    if found is None and name.count(".") == 2:
        found = TABLE.get(name.rpartition(".")[0])
    return found


def complex_row_of(target: Any) -> tuple[Row | None, bool]:
    """The row of an operator on complex tensors, and whether it is called for each part by itself."""
    from aino_ir.frontends.torch.ops import complex as own

    name = operator_name(target)
    for key in (name, name.rpartition(".")[0]):
        if key in own.COMPLEX or key in own.TABLE:
            return own.COMPLEX.get(key) or own.TABLE[key], False
        if key in own.PARTWISE:
            return row_of(target), True
    return None, False


for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    for _operator, _row in importlib.import_module(f"{__name__}.{_module}").TABLE.items():
        register_row(_operator, _row)

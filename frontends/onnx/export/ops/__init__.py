"""How each op is written in ONNX: one module a family, each with a `TABLE` of rows by op name.

A row is the operator that takes the same operands, or a function ``(graph, op) -> result or results``.
Families of ops that move data or hold structures set `RAW`: their operands come as they are stored.
"""

from __future__ import annotations

import importlib
import pkgutil

from aino_ir.frontends.onnx.export.writer import Row

TABLE: dict[str, Row] = {}
"""Op name -> row."""

RAW: set[str] = set()
"""Ops whose operands are not converted to the dtype that AINO computes in."""

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    _family = importlib.import_module(f"{__name__}.{_module}")
    TABLE.update(_family.TABLE)
    if getattr(_family, "RAW", False):
        RAW.update(_family.TABLE)

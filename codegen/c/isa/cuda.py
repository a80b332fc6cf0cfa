"""CUDA C++ on one value at a time: functions that both CUDA's and the C library have under one name."""

from __future__ import annotations

from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling

_FUNCTIONS = {
    "sqrt": ("sqrt", "x"),
    "fma": ("fma", "a, b, c"),
    "rem": ("fmod", "a, b"),
    "abs": ("fabs", "x"),
    "copysign": ("copysign", "a, b"),
    "round": ("rint", "x"),
    "floor": ("floor", "x"),
    "ceil": ("ceil", "x"),
    "trunc": ("trunc", "x"),
}


def _rows() -> Rows:
    rows: Rows = {}
    for op, (name, arguments) in _FUNCTIONS.items():
        rows[op, "f32"] = (Spelling("", f"{name}f({arguments})"),)
        rows[op, "f64"] = (Spelling("", f"{name}({arguments})"),)
    return rows


CUDA = IsaTable(macros=(), flags="", rows=_rows())

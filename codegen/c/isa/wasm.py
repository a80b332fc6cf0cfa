"""WebAssembly with 128-bit SIMD.

There is no fused multiply-add: that of floats goes through doubles (see `lowering.fused_by_doubles`),
that of doubles through the C library.
"""

from __future__ import annotations

from aino_ir.codegen.c.isa.portable import SCALAR_ROWS
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling, elementwise

_ROUNDINGS = {"round": "nearest", "floor": "floor", "ceil": "ceil", "trunc": "trunc"}


def _wasm(name: str, arguments: str) -> Spelling:
    full = f"__builtin_wasm_{name}"
    return Spelling(full, f"{full}({arguments})")


def _arithmetic() -> Rows:
    rows: Rows = {}
    for type_ in ("f32x4", "f64x2"):
        rows["sqrt", type_] = (elementwise("sqrt", "x"),)
        rows["greater", type_] = (_wasm(f"pmax_{type_}", "b, a"),)  # pmax(x, y) is x < y ? y : x
        rows["lesser", type_] = (_wasm(f"pmin_{type_}", "b, a"),)
        rows["max", type_] = (_wasm(f"max_{type_}", "a, b"),)
        rows["min", type_] = (_wasm(f"min_{type_}", "a, b"),)
        for op, name in _ROUNDINGS.items():
            rows[op, type_] = (_wasm(f"{name}_{type_}", "x"),)
    for op, name in {"round": "rint", "floor": "floor", "ceil": "ceil", "trunc": "trunc"}.items():
        rows[op, "f32"] = (Spelling("", f"__builtin_{name}f(x)"),)
        rows[op, "f64"] = (Spelling("", f"__builtin_{name}(x)"),)
    return rows


def _conversions() -> Rows:
    return {
        ("to_i32", "f32x4"): (_wasm("trunc_saturate_s_i32x4_f32x4", "x"),),
        ("to_u32", "f32x4"): (
            Spelling(
                "__builtin_wasm_trunc_saturate_u_i32x4_f32x4",
                "(u32x4)__builtin_wasm_trunc_saturate_u_i32x4_f32x4(x)",
            ),
        ),
    }


_SCALARS = {key: spellings for key, spellings in SCALAR_ROWS.items() if key != ("fma", "f32")}

WASM = IsaTable(
    macros=("__wasm_simd128__",),
    flags="-msimd128",
    rows={**_SCALARS, **_arithmetic(), **_conversions()},
    lowered=frozenset({("fma", "f32")}),
)

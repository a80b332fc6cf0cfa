"""NEON of AArch64: 16-byte vectors of every dtype, f64 among them, with IEEE arithmetic."""

from __future__ import annotations

from aino_ir.codegen.c.isa.portable import SCALAR_ROWS
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling, elementwise

_FLOATS = (("f32x2", "v2sf"), ("f32x4", "v4sf"), ("f64x2", "v2df"))
"""Vector type, and what GCC's builtins call it."""

_ROUNDINGS = {
    "round": ("roundeven", "roundeven", "rint"),
    "floor": ("floor", "floor", "floor"),
    "ceil": ("ceil", "ceil", "ceil"),
    "trunc": ("trunc", "btrunc", "trunc"),
}
"""Operation -> Clang's elementwise builtin, GCC's vector builtin, the scalar builtin of both."""


def _gcc(name: str, arguments: str) -> Spelling:
    full = f"__builtin_aarch64_{name}"
    return Spelling(full, f"{full}({arguments})")


def _arithmetic() -> Rows:
    rows: Rows = {}
    for type_, suffix in _FLOATS:
        rows["fma", type_] = (elementwise("fma", "a", "b", "c"), _gcc(f"fma{suffix}", "a, b, c"))
        rows["sqrt", type_] = (elementwise("sqrt", "x"), _gcc(f"sqrt{suffix}", "x"))
        rows["max", type_] = (elementwise("maximum", "a", "b"), _gcc(f"fmax_nan{suffix}", "a, b"))
        rows["min", type_] = (elementwise("minimum", "a", "b"), _gcc(f"fmin_nan{suffix}", "a, b"))
        for op, (clang, gcc, _) in _ROUNDINGS.items():
            rows[op, type_] = (elementwise(clang, "x"), _gcc(f"{gcc}{suffix}", "x"))
    for op, (_, _, name) in _ROUNDINGS.items():
        rows[op, "f32"] = (Spelling("", f"__builtin_{name}f(x)"),)
        rows[op, "f64"] = (Spelling("", f"__builtin_{name}(x)"),)
    return rows


def _conversions() -> Rows:
    """FCVTZS and FCVTZU saturate and turn NaN into 0, as the loop language wants it."""
    return {
        ("to_i32", "f32x4"): (
            Spelling("__builtin_neon_vcvtq_s32_v", "(i32x4)__builtin_neon_vcvtq_s32_v((i8x16)x, 34)"),
            _gcc("lbtruncv4sfv4si", "x"),
        ),
        ("to_u32", "f32x4"): (
            Spelling("__builtin_neon_vcvtq_u32_v", "(u32x4)__builtin_neon_vcvtq_u32_v((i8x16)x, 50)"),
        ),
        ("to_i64", "f64x2"): (
            Spelling("__builtin_neon_vcvtq_s64_v", "(i64x2)__builtin_neon_vcvtq_s64_v((i8x16)x, 35)"),
            _gcc("lbtruncv2dfv2di", "x"),
        ),
        ("decode_f16", "f32x4"): (Spelling("", "__builtin_convertvector((h16x4)x, f32x4)"),),
        ("encode_f16", "f32x4"): (Spelling("", "(u16x4)__builtin_convertvector(x, h16x4)"),),
    }


NEON = IsaTable(
    macros=("__ARM_NEON", "__aarch64__"),
    flags="-march=armv8-a",
    rows={**SCALAR_ROWS, **_arithmetic(), **_conversions()},
)

"""Plain vector extensions: every operation has its generic text.

A fused multiply-add becomes ``fma`` of the C library where the processor has no instruction for it:
correct everywhere and slow there.
"""

from __future__ import annotations

from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling

SCALAR_ROWS: Rows = {
    ("sqrt", "f32"): (Spelling("", "__builtin_sqrtf(x)"),),
    ("sqrt", "f64"): (Spelling("", "__builtin_sqrt(x)"),),
    ("fma", "f32"): (Spelling("", "__builtin_fmaf(a, b, c)"),),
    ("fma", "f64"): (Spelling("", "__builtin_fma(a, b, c)"),),
    ("rem", "f32"): (Spelling("", "__builtin_fmodf(a, b)"),),
    ("rem", "f64"): (Spelling("", "__builtin_fmod(a, b)"),),
    ("abs", "f32"): (Spelling("", "__builtin_fabsf(x)"),),
    ("abs", "f64"): (Spelling("", "__builtin_fabs(x)"),),
    ("copysign", "f32"): (Spelling("", "__builtin_copysignf(a, b)"),),
    ("copysign", "f64"): (Spelling("", "__builtin_copysign(a, b)"),),
}
"""Scalar operations that every C compiler has."""

PORTABLE = IsaTable(macros=(), flags="", rows=SCALAR_ROWS)

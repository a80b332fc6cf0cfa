"""AVX-512 with VNNI and bf16: one instruction multiplies pairs of bf16 and adds them to each f32 lane.

GCC 12, later ones and clang take operands of three different types in the builtin; assembly takes any.  The
instruction adds the odd product first, then the even one, each sum rounded to nearest, and takes subnormal
numbers for zero (Intel's manual, VDPBF16PS).
"""

from __future__ import annotations

from aino_ir.codegen.c.isa.avx512vnni import AVX512VNNI
from aino_ir.codegen.c.isa.avx512vnni import ROWS as AVX512VNNI_ROWS
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling

_NAMES = ("__builtin_ia32_dpbf16ps_v16sf", "__builtin_ia32_dpbf16ps_512")
"""What GCC and clang call vdpbf16ps: where one of them is, the assembler knows it."""

_ADDED = '({ __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w)); acc; })'

ROWS: Rows = {
    **AVX512VNNI_ROWS,
    ("dot_bf16", "f32x16"): (
        *(Spelling(name, _ADDED) for name in _NAMES),
        *AVX512VNNI_ROWS["dot_bf16", "f32x16"],
    ),
}

AVX512BF16 = IsaTable(
    macros=(*AVX512VNNI.macros, "__AVX512BF16__"), flags=f"{AVX512VNNI.flags} -mavx512bf16", rows=ROWS
)

"""AVX-512 with VNNI: one instruction multiplies bytes and adds four products to each 32-bit lane."""

from __future__ import annotations

from aino_ir.codegen.c.isa.avx512 import AVX512
from aino_ir.codegen.c.isa.avx512 import ROWS as AVX512_ROWS
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling

_NAMES = ("__builtin_ia32_vpdpbusd_v16si", "__builtin_ia32_vpdpbusd512")
"""What GCC and Clang call vpdpbusd."""

_HALF = "0x80808080u"
"""128 in every byte: takes signed bytes to unsigned ones."""


def _dots() -> Rows:
    """u8 times i8 as it is; i8 as u8 - 128, whose share is taken off again."""
    unsigned = tuple(Spelling(n, f"{n}(acc, (i32x16)x, (i32x16)w)") for n in _NAMES)
    middle = f"(i32x16)((u32x16){{0}} + {_HALF})"
    signed = tuple(
        Spelling(
            n,
            f"{n}(acc, (i32x16)x ^ {middle}, (i32x16)w) - {n}((i32x16){{0}}, {middle}, (i32x16)w)",
        )
        for n in _NAMES
    )
    rows: Rows = {}
    for dtype, best in (("u8", unsigned), ("i8", signed)):
        key = f"dot_{dtype}", "i32x16"
        rows[key] = (*best, *AVX512_ROWS[key])
    return rows


ROWS: Rows = {**AVX512_ROWS, **_dots()}

AVX512VNNI = IsaTable(
    macros=(*AVX512.macros, "__AVX512VNNI__"), flags=f"{AVX512.flags} -mavx512vnni", rows=ROWS
)

"""What each instruction set has that plain vector extensions do not spell, as data."""

from __future__ import annotations

from aino_ir.codegen.c.isa.avx2 import AVX2
from aino_ir.codegen.c.isa.avx512 import AVX512
from aino_ir.codegen.c.isa.portable import PORTABLE
from aino_ir.codegen.c.isa.table import IsaTable, Spelling

TABLES: dict[str, IsaTable] = {"vec128": PORTABLE, "avx2": AVX2, "avx512": AVX512}
"""The table of each ISA variant (`aino_ir.target.ISAS`)."""

__all__ = ["TABLES", "IsaTable", "Spelling"]

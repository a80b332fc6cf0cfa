"""What each instruction set has that plain vector extensions do not spell, as data."""

from __future__ import annotations

from aino_ir.codegen.c.isa.avx2 import AVX2
from aino_ir.codegen.c.isa.avx512 import AVX512
from aino_ir.codegen.c.isa.avx512bf16 import AVX512BF16
from aino_ir.codegen.c.isa.avx512vnni import AVX512VNNI
from aino_ir.codegen.c.isa.cuda import CUDA
from aino_ir.codegen.c.isa.neon import NEON
from aino_ir.codegen.c.isa.portable import PORTABLE
from aino_ir.codegen.c.isa.table import IsaTable, Spelling
from aino_ir.codegen.c.isa.wasm import WASM
from aino_ir.isa import GPU, ISAS

TABLES: dict[str, IsaTable] = {
    "vec128": PORTABLE,
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512vnni": AVX512VNNI,
    "avx512bf16": AVX512BF16,
    "aarch64": NEON,
    "armv7": PORTABLE,
    "riscv64": PORTABLE,
    "wasm32": WASM,
    "cuda-emu": CUDA,
    **{name: CUDA for name, facts in ISAS.items() if facts.arch == GPU},
}
"""The table of each ISA variant (`aino_ir.isa.ISAS`)."""

__all__ = ["TABLES", "IsaTable", "Spelling"]

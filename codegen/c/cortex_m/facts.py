"""What a Cortex-M with a floating-point unit is, and how code for it is compiled."""

from __future__ import annotations

from importlib.resources import files

from aino_ir.codegen.c.cortex_m.writer import DeviceWriter, StaticInterface, firmware_texts
from aino_ir.codegen.c.dialects import Definitions, Dialect, register_dialect
from aino_ir.codegen.c.isa.portable import SCALAR_ROWS
from aino_ir.codegen.c.isa.table import IsaTable
from aino_ir.codegen.c.platforms import Platform
from aino_ir.isa import ISAS

CORTEX_M = ISAS["cortex-m"]

_C99_NAMES = "\n".join(
    [
        "#if !defined(__GNUC__) /* what GCC and Clang know without a header */",
        "#include <math.h>",
        *(
            f"#define __builtin_{name}{suffix} {name}{suffix}"
            for name in ("fma", "sqrt", "fmod", "fabs", "copysign")
            for suffix in ("f", "")
        ),
        "#define __builtin_nanf(tag) NAN\n#define __builtin_nan(tag) ((double)NAN)",
        "#define __builtin_inff() INFINITY\n#define __builtin_inf() ((double)INFINITY)",
        "#endif",
    ]
)

DEFINITIONS: Definitions = (
    ("__builtin_", _C99_NAMES),
    ("INLINE", "#define INLINE static inline"),
    ("UNROLL(", "#define UNROLL(count)"),
)
"""Macros of a kernel unit in C99."""

PLATFORM = Platform(
    "thumb-freestanding-eabihf",
    format="archive",
    ending=".a",
    cpu={
        "zig": ("-mcpu=cortex_m4+vfp4d16sp",),
        "gcc": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        "clang": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"),
    },
    without=frozenset({"-std=gnu11", "-O3", "-fPIC", "-fstack-protector-strong"}),
    more=("-std=c99", "-O2", "-ffunction-sections", "-fdata-sections", "-ffreestanding"),
    address_bits=32,
)


def headers(system: str) -> dict[str, str]:
    """The runtime headers by file name."""
    folder = files("aino_ir.codegen.c.cortex_m.runtime")
    return {name: folder.joinpath(name).read_text("ascii") for name in ("aino_runtime.h", "aino_status.h")}


register_dialect(
    CORTEX_M,
    Dialect(
        table=IsaTable(macros=(), flags="", rows=SCALAR_ROWS),
        writer=DeviceWriter,
        interface=StaticInterface,
        definitions=DEFINITIONS,
        runtime=headers,
        compiled_with="-std=c99 -ffp-contract=off -fwrapv -fno-strict-aliasing",
        folder=firmware_texts,
    ),
    {"none": PLATFORM},
)

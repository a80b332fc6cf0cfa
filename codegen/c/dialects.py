"""What is special about the C of each instruction set: spellings, writer, interface, runtime.

A C family target is a row here (`register_dialect` adds one from another package), a row of facts in
`aino_ir.isa`, and a platform that says how it is compiled (`aino_ir.codegen.c.platforms`).  Everything
else, passes, kernel generators, schedules and plan, is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.c.interface import InterfacePrinter
from aino_ir.codegen.c.isa import TABLES, IsaTable
from aino_ir.codegen.c.isa.cuda import CUDA
from aino_ir.codegen.c.platforms import Platform, register_platform
from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.codegen.c.types import scalar_name
from aino_ir.codegen.c.writer import CWriter
from aino_ir.codegen.cuda.emulation import EmulatedWriter
from aino_ir.codegen.cuda.lanes import WIDE_ELEMENTS, WIDE_LANES, wide_name
from aino_ir.codegen.cuda.runtime import cuda_headers
from aino_ir.codegen.cuda.writer import CudaWriter
from aino_ir.dtypes import DTYPES
from aino_ir.errors.usage import BadExtension
from aino_ir.isa import GPU, ISAS, Isa, register_isa
from aino_ir.loops.expr import VecType
from aino_ir.plan import Plan
from aino_ir.target import Target

Definitions = tuple[tuple[str, str], ...]
"""(what code uses, the lines that define it), in order."""

Folder = Callable[[Plan, Target, Sequence[str], Iterable[tuple[int, bytes]]], Mapping[str, str]]

GNU_DEFINITIONS: Definitions = (
    ("__has_builtin", "#ifndef __has_builtin\n#define __has_builtin(name) 0\n#endif"),
    ("INLINE", "#define INLINE static inline __attribute__((always_inline, unused))"),
    (
        "UNROLL(",
        """\
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL(count) PRAGMA(clang loop unroll_count(count))
#else
#define UNROLL(count) PRAGMA(GCC unroll count)
#endif""",
    ),
)
"""What GCC and Clang understand."""


@dataclass(frozen=True)
class Dialect:
    """The C of one instruction set.

    Attributes:
        table: what it spells otherwise than plain C.
        writer: writes kernels.
        interface: writes the functions behind a model's header.
        definitions: macros of a kernel unit.
        includes: what a kernel unit includes.
        runtime: the headers that are emitted with every model, by file name, for an operating system.
        compiled_with: what the first line of a unit says about flags.
        ending: of a unit's file name.
        folder: what ``--emit c`` writes beside sources and headers, by file name, from the plan, the target,
            the names of the sources and the constants with their offsets; a main, CMakeLists and a file of
            weights when None.
    """

    table: IsaTable
    writer: type[CWriter] = CWriter
    interface: type[InterfacePrinter] = InterfacePrinter
    definitions: Definitions = GNU_DEFINITIONS
    includes: tuple[str, ...] = ("stdbool.h", "stdint.h")
    runtime: Callable[[str], Mapping[str, str]] = runtime_headers
    compiled_with: str = "-ffp-contract=off -fwrapv"
    ending: str = ".c"
    folder: Folder | None = None


_WIDE = tuple((wide_name(VecType(DTYPES[e], n)), e, n) for e in WIDE_ELEMENTS for n in WIDE_LANES)

CUDA_DEFINITIONS: Definitions = (
    ("AINO_GLOBAL", '#include <math.h>\n#include "aino_cuda.h"'),
    *((name, f"AINO_WIDE({name}, {scalar_name(DTYPES[e])}, {n})") for name, e, n in _WIDE),
    ("INLINE", "#define INLINE static inline AINO_DEVICE __attribute__((unused))"),
    (
        "UNROLL(",
        """\
#define PRAGMA(text) _Pragma(#text)
#if defined(__CUDACC__)
#define UNROLL(count) PRAGMA(unroll count)
#else
#define UNROLL(count)
#endif""",
    ),
)
"""What units of CUDA C++ need, for a device or its emulation."""

_EMULATED = Dialect(
    CUDA,
    EmulatedWriter,
    definitions=CUDA_DEFINITIONS,
    runtime=cuda_headers,
    compiled_with="-ffp-contract=off",
)
_DEVICE = replace(_EMULATED, writer=CudaWriter, compiled_with="nvcc -fmad=false", ending=".cu")

_OTHERS: dict[str, Dialect] = {
    "cuda-emu": _EMULATED,
    **{name: _DEVICE for name, facts in ISAS.items() if facts.arch == GPU},
}


def dialect(isa: str) -> Dialect:
    """The C of an instruction set: C11 with vector extensions unless it has a dialect of its own."""
    return _OTHERS.get(isa) or Dialect(TABLES[isa])


def registered() -> Mapping[str, Dialect]:
    """Every dialect that is not the common one, by instruction set."""
    return _OTHERS


def register_dialect(isa: Isa, spoken: Dialect, platforms: Mapping[str, Platform]) -> None:
    """Make ``c:NAME`` a target: an instruction set, its C, and how it is compiled on each system.

    Raises:
        BadExtension: one of them is registered already with other content, or makes no sense.
    """
    if _OTHERS.get(isa.name, spoken) != spoken:
        raise BadExtension(kind="dialect", name=isa.name, reason="there is one already")
    if set(platforms) != set(isa.systems):
        raise BadExtension(
            kind="dialect", name=isa.name, reason="it needs a platform for each of its systems"
        )
    register_isa(isa)
    for system, facts in platforms.items():
        register_platform(isa.arch, system, facts)
    TABLES[isa.name] = spoken.table
    _OTHERS[isa.name] = spoken

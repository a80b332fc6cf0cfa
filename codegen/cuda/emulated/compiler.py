"""Units of CUDA C++ as libraries that the emulated driver loads where a driver would load cubins.

The C compiler sees the same text as nvcc does, with the emulation of ``aino_cuda.h``.  Behind it stands, for
each kernel, an entry that takes the arguments as `cuLaunchKernel` does, and a word on their kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.platforms import Platform, platform
from aino_ir.codegen.c.toolchain import Toolchain
from aino_ir.isa import GPU
from aino_ir.runtime.store import Store

_ASKS = re.compile(r"AINO_LAUNCH_ASKING\((\w+), hi - lo, \d+,\s+(\d+),")
_KERNEL = re.compile(r"^AINO_GLOBAL(?:_BOUNDED)?\((\d+)\) void (\w+)\(\n?(.*?)\)$", re.MULTILINE | re.DOTALL)

_ENTRY = """
static void NAME_entry_thread(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi)
{
    (void)syms;
    (void)scratch;
    (void)lo;
    (void)hi;
    NAME(ARGUMENTS);
}

/* Run the kernel with arguments as the driver takes them: addresses of eight bytes each. */
__attribute__((visibility("default")))
void NAME_entry(int64_t blocks, unsigned threads, void *const *views)
{
    const int64_t *syms = 0;
    void *scratch = 0;
    int64_t lo = 0, hi = 0;
    (void)syms;
    (void)scratch;
    (void)lo;
    (void)hi;
    BODY
}

__attribute__((visibility("default"))) const char NAME_kinds[] = "KINDS";
__attribute__((visibility("default"))) const int NAME_shared = SHARED;
__attribute__((visibility("default"))) const int NAME_threads = THREADS;
"""

_SINGLE = """blockDim.x = threads;
    for (int64_t block = 0; block < blocks; ++block)
        for (unsigned thread = 0; thread < threads; ++thread) {
            blockIdx.x = (unsigned)block;
            threadIdx.x = thread;
            NAME_entry_thread(views, syms, scratch, lo, hi);
        }"""

_TOGETHER = "AINO_LAUNCH_BLOCKS(NAME_entry, blocks, threads, 0);"


@dataclass(frozen=True)
class EmulatedCompiler:
    """Compiles units for the emulated device.

    Attributes:
        toolchain: the C compiler.
        messages: what it says of each unit, as ``ptxas -v`` would.
    """

    toolchain: Toolchain
    messages: str = ""

    def __str__(self) -> str:
        return f"emulated by {self.toolchain}"

    @property
    def identity(self) -> str:
        """Hash of what it is."""
        return f"emulated {self.toolchain.identity} {self.messages}"

    @property
    def platform(self) -> Platform:
        """How its files are called."""
        return platform(GPU, "linux")

    def flags(self, isa: str) -> tuple[str, ...]:
        """Flags of a compilation."""
        return (f"-DAINO_ARCHITECTURE={isa}", *self.toolchain.flags("cuda-emu"))

    def compile(
        self, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store
    ) -> tuple[bytes, str]:
        """The library of one unit, and what is said of it.

        Raises:
            CompilerFailed: the C compiler rejects it.
        """
        mark = f'__attribute__((visibility("default"))) const char aino_architecture[] = "{isa}";\n'
        unit = SourceUnit(name, "\n".join([text, *entries(text), mark]), "cuda-emu")
        (library,) = compile_units([unit], headers, self.toolchain, store, jobs=1).values()
        return library, self.messages


_TYPES = {"p": "void *", "i": "int64_t", "m": "aino_map"}
"""Kinds of parameters: pointers, numbers and maps of tiles."""


def _kind(parameter: str) -> str:
    if "AINO_MAP_PARAMETER" in parameter:
        return "m"
    return "p" if "*" in parameter else "i"


def entries(text: str) -> Iterator[str]:
    """The entry of each kernel in a unit."""
    asked = dict(_ASKS.findall(text))
    for threads, name, parameters in _KERNEL.findall(text):
        kinds = "".join(map(_kind, parameters.split(",")))
        arguments = ", ".join(f"*({_TYPES[kind]} *)views[{n}]" for n, kind in enumerate(kinds))
        together = f"{name.removesuffix('_kernel')}_thread(" in text and name.endswith("_kernel")
        body = _TOGETHER if together else _SINGLE
        parts = _ENTRY.replace("BODY", body).replace("ARGUMENTS", arguments).replace("KINDS", kinds)
        shared = asked.get(name.removesuffix("_kernel"), "0") if name.endswith("_kernel") else "0"
        parts = parts.replace("SHARED", shared).replace("THREADS", threads)
        yield parts.replace("NAME", name)

"""Instruction sets of the C target: frozen facts, one row each.

A row says what a processor family's code looks like to generators (vectors, registers) and what machine
to plan for when it is not the one at hand.  How the code is spelled and compiled stands with the C
printer (`aino_ir.codegen.c.dialects`); `register_isa` adds a row from another package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aino_ir.errors.usage import BadExtension

SYSTEMS = ("linux", "macos", "windows", "wasi", "none")
"""Operating systems that libraries are made for; ``none`` is a device without one."""


@dataclass(frozen=True)
class Machine:
    """What code is planned for when its machine is not at hand.

    Attributes:
        cores: CPUs.
        l1_bytes, l2_bytes, l3_bytes: cache sizes; on a device without caches the memory to stay within.
    """

    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int


DESKTOP = Machine(4, 32 << 10, 512 << 10, 8 << 20)
BOARD = Machine(4, 32 << 10, 512 << 10, 512 << 10)
BROWSER = Machine(1, 32 << 10, 256 << 10, 4 << 20)
MICROCONTROLLER = Machine(1, 4 << 10, 16 << 10, 64 << 10)
AMPERE = Machine(108, 164 << 10, 40 << 20, 40 << 20)
HOPPER = Machine(132, 228 << 10, 50 << 20, 50 << 20)
BLACKWELL = Machine(148, 228 << 10, 126 << 20, 126 << 20)
"""GPUs: multiprocessors, shared memory of each of them, the cache that all share."""

GPU = "nvidia"
"""The processor family of instruction sets that GPUs run; their names are those of CUDA."""


def runs_on_gpu(isa: str, device: str) -> bool:
    """Whether code for a GPU architecture such as ``sm_86`` runs on a device of another.

    The major number must be the same and the minor no greater; with an ``a`` behind it both must be the same.
    """
    (major, minor), (own_major, own_minor) = (
        (name[3:].rstrip("a")[:-1], name[3:].rstrip("a")[-1:]) for name in (isa, device)
    )
    return major == own_major and (minor == own_minor if isa.endswith("a") else minor <= own_minor)


@dataclass(frozen=True)
class Isa:
    """One instruction-set variant of the C target.

    Attributes:
        name: how targets, sources, libraries and manifests call it.
        arch: processor family that it is for; empty for every family.
        vector_bytes: width of one vector register; 4 means one value at a time.
        vector_registers: how many registers of that width there are.
        has_fma: whether a fused multiply-add is one instruction.
        has_masks: whether loads and stores take a mask register.
        features: CPU features that its code needs, as /proc/cpuinfo calls them.
        systems: operating systems that libraries can be made for; the first unless another is named.
        machine: what to plan for when no such machine is at hand.
        what: its name for people.
        emulated: whether a C compiler makes code of it for any machine, to see that it is right; never what
            a machine is said to have.
    """

    name: str
    arch: str
    vector_bytes: int
    vector_registers: int
    has_fma: bool
    has_masks: bool
    features: tuple[str, ...]
    systems: tuple[str, ...] = ("linux", "macos", "windows")
    machine: Machine = DESKTOP
    what: str = ""
    emulated: bool = False


_AVX2 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma")
_AVX512 = ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_LINUX = ("linux",)

ISAS: dict[str, Isa] = {
    "vec128": Isa("vec128", "", 16, 16, False, False, (), what="any processor"),
    "avx2": Isa("avx2", "x86_64", 32, 16, True, False, _AVX2),
    "avx512": Isa("avx512", "x86_64", 64, 32, True, True, (*_AVX2, *_AVX512)),
    "avx512vnni": Isa(
        "avx512vnni",
        "x86_64",
        64,
        32,
        True,
        True,
        (*_AVX2, *_AVX512, "avx512_vnni"),
        what="AVX-512 with VNNI",
    ),
    "avx512bf16": Isa(
        "avx512bf16",
        "x86_64",
        64,
        32,
        True,
        True,
        (*_AVX2, *_AVX512, "avx512_bf16", "avx512_vnni"),
        what="AVX-512 with VNNI and bf16",
    ),
    "aarch64": Isa("aarch64", "aarch64", 16, 32, True, False, (), what="64-bit ARM with NEON"),
    # NEON of ARMv7 takes subnormal numbers for zero: floats go through VFP, one at a time.
    "armv7": Isa("armv7", "armv7", 4, 32, True, False, ("vfpv4",), _LINUX, BOARD, "32-bit ARM with VFPv4"),
    "riscv64": Isa("riscv64", "riscv64", 4, 32, True, False, (), _LINUX, BOARD, "64-bit RISC-V (RV64GC)"),
    "wasm32": Isa("wasm32", "wasm32", 16, 16, False, False, (), ("wasi",), BROWSER, "WebAssembly with SIMD"),
    "cortex-m": Isa(
        "cortex-m", "armv7e-m", 4, 32, True, False, (), ("none",), MICROCONTROLLER, "Cortex-M4F and up, bare"
    ),
    "cuda-emu": Isa(
        "cuda-emu", "", 4, 32, True, False, (), _LINUX, DESKTOP, "CUDA C++ on an emulated GPU", emulated=True
    ),
    **{
        name: Isa(name, GPU, 4, 32, True, False, (name,), _LINUX, machine, f"CUDA C++ for {what}")
        for name, machine, what in (
            ("sm_80", AMPERE, "A100, A30"),
            ("sm_86", AMPERE, "A10, RTX 30"),
            ("sm_89", AMPERE, "L4, L40, RTX 40"),
            ("sm_90", HOPPER, "H100, H200"),
            ("sm_90a", HOPPER, "H100, H200 with wgmma"),
            ("sm_100", BLACKWELL, "B200"),
            ("sm_120", BLACKWELL, "RTX 50"),
        )
    },
}
"""Every ISA variant by name; of one family, from the least to the most demanding."""


def gpu_isa(device: str) -> str:
    """What to compile for a device of an architecture: the most that is known of and runs there, or itself.

    ``sm_90`` gives ``sm_90a``, with all that such devices have; ``sm_87`` gives ``sm_86``.
    """
    fitting = [n for n, isa in ISAS.items() if isa.arch == GPU and n[:3] == "sm_" and runs_on_gpu(n, device)]
    return fitting[-1] if fitting else device


BUILT_IN = tuple(ISAS)
"""Those of AINO itself: no package changes what ``c`` means."""


def register_isa(isa: Isa) -> None:
    """Add an instruction set; ``c:NAME`` is then a target.

    Raises:
        BadExtension: the name is no name, or belongs to another instruction set; a fact makes no sense.
    """
    reasons = {
        "the name must be lower-case letters, digits and hyphens": not re.fullmatch(
            r"[a-z][a-z0-9-]*", isa.name
        ),
        "the name is taken": ISAS.get(isa.name, isa) != isa,
        "it needs a processor family": not isa.arch,
        "vectors have 4 bytes (one value), or a power of two up to 64": isa.vector_bytes
        not in (4, 8, 16, 32, 64),
        f"systems are some of {', '.join(SYSTEMS)}": not isa.systems or not set(isa.systems) <= set(SYSTEMS),
    }
    for reason, applies in reasons.items():
        if applies:
            raise BadExtension(kind="instruction set", name=isa.name, reason=reason)
    ISAS[isa.name] = isa

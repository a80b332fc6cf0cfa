"""How libraries for each processor family and operating system are compiled, linked and named.

`zig cc` makes them all; a compiler of the user's (AINO_CC) serves where it makes code for the wanted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aino_ir.errors.usage import BadExtension
from aino_ir.isa import GPU

LINK_FLAGS = (
    "-shared",
    "-Wl,-z,relro",
    "-Wl,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,-z,defs",
    "-Wl,--build-id=none",
    "-Wl,--as-needed",
)
LIBRARIES = ("-lm", "-lpthread")
"""All that a compiled model may depend on, beside libc."""

_UCRT = tuple(f"-lapi-ms-win-crt-{part}-l1-1-0" for part in ("heap", "math", "private", "string"))
"""Parts of the C library that every Windows has since version 10."""

_REACTOR = ("-mexec-model=reactor", "-fno-entry", "--export=malloc", "--export=free")
"""A module that its host calls, and asks for room for its arrays."""

ZIG_LINKS: dict[str, tuple[str, ...]] = {
    "elf": ("build-lib", "-dynamic", "-O", "ReleaseFast", "-fno-soname", "-z", "defs", "-lc", *LIBRARIES),
    "macho": ("build-lib", "-dynamic", "-O", "ReleaseFast", "-lc"),
    "coff": ("build-lib", "-dynamic", "-O", "ReleaseFast", "-fstrip", "-fno-entry", "-lkernel32", *_UCRT),
    "wasm": ("build-exe", "-O", "ReleaseFast", "-fstrip", *_REACTOR, "-rdynamic", "-lc"),
}
"""File format -> zig's own linker driver: `zig cc -shared` would first build a compiler runtime, for 20 s."""


@dataclass(frozen=True)
class Platform:
    """One processor family on one operating system.

    Attributes:
        triple: what zig calls it.
        format: file format of a library: ``elf``, ``macho``, ``coff``, ``wasm``, ``cubin``
            (several in a row), or ``archive``, an archive
            of objects for devices whose firmware is linked elsewhere.
        ending: of a library's file name.
        cpu: flags that choose the processor, by compiler family.
        without: flags of every compilation that mean nothing there.
        more: flags of every compilation there, in the place of others that say the same.
        address_bits: width of a pointer.
    """

    triple: str
    format: str = "elf"
    ending: str = ".so"
    cpu: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    more: tuple[str, ...] = ()
    address_bits: int = 64

    @property
    def largest_bytes(self) -> int:
        """Bytes of one tensor, and of all intermediate ones together, at most."""
        return 1 << (43 if self.address_bits == 64 else 30)


_NO_GUARD = frozenset({"-fstack-protector-strong"})
_STATIC = _NO_GUARD | {"-fPIC"}

_ARMV7 = {
    "zig": ("-mcpu=cortex_a7",),
    "gcc": ("-mcpu=cortex-a7", "-mfpu=neon-vfpv4", "-mfloat-abi=hard"),
    "clang": ("-mcpu=cortex-a7", "-mfloat-abi=hard"),
}
_WASM = {"zig": ("-msimd128",), "clang": ("-msimd128",)}

PLATFORMS: dict[tuple[str, str], Platform] = {
    ("x86_64", "linux"): Platform("x86_64-linux-gnu.2.17"),
    ("x86_64", "macos"): Platform("x86_64-macos", "macho", ".dylib"),
    ("x86_64", "windows"): Platform("x86_64-windows-gnu", "coff", ".dll", without=_STATIC),
    ("aarch64", "linux"): Platform("aarch64-linux-gnu.2.17"),
    ("aarch64", "macos"): Platform("aarch64-macos", "macho", ".dylib"),
    ("aarch64", "windows"): Platform("aarch64-windows-gnu", "coff", ".dll", without=_STATIC),
    ("armv7", "linux"): Platform("arm-linux-gnueabihf.2.17", cpu=_ARMV7, address_bits=32),
    ("riscv64", "linux"): Platform("riscv64-linux-gnu.2.27"),
    (GPU, "linux"): Platform("nvptx64", "cubin", ".cubins"),
    ("wasm32", "wasi"): Platform("wasm32-wasi", "wasm", ".wasm", cpu=_WASM, without=_STATIC, address_bits=32),
}
"""(processor family, operating system) -> how libraries are made for it."""


def platform(arch: str, system: str) -> Platform:
    """How libraries are made for a processor family and a system.

    A Linux on a family that has no row is taken for what zig calls by that name.
    """
    return PLATFORMS.get((arch, system)) or Platform(f"{arch}-{system}-gnu")


def register_platform(arch: str, system: str, facts: Platform) -> None:
    """Add a platform, for an instruction set of another package.

    Raises:
        BadExtension: there is another one of that family and system, or its format is none.
    """
    name = f"{arch}-{system}"
    if PLATFORMS.get((arch, system), facts) != facts:
        raise BadExtension(kind="platform", name=name, reason="there is one already")
    if facts.format not in (*ZIG_LINKS, "archive"):
        raise BadExtension(kind="platform", name=name, reason=f"no file format {facts.format!r}")
    PLATFORMS[arch, system] = facts

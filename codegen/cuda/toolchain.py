"""Finds what compiles CUDA C++: NVRTC's library, else nvcc.

``AINO_NVCC`` names an nvcc that is taken before both.  Neither needs a GPU.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aino_ir.codegen.c.platforms import Platform, platform
from aino_ir.codegen.c.process import Command, Outcome, run_commands
from aino_ir.errors.cuda import CudaCompilerFailed, NoCudaCompiler
from aino_ir.errors.toolchain import CompilerTimedOut, CompilerUnusable
from aino_ir.isa import GPU
from aino_ir.runtime.store import Store, digest

SECONDS = 600.0
"""Time that one compilation by nvcc may take."""

_SHOWN_LINES = 8


class BinaryMaker(Protocol):
    """What is known of any compiler, of C or of CUDA C++, whose files an artifact holds."""

    @property
    def identity(self) -> str:
        """Hash of what it is; part of every file's key."""
        raise NotImplementedError

    @property
    def platform(self) -> Platform:
        """How its files are called."""
        raise NotImplementedError

    def flags(self, isa: str) -> tuple[str, ...]:
        """The flags of a compilation for an architecture."""
        raise NotImplementedError


class CudaToolchain(BinaryMaker, Protocol):
    """One usable compiler of CUDA C++."""

    def compile(
        self, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store
    ) -> tuple[bytes, str]:
        """The cubin of one unit, and what the compiler says of it.

        Raises:
            CudaCompilerFailed: it rejects the unit.
        """
        raise NotImplementedError


def find_cuda_toolchain(environ: Mapping[str, str] = os.environ) -> CudaToolchain:
    """The compiler to use.

    Raises:
        NoCudaCompiler: there is none.
        CompilerUnusable: AINO_NVCC names none, or nvcc does not say its version.
    """
    wanted = environ.get("AINO_NVCC", "").strip()
    if not wanted:
        library = nvrtc_library()
        if library is not None:
            return Nvrtc(library)
    program = shutil.which(wanted or "nvcc", path=environ.get("PATH", os.defpath))
    if program is not None:
        return Nvcc.at(program)
    if wanted:
        raise CompilerUnusable(command=wanted, reason="there is no such program (set by AINO_NVCC)")
    raise NoCudaCompiler(tried="AINO_NVCC, the package nvidia-cuda-nvrtc, libnvrtc.so, nvcc")


def nvrtc_library() -> str | None:
    """Path or name of NVRTC's library: that of the wheel, else the system's, else None."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(place).glob("*/lib/libnvrtc.so.*"), reverse=True):
            return str(found)
    return ctypes.util.find_library("nvrtc")


# -- NVRTC ------------------------------------------------------------------------------------------

RTC_HEADERS = {
    "stdint.h": """\
#pragma once
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#define INT8_MIN (-128)
#define INT16_MIN (-32768)
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807LL - 1)
#define INT8_MAX 127
#define INT16_MAX 32767
#define INT32_MAX 2147483647
#define INT64_MAX 9223372036854775807LL
#define UINT8_MAX 255
#define UINT16_MAX 65535
#define UINT32_MAX 4294967295u
#define UINT64_MAX 18446744073709551615ull
#define INT64_C(value) value##LL
#define UINT64_C(value) value##ull
""",
    "stdbool.h": "#pragma once\n",
    "math.h": """\
#pragma once
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define __builtin_inff() __int_as_float(0x7f800000)
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000LL)
#define __builtin_nanf(text) __int_as_float(0x7fc00000)
#define __builtin_nan(text) __longlong_as_double(0x7ff8000000000000LL)
#define __builtin_memcpy(to, from, bytes) memcpy(to, from, bytes)
""",
}
"""The few headers of C that units include: NVRTC brings none."""


@dataclass(frozen=True)
class Nvrtc:
    """The compiler as a library.

    Attributes:
        path: of the library.
    """

    path: str
    _state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def library(self) -> ctypes.CDLL:
        """The loaded library."""
        if "library" not in self._state:
            self._state["library"] = ctypes.CDLL(self.path)
        library: ctypes.CDLL = self._state["library"]
        return library

    @property
    def version(self) -> str:
        """Such as ``13.0``."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def __str__(self) -> str:
        return f"nvrtc {self.version}"

    @property
    def identity(self) -> str:
        """Hash of its version and file."""
        size = os.stat(self.path).st_size if os.path.exists(self.path) else 0
        return digest("nvrtc", self.version, size, *(t for h in RTC_HEADERS.items() for t in h))

    @property
    def platform(self) -> Platform:
        """How its files are called."""
        return platform(GPU, "linux")

    def flags(self, isa: str) -> tuple[str, ...]:
        """Options of a program."""
        return (
            f"--gpu-architecture={isa}",
            "--std=c++17",
            "--fmad=false",  # fused only where the program says so, as on every target
            "--ptxas-options=-v",
            "--device-as-default-execution-space",
            "--no-source-include",
        )

    def compile(
        self, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store
    ) -> tuple[bytes, str]:
        """The cubin of one unit, and what the compiler says of it.

        Raises:
            CudaCompilerFailed: it rejects the unit.
        """
        return self._made("CUBIN", name, text, isa, headers, store)

    def instructions(self, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store) -> str:
        """One unit in PTX, for whoever wants to see what becomes of it.

        Raises:
            CudaCompilerFailed: it rejects the unit.
        """
        made, _ = self._made("PTX", name, text, isa.replace("sm_", "compute_"), headers, store)
        return made.rstrip(b"\0").decode("ascii")

    def _made(
        self, what: str, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store
    ) -> tuple[bytes, str]:
        rtc, program = self.library, ctypes.c_void_p()
        given = {**RTC_HEADERS, **headers}
        texts = (ctypes.c_char_p * len(given))(*(t.encode("ascii") for t in given.values()))
        names = (ctypes.c_char_p * len(given))(*(n.encode("ascii") for n in given))
        source, label = text.encode("ascii"), f"{name}.cu".encode("ascii")
        self._expect(rtc.nvrtcCreateProgram(ctypes.byref(program), source, label, len(given), texts, names))
        try:
            flags = [f.encode("ascii") for f in self.flags(isa)]
            status = rtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            messages = self._bytes(program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace")
            if status:
                raise compiler_failed(str(self), name, messages, text, store)
            return self._bytes(program, what), messages
        finally:
            rtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._expect(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        data = ctypes.create_string_buffer(max(1, size.value))
        self._expect(getattr(self.library, f"nvrtcGet{what}")(program, data))
        return data.raw[: size.value]

    def _expect(self, status: int) -> None:
        if status:
            get = self.library.nvrtcGetErrorString
            get.restype = ctypes.c_char_p
            raise CompilerUnusable(command=str(self), reason=get(status).decode("ascii", "replace"))


# -- nvcc -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nvcc:
    """The compiler as a program.

    Attributes:
        program: its absolute path.
        version: such as ``13.0``.
    """

    program: str
    version: str

    @staticmethod
    def at(program: str) -> Nvcc:
        """The nvcc of a path.

        Raises:
            CompilerUnusable: it does not say its version.
        """
        path = os.path.abspath(program)
        outcome = _run([path, "--version"], Path.cwd())
        found = re.search(r"release (\d+\.\d+)", outcome.output)
        if found is None:
            raise CompilerUnusable(command=path, reason="`--version` names no release")
        return Nvcc(path, found[1])

    def __str__(self) -> str:
        return f"nvcc {self.version}"

    @property
    def identity(self) -> str:
        """Hash of its version and path."""
        return digest("nvcc", self.version, self.program)

    @property
    def platform(self) -> Platform:
        """How its files are called."""
        return platform(GPU, "linux")

    def flags(self, isa: str) -> tuple[str, ...]:
        """Flags of a compilation."""
        return (f"-arch={isa}", "-std=c++17", "-fmad=false", "-Xptxas", "-v", "-cubin")

    def compile(
        self, name: str, text: str, isa: str, headers: Mapping[str, str], store: Store
    ) -> tuple[bytes, str]:
        """The cubin of one unit, and what the compiler says of it.

        Raises:
            CudaCompilerFailed: it rejects the unit.
            CompilerTimedOut: it does not end in time.
        """
        with store.work_folder() as folder:
            for file, content in {**headers, "unit.cu": text}.items():
                (folder / file).write_text(content, encoding="ascii")
            outcome = _run([self.program, *self.flags(isa), "-o", "unit.cubin", "unit.cu"], folder)
            if not outcome.ok:
                raise compiler_failed(str(self), name, outcome.output, text, store)
            return (folder / "unit.cubin").read_bytes(), outcome.output


def _run(argv: Sequence[str], folder: Path) -> Outcome:
    try:
        (outcome,) = run_commands([Command(tuple(argv), folder, {})], 1, SECONDS)
    except OSError as problem:
        reason = f"it cannot be started: {problem.strerror}"
        raise CompilerUnusable(command=argv[0], reason=reason) from problem
    if outcome.timed_out:
        raise CompilerTimedOut(command=argv[0], seconds=SECONDS)
    return outcome


def compiler_failed(command: str, name: str, messages: str, text: str, store: Store) -> CudaCompilerFailed:
    """The error of a rejected unit, which is kept where the message says."""
    lines = [line[:200] for line in messages.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\berror\b", line)]
    kept = store.side_folder("failed") / f"{digest(text)[:16]}.cu"
    kept.write_text(text, encoding="ascii")
    shown = "\n".join((wrong or lines or ["(no messages)"])[:_SHOWN_LINES])
    return CudaCompilerFailed(command=command, unit=name, lines=shown, kept=str(kept))

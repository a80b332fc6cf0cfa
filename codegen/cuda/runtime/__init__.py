"""The header that units of CUDA C++ include: the device's own words, or their emulation in C."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aino_ir.codegen.c.runtime import runtime_headers

HEADERS = ("aino_cuda.h", "aino_cuda_emulation.h", "aino_cuda_warp.h")


def cuda_headers(system: str) -> Mapping[str, str]:
    """The headers of a model whose kernels are CUDA C++."""
    folder = Path(__file__).parent
    return {**runtime_headers(system), **{n: (folder / n).read_text(encoding="ascii") for n in HEADERS}}

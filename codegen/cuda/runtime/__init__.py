"""The header that units of CUDA C++ include: the device's own words, or their emulation in C."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aino_ir.codegen.c.runtime import STATUS_HEADER, runtime_headers

HEADERS = (
    "aino_cuda.h",
    "aino_cuda_emulation.h",
    "aino_cuda_group.h",
    "aino_cuda_tile.h",
    "aino_cuda_tile_emulation.h",
    "aino_cuda_warp.h",
)


def device_headers() -> Mapping[str, str]:
    """The headers that units of kernels include."""
    return {name: text for name, text in cuda_headers("linux").items() if name in (*HEADERS, STATUS_HEADER)}


def cuda_headers(system: str) -> Mapping[str, str]:
    """The headers of a model whose kernels are CUDA C++."""
    folder = Path(__file__).parent
    return {**runtime_headers(system), **{n: (folder / n).read_text(encoding="ascii") for n in HEADERS}}

"""The C that kernels built by TVM need: calls in TVM's convention, and parallel loops on AINO's threads."""

from __future__ import annotations

from pathlib import Path

HEADER = "aino_tvm.h"


def header_text() -> str:
    """What mains and shims include."""
    return (Path(__file__).parent / HEADER).read_text(encoding="ascii")


def source_text() -> str:
    """The unit that every library with kernels of TVM's has once."""
    return (Path(__file__).parent / "aino_tvm.c").read_text(encoding="ascii")

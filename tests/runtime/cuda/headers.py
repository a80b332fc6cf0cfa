"""Tables of C functions against the headers that declare them, where nvcc is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

NVCC = shutil.which("nvcc")


def expect_compiled(lines: Sequence[str], folder: Path) -> None:
    """Compile lines of C++; what nvcc says against them fails the test."""
    assert NVCC is not None
    (folder / "prototypes.cu").write_text("\n".join(lines) + "\n", encoding="ascii")
    command = [NVCC, "-c", "-o", "prototypes.o", "prototypes.cu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr

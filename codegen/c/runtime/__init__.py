"""The C headers that are emitted with every model: pool, barrier, status, free list.

Kernels include ``aino_status.h`` alone; the model's main unit includes ``aino_runtime.h``, first.
"""

from __future__ import annotations

from importlib.resources import files

STATUS_HEADER = "aino_status.h"
RUNTIME_HEADER = "aino_runtime.h"


def runtime_headers() -> dict[str, str]:
    """Return the text of every runtime header by file name."""
    folder = files(__package__)
    return {name: folder.joinpath(name).read_text("ascii") for name in (RUNTIME_HEADER, STATUS_HEADER)}

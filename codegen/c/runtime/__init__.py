"""The C headers that are emitted with every model: pool, barrier, status, free list.

Kernels include ``aino_status.h`` alone; the model's main unit includes ``aino_runtime.h``, first.
"""

from __future__ import annotations

from importlib.resources import files

STATUS_HEADER = "aino_status.h"
RUNTIME_HEADER = "aino_runtime.h"

_FILES = {
    "windows": {RUNTIME_HEADER: RUNTIME_HEADER, "aino_windows.h": "aino_windows.h"},
    "wasi": {RUNTIME_HEADER: "aino_runtime_alone.h"},
}
"""Operating system -> headers and the files that they are, where it is not the POSIX one alone."""


def runtime_headers(system: str = "linux") -> dict[str, str]:
    """Return the text of every runtime header by file name, for an operating system."""
    folder = files(__package__)
    wanted = {STATUS_HEADER: STATUS_HEADER, **_FILES.get(system, {RUNTIME_HEADER: RUNTIME_HEADER})}
    return {name: folder.joinpath(file).read_text("ascii") for name, file in sorted(wanted.items())}

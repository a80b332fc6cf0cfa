"""The functions of CUDA's driver API on the CPU, as `aino_ir.runtime.cuda.driver` calls them.

Device memory is memory of this process, filled with NaN at first and fenced on both sides.  Streams keep what
is put on them until somebody waits, so that a host that forgets to wait reads nothing.  Graphs are recorded
and replayed.  What a driver answers with an error code is answered with the same code, and any function can
be told to fail.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.codegen.cuda.emulated.machine import KernelFunction
from aino_ir.codegen.cuda.emulated.memory import MemoryFunctions
from aino_ir.codegen.cuda.emulated.modules import DeviceFunctions
from aino_ir.codegen.cuda.emulated.results import LAUNCH_FAILED
from aino_ir.codegen.cuda.emulated.streams import StreamFunctions


class EmulatedGpus(DeviceFunctions, MemoryFunctions, StreamFunctions):
    """Devices of this process.

    Args:
        capabilities: (major, minor) of each device.
        memory: bytes of each.

    Attributes:
        calls: how often each function was called.
        launched: names of the kernels that ran, in order.
        durations: milliseconds that kernels are said to take, by name; 1.0 where nothing is said.
        version: of the driver, as `cuDriverGetVersion` says it.
    """

    @property
    def functions(self) -> dict[str, Callable[..., int]]:
        """The table of functions, by exported name."""
        return {name[1:]: self._counted(name[1:]) for name in dir(self) if name.startswith("_cu")}

    def fail(self, function: str, status: int, after: int = 0) -> None:
        """Let a function answer with an error once, after it has been called `after` times more."""
        self._failures.setdefault(function, []).append((self.calls.get(function, 0) + after + 1, status))

    def break_down(self, after: int, status: int = LAUNCH_FAILED) -> None:
        """Let a kernel fail when `after` have run in all; the context is lost then, as on a device."""
        self._fatal = (after, status)

    def allocate(self, data: np.ndarray[Any, Any], device: int = 0) -> int:
        """Put an array on a device, as another library would; its address."""
        found = self._new_allocation(max(1, data.nbytes), device)
        ctypes.memmove(found.address, np.ascontiguousarray(data).ctypes.data, data.nbytes)
        return found.address

    def adopt(self, address: int, size: int) -> None:
        """Take memory of this process for memory of a device."""
        self._foreign.append((address, size))

    def contents(self, address: int, size: int) -> bytes:
        """What lies on a device, when all that was put on streams is done."""
        self.finish()
        return ctypes.string_at(address, size)

    def live(self) -> dict[str, int]:
        """How much of each kind is there that nobody has freed."""
        counts: dict[str, int] = {}
        for handle in self._handles.values():
            if not isinstance(handle, KernelFunction):
                kind = type(handle).__name__.strip("_").lower()
                counts[kind] = counts.get(kind, 0) + 1
        if self._allocations:
            counts["memory"] = len(self._allocations)
        return counts

    def _counted(self, name: str) -> Callable[..., int]:
        function = getattr(self, f"_{name}")

        def call(*arguments: Any) -> int:
            self.calls[name] = count = self.calls.get(name, 0) + 1
            for row in self._failures.get(name, []):
                if row[0] == count:
                    return row[1]
            return int(function(*arguments) or 0)

        return call

"""What stands behind the emulated driver's functions: handles, memory, streams of work, kernels that run."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.codegen.cuda.emulated.results import (
    ILLEGAL_ADDRESS,
    INVALID_CONTEXT,
    INVALID_HANDLE,
)

FENCE = 256
MAP_BYTES, MAP_ALIGNMENT = 128, 64
ARGUMENT_BYTES = {"p": 8, "i": 8, "m": MAP_BYTES}
"""Bytes of an argument by its kind."""

_FENCE_BYTE, _UNSET_BYTE = 0xA5, 0xFF


@dataclass
class Allocation:
    """Memory between two fences, on one device."""

    address: int
    size: int
    device: int
    memory: np.ndarray[Any, Any]

    def intact(self) -> bool:
        """Whether nobody has written beyond its ends."""
        start = self.address - self.memory.ctypes.data
        fences = self.memory[start - FENCE : start], self.memory[start + self.size :][:FENCE]
        return all(bool((fence == _FENCE_BYTE).all()) for fence in fences)


@dataclass
class KernelFunction:
    """A kernel.

    Attributes:
        run: what runs it.
        kinds: of its arguments, ``p`` for pointers, ``i`` for integers and ``m`` for maps of tiles.
        shared: bytes of shared memory that launches must ask for.
        allowed: bytes that they may ask for.
        threads: of a block, at most.
    """

    name: str
    run: Any
    kinds: str
    shared: int = 0
    allowed: int = 48 << 10
    threads: int = 1024


@dataclass
class KernelCall:
    """A kernel with its arguments."""

    function: KernelFunction
    blocks: int
    threads: int
    values: list[bytes]


Task = Callable[[], None]
"""What a device does at once: a copy, a kernel."""


@dataclass
class WorkStream:
    """What waits to be done, in order.

    Attributes:
        work: the tasks.
        captured: tasks that became nodes of a graph instead; None: it is not being captured.
        spoilt: whether something was asked of it meanwhile that a capture does not allow.
    """

    work: list[Task] = field(default_factory=list)
    captured: list[Task] | None = None
    spoilt: bool = False


class Machine:
    """Devices of this process, without functions to call.

    Args:
        capabilities: (major, minor) of each device.
        memory: bytes of each.
    """

    def __init__(self, capabilities: Sequence[tuple[int, int]] = ((8, 0),), memory: int = 4 << 30) -> None:
        self.capabilities = list(capabilities)
        self.memory = memory
        self.calls: dict[str, int] = {}
        self.launched: list[str] = []
        self._handles: dict[int, Any] = {}
        self._numbers = itertools.count(0x1000, 16)
        self._allocations: dict[int, Allocation] = {}
        self._contexts: list[int] = []
        self._retained: set[int] = set()
        self._broken = 0
        self._fatal = (-1, 0)
        self._foreign: list[tuple[int, int]] = []
        self._failures: dict[str, list[tuple[int, int]]] = {}
        self.durations: dict[str, float] = {}
        self._clock = 0.0
        self.version = 13000
        legacy, own = WorkStream(), WorkStream()
        self._default = {0: legacy, 1: legacy, 2: own}  # 2: what CUDA calls the thread's own

    def finish(self) -> None:
        """Do all that waits."""
        for stream in [
            *self._default.values(),
            *(h for h in self._handles.values() if isinstance(h, WorkStream)),
        ]:
            self._drain(stream)

    def _new(self, thing: Any) -> int:
        handle = next(self._numbers)
        self._handles[handle] = thing
        return handle

    def _get(self, handle: Any, kind: type) -> Any:
        found = self._handles.get(number_of(handle))
        return found if isinstance(found, kind) else None

    def _stream(self, handle: Any) -> WorkStream | None:
        number = number_of(handle)
        return self._default[number] if number in self._default else self._get(number, WorkStream)

    def inside(self, address: int, size: int) -> bool:
        """Whether a stretch lies in one allocation."""
        if any(at <= address and address + size <= at + held for at, held in self._foreign):
            return True
        return any(
            a.address <= address and address + size <= a.address + a.size for a in self._allocations.values()
        )

    def _drain(self, stream: WorkStream) -> None:
        while stream.work:
            stream.work.pop(0)()

    def _enqueue(self, stream: Any, work: Task) -> int:
        found = self._stream(stream)
        if found is None:
            return INVALID_HANDLE
        if not self._contexts:
            return INVALID_CONTEXT
        (found.work if found.captured is None else found.captured).append(work)
        return self._broken

    def put(self, stream: Any, name: str, work: Callable[[], bool]) -> int:
        """Put what a library does on a stream, as if it were a kernel of a name; the result of that.

        `work` says whether all that it touched was there.
        """

        def run() -> None:
            if not self._broken:
                self.launched.append(name)
                self._clock += self.durations.get(name, 1.0)
                if not work() or not all(a.intact() for a in self._allocations.values()):
                    self._broken = ILLEGAL_ADDRESS

        return self._enqueue(stream, run)

    def _run(self, call: KernelCall) -> None:
        if self._broken:
            return
        for kind, value in zip(call.function.kinds, call.values, strict=True):
            address = int.from_bytes(value[:8], "little")  # of what a map describes, too
            if kind != "i" and address and not self.inside(address, 0):
                self._broken = ILLEGAL_ADDRESS
                return
        memory = [ctypes.create_string_buffer(value, len(value) + MAP_BYTES) for value in call.values]
        places = [-(-ctypes.addressof(m) // MAP_ALIGNMENT) * MAP_ALIGNMENT for m in memory]
        for place, value in zip(places, call.values, strict=True):
            ctypes.memmove(place, value, len(value))
        pointers = (ctypes.c_void_p * len(places))(*places)
        if len(self.launched) == self._fatal[0]:
            self._broken = self._fatal[1]
            return
        self.launched.append(call.function.name)
        self._clock += self.durations.get(call.function.name, 1.0)
        call.function.run(call.blocks, call.threads, pointers)
        if not all(a.intact() for a in self._allocations.values()):
            self._broken = ILLEGAL_ADDRESS

    def _new_allocation(self, size: int, device: int) -> Allocation:
        memory = np.full(size + 2 * FENCE + 256, _FENCE_BYTE, np.uint8)
        address = -(-(memory.ctypes.data + FENCE) // 256) * 256
        start = address - memory.ctypes.data
        memory[start : start + size] = _UNSET_BYTE
        made = self._allocations[address] = Allocation(address, size, device, memory)
        return made


def number_of(handle: Any) -> int:
    """The number in a handle or pointer, whatever it came as."""
    if isinstance(handle, int):
        return handle
    return int(getattr(handle, "value", None) or 0)

"""The functions of CUDA's driver API on the CPU, as `aino_ir.runtime.cuda.driver` calls them.

Device memory is memory of this process, filled with NaN at first and fenced on both sides.  Streams keep what
is put on them until somebody waits, so that a host that forgets to wait reads nothing.  Graphs are recorded
and replayed.  What a driver answers with an error code is answered with the same code, and any function can
be told to fail.
"""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FENCE = 256
_FENCE_BYTE, _UNSET_BYTE = 0xA5, 0xFF

INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE, INVALID_DEVICE = 1, 2, 100, 101
INVALID_CONTEXT, INVALID_IMAGE, NO_BINARY, INVALID_HANDLE = 201, 200, 209, 400
NOT_FOUND, ILLEGAL_ADDRESS, LAUNCH_FAILED = 500, 700, 719

NAMES = {
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    200: "CUDA_ERROR_INVALID_IMAGE",
    201: "CUDA_ERROR_INVALID_CONTEXT",
    209: "CUDA_ERROR_NO_BINARY_FOR_GPU",
    400: "CUDA_ERROR_INVALID_HANDLE",
    500: "CUDA_ERROR_NOT_FOUND",
    700: "CUDA_ERROR_ILLEGAL_ADDRESS",
    701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    719: "CUDA_ERROR_LAUNCH_FAILED",
    999: "CUDA_ERROR_UNKNOWN",
}

MOST_THREADS = 1024


@dataclass
class _Allocation:
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
class _Module:
    """A loaded library."""

    library: ctypes.CDLL
    descriptor: int

    def close(self) -> None:
        """Unload it; the file goes last, for the dynamic loader tells libraries apart by path."""
        _ctypes.dlclose(self.library._handle)
        os.close(self.descriptor)


@dataclass
class _Function:
    """A kernel: what runs it, and the kinds of its arguments, ``p`` for pointers and ``i`` for integers."""

    name: str
    run: Any
    kinds: str


@dataclass
class _Call:
    """A kernel with its arguments."""

    function: _Function
    blocks: int
    threads: int
    values: list[int]


@dataclass
class _Stream:
    """What waits to be done, in order."""

    work: list[Callable[[], None]] = field(default_factory=list)


@dataclass
class _Event:
    """A point in a stream; `ticks` counts kernels that ran before it."""

    happened: bool = False
    ticks: int = 0


class EmulatedGpus:
    """Devices of this process.

    Args:
        capabilities: (major, minor) of each device.
        memory: bytes of each.

    Attributes:
        calls: how often each function was called.
        launched: names of the kernels that ran, in order.
    """

    def __init__(self, capabilities: Sequence[tuple[int, int]] = ((8, 0),), memory: int = 4 << 30) -> None:
        self.capabilities = list(capabilities)
        self.memory = memory
        self.calls: dict[str, int] = {}
        self.launched: list[str] = []
        self._handles: dict[int, Any] = {}
        self._numbers = itertools.count(0x1000, 16)
        self._allocations: dict[int, _Allocation] = {}
        self._contexts: list[int] = []
        self._retained: set[int] = set()
        self._broken = 0
        self._fatal = (-1, 0)
        self._foreign: list[tuple[int, int]] = []
        self._failures: dict[str, list[tuple[int, int]]] = {}
        self._default = {0: _Stream(), 1: _Stream()}

    # -- for tests ----------------------------------------------------------------------------------

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

    def finish(self) -> None:
        """Do all that waits."""
        for stream in [
            *self._default.values(),
            *(h for h in self._handles.values() if isinstance(h, _Stream)),
        ]:
            self._drain(stream)

    def live(self) -> dict[str, int]:
        """How much of each kind is there that nobody has freed."""
        counts: dict[str, int] = {}
        for handle in self._handles.values():
            if not isinstance(handle, _Function):
                kind = type(handle).__name__.strip("_").lower()
                counts[kind] = counts.get(kind, 0) + 1
        if self._allocations:
            counts["memory"] = len(self._allocations)
        return counts

    # -- parts --------------------------------------------------------------------------------------

    def _counted(self, name: str) -> Callable[..., int]:
        function = getattr(self, f"_{name}")

        def call(*arguments: Any) -> int:
            self.calls[name] = count = self.calls.get(name, 0) + 1
            for row in self._failures.get(name, []):
                if row[0] == count:
                    return row[1]
            return int(function(*arguments) or 0)

        return call

    def _new(self, thing: Any) -> int:
        handle = next(self._numbers)
        self._handles[handle] = thing
        return handle

    def _get(self, handle: Any, kind: type) -> Any:
        found = self._handles.get(_number(handle))
        return found if isinstance(found, kind) else None

    def _stream(self, handle: Any) -> _Stream | None:
        number = _number(handle)
        return self._default[number] if number in self._default else self._get(number, _Stream)

    def _inside(self, address: int, size: int) -> bool:
        """Whether a stretch lies in one allocation."""
        if any(at <= address and address + size <= at + held for at, held in self._foreign):
            return True
        return any(
            a.address <= address and address + size <= a.address + a.size for a in self._allocations.values()
        )

    def _drain(self, stream: _Stream) -> None:
        while stream.work:
            stream.work.pop(0)()

    def _enqueue(self, stream: Any, work: Callable[[], None]) -> int:
        found = self._stream(stream)
        if found is None:
            return INVALID_HANDLE
        if not self._contexts:
            return INVALID_CONTEXT
        found.work.append(work)
        return self._broken

    def _run(self, call: _Call) -> None:
        if self._broken:
            return
        for kind, value in zip(call.function.kinds, call.values, strict=True):
            if kind == "p" and value and not self._inside(value, 0):
                self._broken = ILLEGAL_ADDRESS
                return
        cells = (ctypes.c_int64 * len(call.values))(*call.values)
        first = ctypes.addressof(cells)
        pointers = (ctypes.c_void_p * len(call.values))(*(first + 8 * n for n in range(len(call.values))))
        if len(self.launched) == self._fatal[0]:
            self._broken = self._fatal[1]
            return
        self.launched.append(call.function.name)
        call.function.run(call.blocks, call.threads, pointers)
        if not all(a.intact() for a in self._allocations.values()):
            self._broken = ILLEGAL_ADDRESS

    def _new_allocation(self, size: int, device: int) -> _Allocation:
        memory = np.full(size + 2 * FENCE + 256, _FENCE_BYTE, np.uint8)
        address = -(-(memory.ctypes.data + FENCE) // 256) * 256
        start = address - memory.ctypes.data
        memory[start : start + size] = _UNSET_BYTE
        made = self._allocations[address] = _Allocation(address, size, device, memory)
        return made

    # -- the driver's functions ---------------------------------------------------------------------

    def _cuInit(self, flags: int) -> int:
        return 0 if self.capabilities else NO_DEVICE

    def _cuGetErrorName(self, status: int, name: Any) -> int:
        text = NAMES.get(status)
        if text is None:
            return INVALID_VALUE
        name._obj.value = text.encode("ascii")
        return 0

    def _cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13000
        return 0

    def _cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.capabilities)
        return 0

    def _cuDeviceGet(self, device: Any, number: int) -> int:
        if not 0 <= number < len(self.capabilities):
            return INVALID_DEVICE
        device._obj.value = number
        return 0

    def _cuDeviceGetName(self, text: Any, size: int, device: int) -> int:
        text.value = b"Emulated GPU"[: size - 1]
        return 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        if attribute not in (75, 76):
            return INVALID_VALUE
        value._obj.value = self.capabilities[device][attribute - 75]
        return 0

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        self._retained.add(device)
        context._obj.value = device + 1
        return 0

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        self._retained.discard(device)
        return 0

    def _cuCtxPushCurrent_v2(self, context: Any) -> int:
        if _number(context) - 1 not in self._retained:
            return INVALID_CONTEXT
        self._contexts.append(_number(context) - 1)
        return 0

    def _cuCtxPopCurrent_v2(self, context: Any) -> int:
        if not self._contexts:
            return INVALID_CONTEXT
        context._obj.value = self._contexts.pop() + 1
        return 0

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        used = sum(a.size for a in self._allocations.values() if a.device == self._contexts[-1])
        free._obj.value, total._obj.value = self.memory - used, self.memory
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: int) -> int:
        if not self._contexts or not size:
            return INVALID_VALUE if self._contexts else INVALID_CONTEXT
        used = sum(a.size for a in self._allocations.values() if a.device == self._contexts[-1])
        if used + size > self.memory:
            return OUT_OF_MEMORY
        address._obj.value = self._new_allocation(size, self._contexts[-1]).address
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        self.finish()
        found = self._allocations.pop(_number(address), None)
        if found is None:
            return INVALID_VALUE
        if not found.intact():
            self._broken = ILLEGAL_ADDRESS
        return 0

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: Any, size: int, stream: Any) -> int:
        if not self._inside(target, size):
            return INVALID_VALUE
        staged = ctypes.string_at(_number(source), size)  # pageable memory is read at once
        return self._enqueue(stream, lambda: _move(target, staged))

    def _cuMemcpyDtoHAsync_v2(self, target: Any, source: int, size: int, stream: Any) -> int:
        if not self._inside(source, size):
            return INVALID_VALUE
        place = _number(target)
        return self._enqueue(stream, lambda: _copy(place, source, size))

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:
        if not (self._inside(source, size) and self._inside(target, size)):
            return INVALID_VALUE
        return self._enqueue(stream, lambda: _copy(target, source, size))

    def _cuMemsetD32Async(self, target: int, value: int, count: int, stream: Any) -> int:
        if not self._inside(target, 4 * count):
            return INVALID_VALUE
        return self._enqueue(stream, lambda: _move(target, struct.pack("<I", value) * count))

    def _cuModuleLoadData(self, module: Any, image: Any) -> int:
        data = image if isinstance(image, bytes) else b""
        if data[:4] != b"\x7fELF":
            return INVALID_IMAGE
        descriptor = os.memfd_create("emulated-module", os.MFD_CLOEXEC)
        os.write(descriptor, data)
        library = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
        size = len(b"sm_000a") + 1
        text = (ctypes.c_char * size).in_dll(library, "aino_architecture").value.decode("ascii")
        loaded = _Module(library, descriptor)
        if not self._fits(text):
            loaded.close()
            return NO_BINARY
        module._obj.value = self._new(loaded)
        return 0

    def _fits(self, architecture: str) -> bool:
        major, minor = self.capabilities[self._contexts[-1]]
        digits = architecture.removeprefix("sm_").rstrip("a")
        wanted = int(digits[:-1]), int(digits[-1])
        if architecture.endswith("a"):
            return wanted == (major, minor)
        return wanted[0] == major and wanted[1] <= minor

    def _cuModuleUnload(self, module: Any) -> int:
        found = self._get(module, _Module)
        if found is None:
            return INVALID_HANDLE
        self.finish()
        del self._handles[_number(module)]
        found.close()
        return 0

    def _cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        found = self._get(module, _Module)
        if found is None:
            return INVALID_HANDLE
        text = name.decode("ascii")
        try:
            run = found.library[f"{text}_entry"]
        except AttributeError:
            return NOT_FOUND
        run.argtypes, run.restype = [ctypes.c_int64, ctypes.c_uint, ctypes.c_void_p], None
        kinds = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(found.library, f"{text}_kinds")))
        function._obj.value = self._new(_Function(text, run, kinds.decode("ascii")))
        return 0

    def _cuFuncGetAttribute(self, value: Any, attribute: int, function: Any) -> int:
        value._obj.value = 0
        return 0 if self._get(function, _Function) else INVALID_HANDLE

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = self._new(_Stream())
        return 0

    def _cuStreamSynchronize(self, stream: Any) -> int:
        found = self._stream(stream)
        if found is None:
            return INVALID_HANDLE
        self._drain(found)
        return self._broken

    def _cuStreamDestroy_v2(self, stream: Any) -> int:
        found = self._get(stream, _Stream)
        if found is None:
            return INVALID_HANDLE
        self._drain(found)
        del self._handles[_number(stream)]
        return 0

    def _cuEventCreate(self, event: Any, flags: int) -> int:
        event._obj.value = self._new(_Event())
        return 0

    def _cuEventRecord(self, event: Any, stream: Any) -> int:
        found = self._get(event, _Event)
        if found is None:
            return INVALID_HANDLE

        def happen() -> None:
            found.happened, found.ticks = True, len(self.launched)

        return self._enqueue(stream, happen)

    def _cuEventSynchronize(self, event: Any) -> int:
        self.finish()
        return self._broken if self._get(event, _Event) else INVALID_HANDLE

    def _cuEventElapsedTime(self, milliseconds: Any, start: Any, end: Any) -> int:
        """As if every kernel took a millisecond."""
        events = self._get(start, _Event), self._get(end, _Event)
        if not all(e is not None and e.happened for e in events):
            return INVALID_HANDLE
        milliseconds._obj.value = float(events[1].ticks - events[0].ticks)
        return 0

    def _cuEventDestroy_v2(self, event: Any) -> int:
        return 0 if self._handles.pop(_number(event), None) else INVALID_HANDLE

    def _call_of(
        self, function: Any, blocks: Sequence[int], threads: Sequence[int], values: Any
    ) -> _Call | int:
        found = self._get(function, _Function)
        if found is None:
            return INVALID_HANDLE
        if not all(0 < n < 1 << 31 for n in blocks) or not 0 < threads[0] <= MOST_THREADS:
            return INVALID_VALUE
        count = len(found.kinds)
        pointers = (ctypes.c_void_p * count).from_address(_number(values))
        given = [ctypes.c_int64.from_address(pointer or 0).value for pointer in pointers]
        return _Call(found, blocks[0], threads[0], given)

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> int:
        gx, gy, gz, bx, by, bz, _shared, stream, values, _extra = rest
        call = self._call_of(function, (gx, gy, gz), (bx, by, bz), ctypes.addressof(values))
        if isinstance(call, int):
            return call
        return self._enqueue(stream, lambda: self._run(call))

    def _cuGraphCreate(self, graph: Any, flags: int) -> int:
        graph._obj.value = self._new(_Graph())
        return 0

    def _cuGraphDestroy(self, graph: Any) -> int:
        found = self._get(graph, _Graph)
        if found is None:
            return INVALID_HANDLE
        for node in found.nodes:
            self._handles.pop(node, None)
        del self._handles[_number(graph)]
        return 0

    def _cuGraphAddKernelNode_v2(self, node: Any, graph: Any, before: Any, count: int, params: Any) -> int:
        found = self._get(graph, _Graph)
        if found is None or list(before)[:count] != found.nodes[-1:][:count]:
            return INVALID_HANDLE
        facts = params._obj
        call = self._call_of(facts.func, tuple(facts.grid), tuple(facts.block), facts.params)
        if isinstance(call, int):
            return call
        node._obj.value = self._new(_Node(call))
        found.nodes.append(node._obj.value)
        return 0

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:
        found = self._get(graph, _Graph)
        if found is None:
            return INVALID_HANDLE
        executable._obj.value = self._new(_Executable({n: self._handles[n].call for n in found.nodes}))
        return 0

    def _cuGraphExecKernelNodeSetParams_v2(self, executable: Any, node: Any, params: Any) -> int:
        found, facts = self._get(executable, _Executable), params._obj
        if found is None or _number(node) not in found.calls:
            return INVALID_HANDLE
        call = self._call_of(facts.func, tuple(facts.grid), tuple(facts.block), facts.params)
        if isinstance(call, int):
            return call
        found.calls[_number(node)] = call
        return 0

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        found = self._get(executable, _Executable)
        if found is None:
            return INVALID_HANDLE
        calls = list(found.calls.values())

        def run() -> None:
            for call in calls:
                self._run(call)

        return self._enqueue(stream, run)

    def _cuGraphExecDestroy(self, executable: Any) -> int:
        return 0 if self._handles.pop(_number(executable), None) else INVALID_HANDLE


@dataclass
class _Node:
    """A launch in a graph."""

    call: _Call


@dataclass
class _Graph:
    """Nodes one after the other, by their handles."""

    nodes: list[int] = field(default_factory=list)


@dataclass
class _Executable:
    """An instantiated graph: launches by the handles of their nodes."""

    calls: dict[int, _Call]


def _number(handle: Any) -> int:
    """The number in a handle or pointer, whatever it came as."""
    if isinstance(handle, int):
        return handle
    return int(getattr(handle, "value", None) or 0)


def _move(target: int, data: bytes) -> None:
    ctypes.memmove(target, data, len(data))


def _copy(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)

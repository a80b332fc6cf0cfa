"""One GPU: its context, memory, streams, modules and graphs, each freed with the object that owns it."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Protocol

from aino_ir.errors.base import AinoError, EnvironmentFault
from aino_ir.errors.cuda import (
    DeviceArchitectureMismatch,
    DeviceOutOfMemory,
    DriverCallFailed,
    DriverTooOld,
    KernelFailed,
    NoCudaDevice,
)
from aino_ir.isa import gpu_isa, runs_on_gpu
from aino_ir.runtime.cuda.driver import (
    COMPUTE_CAPABILITY_MAJOR,
    COMPUTE_CAPABILITY_MINOR,
    MOST_SHARED_BYTES,
    NO_BINARY_FOR_GPU,
    OUT_OF_MEMORY,
    UNKNOWN_CODE,
    Driver,
    KernelNode,
    the_driver,
)
from aino_ir.runtime.cuda.tiles import MAP_ALIGNMENT, aligned_memory

_NAME_BYTES = 256
_NON_BLOCKING = 1
_WITHOUT_TIME = 2
_WORD = (1 << 64) - 1


class Device:
    """A GPU with its primary context, which torch and others share.

    Attributes:
        driver: whose device it is.
        number: as the driver counts.
        name: the maker's.
        capability: (major, minor).
        shared_bytes: that a block may ask for.
    """

    def __init__(self, driver: Driver, number: int = 0) -> None:
        """Open a device.

        Raises:
            NoCudaDevice: there is no such.
            DriverCallFailed: it does not start.
        """
        count = driver.device_count
        if not 0 <= number < count:
            raise NoCudaDevice(device=number, count=count)
        self.driver = driver
        self.number = number
        self._device = driver.number("cuDeviceGet", number)
        text = ctypes.create_string_buffer(_NAME_BYTES)
        driver.call("cuDeviceGetName", text, _NAME_BYTES, self._device)
        self.name = text.value.decode("utf-8", "replace")
        self.capability = (
            driver.number("cuDeviceGetAttribute", COMPUTE_CAPABILITY_MAJOR, self._device),
            driver.number("cuDeviceGetAttribute", COMPUTE_CAPABILITY_MINOR, self._device),
        )
        self.shared_bytes = driver.number("cuDeviceGetAttribute", MOST_SHARED_BYTES, self._device)
        self._context = driver.handle("cuDevicePrimaryCtxRetain", self._device)

    @property
    def architecture(self) -> str:
        """What compilers call it, such as ``sm_90``."""
        return "sm_{}{}".format(*self.capability)

    @property
    def isa(self) -> str:
        """What to compile for it, such as ``sm_90a``."""
        return gpu_isa(self.architecture)

    def runs(self, architecture: str) -> bool:
        """Whether cubins for an architecture run here."""
        return runs_on_gpu(architecture, self.architecture)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the current device of this thread meanwhile."""
        self.driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            popped = ctypes.c_void_p()
            self.driver.status("cuCtxPopCurrent_v2", ctypes.byref(popped))

    def free_and_total(self) -> tuple[int, int]:
        """Bytes of its memory."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def alloc(self, size: int, what: str) -> Memory:
        """New memory of `size` bytes, at least one; `what` says in errors what it is for.

        Raises:
            DeviceOutOfMemory: there is not enough.
        """
        made = ctypes.c_uint64()
        status = self.driver.status("cuMemAlloc_v2", ctypes.byref(made), max(1, size))
        if status:
            raise self.refusal("cuMemAlloc", status, what, size)
        return Memory(self, made.value, size)

    def refusal(self, function: str, status: int, what: str, wanted: int) -> AinoError:
        """The error of a call that needed about so many bytes of memory, and what for."""
        if status != OUT_OF_MEMORY:
            return DriverCallFailed(function=function, error=self.driver.error_name(status))
        free, total = self.free_and_total()
        return DeviceOutOfMemory(what=what, wanted=wanted, free=free, total=total)

    def load(self, cubin: bytes, architecture: str, path: str, compiler: str = "") -> Code:
        """Load a cubin; `compiler` says what made it.

        Raises:
            DeviceArchitectureMismatch: it is for other devices.
            DriverTooOld: the compiler is of a later CUDA than the driver.
            DeviceOutOfMemory: there is no room for it.
            DriverCallFailed: the driver refuses it.
        """
        made = ctypes.c_void_p()
        status = self.driver.status("cuModuleLoadData", ctypes.byref(made), cubin)
        made_by = re.search(r"(\d+)\.\d+$", compiler)
        if status in UNKNOWN_CODE and made_by is not None and int(made_by[1]) > self.driver.version[0]:
            raise DriverTooOld(
                driver="{}.{}".format(*self.driver.version),
                compiler=compiler,
                path=path,
                error=self.driver.error_name(status),
            )
        if status == NO_BINARY_FOR_GPU:
            raise self.mismatch(path, architecture)
        if status:
            raise self.refusal("cuModuleLoadData", status, "the kernels", len(cubin))
        return Code(self, made.value or 0)

    def mismatch(self, path: str, found: str) -> DeviceArchitectureMismatch:
        """The error of code that is for other devices."""
        return DeviceArchitectureMismatch(
            path=path, found=found, device=self.number, name=self.name, needed=self.isa
        )

    def upload(self, memory: int, source: int, size: int, stream: int) -> None:
        """Copy `size` bytes from a host address; the source may change as soon as this returns."""
        if size:
            self.driver.call("cuMemcpyHtoDAsync_v2", memory, source, size, stream)

    def download(self, target: int, memory: int, size: int, stream: int) -> None:
        """Copy `size` bytes to a host address, which holds them when the stream has come so far."""
        if size:
            self.driver.call("cuMemcpyDtoHAsync_v2", target, memory, size, stream)

    def copy(self, target: int, memory: int, size: int, stream: int) -> None:
        """Copy `size` bytes on the device."""
        if size:
            self.driver.call("cuMemcpyDtoDAsync_v2", target, memory, size, stream)

    def fill_words(self, memory: int, value: int, count: int, stream: int) -> None:
        """Write a 32-bit word `count` times."""
        if count:
            self.driver.call("cuMemsetD32Async", memory, value & 0xFFFFFFFF, count, stream)

    def store_i64(self, memory: int, value: int, stream: int) -> None:
        """Write one i64 (little-endian, as on every host that CUDA runs on)."""
        self.fill_words(memory, value, 1, stream)
        self.fill_words(memory + 4, value >> 32, 1, stream)

    def synchronize(self, stream: int, kernel: str = "", loc: str = "") -> None:
        """Wait for a stream.

        Raises:
            KernelFailed: something on it failed; `kernel` and `loc` say what may be at fault.
        """
        status = self.driver.status("cuStreamSynchronize", stream)
        if status:
            name = kernel or "(one of the model's)"
            raise KernelFailed(loc=loc or None, kernel=name, error=self.driver.error_name(status))


class Owned:
    """A thing of the driver's that is freed with this object, or by `free`.

    Attributes:
        device: where it is.
        handle: what the driver calls it.
    """

    destroyer = ""

    def __init__(self, device: Device, handle: int) -> None:
        self.device = device
        self.handle = handle

    def free(self) -> None:
        """Let go of it; nothing may use it any more."""
        handle, self.handle = self.handle, 0
        if handle:
            with self.device.current():
                self.device.driver.status(self.destroyer, handle)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "handle", 0) and not finalizing():
            self.free()


class Memory(Owned):
    """A stretch of device memory; the handle is its address."""

    destroyer = "cuMemFree_v2"

    def __init__(self, device: Device, address: int, size: int) -> None:
        super().__init__(device, address)
        self.bytes = size

    @property
    def address(self) -> int:
        """Where it starts."""
        return self.handle


class Stream(Owned):
    """A stream of AINO's own."""

    destroyer = "cuStreamDestroy_v2"

    @staticmethod
    def new(device: Device) -> Stream:
        """A new stream; the device must be current."""
        return Stream(device, device.driver.handle("cuStreamCreate", _NON_BLOCKING))


class Event(Owned):
    """A point in a stream, to wait for, or whose time is taken."""

    destroyer = "cuEventDestroy_v2"

    @staticmethod
    def now(device: Device, stream: int, timed: bool = True) -> Event:
        """An event that happens when a stream has come so far; the device must be current."""
        event = Event(device, device.driver.handle("cuEventCreate", 0 if timed else _WITHOUT_TIME))
        device.driver.call("cuEventRecord", event.handle, stream)
        return event

    def hold(self, stream: int) -> None:
        """Let a stream wait for it; the device must be current."""
        self.device.driver.call("cuStreamWaitEvent", stream, self.handle, 0)

    def nanoseconds_since(self, earlier: Event) -> int:
        """Time between two events that have happened."""
        made = ctypes.c_float()
        self.device.driver.call("cuEventElapsedTime", ctypes.byref(made), earlier.handle, self.handle)
        return round(made.value * 1e6)


class Code(Owned):
    """A loaded cubin."""

    destroyer = "cuModuleUnload"

    def entry(self, name: str) -> int:
        """The handle of a kernel.

        Raises:
            DriverCallFailed: there is none of that name.
        """
        return self.device.driver.handle("cuModuleGetFunction", self.handle, name.encode("ascii"))


class Work(Protocol):
    """One thing that a stream does, or a node of a graph: the launch of a kernel, or a library's call.

    Attributes:
        kernel, loc: what errors name.
    """

    kernel: str
    loc: str

    def enqueue(self, device: Device, stream: int) -> None:
        """Put it on a stream.

        Raises:
            KernelFailed, LibraryCallFailed: it is refused.
        """

    def add_to(self, device: Device, graph: int, before: Any, count: int) -> int:
        """Add it to a graph behind `count` nodes; its node.

        Raises:
            KernelFailed, LibraryCallFailed: it is refused.
        """

    def update_in(self, device: Device, executable: int, node: int) -> bool:
        """Take over its arguments in an instantiated graph; False: the graph must be made anew.

        Raises:
            KernelFailed, LibraryCallFailed: it is refused.
        """

    def take(self, other: Any) -> bool:
        """Take the arguments of another one of the same step; whether any of them is new."""


class Launch(Work):
    """One launch of a kernel: what `cuLaunchKernel` and a node of a graph take.

    Args:
        function: handle of the kernel.
        blocks, threads: of the launch, and of a block.
        values: the arguments, numbers of eight bytes each and maps of tiles.
        kernel, loc: its name and the node that it is for, for errors.
        shared: bytes of shared memory that a block has beside what the code declares.
    """

    def __init__(
        self,
        function: int,
        blocks: int,
        threads: int,
        values: Sequence[int | bytes],
        kernel: str,
        loc: str,
        shared: int = 0,
    ) -> None:
        self.function = function
        self.blocks = blocks
        self.threads = threads
        self.shared = shared
        self.kernel = kernel
        self.loc = loc
        self.values = list(values)
        sizes = [len(v) if isinstance(v, bytes) else 8 for v in values]
        starts = [0, *accumulate(-(-size // MAP_ALIGNMENT) * MAP_ALIGNMENT for size in sizes)]
        self._memory, first = aligned_memory(starts[-1], MAP_ALIGNMENT)
        self._places = [first + start for start in starts[:-1]]
        self._pointers = (ctypes.c_void_p * len(values))(*self._places)
        self._write()

    def _write(self) -> None:
        for place, value in zip(self._places, self.values, strict=True):
            data = value if isinstance(value, bytes) else (value & _WORD).to_bytes(8, "little")
            ctypes.memmove(place, data, len(data))

    def take(self, other: Launch) -> bool:
        """Take other arguments of the same kinds; whether any of them is new."""
        if other.values == self.values:
            return False
        self.values = list(other.values)
        self._write()
        return True

    def enqueue(self, device: Device, stream: int) -> None:
        """Put it on a stream.

        Raises:
            KernelFailed: the driver refuses it.
        """
        size = self.blocks, 1, 1, self.threads, 1, 1, self.shared
        status = device.driver.status("cuLaunchKernel", self.function, *size, stream, self._pointers, None)
        self.expect(device, status)

    def add_to(self, device: Device, graph: int, before: Any, count: int) -> int:
        """Add a node for it to a graph behind others; see `Work`."""
        node, facts = ctypes.c_void_p(), self.node()
        status = device.driver.status(
            "cuGraphAddKernelNode_v2", ctypes.byref(node), graph, before, count, ctypes.byref(facts)
        )
        self.expect(device, status)
        return node.value or 0

    def update_in(self, device: Device, executable: int, node: int) -> bool:
        """Take over its arguments in an instantiated graph; see `Work`."""
        facts = ctypes.byref(self.node())
        self.expect(
            device, device.driver.status("cuGraphExecKernelNodeSetParams_v2", executable, node, facts)
        )
        return True

    def node(self) -> KernelNode:
        """As a graph takes it; valid as long as this object."""
        return KernelNode(
            self.function,
            (self.blocks, 1, 1),
            (self.threads, 1, 1),
            self.shared,
            ctypes.addressof(self._pointers),
            None,
            None,
            None,
        )

    def expect(self, device: Device, status: int) -> None:
        """Raise the error of a status that is not success.

        Raises:
            KernelFailed: as that is.
        """
        if status:
            raise KernelFailed(
                loc=self.loc or None, kernel=self.kernel, error=device.driver.error_name(status)
            )


_opened: dict[tuple[int, int], Device] = {}


def open_device(number: int = 0) -> Device:
    """The device of a number, opened once for each driver.

    Raises:
        NoCudaDriver, NoCudaDevice, DriverCallFailed: as they say.
    """
    driver = the_driver()
    key = (id(driver), number)
    found = _opened.get(key)
    if found is None or found.driver is not driver:
        found = _opened[key] = Device(driver, number)
    return found


def gpu_architecture() -> str:
    """What to compile for the first GPU, or nothing where there is none."""
    try:
        return open_device().isa
    except EnvironmentFault:
        return ""

"""Devices, contexts, and what is loaded on them: libraries of this process for cubins."""

from __future__ import annotations

import _ctypes
import ctypes
import os
from dataclasses import dataclass
from typing import Any

from aino_ir.codegen.cuda.emulated.machine import KernelFunction, Machine, number_of
from aino_ir.codegen.cuda.emulated.results import (
    INVALID_CONTEXT,
    INVALID_DEVICE,
    INVALID_HANDLE,
    INVALID_IMAGE,
    INVALID_VALUE,
    NAMES,
    NO_BINARY,
    NO_DEVICE,
    NOT_FOUND,
)

MAX_DYNAMIC_SHARED_BYTES = 8
"""The attribute of kernels that may be set."""

MOST_SHARED_BYTES = 97
SHARED_KILOBYTES = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227}
"""The attribute of devices, and its value by their capability; 99 of others."""


@dataclass
class LoadedModule:
    """A loaded library."""

    library: ctypes.CDLL
    descriptor: int

    def close(self) -> None:
        """Unload it; the file goes last, for the dynamic loader tells libraries apart by path."""
        _ctypes.dlclose(self.library._handle)
        os.close(self.descriptor)


class DeviceFunctions(Machine):
    """The driver's functions that list devices, make them current and load code on them."""

    def _cuInit(self, flags: int) -> int:
        return 0 if self.capabilities else NO_DEVICE

    def _cuGetErrorName(self, status: int, name: Any) -> int:
        text = NAMES.get(status)
        if text is None:
            return INVALID_VALUE
        name._obj.value = text.encode("ascii")
        return 0

    def _cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
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
        if attribute == MOST_SHARED_BYTES:
            value._obj.value = self._most_shared(device)
        elif attribute in (75, 76):
            value._obj.value = self.capabilities[device][attribute - 75]
        else:
            return INVALID_VALUE
        return 0

    def _most_shared(self, device: int) -> int:
        return SHARED_KILOBYTES.get(self.capabilities[device], 99) << 10

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        self._retained.add(device)
        context._obj.value = device + 1
        return 0

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        self._retained.discard(device)
        return 0

    def _cuCtxPushCurrent_v2(self, context: Any) -> int:
        if number_of(context) - 1 not in self._retained:
            return INVALID_CONTEXT
        self._contexts.append(number_of(context) - 1)
        return 0

    def _cuCtxPopCurrent_v2(self, context: Any) -> int:
        if not self._contexts:
            return INVALID_CONTEXT
        context._obj.value = self._contexts.pop() + 1
        return 0

    def _cuModuleLoadData(self, module: Any, image: Any) -> int:
        data = image if isinstance(image, bytes) else b""
        if data[:4] != b"\x7fELF":
            return INVALID_IMAGE
        descriptor = os.memfd_create("emulated-module", os.MFD_CLOEXEC)
        os.write(descriptor, data)
        library = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
        size = len(b"sm_000a") + 1
        text = (ctypes.c_char * size).in_dll(library, "aino_architecture").value.decode("ascii")
        loaded = LoadedModule(library, descriptor)
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
        found = self._get(module, LoadedModule)
        if found is None:
            return INVALID_HANDLE
        self.finish()
        del self._handles[number_of(module)]
        found.close()
        return 0

    def _cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        found = self._get(module, LoadedModule)
        if found is None:
            return INVALID_HANDLE
        text = name.decode("ascii")
        try:
            run = found.library[f"{text}_entry"]
        except AttributeError:
            return NOT_FOUND
        run.argtypes, run.restype = [ctypes.c_int64, ctypes.c_uint, ctypes.c_void_p], None
        kinds = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(found.library, f"{text}_kinds")))
        shared = ctypes.c_int.in_dll(found.library, f"{text}_shared").value
        threads = ctypes.c_int.in_dll(found.library, f"{text}_threads").value
        made = KernelFunction(text, run, kinds.decode("ascii"), shared, threads=threads)
        function._obj.value = self._new(made)
        return 0

    def _cuFuncGetAttribute(self, value: Any, attribute: int, function: Any) -> int:
        value._obj.value = 0
        return 0 if self._get(function, KernelFunction) else INVALID_HANDLE

    def _cuFuncSetAttribute(self, function: Any, attribute: int, value: int) -> int:
        found = self._get(function, KernelFunction)
        if found is None:
            return INVALID_HANDLE
        if attribute != MAX_DYNAMIC_SHARED_BYTES or not 0 <= value <= self._most_shared(self._contexts[-1]):
            return INVALID_VALUE
        found.allowed = value
        return 0

"""CUDA's driver API: the functions that are used, as a table of prototypes, and calls that raise.

The library ``libcuda.so.1`` comes with NVIDIA's driver; nothing else need be installed to run a compiled
model.  Whoever has another implementation of the same functions (tests do) puts it in with `driver_in_use`.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aino_ir.errors.cuda import DriverCallFailed, NoCudaDriver

LIBRARY = "libcuda.so.1"

PROTOTYPES: dict[str, str] = {
    "cuInit": "unsigned int",
    "cuGetErrorName": "CUresult, const char **",
    "cuDriverGetVersion": "int *",
    "cuDeviceGetCount": "int *",
    "cuDeviceGet": "CUdevice *, int",
    "cuDeviceGetName": "char *, int, CUdevice",
    "cuDeviceGetAttribute": "int *, CUdevice_attribute, CUdevice",
    "cuDevicePrimaryCtxRetain": "CUcontext *, CUdevice",
    "cuDevicePrimaryCtxRelease_v2": "CUdevice",
    "cuCtxPushCurrent_v2": "CUcontext",
    "cuCtxPopCurrent_v2": "CUcontext *",
    "cuMemGetInfo_v2": "size_t *, size_t *",
    "cuMemAlloc_v2": "CUdeviceptr *, size_t",
    "cuMemFree_v2": "CUdeviceptr",
    "cuMemcpyHtoDAsync_v2": "CUdeviceptr, const void *, size_t, CUstream",
    "cuMemcpyDtoHAsync_v2": "void *, CUdeviceptr, size_t, CUstream",
    "cuMemcpyDtoDAsync_v2": "CUdeviceptr, CUdeviceptr, size_t, CUstream",
    "cuMemsetD32Async": "CUdeviceptr, unsigned int, size_t, CUstream",
    "cuModuleLoadData": "CUmodule *, const void *",
    "cuModuleUnload": "CUmodule",
    "cuModuleGetFunction": "CUfunction *, CUmodule, const char *",
    "cuFuncGetAttribute": "int *, CUfunction_attribute, CUfunction",
    "cuFuncSetAttribute": "CUfunction, CUfunction_attribute, int",
    "cuStreamCreate": "CUstream *, unsigned int",
    "cuStreamSynchronize": "CUstream",
    "cuStreamWaitEvent": "CUstream, CUevent, unsigned int",
    "cuStreamDestroy_v2": "CUstream",
    "cuStreamBeginCapture_v2": "CUstream, CUstreamCaptureMode",
    "cuStreamEndCapture": "CUstream, CUgraph *",
    "cuEventCreate": "CUevent *, unsigned int",
    "cuEventRecord": "CUevent, CUstream",
    "cuEventSynchronize": "CUevent",
    "cuEventElapsedTime": "float *, CUevent, CUevent",
    "cuEventDestroy_v2": "CUevent",
    "cuTensorMapEncodeTiled": (
        "CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, "
        "const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, "
        "CUtensorMapL2promotion, CUtensorMapFloatOOBfill"
    ),
    "cuLaunchKernel": (
        "CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, "
        "unsigned int, CUstream, void **, void **"
    ),
    "cuGraphCreate": "CUgraph *, unsigned int",
    "cuGraphDestroy": "CUgraph",
    "cuGraphAddKernelNode_v2": (
        "CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *"
    ),
    "cuGraphAddChildGraphNode": "CUgraphNode *, CUgraph, const CUgraphNode *, size_t, CUgraph",
    "cuGraphInstantiateWithFlags": "CUgraphExec *, CUgraph, unsigned long long",
    "cuGraphExecKernelNodeSetParams_v2": "CUgraphExec, CUgraphNode, const CUDA_KERNEL_NODE_PARAMS *",
    "cuGraphExecChildGraphNodeSetParams": "CUgraphExec, CUgraphNode, CUgraph",
    "cuGraphLaunch": "CUgraphExec, CUstream",
    "cuGraphExecDestroy": "CUgraphExec",
}
"""Exported name -> its parameters, as cuda.h declares them (of CUDA 12.0 and later)."""

_SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "CUdevice": ctypes.c_int,
    "CUdevice_attribute": ctypes.c_int,
    "CUfunction_attribute": ctypes.c_int,
    "CUstreamCaptureMode": ctypes.c_int,
    "CUresult": ctypes.c_int,
    "CUdeviceptr": ctypes.c_uint64,
    "cuuint32_t": ctypes.c_uint32,
    "CUtensorMapDataType": ctypes.c_int,
    "CUtensorMapInterleave": ctypes.c_int,
    "CUtensorMapSwizzle": ctypes.c_int,
    "CUtensorMapL2promotion": ctypes.c_int,
    "CUtensorMapFloatOOBfill": ctypes.c_int,
}
"""Types that are no pointers; handles and everything with a star are."""

OUT_OF_MEMORY = 2
NO_DEVICE = 100
INVALID_IMAGE = 200
NO_BINARY_FOR_GPU = 209
INVALID_PTX = 218
UNSUPPORTED_PTX_VERSION = 222
"""Results that are told apart."""

UNKNOWN_CODE = (INVALID_IMAGE, NO_BINARY_FOR_GPU, INVALID_PTX, UNSUPPORTED_PTX_VERSION)
"""What a driver may say of code that is newer than itself."""

MOST_SHARED_BYTES = 97
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76
"""Attributes of a device."""

MAX_DYNAMIC_SHARED_BYTES = 8
"""Attribute of a kernel: shared memory that launches may ask for, 48 KB unless it is set."""


class KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS (version 2)."""

    _fields_ = (
        ("func", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("params", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        ("kern", ctypes.c_void_p),
        ("ctx", ctypes.c_void_p),
    )


Functions = Mapping[str, Callable[..., int]]
"""Functions of a library by their names."""


class Driver:
    """The functions of the table, each of which returns a CUresult; `call` makes errors of them.

    Args:
        functions: by the names of `PROTOTYPES`.
        libraries: functions of the libraries that go with it, by the library's name; None: those that are
            installed.

    Raises:
        NoCudaDriver: the driver does not start.
    """

    def __init__(self, functions: Functions, libraries: Mapping[str, Functions] | None = None) -> None:
        self._functions = dict(functions)
        self.libraries = libraries
        status = self._functions["cuInit"](0)
        if status and status != NO_DEVICE:
            raise NoCudaDriver(reason=f"cuInit says {self.error_name(status)}")

    def status(self, function: str, *arguments: Any) -> int:
        """Call a function; its CUresult."""
        return self._functions[function](*arguments)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            DriverCallFailed: it refuses.
        """
        status = self._functions[function](*arguments)
        if status:
            raise DriverCallFailed(function=function.partition("_v")[0], error=self.error_name(status))

    def handle(self, function: str, *arguments: Any) -> int:
        """Call a function whose first parameter gets a handle; the handle.

        Raises:
            DriverCallFailed: it refuses.
        """
        made = ctypes.c_void_p()
        self.call(function, ctypes.byref(made), *arguments)
        return made.value or 0

    def number(self, function: str, *arguments: Any) -> int:
        """Call a function whose first parameter gets an int.

        Raises:
            DriverCallFailed: it refuses.
        """
        made = ctypes.c_int()
        self.call(function, ctypes.byref(made), *arguments)
        return made.value

    def error_name(self, status: int) -> str:
        """CUDA's word for a CUresult."""
        text = ctypes.c_char_p()
        self._functions["cuGetErrorName"](status, ctypes.byref(text))
        return (text.value or b"").decode("ascii", "replace") or f"CUDA error {status}"

    @property
    def version(self) -> tuple[int, int]:
        """The CUDA that it is of, such as (12, 4)."""
        number = self.number("cuDriverGetVersion")
        return number // 1000, number % 1000 // 10

    @property
    def device_count(self) -> int:
        """How many devices there are."""
        made = ctypes.c_int()
        return 0 if self.status("cuDeviceGetCount", ctypes.byref(made)) else made.value


def bound_functions(library: Any) -> dict[str, Callable[..., int]]:
    """The functions of a loaded driver with their C types.

    Raises:
        NoCudaDriver: it lacks one.
    """
    try:
        return bind(library, PROTOTYPES)
    except AttributeError as problem:
        raise NoCudaDriver(reason=f"it is older than CUDA 12.0 ({problem})") from problem


def bind(
    library: Any, prototypes: Mapping[str, str], scalars: Mapping[str, Any] = _SCALARS
) -> dict[str, Callable[..., int]]:
    """Functions of a loaded library with their C types; all return an int.

    Args:
        library: what has them as attributes.
        prototypes: name -> parameters.
        scalars: the types that are no pointers.

    Raises:
        AttributeError: it lacks one.
    """
    found = {}
    for name, prototype in prototypes.items():
        function = getattr(library, name)
        function.restype = ctypes.c_int
        function.argtypes = [argument_type(text, scalars) for text in prototype.split(", ")]
        found[name] = function
    return found


def argument_type(text: str, scalars: Mapping[str, Any] = _SCALARS) -> Any:
    """The ctypes type of a parameter."""
    return scalars.get(text, ctypes.c_void_p)


_in_use: list[Driver] = []


@contextmanager
def driver_in_use(driver: Driver) -> Iterator[Driver]:
    """Take another implementation of the driver's functions meanwhile, in all threads."""
    _in_use.append(driver)
    try:
        yield driver
    finally:
        _in_use.remove(driver)


def the_driver() -> Driver:
    """The driver: the installed one, unless another is in use.

    Raises:
        NoCudaDriver: there is none, or it does not start.
    """
    return _in_use[-1] if _in_use else installed_driver(LIBRARY)


@functools.cache
def installed_driver(name: str) -> Driver:
    """The driver in a library of the system.

    Raises:
        NoCudaDriver: there is no such library, or it does not start.
    """
    try:
        library = ctypes.CDLL(name)
    except OSError as problem:
        raise NoCudaDriver(reason=str(problem)) from problem
    return Driver(bound_functions(library))

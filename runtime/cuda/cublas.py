"""cuBLAS's products (cublasLt): its functions as a table of prototypes, and products that are ready to run.

The library is that of a wheel (nvidia-cublas, nvidia-cublas-cu12), or the system's.  Every call says which
algorithm and which workspace it takes, both of which AINO has asked for and owns; the library keeps nothing
from call to call, so that what was captured can be replayed at any time.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aino_ir.dims import value_of
from aino_ir.dtypes import DTYPES
from aino_ir.errors.cuda import LibraryCallFailed, LibraryMissing
from aino_ir.library_calls import CUBLAS, Matrix, ProductCall
from aino_ir.runtime.cuda.device import Device, Memory, Stream
from aino_ir.runtime.cuda.driver import Driver, Functions, bind

NAME = "cuBLAS"
MAJORS = (13, 12)
"""Major versions whose interface the table describes."""

PROTOTYPES: dict[str, str] = {
    "cublasLtCreate": "cublasLtHandle_t *",
    "cublasLtDestroy": "cublasLtHandle_t",
    "cublasLtGetProperty": "libraryPropertyType, int *",
    "cublasLtMatmulDescCreate": "cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t",
    "cublasLtMatmulDescSetAttribute": (
        "cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t"
    ),
    "cublasLtMatmulDescDestroy": "cublasLtMatmulDesc_t",
    "cublasLtMatrixLayoutCreate": "cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t",
    "cublasLtMatrixLayoutSetAttribute": (
        "cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void *, size_t"
    ),
    "cublasLtMatrixLayoutDestroy": "cublasLtMatrixLayout_t",
    "cublasLtMatmulPreferenceCreate": "cublasLtMatmulPreference_t *",
    "cublasLtMatmulPreferenceSetAttribute": (
        "cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *, size_t"
    ),
    "cublasLtMatmulPreferenceDestroy": "cublasLtMatmulPreference_t",
    "cublasLtMatmulAlgoGetHeuristic": (
        "cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, "
        "cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int, "
        "cublasLtMatmulHeuristicResult_t *, int *"
    ),
    "cublasLtMatmul": (
        "cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *, cublasLtMatrixLayout_t, "
        "const void *, cublasLtMatrixLayout_t, const void *, const void *, cublasLtMatrixLayout_t, "
        "void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t"
    ),
}
"""Exported name -> its parameters, as cublasLt.h declares them; each returns a cublasStatus_t."""

SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    **dict.fromkeys(
        (
            "libraryPropertyType",
            "cudaDataType",
            "cudaDataType_t",
            "cublasComputeType_t",
            "cublasLtMatmulDescAttributes_t",
            "cublasLtMatrixLayoutAttribute_t",
            "cublasLtMatmulPreferenceAttributes_t",
        ),
        ctypes.c_int,
    ),
}
"""Types that are no pointers; handles and everything with a star are."""

STATUSES = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED",
    3: "CUBLAS_STATUS_ALLOC_FAILED",
    7: "CUBLAS_STATUS_INVALID_VALUE",
    8: "CUBLAS_STATUS_ARCH_MISMATCH",
    11: "CUBLAS_STATUS_MAPPING_ERROR",
    13: "CUBLAS_STATUS_EXECUTION_FAILED",
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    15: "CUBLAS_STATUS_NOT_SUPPORTED",
    16: "CUBLAS_STATUS_LICENSE_ERROR",
}

DATA_TYPES = {"f32": 0, "f64": 1, "f16": 2, "i8": 3, "i32": 10, "bf16": 14}
"""cudaDataType of each dtype."""

COMPUTE_TYPES = {"f32": (68, "f32"), "tf32": (77, "f32"), "f64": (70, "f64"), "i32": (72, "i32")}
"""(cublasComputeType_t, dtype of scales) of what sums are computed in."""

_SCALES: dict[str, Any] = {"f32": ctypes.c_float, "f64": ctypes.c_double, "i32": ctypes.c_int32}

TURN_FIRST, TURN_SECOND, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8
"""Attributes of a product."""

EPILOGUES = {"": 1, "relu": 2, "gelu": 32}
WITH_BIAS = 4
"""cublasLtEpilogue_t, and the bit of a bias."""

STACK_HEIGHT, STACK_STRIDE = 5, 6
"""Attributes of a matrix."""

MOST_WORKSPACE, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)
"""Attributes of a search: bytes, cublasLtReductionScheme_t, and what is known of addresses."""

IN_COMPUTE_TYPE = 2
"""The reduction that keeps partial sums in the type of sums; without any, there is always the one pass."""

WORKSPACE_BYTES = 32 << 20
"""Of one call at most: what NVIDIA advises for Hopper."""

LARGEST_ALIGNMENT = 256
BIAS_ALIGNMENT = 16
"""Of a bias at least: searches give algorithms that want so much whatever its address is."""

REMEMBERED = 1024
"""Products that are kept ready."""


class HeuristicResult(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t, which begins with a cublasLtMatmulAlgo_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Cublas:
    """The library on one device.

    Args:
        device: where; it must be current.

    Attributes:
        version: such as ``13.0.2``.

    Raises:
        LibraryMissing: it is not there, or does not start.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.functions = functions_for(device.driver)
        self._products: dict[tuple[Any, ...], Product | LibraryCallFailed] = {}
        self._lock = threading.Lock()
        made = ctypes.c_void_p()
        status = self.functions["cublasLtCreate"](ctypes.byref(made))
        if status:
            raise LibraryMissing(library=NAME, reason=f"cublasLtCreate says {status_name(status)}")
        self.handle = made.value or 0
        self.version = ".".join(str(self._property(n)) for n in range(3))

    def _property(self, number: int) -> int:
        found = ctypes.c_int()
        self.functions["cublasLtGetProperty"](number, ctypes.byref(found))
        return found.value

    def product(
        self, call: ProductCall, symbols: Mapping[str, int], addresses: Sequence[int], kernel: str
    ) -> Product:
        """A product for extents and addresses, with the algorithm that the library prefers.

        Args:
            call: what is multiplied.
            symbols: values of its symbols.
            addresses: of the kernel's views; of them only the alignment counts.
            kernel: whom errors name.

        Raises:
            LibraryCallFailed: the library has nothing for it.
        """
        if call.bias is not None and addresses[call.bias] % BIAS_ALIGNMENT:
            raise failure(kernel, f"its bias does not begin at a multiple of {BIAS_ALIGNMENT} bytes")
        read = [] if call.bias is None else [addresses[call.bias]]
        key = (call, call.extents(symbols), *map(alignment_of, [*_places(call, addresses), *read]))
        with self._lock:
            found = self._products.get(key)
            if found is None:
                while len(self._products) >= REMEMBERED:
                    self._products.pop(next(iter(self._products)))
                found = self._products[key] = self._made(call, symbols, addresses, kernel)
        if isinstance(found, LibraryCallFailed):
            raise failure(kernel, found.fields["reason"])
        return found

    def _made(
        self, call: ProductCall, symbols: Mapping[str, int], addresses: Sequence[int], kernel: str
    ) -> Product | LibraryCallFailed:
        try:
            return Product(self, call, symbols, addresses, kernel)
        except LibraryCallFailed as problem:
            return problem.with_traceback(None)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        handle, self.handle = getattr(self, "handle", 0), 0
        if handle and not finalizing():
            with self.device.current():
                self.functions["cublasLtDestroy"](handle)


class Product:
    """A product, ready to run on any addresses that are aligned as those it was made for.

    Attributes:
        workspace_bytes: memory that a call needs; its contents do not matter.
    """

    def __init__(
        self,
        library: Cublas,
        call: ProductCall,
        symbols: Mapping[str, int],
        addresses: Sequence[int],
        kernel: str,
    ) -> None:
        """Describe it to the library, and ask for an algorithm; see `Cublas.product`."""
        self.library = library
        self.call = call
        self._owned: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self._warm = False
        self._extents = rows, columns, terms, stack = call.extents(symbols)
        self._leading = value_of(call.result.leading, symbols)
        self._stride = value_of(call.result.stride, symbols)
        compute, scale = COMPUTE_TYPES[call.compute]
        self._one, self._zero = _SCALES[scale](1), _SCALES[scale](0)
        self._facts = self._new("MatmulDesc", kernel, compute, DATA_TYPES[scale])
        epilogue = EPILOGUES[call.activation] | (WITH_BIAS if call.bias is not None else 0)
        if epilogue != EPILOGUES[""]:
            epilogue &= ~EPILOGUES[""]
        self._describe(kernel, EPILOGUE, ctypes.c_int32(epilogue))
        for attribute, matrix in ((TURN_FIRST, call.first), (TURN_SECOND, call.second)):
            self._describe(kernel, attribute, ctypes.c_int32(matrix.turned))
        if call.bias is not None:
            self._describe(kernel, BIAS_POINTER, ctypes.c_void_p(addresses[call.bias]))
        shapes = ((rows, terms), (terms, columns), (rows, columns), (rows, columns))
        self._layouts = [
            self._layout(kernel, matrix, shape[::-1] if matrix.turned else shape, stack, symbols)
            for matrix, shape in zip(_matrices(call), shapes, strict=True)
        ]
        self._result = self._algorithm(kernel, _places(call, addresses))
        self.workspace_bytes = int(self._result.workspace_bytes)

    def enqueue(
        self, addresses: Sequence[int], workspace: int, stream: int, kernel: str, result: int = 0
    ) -> None:
        """Put it on a stream.

        Args:
            addresses: of the kernel's views.
            workspace: `workspace_bytes` of memory that nothing else uses meanwhile.
            stream: where.
            kernel: whom errors name.
            result: where the result goes, if not to its view.

        Raises:
            LibraryCallFailed: the library refuses it.
        """
        first, second, third, target = _places(self.call, addresses)
        if result:
            third, target = (third if self.call.residual is not None else result), result
        layouts = self._layouts
        with self._lock:  # the bias is part of the description
            if self.call.bias is not None:
                self._describe(kernel, BIAS_POINTER, ctypes.c_void_p(addresses[self.call.bias]))
            self._expect(
                kernel,
                "cublasLtMatmul",
                self.library.handle,
                self._facts,
                ctypes.byref(self._one),
                first,
                layouts[0],
                second,
                layouts[1],
                ctypes.byref(self._one if self.call.residual is not None else self._zero),
                third,
                layouts[2],
                target,
                layouts[3],
                ctypes.byref(self._result),
                workspace,
                self.workspace_bytes,
                stream,
            )

    def warm_up(self, addresses: Sequence[int], workspace: int, kernel: str) -> None:
        """Run it once on memory of its own, so that the library has loaded all that it wants to.

        Raises:
            LibraryCallFailed: the library refuses it.
            DeviceOutOfMemory: there is no room for a result.
        """
        if self._warm:
            return
        rows, columns, _, stack = self._extents
        last = (stack - 1) * self._stride + (columns - 1) * self._leading + rows
        device = self.library.device
        target: Memory = device.alloc(last * DTYPES[self.call.result.dtype].bytes, "a first run of cuBLAS")
        stream = Stream.new(device)
        self.enqueue(addresses, workspace, stream.handle, kernel, target.address)
        device.synchronize(stream.handle, kernel)
        self._warm = True

    # -- what the library is told -------------------------------------------------------------------

    def _expect(self, kernel: str, function: str, *arguments: Any) -> None:
        status = self.library.functions[function](*arguments)
        if status:
            raise failure(kernel, f"{function} says {status_name(status)}")

    def _new(self, kind: str, kernel: str, *arguments: Any) -> int:
        made = ctypes.c_void_p()
        self._expect(kernel, f"cublasLt{kind}Create", ctypes.byref(made), *arguments)
        self._owned.append((f"cublasLt{kind}Destroy", made.value or 0))
        return made.value or 0

    def _describe(self, kernel: str, attribute: int, value: Any) -> None:
        self._set(kernel, "MatmulDesc", self._facts, attribute, value)

    def _set(self, kernel: str, kind: str, thing: int, attribute: int, value: Any) -> None:
        size = ctypes.sizeof(value)
        self._expect(kernel, f"cublasLt{kind}SetAttribute", thing, attribute, ctypes.byref(value), size)

    def _layout(
        self,
        kernel: str,
        matrix: Matrix,
        shape: tuple[int, int],
        stack: int,
        symbols: Mapping[str, int],
    ) -> int:
        leading = value_of(matrix.leading, symbols)
        made = self._new("MatrixLayout", kernel, DATA_TYPES[matrix.dtype], *shape, leading)
        if stack != 1:
            stride = ctypes.c_int64(value_of(matrix.stride, symbols))
            self._set(kernel, "MatrixLayout", made, STACK_HEIGHT, ctypes.c_int32(stack))
            self._set(kernel, "MatrixLayout", made, STACK_STRIDE, stride)
        return made

    def _algorithm(self, kernel: str, places: Sequence[int]) -> HeuristicResult:
        """The algorithm that the library prefers: results of it are the same bits in every run."""
        search = self._new("MatmulPreference", kernel)
        wishes: list[tuple[int, Any]] = [
            (MOST_WORKSPACE, ctypes.c_uint64(WORKSPACE_BYTES)),
            (REDUCTIONS, ctypes.c_uint32(IN_COMPUTE_TYPE)),
        ]
        wishes += [(a, ctypes.c_uint32(alignment_of(p))) for a, p in zip(ALIGNMENTS, places, strict=True)]
        for attribute, value in wishes:
            self._set(kernel, "MatmulPreference", search, attribute, value)
        found, count = HeuristicResult(), ctypes.c_int()
        function = "cublasLtMatmulAlgoGetHeuristic"
        self._expect(
            kernel,
            function,
            self.library.handle,
            self._facts,
            *self._layouts,
            search,
            1,
            ctypes.byref(found),
            ctypes.byref(count),
        )
        if not count.value or found.state:
            raise failure(kernel, f"{function} says {status_name(found.state or 15)}")
        return found

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        owned, self._owned = getattr(self, "_owned", []), []
        if not finalizing():
            for function, thing in owned:
                self.library.functions[function](thing)


def failure(kernel: str, reason: str) -> LibraryCallFailed:
    """The error of a kernel that the library does not do."""
    return LibraryCallFailed(library=NAME, kernel=kernel, reason=reason)


def _matrices(call: ProductCall) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Both factors, what is added, and the result: A, B, C and D of the library's documentation."""
    return call.first, call.second, call.residual or call.result, call.result


def _places(call: ProductCall, addresses: Sequence[int]) -> list[int]:
    """Where they lie."""
    return [addresses[m.view] for m in _matrices(call)]


def alignment_of(address: int) -> int:
    """The largest power of two, up to `LARGEST_ALIGNMENT`, that divides an address."""
    return min(LARGEST_ALIGNMENT, address & -address) or LARGEST_ALIGNMENT


def status_name(status: int) -> str:
    """The library's word for a cublasStatus_t."""
    return STATUSES.get(status, f"status {status}")


# -- where the library is -----------------------------------------------------------------------------


def functions_for(driver: Driver) -> Functions:
    """The library's functions that go with a driver.

    Raises:
        LibraryMissing: there are none.
    """
    if driver.libraries is None:
        return installed_functions(driver.version[0])
    found = driver.libraries.get(CUBLAS)
    if found is None:
        raise LibraryMissing(library=NAME, reason="there is none beside this driver")
    return found


@functools.cache
def installed_functions(major: int) -> Functions:
    """The functions of the newest installed library that a driver for some CUDA version runs.

    Raises:
        LibraryMissing: there is none.
    """
    reasons = []
    for path in library_paths(major):
        try:
            return bind(ctypes.CDLL(path), PROTOTYPES, SCALARS)
        except (AttributeError, OSError) as problem:
            reasons.append(str(problem))
    raise LibraryMissing(library=NAME, reason="; ".join(reasons) or f"none is installed for CUDA {major}")


def library_paths(major: int) -> Iterator[str]:
    """Where the library may be, newest versions first: in wheels, then on the system."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for version in MAJORS:
        if version <= major:
            for folder in folders:
                yield from (str(p) for p in sorted(folder.glob(f"*/lib/libcublasLt.so.{version}")))
            yield f"libcublasLt.so.{version}"

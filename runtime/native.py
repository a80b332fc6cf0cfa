"""One native model: a loaded library, its weights, and a context."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from aino_ir.errors.artifact import LibraryNotLoadable
from aino_ir.errors.base import AinoError
from aino_ir.errors.run import (
    IndexOutOfRange,
    KernelStatusUnknown,
    NativeAllocationFailed,
    NativeDivisionByZero,
    NativeShapeError,
    SizeLimitAtRun,
)
from aino_ir.runtime.library import Library

ABI_VERSION = 2

STATUS_ERRORS: dict[int, Any] = {
    1: IndexOutOfRange,
    2: NativeDivisionByZero,
    3: SizeLimitAtRun,
    4: NativeShapeError,
}
"""What a kernel's status (`aino_ir.loops.stmt.Status`) raises."""


class NativeModel:
    """Runs one compiled model through its C API.

    Args:
        library: the loaded library.
        name: prefix of its functions.
        weights: the weights section; kept alive as long as the model.
        threads: threads of a run.
        steps: loc text of each plan step, for error messages.
        demands: what some steps demand of extents, by their number as text.
    """

    def __init__(
        self,
        library: Library,
        name: str,
        weights: Any,
        threads: int,
        steps: Sequence[str],
        demands: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.library = library
        self.threads = threads
        self.steps = steps
        self.demands = demands
        self._weights = weights
        pointers = ctypes.c_void_p
        abi = library.function(f"{name}_abi", ctypes.c_int)()
        if abi != ABI_VERSION:
            reason = f"its interface has version {abi}, this AINO speaks {ABI_VERSION}"
            raise LibraryNotLoadable(section=library.section, reason=reason)
        create = library.function(f"{name}_create", ctypes.c_int, pointers, ctypes.c_int, pointers)
        self._run = library.function(f"{name}_run", ctypes.c_int, pointers, pointers, pointers)
        self._profile = self._timed_run(f"{name}_profile")
        self._destroy = library.function(f"{name}_destroy", None, pointers)
        context = ctypes.c_void_p()
        status = create(address_of(weights), threads, ctypes.addressof(context))
        if status:
            raise NativeAllocationFailed(what="a context")
        self._context: ctypes.c_void_p | None = context
        library.hold(self)

    def _timed_run(self, name: str) -> Any:
        """The entry that notes the time of each step, or None when the library has none."""
        pointer = ctypes.c_void_p
        try:
            return self.library.function(name, ctypes.c_int, pointer, pointer, pointer, pointer)
        except LibraryNotLoadable:
            return None

    @property
    def notes_times(self) -> bool:
        """Whether `run` can note times."""
        return self._profile is not None

    def run(self, inputs: list[int], outputs: list[int], times: np.ndarray[Any, Any] | None = None) -> None:
        """Run on raw addresses; raises what the kernels report.

        Args:
            inputs, outputs: addresses in order; inputs end with that of the symbol values, if any.
            times: i64[steps, 2] to which the ns in each step and how often it is reached are added, or None.
        """
        given = _pointers(len(inputs))(*inputs)
        made = _pointers(len(outputs))(*outputs)
        if times is None:
            status = self._run(self._context, given, made)
        else:
            status = self._profile(self._context, given, made, times.ctypes.data)
        if status:
            self._fail(status)

    def _fail(self, status: int) -> None:
        raise status_error(status & 0xFF, status >> 8, self.steps, self.demands)

    def close(self) -> None:
        """Free the context and let go of the library; no run may be under way or follow."""
        context, self._context = self._context, None
        if context is not None:
            self._destroy(context)
            self.library.release(self)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_context", None) is not None and not finalizing():
            self.close()  # at the end of the process its memory goes anyway, and modules are half gone


def status_error(code: int, step: int, steps: Sequence[str], demands: Mapping[str, str]) -> AinoError:
    """The error that a status stands for.

    Args:
        code: of `aino_ir.loops.stmt.Status`, or of aino_status.h.
        step: the number of the plan step that failed.
        steps, demands: as for `NativeModel`.
    """
    loc = steps[step] if 0 <= step < len(steps) else ""
    if code == 16:
        return NativeAllocationFailed(what="a run")
    error = STATUS_ERRORS.get(code)
    if error is None:
        return KernelStatusUnknown(kernel=loc or str(step), status=code)
    if error is NativeShapeError:
        return NativeShapeError(loc=loc or None, what=demands.get(str(step), "an extent is negative"))
    made: AinoError = error(loc=loc or None)
    return made


def address_of(buffer: Any) -> int:
    """Address of a bytes-like object's memory (0 when empty)."""
    if buffer is None or len(buffer) == 0:
        return 0
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


def array_address(array: np.ndarray[Any, Any]) -> int:
    """Address of an array's first element; ten times as fast as ``array.ctypes.data`` where it can be."""
    try:
        return _addressof(_from_buffer(array))  # type: ignore[arg-type]  # arrays are buffers
    except (BufferError, TypeError, ValueError):  # read-only, empty, or of a dtype without a buffer format
        return int(array.ctypes.data)


_from_buffer = ctypes.c_char.from_buffer
_addressof = ctypes.addressof


@functools.cache
def _pointers(count: int) -> Any:
    """The type of an array of pointers."""
    return ctypes.c_void_p * count

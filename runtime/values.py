"""Values at the boundary: what callers pass is checked and made contiguous, never converted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dims import Dim, DimLike, is_static, parse_dim
from aino_ir.dtypes import DTYPES, dtype_of
from aino_ir.errors.run import InputMismatch, UnsupportedInput
from aino_ir.types import TensorType


@dataclass(frozen=True)
class Port:
    """An input or output: its name and type.

    Attributes:
        static_shape: the shape as ints, or None when symbols occur.
    """

    name: str
    type: TensorType
    static_shape: tuple[int, ...] | None

    @staticmethod
    def of(name: str, dtype: str, shape: Sequence[int | str]) -> Port:
        """A port from manifest data."""
        dims: tuple[DimLike, ...] = tuple(parse_dim(d) if isinstance(d, str) else d for d in shape)
        static = tuple(int(d) for d in dims) if all(is_static(d) for d in dims) else None  # type: ignore[arg-type]
        return Port(name, TensorType(DTYPES[dtype], dims), static)

    def shape(self, symbols: dict[str, int]) -> tuple[int, ...]:
        """The shape for given symbol values."""
        if self.static_shape is not None:
            return self.static_shape
        return tuple(d.evaluate(symbols) if isinstance(d, Dim) else int(d) for d in self.type.shape)


def is_torch(value: Any) -> bool:
    """Whether a value is a torch tensor (without importing torch)."""
    return type(value).__module__.partition(".")[0] == "torch"


def to_numpy(value: Any, port: Port) -> np.ndarray:
    """A caller's value as an array that shares its memory where possible."""
    if isinstance(value, np.ndarray):
        return value
    if is_torch(value):
        return _from_torch(value, port)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    raise UnsupportedInput(name=port.name, expected=port.type, got=type(value).__name__)


def _torch() -> Any:
    """The torch of the caller, who handed over one of its tensors; the runtime itself never imports it."""
    return sys.modules["torch"]


def _from_torch(value: Any, port: Port) -> np.ndarray:
    value = value.detach()
    if value.device.type != "cpu":
        raise UnsupportedInput(
            name=port.name, expected=f"{port.type} on the CPU", got=f"a tensor on {value.device}"
        )
    if value.dtype.itemsize <= 2 and value.dtype.is_floating_point and str(value.dtype) != "torch.float16":
        torch = _torch()
        bits = value.contiguous().view(torch.uint16 if value.dtype.itemsize == 2 else torch.uint8)
        return bits.numpy().view(port.type.dtype.numpy)  # type: ignore[no-any-return]
    return value.numpy()  # type: ignore[no-any-return]


def to_torch(array: np.ndarray) -> Any:
    """An array as a torch tensor on the same memory."""
    torch = _torch()
    dtype = dtype_of(array.dtype)
    if dtype is not None and dtype.name == "bf16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    if dtype is not None and dtype.name.startswith("f8"):
        names = {"f8e4m3fn": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
        return torch.from_numpy(array.view(np.uint8)).view(getattr(torch, names[dtype.name]))
    return torch.from_numpy(array)


def checked(value: Any, port: Port) -> np.ndarray:
    """An input as a C-contiguous, native-endian array of exactly the port's dtype and rank."""
    array = to_numpy(value, port)
    want = port.type.dtype.numpy
    if array.dtype != want:
        if array.dtype.newbyteorder("=") == want:
            array = array.astype(want)
        else:
            raise InputMismatch(name=port.name, what="dtype", expected=port.type.dtype, got=array.dtype)
    if port.static_shape is not None:
        if array.shape != port.static_shape:
            raise InputMismatch(name=port.name, what="shape", expected=port.static_shape, got=array.shape)
    elif array.ndim != len(port.type.shape):
        raise InputMismatch(name=port.name, what="rank", expected=len(port.type.shape), got=array.ndim)
    if not array.flags.c_contiguous or array.ctypes.data % max(1, array.itemsize):
        array = np.ascontiguousarray(array) if array.ndim else array.copy()
        if array.ctypes.data % max(1, array.itemsize):
            array = array.copy()
    return array

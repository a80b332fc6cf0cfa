"""Values at the boundary: what callers pass is checked and made contiguous, never cast.

Any strides, alignment and byte order are taken, read-only arrays too; dtype and shape must be those
of the model.  A copy is made only where the kernels could not read the array as it lies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        numpy: the dtype of its arrays.
    """

    name: str
    type: TensorType
    static_shape: tuple[int, ...] | None
    numpy: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numpy", self.type.dtype.numpy)

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
    """A caller's value as an array that shares its memory where possible.

    Raises:
        UnsupportedInput: it is no array, lies on another device, or has masked elements.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedInput(name=port.name, expected=port.type, got="a masked array")
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if is_torch(value):
        return _from_torch(value, port)
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value, port)
    raise UnsupportedInput(name=port.name, expected=port.type, got=type(value).__name__)


def _from_dlpack(value: Any, port: Port) -> np.ndarray:
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as problem:
        got = f"a {type(value).__name__} that numpy cannot read ({problem})"
        raise UnsupportedInput(name=port.name, expected=f"{port.type} on the CPU", got=got) from problem


def _torch() -> Any:
    """The torch of the caller, who handed over one of its tensors; the runtime itself never imports it."""
    return sys.modules["torch"]


TORCH_BITS = {
    "torch.bfloat16": "bf16",
    "torch.float8_e4m3fn": "f8e4m3fn",
    "torch.float8_e4m3fnuz": "f8e4m3fnuz",
    "torch.float8_e5m2": "f8e5m2",
    "torch.float8_e5m2fnuz": "f8e5m2fnuz",
    "torch.float8_e8m0fnu": "f8e8m0",
}
"""torch's name of a dtype that numpy lacks -> AINO's; their bits pass through unsigned integers."""


def _from_torch(value: Any, port: Port) -> np.ndarray:
    value = value.detach()
    if value.device.type != "cpu" or value.is_quantized or str(value.layout) != "torch.strided":
        got = f"a {value.dtype} tensor on {value.device} with layout {value.layout}"
        raise UnsupportedInput(name=port.name, expected=f"a dense {port.type} on the CPU", got=got)
    name = TORCH_BITS.get(str(value.dtype))
    if name is None:
        try:
            return value.resolve_conj().resolve_neg().numpy()  # type: ignore[no-any-return]
        except TypeError as problem:
            raise UnsupportedInput(name=port.name, expected=port.type, got=f"{value.dtype}") from problem
    torch = _torch()
    bits = value.view(torch.uint16 if value.dtype.itemsize == 2 else torch.uint8)
    return bits.numpy().view(DTYPES[name].numpy)  # type: ignore[no-any-return]


def to_torch(array: np.ndarray) -> Any:
    """An array as a torch tensor on the same memory."""
    torch = _torch()
    dtype = dtype_of(array.dtype)
    for theirs, ours in TORCH_BITS.items():
        if dtype is not None and dtype.name == ours:
            bits = np.uint16 if array.itemsize == 2 else np.uint8
            return torch.from_numpy(array.view(bits)).view(getattr(torch, theirs.removeprefix("torch.")))
    return torch.from_numpy(array)


def checked(value: Any, port: Port) -> np.ndarray:
    """An input as a C-contiguous, aligned, native-endian array of exactly the port's dtype and rank.

    Raises:
        InputMismatch: dtype, shape or rank is another.
        UnsupportedInput: it is no array.
    """
    array = to_numpy(value, port)
    want = port.numpy
    if array.dtype != want:
        if array.dtype.newbyteorder("=") != want:
            raise InputMismatch(name=port.name, what="dtype", expected=port.type.dtype, got=dtype_name(array))
        array = array.astype(want)
    if port.static_shape is not None:
        if array.shape != port.static_shape:
            raise InputMismatch(name=port.name, what="shape", expected=port.static_shape, got=array.shape)
    elif array.ndim != len(port.type.shape):
        raise InputMismatch(name=port.name, what="rank", expected=len(port.type.shape), got=array.ndim)
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def dtype_name(array: np.ndarray) -> str:
    """AINO's name of an array's dtype, or numpy's when AINO has none."""
    known = dtype_of(array.dtype)
    return known.name if known is not None else str(array.dtype)

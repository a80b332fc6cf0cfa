"""Element types and tensors of StableHLO, and how constants are spelled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DType

ELEMENTS: dict[str, str] = {
    "f64": "f64",
    "f32": "f32",
    "f16": "f16",
    "bf16": "bf16",
    "f8e4m3fn": "f8E4M3FN",
    "f8e4m3fnuz": "f8E4M3FNUZ",
    "f8e5m2": "f8E5M2",
    "f8e5m2fnuz": "f8E5M2FNUZ",
    "f8e8m0": "f8E8M0FNU",
    "f4e2m1": "f4E2M1FN",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "i4": "i4",
    "i2": "i2",
    "u64": "ui64",
    "u32": "ui32",
    "u16": "ui16",
    "u8": "ui8",
    "u4": "ui4",
    "u2": "ui2",
    "bool": "i1",
}
"""AINO's dtypes by name -> element types of StableHLO (a public specification: stablehlo/docs/spec.md)."""


@dataclass(frozen=True)
class Tensor:
    """An SSA value: its name, such as ``%12``, dtype and shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def type(self) -> str:
        """The type as text, such as ``tensor<2x3xf32>``."""
        return tensor_type(self.dtype, self.shape)

    @property
    def rank(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


def tensor_type(dtype: DType, shape: tuple[int, ...]) -> str:
    """The type of a tensor as text."""
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{ELEMENTS[dtype.name]}>"


def number_text(value: Any, dtype: DType) -> str:
    """A number as an MLIR attribute reads it; floats that decimals do not tell exactly go by their bits."""
    if dtype.is_bool:
        return "true" if value else "false"
    if not dtype.is_float:
        return str(int(value))
    number = float(value)
    if math.isfinite(number):
        text = repr(number)
        mantissa, e, exponent = text.partition("e")
        if "." not in mantissa:
            mantissa += ".0"
        return f"{mantissa}{e}{exponent}"
    return _bits(number, dtype)


def _bits(number: float, dtype: DType) -> str:
    array = np.asarray(number, dtype.numpy)
    digits = dtype.bytes * 2
    return f"0x{int(array.view(f'u{dtype.bytes}')):0{digits}X}"


def dense(array: np.ndarray, dtype: DType) -> str:
    """The elements of a constant, ``dense<...>``: nested lists, or one number where all are the same bits."""
    flat = array.reshape(-1)
    if flat.size and all(flat[:1].tobytes() == element.tobytes() for element in flat):
        return f"dense<{number_text(flat[0], dtype)}>"
    return f"dense<{_nested(array, dtype)}>"


def _nested(array: np.ndarray, dtype: DType) -> str:
    if array.ndim == 0:
        return number_text(array[()], dtype)
    return f"[{', '.join(_nested(part, dtype) for part in array)}]"

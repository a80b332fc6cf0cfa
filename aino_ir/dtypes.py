"""Element types: every ONNX dtype, what numpy calls it, and the type that arithmetic on it uses.

bf16, f16, the fp8 family, fp4, int4 and int2 are *storage* types: a load yields the compute type
(f32 or i32), a store rounds.  Sub-byte types take one byte a value everywhere except in a packing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np


class Kind(Enum):
    """What sort of number a dtype holds."""

    FLOAT = "float"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOL = "bool"
    COMPLEX = "complex"


@dataclass(frozen=True, eq=False)
class DType:
    """One element type; there is one object for each, so equality is identity.

    Attributes:
        name: AINO's name, such as ``f32``.
        kind: float, signed, unsigned, bool or complex.
        bits: significant storage width in bits (4 for ``i4``).
        numpy: the numpy (or ml_dtypes) type that arrays of it have.
        compute_name: the dtype in which arithmetic on it is done.
    """

    name: str
    kind: Kind
    bits: int
    numpy: np.dtype
    compute_name: str

    @property
    def bytes(self) -> int:
        """Bytes that one value takes in an array (at least one)."""
        return max(1, self.bits // 8)

    @property
    def compute(self) -> DType:
        """The dtype that a load yields and arithmetic is done in."""
        return DTYPES[self.compute_name]

    @property
    def is_storage(self) -> bool:
        """Whether values are converted on load and rounded on store."""
        return self.compute_name != self.name

    @property
    def is_float(self) -> bool:
        """Whether it is a real floating-point type."""
        return self.kind is Kind.FLOAT

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer type (not bool)."""
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED)

    @property
    def is_signed(self) -> bool:
        """Whether it is a signed integer type."""
        return self.kind is Kind.SIGNED

    @property
    def is_bool(self) -> bool:
        """Whether it is the boolean type."""
        return self.kind is Kind.BOOL

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Callable[[str], DType], tuple[str]]:
        return _by_name, (self.name,)


def _by_name(name: str) -> DType:
    return DTYPES[name]


def _table() -> dict[str, DType]:
    rows: list[tuple[str, Kind, int, object, str]] = [
        ("f64", Kind.FLOAT, 64, np.float64, "f64"),
        ("f32", Kind.FLOAT, 32, np.float32, "f32"),
        ("f16", Kind.FLOAT, 16, np.float16, "f32"),
        ("bf16", Kind.FLOAT, 16, ml_dtypes.bfloat16, "f32"),
        ("f8e4m3fn", Kind.FLOAT, 8, ml_dtypes.float8_e4m3fn, "f32"),
        ("f8e4m3fnuz", Kind.FLOAT, 8, ml_dtypes.float8_e4m3fnuz, "f32"),
        ("f8e5m2", Kind.FLOAT, 8, ml_dtypes.float8_e5m2, "f32"),
        ("f8e5m2fnuz", Kind.FLOAT, 8, ml_dtypes.float8_e5m2fnuz, "f32"),
        ("f8e8m0", Kind.FLOAT, 8, ml_dtypes.float8_e8m0fnu, "f32"),
        ("f4e2m1", Kind.FLOAT, 4, ml_dtypes.float4_e2m1fn, "f32"),
        ("i64", Kind.SIGNED, 64, np.int64, "i64"),
        ("i32", Kind.SIGNED, 32, np.int32, "i32"),
        ("i16", Kind.SIGNED, 16, np.int16, "i16"),
        ("i8", Kind.SIGNED, 8, np.int8, "i8"),
        ("i4", Kind.SIGNED, 4, ml_dtypes.int4, "i32"),
        ("i2", Kind.SIGNED, 2, ml_dtypes.int2, "i32"),
        ("u64", Kind.UNSIGNED, 64, np.uint64, "u64"),
        ("u32", Kind.UNSIGNED, 32, np.uint32, "u32"),
        ("u16", Kind.UNSIGNED, 16, np.uint16, "u16"),
        ("u8", Kind.UNSIGNED, 8, np.uint8, "u8"),
        ("u4", Kind.UNSIGNED, 4, ml_dtypes.uint4, "i32"),
        ("u2", Kind.UNSIGNED, 2, ml_dtypes.uint2, "i32"),
        ("bool", Kind.BOOL, 8, np.bool_, "bool"),
        ("c64", Kind.COMPLEX, 64, np.complex64, "c64"),
        ("c128", Kind.COMPLEX, 128, np.complex128, "c128"),
    ]
    return {n: DType(n, k, b, np.dtype(t), c) for n, k, b, t, c in rows}  # type: ignore[call-overload]


DTYPES: dict[str, DType] = _table()
"""All dtypes by name."""

_BY_NUMPY: dict[np.dtype, DType] = {d.numpy: d for d in DTYPES.values()}

f64, f32, f16, bf16 = DTYPES["f64"], DTYPES["f32"], DTYPES["f16"], DTYPES["bf16"]
i64, i32, i16, i8 = DTYPES["i64"], DTYPES["i32"], DTYPES["i16"], DTYPES["i8"]
u64, u32, u16, u8 = DTYPES["u64"], DTYPES["u32"], DTYPES["u16"], DTYPES["u8"]
boolean = DTYPES["bool"]


def dtype_of(array_dtype: np.dtype) -> DType | None:
    """The DType of a numpy dtype in native byte order, or None when AINO has none for it."""
    return _BY_NUMPY.get(np.dtype(array_dtype))


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest value of an integer dtype; bool is 0 and 1."""
    if dtype.is_bool:
        return 0, 1
    if dtype.is_signed:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def float_info(dtype: DType) -> Any:
    """`ml_dtypes.finfo` of a float dtype: eps, max, smallest_subnormal ..."""
    return ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]

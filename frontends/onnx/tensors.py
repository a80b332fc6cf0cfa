"""Tensors of an ONNX file as numpy arrays, checked against their size before memory is taken.

Raw and external bytes stay where they are (a memory map or the caller's buffer) until `array()` is
called.  The packings of 2-, 4- and 6-bit types are those of onnx.proto; arrays hold one value a byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from aino_ir.errors.onnx import (
    NegativeDim,
    SparseTensorInvalid,
    TensorFieldConflict,
    TensorSegmented,
    TensorSizeMismatch,
    TensorValueOutOfRange,
    UnknownDataType,
)
from aino_ir.frontends.onnx.limits import Limits, check_limit
from aino_ir.frontends.onnx.names import text_of

Array: TypeAlias = npt.NDArray[Any]
Buffer: TypeAlias = bytes | memoryview
ExternalReader: TypeAlias = Callable[[Any, str, int, object], Buffer]
"""Gives the bytes of a TensorProto's external data: (message, what, expected bytes, location)."""


@dataclass(frozen=True)
class ElementType:
    """One row of onnx.proto's TensorProto.DataType.

    Attributes:
        name: AINO's dtype name, such as ``f32``; ``str`` for strings.
        bits: bits that one value takes in raw_data.
        numpy: the type of arrays that hold it.
        field: the typed field that may hold it beside raw_data.
        slots: entries of that field for `per` values (complex numbers take two for one).
        per: values in one entry of that field (two for 4-bit types).
    """

    name: str
    bits: int
    numpy: np.dtype[Any]
    field: str
    slots: int = 1
    per: int = 1


def _rows() -> dict[int, ElementType]:
    rows: list[tuple[int, str, int, Any, str, int, int]] = [
        (1, "f32", 32, np.float32, "float_data", 1, 1),
        (2, "u8", 8, np.uint8, "int32_data", 1, 1),
        (3, "i8", 8, np.int8, "int32_data", 1, 1),
        (4, "u16", 16, np.uint16, "int32_data", 1, 1),
        (5, "i16", 16, np.int16, "int32_data", 1, 1),
        (6, "i32", 32, np.int32, "int32_data", 1, 1),
        (7, "i64", 64, np.int64, "int64_data", 1, 1),
        (8, "str", 0, np.object_, "string_data", 1, 1),
        (9, "bool", 8, np.bool_, "int32_data", 1, 1),
        (10, "f16", 16, np.float16, "int32_data", 1, 1),
        (11, "f64", 64, np.float64, "double_data", 1, 1),
        (12, "u32", 32, np.uint32, "uint64_data", 1, 1),
        (13, "u64", 64, np.uint64, "uint64_data", 1, 1),
        (14, "c64", 64, np.complex64, "float_data", 2, 1),
        (15, "c128", 128, np.complex128, "double_data", 2, 1),
        (16, "bf16", 16, ml_dtypes.bfloat16, "int32_data", 1, 1),
        (17, "f8e4m3fn", 8, ml_dtypes.float8_e4m3fn, "int32_data", 1, 1),
        (18, "f8e4m3fnuz", 8, ml_dtypes.float8_e4m3fnuz, "int32_data", 1, 1),
        (19, "f8e5m2", 8, ml_dtypes.float8_e5m2, "int32_data", 1, 1),
        (20, "f8e5m2fnuz", 8, ml_dtypes.float8_e5m2fnuz, "int32_data", 1, 1),
        (21, "u4", 4, ml_dtypes.uint4, "int32_data", 1, 2),
        (22, "i4", 4, ml_dtypes.int4, "int32_data", 1, 2),
        (23, "f4e2m1", 4, ml_dtypes.float4_e2m1fn, "int32_data", 1, 2),
        (24, "f8e8m0", 8, ml_dtypes.float8_e8m0fnu, "int32_data", 1, 1),
        (25, "u2", 2, ml_dtypes.uint2, "int32_data", 1, 4),
        (26, "i2", 2, ml_dtypes.int2, "int32_data", 1, 4),
        (27, "f6e2m3", 6, ml_dtypes.float6_e2m3fn, "int32_data", 1, 1),
        (28, "f6e3m2", 6, ml_dtypes.float6_e3m2fn, "int32_data", 1, 1),
    ]
    return {code: ElementType(n, b, np.dtype(t), f, s, p) for code, n, b, t, f, s, p in rows}


ELEMENT_TYPES: dict[int, ElementType] = _rows()
"""ONNX's data type number -> element type."""

CODES: dict[str, int] = {row.name: code for code, row in ELEMENT_TYPES.items()}
"""AINO's dtype name -> ONNX's data type number."""

_DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def element_type(code: int, what: str, loc: object = None) -> ElementType:
    """The row of a data type number; UnknownDataType when ONNX has none."""
    row = ELEMENT_TYPES.get(code)
    if row is None:
        raise UnknownDataType(loc=loc, what=what, got=code, high=max(ELEMENT_TYPES))
    return row


def check_dims(dims: tuple[int, ...], what: str, limits: Limits, loc: object = None) -> int:
    """Check rank, signs and extent of a shape against the limits; returns the number of elements."""
    check_limit(f"rank of {what}", len(dims), limits.rank, loc)
    if any(extent < 0 for extent in dims):
        raise NegativeDim(loc=loc, what=what, dims=list(dims))
    check_limit(f"number of elements of {what}", math.prod(max(e, 1) for e in dims), limits.elements, loc)
    return math.prod(dims)


class TensorData:
    """A constant of the model: name, dtype name, shape, and its values on demand.

    `array()` gives a read-only numpy array (ml_dtypes for types that numpy lacks, objects for strings);
    `packed` is the little-endian, bit-packed storage when the values still lie in one, else None.
    """

    __slots__ = ("_make", "dtype", "name", "packed", "shape")

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        make: Callable[[], Array],
        packed: Buffer | None = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.packed = packed
        self._make = make

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that `array()` takes (8 a value for strings: the references)."""
        return self.size * ELEMENT_TYPES[CODES[self.dtype]].numpy.itemsize

    def array(self) -> Array:
        """The values, read-only and aligned; raw bytes are copied only when they are unaligned or packed."""
        return self._make()

    def __repr__(self) -> str:
        return f"TensorData({self.name!r}, {self.dtype}{list(self.shape)})"


def tensor_from_packed(name: str, row: ElementType, shape: tuple[int, ...], packed: Buffer) -> TensorData:
    """A tensor over bytes whose length has been checked with `packed_bytes`."""
    return TensorData(name, row.name, shape, lambda: unpack(packed, row, shape), packed)


def tensor_from_array(name: str, dtype: str, array: Array) -> TensorData:
    """A tensor over an array, which becomes read-only."""
    array.flags.writeable = False
    return TensorData(name, dtype, tuple(array.shape), lambda: array)


def packed_bytes(row: ElementType, count: int) -> int:
    """Bytes that `count` values take in raw_data or external data."""
    return (count * row.bits + 7) // 8


def unpack(packed: Buffer, row: ElementType, shape: tuple[int, ...]) -> Array:
    """Little-endian, bit-packed values as an array of `shape`."""
    count = math.prod(shape)
    if not count:
        array = np.empty(0, row.numpy)
    elif row.bits < 8:
        array = _UNPACK[row.bits](np.frombuffer(packed, np.uint8), count).view(row.numpy)
    elif row.name == "bool":
        stored = np.frombuffer(packed, np.uint8)
        array = stored.view(np.bool_) if stored.max() <= 1 else stored != 0
    else:
        array = np.frombuffer(packed, row.numpy)
    array = array.reshape(shape)
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def _unpack_even(stored: Array, count: int, bits: int) -> Array:
    per = 8 // bits
    mask = (1 << bits) - 1
    values = np.empty((stored.size, per), np.uint8)
    for position in range(per):
        values[:, position] = (stored >> (bits * position)) & mask
    return values.reshape(-1)[:count]


def _unpack_six(stored: Array, count: int) -> Array:
    padded = np.zeros((count + 3) // 4 * 3, np.uint8)
    padded[: stored.size] = stored
    low, middle, high = padded.reshape(-1, 3).T
    values = np.stack(
        [low & 0x3F, (low >> 6) | ((middle & 0xF) << 2), (middle >> 4) | ((high & 0x3) << 4), high >> 2],
        axis=1,
    )
    return values.reshape(-1)[:count]


_UNPACK: dict[int, Callable[[Array, int], Array]] = {
    2: lambda stored, count: _unpack_even(stored, count, 2),
    4: lambda stored, count: _unpack_even(stored, count, 4),
    6: _unpack_six,
}


def read_tensor(
    proto: Any,
    what: str,
    limits: Limits,
    loc: object = None,
    raw: Buffer | None = None,
    external: ExternalReader | None = None,
) -> TensorData:
    """A TensorProto as TensorData.

    Args:
        proto: the message.
        what: the tensor as messages name it.
        raw: the content of raw_data when it was taken out of the message before parsing.
        external: gives the bytes of external data.
    """
    name = text_of(proto.name, f"name of {what}", loc)
    row = element_type(proto.data_type, what, loc)
    shape = tuple(proto.dims)
    count = check_dims(shape, what, limits, loc)
    if proto.HasField("segment"):
        raise TensorSegmented(loc=loc, what=what)
    if raw is None and proto.HasField("raw_data"):
        raw = proto.raw_data
    filled = [field for field in _DATA_FIELDS if len(getattr(proto, field))]
    is_external = proto.data_location == 1
    fields = [*filled, *(["raw_data"] if raw else []), *(["external data"] if is_external else [])]
    _check_fields(fields, row, what, loc)
    if is_external and external is not None:
        return tensor_from_packed(name, row, shape, external(proto, what, packed_bytes(row, count), loc))
    if raw is not None and not filled:  # some writers leave an empty raw_data beside a typed field
        _check_size(len(raw), packed_bytes(row, count), "bytes", "raw_data", row, shape, what, loc)
        return tensor_from_packed(name, row, shape, raw)
    stored = getattr(proto, row.field)
    entries = -(-count // row.per) * row.slots
    _check_size(len(stored), entries, "entries", row.field, row, shape, what, loc)
    return tensor_from_array(name, row.name, _typed(stored, row, shape, what, loc))


def _check_fields(fields: list[str], row: ElementType, what: str, loc: object) -> None:
    allowed = [row.field] if row.name == "str" else ["raw_data", row.field, "external data"]
    if len(fields) > 1 or (fields and fields[0] not in allowed):
        raise TensorFieldConflict(
            loc=loc, what=what, dtype=row.name, fields=", ".join(fields), allowed=", ".join(allowed)
        )


def _check_size(
    got: int,
    expected: int,
    unit: str,
    field: str,
    row: ElementType,
    shape: tuple[int, ...],
    what: str,
    loc: object,
) -> None:
    if got != expected:
        raise TensorSizeMismatch(
            loc=loc,
            what=what,
            dtype=row.name,
            shape=list(shape),
            expected=expected,
            unit=unit,
            field=field,
            got=got,
        )


def _typed(stored: Any, row: ElementType, shape: tuple[int, ...], what: str, loc: object) -> Array:
    """The values of a typed field, whose number of entries has been checked."""
    if row.name == "str":
        array = _strings(stored, what, loc)
    elif row.slots == 2:
        array = np.array(stored, np.float32 if row.bits == 64 else np.float64).view(row.numpy)
    elif row.field == "int32_data" or row.name == "u32":
        array = _narrow(stored, row, math.prod(shape), what, loc)
    else:
        array = np.array(stored, row.numpy)
    return array.reshape(shape)


def _strings(stored: Any, what: str, loc: object) -> Array:
    strings = np.empty(len(stored), np.object_)
    for position, value in enumerate(stored):
        strings[position] = text_of(value, f"string {position} of {what}", loc)
    return strings


def _narrow(stored: Any, row: ElementType, count: int, what: str, loc: object) -> Array:
    """Values that a typed field holds in wider integers: numbers, bit patterns or packs of them."""
    wide: Array = np.array(stored, np.uint64 if row.name == "u32" else np.int64)
    if row.name == "bool":
        return wide.astype(np.bool_)
    low, high = _entry_range(row)
    outside = np.flatnonzero((wide < low) | (wide > high))
    if outside.size:
        position = int(outside[0])
        raise TensorValueOutOfRange(
            loc=loc,
            what=what,
            dtype=row.name,
            value=int(wide[position]),
            position=position,
            low=low,
            high=high,
        )
    if row.per > 1:
        return _unpack_even(wide.astype(np.uint8), count, row.bits).view(row.numpy)
    if row.numpy.kind in "iu":
        return wide.astype(row.numpy)
    return wide.astype(np.uint16 if row.bits == 16 else np.uint8).view(row.numpy)


def _entry_range(row: ElementType) -> tuple[int, int]:
    """The smallest and largest entry that a typed field may hold for a value (or a pack) of the type."""
    if row.numpy.kind == "i":
        return -(1 << (row.bits - 1)), (1 << (row.bits - 1)) - 1
    if row.per > 1:
        return -128, 255  # a pack is a byte, which some writers sign-extend
    return 0, (1 << row.bits) - 1


def read_sparse(
    proto: Any,
    what: str,
    limits: Limits,
    loc: object = None,
    external: ExternalReader | None = None,
) -> TensorData:
    """A SparseTensorProto as a dense tensor named after its values; filled on demand."""
    values = read_tensor(proto.values, f"values of sparse {what}", limits, loc, external=external)
    indices = read_tensor(proto.indices, f"indices of sparse {what}", limits, loc, external=external)
    shape = tuple(proto.dims)
    count = check_dims(shape, what, limits, loc)
    row = ELEMENT_TYPES[CODES[values.dtype]]
    check_limit(f"dense size of sparse {what} in bytes", count * row.numpy.itemsize, limits.dense_bytes, loc)
    if values.dtype == "str":
        raise SparseTensorInvalid(loc=loc, what=what, reason="its values are strings")
    positions = _sparse_positions(values, indices, shape, count, what, loc)

    def make() -> Array:
        dense = np.zeros(count, row.numpy)
        dense[positions] = values.array()
        dense = dense.reshape(shape)
        dense.flags.writeable = False
        return dense

    return TensorData(values.name, values.dtype, shape, make)


def _sparse_positions(
    values: TensorData, indices: TensorData, shape: tuple[int, ...], count: int, what: str, loc: object
) -> Array:
    """Flat positions of a sparse tensor's values, checked: inside the shape, ascending, no duplicates."""

    def refuse(reason: str) -> SparseTensorInvalid:
        return SparseTensorInvalid(loc=loc, what=what, reason=reason)

    if len(values.shape) != 1 or indices.dtype != "i64":
        raise refuse(f"values have rank {len(values.shape)} and indices type {indices.dtype}")
    if indices.shape not in ((values.size,), (values.size, len(shape))):
        raise refuse(
            f"indices have shape {list(indices.shape)} for {values.size} values of rank {len(shape)}"
        )
    flat: Array = indices.array()
    if flat.ndim == 2:
        bad = np.flatnonzero(((flat < 0) | (flat >= np.array(shape, np.int64))).any(axis=1))
        if bad.size:
            raise refuse(f"index {flat[bad[0]].tolist()} lies outside dimensions {list(shape)}")
        strides = np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
        flat = (flat * strides).sum(axis=1)
    bad = np.flatnonzero((flat < 0) | (flat >= count))
    if bad.size:
        raise refuse(f"index {int(flat[bad[0]])} lies outside {count} elements")
    if flat.size > 1 and not bool((np.diff(flat) > 0).all()):
        raise refuse("indices are not ascending or not unique")
    return flat

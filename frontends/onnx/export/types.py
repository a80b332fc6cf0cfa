"""Types and dtypes as ONNX says them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from aino_ir.dims import Dim, DimLike
from aino_ir.dtypes import DType
from aino_ir.frontends.onnx.tensors import CODES
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type


def element_code(dtype: DType) -> int:
    """ONNX's number of a dtype."""
    return CODES[dtype.name]


def declared_dims(shape: Sequence[DimLike]) -> list[int | str]:
    """Extents as numbers and names; an expression over symbols is its own name."""
    return [str(d) if isinstance(d, Dim) else int(d) for d in shape]


def type_proto(type_: Type, symbols: bool = True) -> onnx.TypeProto:
    """The type of a value; without `symbols` such extents are left open. Elements have not even a rank."""
    if isinstance(type_, SequenceType):
        return helper.make_sequence_type_proto(element_proto(type_.element))
    if isinstance(type_, OptionalType):
        return helper.make_optional_type_proto(element_proto(type_.element))
    if isinstance(type_, MapType):
        return helper.make_map_type_proto(tensor_code(type_.key), element_proto(type_.value))
    shape: list[int | str | None] = [*declared_dims(type_.shape)]
    known = shape if symbols else [d if isinstance(d, int) else None for d in shape]
    return helper.make_tensor_type_proto(tensor_code(type_), known)


def element_proto(type_: Type) -> onnx.TypeProto:
    """The type of a sequence's elements or of an optional value, which may differ in rank."""
    if isinstance(type_, (SequenceType, OptionalType, MapType)):
        return type_proto(type_)
    return helper.make_tensor_type_proto(tensor_code(type_), None)


def tensor_code(type_: TensorType | StringType) -> int:
    """ONNX's number of what a tensor's elements are."""
    return int(TensorProto.STRING) if isinstance(type_, StringType) else element_code(type_.dtype)


def is_tensor(type_: Type) -> bool:
    """Whether a value of this type is a tensor of numbers."""
    return isinstance(type_, TensorType)

"""C names of element and vector types (GCC and Clang vector extensions)."""

from __future__ import annotations

import re

from aino_ir.codegen.cstyle.lowering import raw_dtype
from aino_ir.dtypes import DTYPES, DType, u8
from aino_ir.errors.printing import NoSpelling, UnprintableLanes
from aino_ir.loops.expr import VecType

_SCALARS = {
    "f32": "float",
    "f64": "double",
    "bool": "bool",
    **{f"{s}{n}": f"{'u' if s == 'u' else ''}int{n}_t" for s in "iu" for n in (8, 16, 32, 64)},
    "c8": "char",
    "q64": "long long",
    "h16": "_Float16",
}
"""C spelling by dtype; the last three are what some GCC builtins want instead."""

_ELEMENT_BYTES = {"c8": 1, "q64": 8, "h16": 2}
_VECTOR_BYTES_LIMIT = 512
_VECTOR_NAME = re.compile(r"\b([fiuqch]\d+)x(\d+)\b")


def scalar_name(dtype: DType) -> str:
    """The C type of one value of a compute dtype."""
    if dtype.name not in _SCALARS:
        raise NoSpelling(operation="a value", type=dtype.name, target="C")
    return _SCALARS[dtype.name]


def element_dtype(dtype: DType) -> DType:
    """The dtype of the C array that holds a buffer: storage types as raw integers, bool as u8."""
    if dtype.is_bool:
        return u8
    return raw_dtype(dtype) if dtype.is_storage else dtype


def type_name(vec: VecType) -> str:
    """The C type of a value; bool vectors have none (they are integer masks of some width)."""
    if vec.lanes == 1:
        return scalar_name(vec.dtype)
    if vec.dtype.is_bool or vec.dtype.name not in _SCALARS:
        raise NoSpelling(operation="a vector", type=str(vec), target="C")
    if vec.lanes & (vec.lanes - 1) or vec.lanes * vec.dtype.bytes > _VECTOR_BYTES_LIMIT:
        raise UnprintableLanes(lanes=vec.lanes, dtype=vec.dtype.name, limit=_VECTOR_BYTES_LIMIT)
    return str(vec)


def mask_type(bits: int, lanes: int) -> VecType:
    """The integer vector that holds a bool vector: all ones where true."""
    return VecType(DTYPES[f"i{bits}"], lanes)


def vector_names(text: str) -> set[tuple[str, int]]:
    """(element, lanes) of every vector type that a piece of C text names."""
    return {(m[1], int(m[2])) for m in _VECTOR_NAME.finditer(text) if m[1] in _SCALARS}


def typedefs(names: set[tuple[str, int]]) -> list[str]:
    """The declarations of vector types, sorted."""
    lines = []
    for element, lanes in sorted(names, key=lambda n: (n[0][0], int(n[0][1:]), n[1])):
        size = lanes * (_ELEMENT_BYTES.get(element) or DTYPES[element].bytes)
        lines.append(f"typedef {_SCALARS[element]} {element}x{lanes} __attribute__((vector_size({size})));")
    return lines

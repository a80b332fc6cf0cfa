"""Which dtypes an operator takes, and which one to compute in where it does not take an operand's.

ONNX leaves out types for many operators: ReduceSum has no i16, MaxPool no u16.  A wider type that holds
every value gives the same result; what wraps in AINO wraps when it is converted back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx
from onnx import TensorProto

from aino_ir.dtypes import DTYPES, DType
from aino_ir.frontends.onnx.tensors import CODES

WIDER = {
    **dict.fromkeys(("i2", "i4"), ("i8", "i32", "i64", "f64")),
    **dict.fromkeys(("u2", "u4"), ("u8", "i32", "i64", "f64")),
    **dict.fromkeys(("i8", "u8", "i16", "u16"), ("i32", "i64", "f64")),
    "i32": ("i64", "f64"),
    "u32": ("i64", "u64", "f64"),
    "bool": ("u8", "i32"),
    **dict.fromkeys(("f16", "bf16"), ("f32", "f64")),
    **dict.fromkeys((n for n in DTYPES if n.startswith(("f8", "f4"))), ("f32", "f64")),
}
"""Dtype -> those that hold all its values, the nearest first."""


@functools.lru_cache(maxsize=4096)
def parameters(kind: str, opset: int, results: bool) -> tuple[tuple[str, frozenset[str]], ...]:
    """(type variable, types it may stand for) of each operand or result; the last one repeats if variadic."""
    schema = onnx.defs.get_schema(kind, opset, "")
    formals = schema.outputs if results else schema.inputs
    return tuple((p.type_str, frozenset(p.types)) for p in formals)


def parameter(kind: str, opset: int, index: int, results: bool = False) -> tuple[str, frozenset[str]]:
    """(type variable, types) of one operand or result."""
    found = parameters(kind, opset, results)
    return found[min(index, len(found) - 1)]


def type_text(dtype: DType) -> str:
    """A tensor type as ONNX's definitions spell it."""
    return f"tensor({TensorProto.DataType.Name(CODES[dtype.name]).lower()})"


def substitutes(kind: str, opset: int, dtypes: Sequence[DType | None]) -> dict[str, DType | None]:
    """Type variables that an operand's dtype is not legal for -> a wider one, or None where there is none."""
    out: dict[str, DType | None] = {}
    for index, dtype in enumerate(dtypes):
        if dtype is None:
            continue
        variable, allowed = parameter(kind, opset, index)
        if type_text(dtype) not in allowed and variable not in out:
            names = (n for n in WIDER.get(dtype.name, ()) if type_text(DTYPES[n]) in allowed)
            wider = next(names, None)
            out[variable] = None if wider is None else DTYPES[wider]
    return out

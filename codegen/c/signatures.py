"""Signatures of helper functions: what each operation takes and gives, by kind of parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aino_ir.codegen.c.byte_moves import MOVES, move_name
from aino_ir.codegen.c.types import mask_type, scalar_name, type_name
from aino_ir.dtypes import DType, i8, i16, i64, u8, u16
from aino_ir.loops.dot_expr import DOT
from aino_ir.loops.expr import VecType

VALUE, MASK, SCALAR, INDEX, INDICES, SOURCE, SINK, NOTHING, UNSIGNED, SIGNED, HALVES, HALF, BITS, QUARTET = (
    "value",
    "mask",
    "scalar",
    "index",
    "indices",
    "source",
    "sink",
    "nothing",
    "unsigned",
    "signed",
    "halves",
    "half",
    "bits",
    "quartet",
)


class Parameter(NamedTuple):
    """A parameter of a helper: its kind and its name."""

    kind: str
    name: str


@dataclass(frozen=True)
class Signature:
    """What an operation returns and takes."""

    result: str
    parameters: tuple[Parameter, ...]


def _signature(result: str, text: str) -> Signature:
    pairs = (word.split(":") for word in text.split())
    return Signature(result, tuple(Parameter(kind, name) for name, kind in pairs))


_UNARY = _signature(VALUE, "x:value")
_BINARY = _signature(VALUE, "a:value b:value")
_PREDICATE = _signature(MASK, "x:value")
_REDUCTION = _signature(SCALAR, "x:value")

SIGNATURES: dict[str, Signature] = {
    **dict.fromkeys(("abs", "sqrt", "floor", "ceil", "round", "trunc"), _UNARY),
    **dict.fromkeys(("isnan", "isinf"), _PREDICATE),
    **dict.fromkeys(("min", "max", "greater", "lesser", "div", "rem", "shl", "shr", "copysign"), _BINARY),
    **dict.fromkeys(("floordiv", "floormod"), _BINARY),
    **{f"reduce_{op}": _REDUCTION for op in ("add", "mul", "min", "max", "and", "or", "xor")},
    "fma": _signature(VALUE, "a:value b:value c:value"),
    "dot_u8": _signature(VALUE, "acc:value x:unsigned w:signed"),
    "dot_i8": _signature(VALUE, "acc:value x:signed w:signed"),
    "dot_pairs": _signature(VALUE, "x:unsigned w:signed"),
    "add_pairs": _signature(VALUE, "acc:value pairs:halves"),
    "dot_bf16": _signature(VALUE, "acc:value x:bits w:bits"),
    **dict.fromkeys((move_name(*move) for move in MOVES), _UNARY),
    "quartets": _signature(VALUE, "x:quartet"),
    "upper": _signature(HALF, "x:value"),
    "select": _signature(VALUE, "mask:mask a:value b:value"),
    "splat": _signature(VALUE, "x:scalar"),
    "ramp": _signature(VALUE, "base:index step:index"),
    "prefix": _signature(VALUE, "count:index"),
    "load": _signature(VALUE, "p:source"),
    "load_even": _signature(VALUE, "p:source"),
    "load_reversed": _signature(VALUE, "p:source"),
    "load_masked": _signature(VALUE, "p:source mask:mask"),
    "load_strided": _signature(VALUE, "p:source stride:index"),
    "load_strided_masked": _signature(VALUE, "p:source stride:index mask:mask"),
    "gather": _signature(VALUE, "p:source at:indices"),
    "gather_masked": _signature(VALUE, "p:source at:indices mask:mask"),
    "store": _signature(NOTHING, "p:sink x:value"),
    "store_masked": _signature(NOTHING, "p:sink mask:mask x:value"),
    "store_strided": _signature(NOTHING, "p:sink stride:index x:value"),
    "store_strided_masked": _signature(NOTHING, "p:sink stride:index mask:mask x:value"),
    "scatter": _signature(NOTHING, "p:sink at:indices x:value"),
    "scatter_masked": _signature(NOTHING, "p:sink at:indices mask:mask x:value"),
}
"""Operation -> signature; kinds are relative to the type that a helper is made for."""


def c_type(kind: str, type_: VecType) -> str:
    """The C type of a parameter or result of a helper for `type_`."""
    match kind:
        case "value":
            return type_name(type_)
        case "mask":
            return type_name(mask_type(type_.dtype.bits, type_.lanes)) if type_.lanes > 1 else "bool"
        case "scalar":
            return scalar_name(type_.dtype)
        case "index":
            return "int64_t"
        case "indices":
            return type_name(VecType(i64, type_.lanes))
        case "unsigned":
            return type_name(VecType(u8, type_.lanes * type_.dtype.bytes))
        case "signed":
            return type_name(VecType(i8, type_.lanes * type_.dtype.bytes))
        case "halves":
            return type_name(VecType(i16, 2 * type_.lanes))
        case "bits":
            return type_name(VecType(u16, 2 * type_.lanes))
        case "half":
            return type_name(VecType(type_.dtype, type_.lanes // 2))
        case "quartet":
            return type_name(VecType(type_.dtype, DOT // type_.dtype.bytes))
        case "source":
            return f"const {scalar_name(type_.dtype)} *"
        case "sink":
            return f"{scalar_name(type_.dtype)} *"
    return "void"


def declare(c_type_name: str, name: str) -> str:
    """``type name`` with the star at the name."""
    return f"{c_type_name}{name}" if c_type_name.endswith("*") else f"{c_type_name} {name}"


def storage_vector(dtype: DType, lanes: int) -> str:
    """``bf16x8`` or ``bf16``: how names of helpers call a storage type with lanes."""
    return dtype.name if lanes == 1 else f"{dtype.name}x{lanes}"

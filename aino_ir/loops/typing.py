"""What types the operands of an expression node must have."""

from __future__ import annotations

from aino_ir.dtypes import boolean, f32, i8, i16, i32, i64, u8, u16
from aino_ir.loops.dot_expr import DOT, AddPairs, Dot, DotHalves, DotPairs
from aino_ir.loops.expr import (
    BINARY_OPS,
    COMBINERS,
    COMPARE_OPS,
    UNARY_OPS,
    Accumulator,
    Arg,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Expr,
    Fma,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Read,
    Reduce,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    VecType,
)

BOOL = VecType(boolean)
INDEX = VecType(i64)

_FLOAT_ONLY = frozenset({"sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf", "copysign"})
_BITS_ONLY = frozenset({"not", "and", "or", "xor"})
_INTEGER_ONLY = frozenset({"shl", "shr"})
_ARITHMETIC_ON_BOOL = frozenset({"min", "max"})


def type_problem(e: Expr) -> str | None:
    """What is wrong with a node's types, as the end of a sentence about it; None when nothing is.

    "" for a node that has no meaning inside a loop.
    """
    if isinstance(e, (Read, Arg, Accumulator)):
        return ""
    if e.dtype.is_storage or e.dtype.name.startswith("c") or e.lanes < 1:
        return f" cannot be a value of type {e.type}"
    return None if _agrees(e) else f": {e.type} from {', '.join(str(c.type) for c in e.children())}"


def _agrees(e: Expr) -> bool:
    match e:
        case Unary(op=op, x=x):
            result = VecType(boolean, x.lanes) if op in ("isnan", "isinf") else x.type
            return op in UNARY_OPS and e.type == result and _has(op, x)
        case Binary(op=op, a=a, b=b):
            return op in BINARY_OPS and a.type == b.type == e.type and _has(op, a)
        case Compare(op=op, a=a, b=b):
            return op in COMPARE_OPS and a.type == b.type and e.type == VecType(boolean, a.lanes)
        case Fma(a=a, b=b, c=c):
            return a.type == b.type == c.type == e.type and e.dtype.is_float
        case Dot(accumulator=acc, x=x, w=w):
            long = DOT * e.lanes
            bytes_ = x.dtype in (u8, i8) and w.type == VecType(i8, long) and x.lanes == long
            return bytes_ and acc.type == e.type == VecType(i32, e.lanes)
        case DotPairs(x=x, w=w):
            long = 2 * e.lanes
            return e.dtype is i16 and x.type == VecType(u8, long) and w.type == VecType(i8, long)
        case AddPairs(accumulator=acc, pairs=pairs):
            return acc.type == e.type == VecType(i32, e.lanes) and pairs.type == VecType(i16, 2 * e.lanes)
        case DotHalves(accumulator=acc, x=x, w=w):
            return acc.type == e.type == VecType(f32, e.lanes) and x.type == w.type == VecType(
                u16, 2 * e.lanes
            )
        case Select(condition=c, a=a, b=b):
            return a.type == b.type == e.type and c.type == VecType(boolean, e.lanes)
        case Cast(x=x):
            return x.lanes == e.lanes
        case Round(x=x, storage=storage):
            return x.type == e.type and storage.is_storage and storage.compute is e.dtype
        case Bitcast(x=x):
            return x.lanes == e.lanes and x.dtype.bits == e.dtype.bits
        case Splat(x=x):
            return x.lanes == 1 and x.dtype is e.dtype
        case Call(args=args):
            return bool(args) and all(a.type == e.type for a in args) and e.dtype.is_float
    return _leaf_agrees(e)


def _leaf_agrees(e: Expr) -> bool:
    match e:
        case Shuffle(a=a, b=b, pattern=pattern):
            inside = all(0 <= p < a.lanes + b.lanes for p in pattern)
            return a.dtype is b.dtype is e.dtype and len(pattern) == e.lanes and inside
        case Reduce(op=op, x=x):
            power_of_two = x.lanes & (x.lanes - 1) == 0
            return op in COMBINERS and e.type == VecType(x.dtype) and power_of_two and _has(op, x)
        case Index():
            return e.type == INDEX
        case Ramp():
            return e.dtype is i64
        case PrefixMask():
            return e.dtype.is_bool
        case Load(other=other):
            return other is None or other.type == e.type
    return True


def _has(op: str, x: Expr) -> bool:
    """Whether an operation exists for the dtype of `x`."""
    dtype = x.dtype
    if op in _FLOAT_ONLY:
        return dtype.is_float
    if op in _BITS_ONLY:
        return not dtype.is_float
    if op in _INTEGER_ONLY:
        return dtype.is_integer
    return not dtype.is_bool or op in _ARITHMETIC_ON_BOOL

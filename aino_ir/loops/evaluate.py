"""Numpy evaluation of pure expression trees, bit for bit what the loop language means.

A value of a type with one lane is an array of any batch shape; a value with L lanes has the same
batch shape and a last axis of length L.  So a tree over scalars maps over whole arrays at once
(`args` of shape (N,)), and the loop interpreter evaluates vectors of shape (L,) with it.

`fma` rounds once, integers wrap, float->int saturates, `min`/`max` propagate NaN (and give the
second operand when both compare equal), denormals are kept.  No floating-point warning leaves here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, integer_range
from aino_ir.errors.loops import LoopRunError
from aino_ir.loops.dot_expr import AddPairs, Dot, DotHalves, DotPairs
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Read,
    Reduce,
    RegRead,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
    VecType,
)

Array = np.ndarray[Any, Any]
Leaf = Callable[[Expr], "Array | None"]
_Step = tuple["Callable[..., Array] | None", Expr, tuple[int, ...]]

LEAVES = (Accumulator, Arg, Index, Load, PrefixMask, Ramp, Read, RegRead, Var)
"""Nodes whose value comes from outside the tree; what they contain is the `leaf` callback's business."""

_BELOW_F32, _HALF_WAY = np.int64(0x1FFFFFFF), np.int64(0x10000000)
_PLAN_LIMIT = 4096
_plans: dict[int, tuple[Expr, list[_Step]]] = {}


def evaluate(
    expr: Expr, env: Mapping[str, Array] | None = None, args: Sequence[Array] = (), leaf: Leaf | None = None
) -> Array:
    """The value of a tree.

    Args:
        expr: the tree; shared sub-expressions are evaluated once.
        env: values of `Var` and `RegRead` by name.
        args: values of `Arg` by index.
        leaf: asked first for each of `LEAVES`; None means it has no value for the node.

    Returns:
        An array of the compute dtype's numpy type (not to be written to: it may be a leaf's own array).

    Raises:
        LookupError: a leaf has no value.
    """
    slots: list[Any] = []
    with np.errstate(all="ignore"):
        for apply, node, operands in _plan(expr):
            if apply is None:
                slots.append(_leaf_value(node, env or {}, args, leaf))
            else:
                slots.append(apply(*[slots[i] for i in operands]))
    return np.asarray(slots[-1])


def _plan(expr: Expr) -> list[_Step]:
    """The tree as a list of steps, operands first; remembered by identity of the root."""
    found = _plans.get(id(expr))
    if found is not None:
        return found[1]
    steps: list[_Step] = []
    slot: dict[int, int] = {}
    stack = [(expr, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in slot:
            continue
        children = () if isinstance(node, LEAVES) else node.children()
        if ready or not children:
            slot[id(node)] = len(steps)
            steps.append((implement(node), node, tuple(slot[id(c)] for c in children)))
        else:
            stack.append((node, True))
            stack.extend((c, False) for c in children)
    if len(_plans) >= _PLAN_LIMIT:
        _plans.clear()
    _plans[id(expr)] = (expr, steps)
    return steps


def _leaf_value(node: Expr, env: Mapping[str, Array], args: Sequence[Array], leaf: Leaf | None) -> Array:
    value = leaf(node) if leaf is not None else None
    if value is not None:
        return value
    match node:
        case Var(name=name) | RegRead(name=name) if name in env:
            return env[name]
        case Arg(index=i) if i < len(args):
            return args[i]
        case Index(dim=int(dim)):
            return np.asarray(dim, np.int64)
        case Ramp(base=int(base), step=step):
            return base + step * np.arange(node.lanes, dtype=np.int64)
        case PrefixMask(count=int(count)):
            return np.asarray(np.arange(node.lanes) < count)
    raise LookupError(f"no value for {node!r}")


def implement(node: Expr) -> Callable[..., Array] | None:
    """The numpy function of a node over its children; None for a leaf."""
    if isinstance(node, LEAVES):
        return None
    match node:
        case Const(value=value):
            shape = () if node.lanes == 1 else (node.lanes,)
            constant = np.full(shape, value, node.dtype.numpy)
            return lambda: constant
        case Unary(op=op):
            return _UNARY[op]
        case Binary(op=op):
            return (_FLOAT_BINARY if node.dtype.is_float else _INTEGER_BINARY)[op]
        case Compare(op=op):
            return _COMPARE[op]
        case Fma():
            return fma32 if node.dtype.bits == 32 else fma64
        case Dot():
            return dot_products
        case DotPairs():
            return pair_products
        case AddPairs():
            return add_neighbours
        case DotHalves():
            return half_products
        case Select():
            return np.where
        case Cast(x=x):
            return partial(cast_array, source=x.dtype, target=node.dtype)
        case Round(storage=storage):
            return partial(round_array, storage=storage)
        case Bitcast(x=x):
            return partial(_bitcast, target=node.dtype.numpy)
        case Splat(type=VecType(lanes=lanes)):
            return partial(_splat, lanes=lanes)
        case Shuffle(pattern=pattern):
            return partial(_shuffle, pattern=pattern, lanes=(node.a.lanes, node.b.lanes))
        case Reduce(op=op, x=x):
            return partial(_reduce, combine=(_FLOAT_BINARY if x.dtype.is_float else _INTEGER_BINARY)[op])
        case Call(function=function):
            return partial(_call, function=function, dtype=node.dtype)
    raise LookupError(f"no meaning for {node!r}")


def dot_products(accumulator: Array, x: Array, w: Array) -> Array:
    """accumulator + sums of four products; see `aino_ir.loops.expr.Dot`."""
    products = x.astype(np.int32) * w.astype(np.int32)
    sums = products.reshape(*products.shape[:-1], -1, 4).sum(axis=-1, dtype=np.int32)
    return np.asarray(accumulator + sums.reshape(np.shape(accumulator)))


def pair_products(x: Array, w: Array) -> Array:
    """Sums of two products in i16; see `aino_ir.loops.expr.DotPairs`.

    Raises:
        LoopRunError: a sum needs more than 16 bits, against the promise.
    """
    products = x.astype(np.int32) * w.astype(np.int32)
    pairs = products.reshape(*products.shape[:-1], -1, 2).sum(axis=-1, dtype=np.int32)
    if pairs.size and (pairs.max() >= 1 << 15 or pairs.min() < -(1 << 15)):
        raise LoopRunError(kernel="", what="a sum of two products leaves 16 bits, against the promise")
    return np.asarray(pairs.astype(np.int16))


def add_neighbours(accumulator: Array, pairs: Array) -> Array:
    """accumulator + sums of two neighbours; see `aino_ir.loops.expr.AddPairs`."""
    sums = pairs.reshape(*pairs.shape[:-1], -1, 2).sum(axis=-1, dtype=np.int32)
    return np.asarray(accumulator + sums.reshape(np.shape(accumulator)))


def half_products(accumulator: Array, x: Array, w: Array) -> Array:
    """accumulator + products of bf16, the odd ones first; see `aino_ir.loops.expr.DotHalves`."""
    a, b = ((bits.astype(np.uint32) << 16).view(np.float32) for bits in (x, w))
    total = np.reshape(accumulator, -1)
    for place in (1, 0):
        total = fma32(a[..., place::2], b[..., place::2], total)
    return np.asarray(total.reshape(np.shape(accumulator)))


_F32_TAIL = (1 << 29) - 1
"""The bits of an f64's fraction that an f32 has not."""
_F32_HALFWAY = 1 << 28
_F32_SMALLEST = 2.0**-125
"""Below it f32 has fewer bits, and halfway is elsewhere."""


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c on f32 with one rounding.

    The product is exact in f64.  Rounding the sum to f64 and then to f32 is wrong only where the f64
    lies half way between two f32 numbers, or f32 has fewer bits: there the sum is rounded to odd first
    (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
    """
    product = np.multiply(a, b, dtype=np.float64)
    total = np.asarray(product + c)
    half_way = np.equal(np.bitwise_and(total.view(np.int64), _BELOW_F32), _HALF_WAY)
    if half_way.any() or (np.abs(total) < 2.0**-125).any():
        total = _round_to_odd(product, np.asarray(c, np.float64))
    return total.astype(np.float32)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c on f64 with one rounding.

    Boldo and Melquiond's algorithm where no intermediate can overflow or lose bits; the other lanes
    (very large, very small, not finite) one by one in exact integer arithmetic.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    high = a * b
    low = _product_error(a, b, high)
    sum_high, sum_low = _two_sum(c, low)
    total_high, total_low = _two_sum(high, sum_high)
    result = total_high + _round_to_odd(sum_low, total_low)
    finite = np.isfinite(a) & np.isfinite(b)
    plain = np.where(finite & np.isinf(c), c, high + c)
    size = np.abs(high)
    safe = (size < 2.0**990) & (size > 2.0**-900) & (np.abs(a) < 2.0**990) & (np.abs(b) < 2.0**990)
    safe &= (np.abs(c) < 2.0**990) & ((np.abs(c) > 2.0**-900) | (c == 0))
    exact = (a == 0) | (b == 0) | ~finite | ~np.isfinite(c)
    result = np.asarray(np.where(exact, plain, result))
    rest = ~(safe | exact)
    if rest.any():
        triples = zip(a[rest].tolist(), b[rest].tolist(), c[rest].tolist(), strict=True)
        result[rest] = [_exact_fma(x, y, z) for x, y, z in triples]
    return result


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum and its error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _product_error(a: Array, b: Array, product: Array) -> Array:
    """a * b - product, exact for f64 without overflow (Dekker, Veltkamp)."""

    def split(x: Array) -> tuple[Array, Array]:
        t = x * 134217729.0
        high = t - (t - x)
        return high, x - high

    (ah, al), (bh, bl) = split(a), split(b)
    error: Array = ((ah * bh - product) + ah * bl + al * bh) + al * bl
    return error


def _round_to_odd(a: Array, b: Array) -> Array:
    """a + b in f64; an inexact result is the neighbour with an odd last bit."""
    s, error = _two_sum(a, b)
    bits = np.atleast_1d(s).view(np.int64).reshape(np.shape(s))
    towards_zero = np.signbit(s) != np.signbit(error)
    move = (error != 0) & ((bits & 1) == 0) & np.isfinite(s)
    moved = bits + np.where(move, np.where(towards_zero, -1, 1), 0)
    odd: Array = np.asarray(moved).view(np.float64)
    return odd


def _exact_fma(a: float, b: float, c: float) -> float:
    """a * b + c on finite numbers in integers, rounded once by Python's int division."""
    (an, ad), (bn, bd), (cn, cd) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    numerator, denominator = an * bn * cd + cn * ad * bd, ad * bd * cd
    if numerator == 0:
        return a * b + c if c == 0 else 0.0
    try:
        return numerator / denominator  # int / int is correctly rounded, denormals included
    except OverflowError:
        return float("inf") if numerator > 0 else float("-inf")


def _is_nan(x: Array) -> Array:
    return np.not_equal(x, x)  # integers, which np.isnan refuses for bool, included


def _min(a: Array, b: Array) -> Array:
    return np.where((a < b) | _is_nan(a), a, b)


def _max(a: Array, b: Array) -> Array:
    return np.where((a > b) | _is_nan(a), a, b)


def _integer_divide(a: Array, b: Array) -> Array:
    quotient = np.floor_divide(a, b)
    rounded_down = (np.fmod(a, b) != 0) & ((a < 0) != (b < 0))
    return np.asarray(quotient + rounded_down.astype(quotient.dtype))


def _count(b: Array) -> tuple[Array, Array]:
    """Shift counts made safe, and where they were the width or more (negative ones count as such)."""
    width = b.dtype.itemsize * 8
    outside = (b < 0) | (b >= width)
    return np.where(outside, 0, b).astype(b.dtype), outside


def _shift_left(a: Array, b: Array) -> Array:
    count, outside = _count(np.asarray(b))
    return np.where(outside, np.zeros((), np.asarray(a).dtype), np.left_shift(a, count))


def _shift_right(a: Array, b: Array) -> Array:
    count, outside = _count(np.asarray(b))
    fill = np.where(np.asarray(a) < 0, -1, 0).astype(np.asarray(a).dtype)
    return np.where(outside, fill, np.right_shift(a, count))


def cast_array(x: Array, source: DType, target: DType) -> Array:
    """Value conversion between compute dtypes: float->int saturates, NaN -> 0, int->int wraps."""
    x = np.asarray(x)
    if target.is_bool:
        return np.asarray(x != 0)
    if not (source.is_float and target.is_integer):
        return x.astype(target.numpy)
    low, high = integer_range(target)
    whole = np.trunc(x)
    too_high, too_low = whole >= float(high + 1), whole < float(low)
    inside = np.where(too_high | too_low | np.isnan(x), 0, whole).astype(target.numpy)
    limits = np.where(too_high, target.numpy.type(high), target.numpy.type(low))
    return np.where(too_high | too_low, limits, inside)


def round_array(x: Array, storage: DType) -> Array:
    """x (f32 or i32) as it reads back from a storage dtype: floats half to even, integers wrapped.

    A float too large for the storage dtype becomes what `ml_dtypes` makes of it: infinity where the
    format has one, else NaN.
    """
    x = np.asarray(x)
    if storage.is_float:
        return x.astype(storage.numpy).astype(x.dtype)
    low, high = integer_range(storage)
    return ((x - low) & (high - low)) + low


def _bitcast(x: Array, target: np.dtype[Any]) -> Array:
    return np.ascontiguousarray(x).view(target).reshape(np.shape(x))


def _splat(x: Array, lanes: int) -> Array:
    return np.broadcast_to(np.asarray(x)[..., None], (*np.shape(x), lanes))


def _shuffle(a: Array, b: Array, pattern: tuple[int, ...], lanes: tuple[int, int]) -> Array:
    parts = [np.asarray(v)[..., None] if n == 1 else v for v, n in zip((a, b), lanes, strict=True)]
    picked = np.concatenate(parts, axis=-1)[..., list(pattern)]
    return picked[..., 0] if len(pattern) == 1 else picked


def _reduce(x: Array, combine: Callable[..., Array]) -> Array:
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = combine(x[..., :half], x[..., half:])
    total: Array = x[..., 0]
    return total


@cache
def _function_body(function: str, dtype: DType, arity: int) -> Expr:
    from aino_ir.loops.math import expand

    return expand(function, *(Arg(i, VecType(dtype)) for i in range(arity)))


def _call(*args: Array, function: str, dtype: DType) -> Array:
    return evaluate(_function_body(function, dtype, len(args)), args=args)


_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "not": np.invert,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "isnan": np.isnan,
    "isinf": np.isinf,
}
_COMPARE: dict[str, Callable[..., Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_COMMON: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "rem": np.fmod,
    "min": _min,
    "max": _max,
}
_FLOAT_BINARY: dict[str, Callable[..., Any]] = _COMMON | {"div": np.divide, "copysign": np.copysign}
_INTEGER_BINARY: dict[str, Callable[..., Any]] = _COMMON | {
    "div": _integer_divide,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": _shift_left,
    "shr": _shift_right,
}

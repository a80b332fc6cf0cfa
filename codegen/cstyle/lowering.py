"""Operations that a C-family language has no operator for, spelled in the loop language itself.

Each body is built from simpler expressions and `Raw` nodes (the language's own unguarded operator).
A printer turns the ones that a kernel uses into helper functions, for scalars and vectors alike, and
replaces single ones by what the instruction set has for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aino_ir.dtypes import DTYPES, DType, f32, f64, i32, i64, integer_range, u8, u16, u32
from aino_ir.loops.expr import (
    Expr,
    Number,
    Shuffle,
    Unary,
    Var,
    VecType,
    binary,
    bitcast,
    cast,
    compare,
    select,
    unary,
)


@dataclass(frozen=True)
class Raw(Expr):
    """An operation exactly as the language does it, or a call of the helper of that name.

    ``convert`` is the unguarded value conversion, ``div``, ``rem``, ``shl`` and ``shr`` are the
    operators; any other name is a helper on equal types.
    """

    op: str
    args: tuple[Expr, ...]
    type: VecType


class Recorder:
    """Collects the values that a body pins, in order; stands in for a `LoopBuilder`."""

    def __init__(self) -> None:
        self.lets: list[tuple[Var, Expr]] = []

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        """Pin `expr` under a fresh name."""
        if isinstance(expr, Var) or not expr.children():
            return expr
        var = Var(f"{hint}{len(self.lets)}", expr.type)
        self.lets.append((var, expr))
        return var


def _constant(value: Number, like: Expr) -> Expr:
    from aino_ir.loops.expr import const

    return const(value, like.dtype, like.lanes)


def unsigned(dtype: DType) -> DType:
    """The unsigned integer dtype of the same width."""
    return DTYPES[f"u{dtype.bits}"]


def signed(dtype: DType) -> DType:
    """The signed integer dtype of the same width."""
    return DTYPES[f"i{dtype.bits}"]


# ------------------------------------------------------------------------------------ sign and size


def _absolute(b: Recorder, x: Expr) -> Expr:
    if x.dtype.is_integer:
        return x if not x.dtype.is_signed else select(x < 0, -x, x)
    mask = (1 << (x.dtype.bits - 1)) - 1
    return bitcast(bitcast(x, signed(x.dtype)) & mask, x.dtype)


def _copy_sign(b: Recorder, x: Expr, y: Expr) -> Expr:
    low, high = integer_range(signed(x.dtype))
    size = bitcast(x, signed(x.dtype)) & high
    return bitcast(size | (bitcast(y, signed(x.dtype)) & low), x.dtype)


def _is_nan(b: Recorder, x: Expr) -> Expr:
    return compare("ne", x, x)


def _is_infinite(b: Recorder, x: Expr) -> Expr:
    return compare("eq", unary("abs", x), float("inf"))


def _greater(b: Recorder, x: Expr, y: Expr) -> Expr:
    return select(b.let(x > y, "larger"), x, y)


def _lesser(b: Recorder, x: Expr, y: Expr) -> Expr:
    return select(b.let(x < y, "smaller"), x, y)


def _maximum(b: Recorder, x: Expr, y: Expr) -> Expr:
    if x.dtype.is_integer:
        return select(x > y, x, y)
    return select(unary("isnan", x), x, Raw("greater", (x, y), x.type))


def _minimum(b: Recorder, x: Expr, y: Expr) -> Expr:
    if x.dtype.is_integer:
        return select(x < y, x, y)
    return select(unary("isnan", x), x, Raw("lesser", (x, y), x.type))


# ------------------------------------------------------------------------------- rounding to integer


def _nearest(b: Recorder, x: Expr) -> tuple[Expr, Expr]:
    """(|x| rounded half to even with x's sign, whether x is so small that it may have a fraction)."""
    magic = _constant(2.0 ** (23 if x.dtype.bits == 32 else 52), x)
    size = b.let(unary("abs", x), "size")
    return b.let(binary("copysign", (size + magic) - magic, x), "nearest"), b.let(size < magic, "small")


def _round(b: Recorder, x: Expr) -> Expr:
    nearest, small = _nearest(b, x)
    return select(small, nearest, x)


def _floor(b: Recorder, x: Expr) -> Expr:
    nearest, small = _nearest(b, x)
    down = select(nearest > x, nearest - 1.0, nearest)
    return select(small, down, x)


def _ceil(b: Recorder, x: Expr) -> Expr:
    nearest, small = _nearest(b, x)
    up = select(nearest < x, nearest + 1.0, nearest)
    return select(small, binary("copysign", up, x), x)


def _truncate(b: Recorder, x: Expr) -> Expr:
    nearest, small = _nearest(b, x)
    size = b.let(unary("abs", nearest), "whole")
    down = select(size > unary("abs", x), size - 1.0, size)
    return select(small, binary("copysign", down, x), x)


# ------------------------------------------------------------------------------- multiply and add


def fused_by_doubles(b: Recorder, x: Expr, y: Expr, z: Expr) -> Expr:
    """x * y + z of f32 operands, rounded once, where the processor has no such instruction.

    The product of two f32 is exact in f64.  Their sum is rounded to odd (Boldo and Melquiond, "When
    double rounding is odd", 2005): what TwoSum leaves over decides the last bit, so that the second
    rounding, to f32, sees whether there was a rest.
    """
    wide = VecType(f64, x.lanes)
    product = b.let(cast(x, f64) * cast(y, f64), "product")
    addend = b.let(cast(z, f64), "addend")
    total = b.let(product + addend, "total")
    back = b.let(total - product, "back")
    rest = b.let((product - (total - back)) + (addend - back), "rest")
    bits = b.let(bitcast(total, i64), "bits")
    inexact = b.let((rest > 0.0) | (rest < 0.0), "inexact")  # false for NaN, which infinities leave
    even = compare("eq", bits & 1, 0)
    outwards = compare("eq", rest > 0.0, total > 0.0)
    odd = select(outwards, bits + 1, bits - 1)
    chosen = bitcast(select(b.let(inexact & even, "nudged"), odd, bits), f64)
    return Raw("convert", (b.let(chosen, "chosen"),), VecType(x.dtype, wide.lanes))


# ------------------------------------------------------------------------------------------ integers


def _divide(b: Recorder, x: Expr, y: Expr) -> Expr:
    """Quotient towards zero; INT_MIN / -1 wraps, and x / 0 is 0 (an unused lane may hold it)."""
    zero = b.let(compare("eq", y, 0), "zero")
    if not x.dtype.is_signed:
        return select(zero, 0, Raw("div", (x, select(zero, 1, y)), x.type))
    minus_one = b.let(compare("eq", y, -1), "minus_one")
    quotient = Raw("div", (x, select(zero | minus_one, 1, y)), x.type)
    return select(minus_one, -x, select(zero, 0, quotient))


def _remainder(b: Recorder, x: Expr, y: Expr) -> Expr:
    """Remainder with the sign of x; 0 for divisors 0 and -1."""
    one = compare("eq", y, 0)
    if x.dtype.is_signed:
        one = one | compare("eq", y, -1)
    one = b.let(one, "trivial")
    return select(one, 0, Raw("rem", (x, select(one, 1, y)), x.type))


def _counts(b: Recorder, y: Expr) -> tuple[Expr, Expr]:
    width = y.dtype.bits
    inside = compare("lt", bitcast(y, unsigned(y.dtype)), width)
    return b.let(inside, "inside"), y & (width - 1)


def _shift_left(b: Recorder, x: Expr, y: Expr) -> Expr:
    inside, count = _counts(b, y)
    return select(inside, Raw("shl", (x, count), x.type), 0)


def _shift_right(b: Recorder, x: Expr, y: Expr) -> Expr:
    inside, count = _counts(b, y)
    if x.dtype.is_signed:
        return Raw("shr", (x, select(inside, count, x.dtype.bits - 1)), x.type)
    return select(inside, Raw("shr", (x, count), x.type), 0)


def saturating_cast(b: Recorder, x: Expr, target: DType) -> Expr:
    """Float to integer: towards zero, out of range to the nearest end, NaN to 0."""
    low, high = integer_range(target)
    limit = float(high + 1)
    over = b.let(x >= limit, "over")
    inside = (x >= float(low)) & ~over
    value = select(inside, x, 0.0)
    step = i32 if target.bits < 32 else target
    whole = cast(Raw("convert", (value,), VecType(step, x.lanes)), target)
    whole = select(over, high, whole)
    return select(x < float(low), low, whole) if low else whole


# ------------------------------------------------------------------------------------ storage types


@dataclass(frozen=True)
class FloatFormat:
    """Bits of a small float: exponent, mantissa, bias, and what its extreme codes mean.

    Attributes:
        infinity: code of infinity, None where the format has none.
        nan: code of NaN (positive), None where the format has none.
        largest: code of the largest finite value.
        signed_zero: whether a negative zero exists (else its code is NaN).
    """

    mantissa: int
    bias: int
    bits: int
    infinity: int | None
    nan: int | None
    largest: int
    signed_zero: bool = True


FORMATS: dict[str, FloatFormat] = {
    "f16": FloatFormat(10, 15, 16, 0x7C00, 0x7E00, 0x7BFF),
    "f8e4m3fn": FloatFormat(3, 7, 8, None, 0x7F, 0x7E),
    "f8e4m3fnuz": FloatFormat(3, 8, 8, None, 0x80, 0x7F, signed_zero=False),
    "f8e5m2": FloatFormat(2, 15, 8, 0x7C, 0x7E, 0x7B),
    "f8e5m2fnuz": FloatFormat(2, 16, 8, None, 0x80, 0x7F, signed_zero=False),
    "f4e2m1": FloatFormat(1, 1, 4, None, None, 0x7),
}

_INFINITY, _NAN, _MAGNITUDE = 0x7F800000, 0x7FC00000, 0x7FFFFFFF


def raw_dtype(storage: DType) -> DType:
    """The plain dtype whose values an array of a storage dtype holds."""
    if storage.is_float:
        return u16 if storage.bits == 16 else u8
    return DTYPES[("i" if storage.is_signed else "u") + "8"] if storage.bits < 8 else storage


def decode(b: Recorder, raw: Expr, storage: DType) -> Expr:
    """The compute value (f32 or i32) of raw storage values."""
    if not storage.is_float:
        return wrap_integer(cast(raw, i32), storage)
    u = b.let(cast(raw, u32), "u")
    if storage.name == "bf16":
        return bitcast(binary("shl", u, 16), f32)
    if storage.name == "f8e8m0":
        power = select(compare("eq", u, 0), 0x00400000, binary("shl", u, 23))
        return bitcast(select(compare("eq", u, 255), _NAN, power), f32)
    fmt = FORMATS[storage.name]
    sign_bit = 1 << (fmt.bits - 1)
    size = b.let(u & (sign_bit - 1), "size")
    shifted = b.let(binary("shl", size, 23 - fmt.mantissa), "shifted")
    bits = b.let(bitcast(bitcast(shifted, f32) * 2.0 ** (127 - fmt.bias), u32), "bits")
    if fmt.infinity is not None:
        bits = select(size >= fmt.infinity, shifted | _INFINITY, bits)
    bits = bits | binary("shl", u & sign_bit, 32 - fmt.bits)
    if fmt.infinity is None and fmt.nan is not None:
        code = u if fmt.nan == sign_bit else size
        bits = select(compare("eq", code, fmt.nan), _NAN, bits)
    return bitcast(bits, f32)


def encode(b: Recorder, x: Expr, storage: DType) -> Expr:
    """Raw storage values of compute values: floats half to even, integers wrapped."""
    if not storage.is_float:
        low_bits = x & ((1 << storage.bits) - 1) if storage.bits < 8 else x
        return cast(low_bits, raw_dtype(storage))
    bits = b.let(bitcast(x, u32), "bits")
    if storage.name == "bf16":
        rounded = bits + (binary("shr", bits, 16) & 1) + 0x7FFF
        is_nan = compare("gt", bits & _MAGNITUDE, _INFINITY)
        return cast(binary("shr", select(is_nan, bits | 0x400000, rounded), 16), u16)
    if storage.name == "f8e8m0":
        return cast(_encode_power(b, bits), u8)
    fmt = FORMATS[storage.name]
    return cast(_encode_small(b, bits, fmt), raw_dtype(storage))


def _encode_power(b: Recorder, bits: Expr) -> Expr:
    """The exponent of the nearest power of two, half up (below 2^-126 always up); zero, negative and not
    finite values are NaN.
    """
    normal = binary("shr", bits + 0x400000, 23)
    small = select(compare("gt", bits, 0x00400000), 1, _constant(0, bits))
    code = select(compare("lt", bits, 0x00800000), small, normal)
    bad = compare("eq", bits, 0) | compare("ge", bits, _INFINITY)
    return select(bad, 255, code)


def _encode_small(b: Recorder, bits: Expr, fmt: FloatFormat) -> Expr:
    size = b.let(bits & _MAGNITUDE, "size")
    drop = 23 - fmt.mantissa
    lowest = binary("shr", size, drop) & 1
    rebias = ((127 - fmt.bias) << 23) - ((1 << (drop - 1)) - 1)
    normal = binary("shr", size + lowest - rebias, drop)
    magic = 2.0 ** (1 - fmt.bias + drop)
    shifted = bitcast(bitcast(size, f32) + magic, u32)
    tiny = shifted - bitcast(_constant(magic, bitcast(bits, f32)), u32)
    code = b.let(select(size < ((128 - fmt.bias) << 23), tiny, normal), "code")
    beyond = fmt.infinity if fmt.infinity is not None else fmt.nan if fmt.nan is not None else fmt.largest
    code = select(compare("gt", code, fmt.largest) | compare("ge", size, _INFINITY), beyond, code)
    if fmt.nan is not None and fmt.infinity is not None:
        code = select(compare("gt", size, _INFINITY), fmt.nan, code)
    sign = b.let(binary("shl", binary("shr", bits, 31), fmt.bits - 1), "sign")
    if fmt.nan is None:  # without a code of its own NaN becomes a zero of the other sign
        return select(compare("gt", size, _INFINITY), sign ^ (1 << (fmt.bits - 1)), code | sign)
    if fmt.signed_zero:
        return code | sign
    code = b.let(code, "code")
    return select(compare("eq", code, 0), 0, code | sign)


def wrap_integer(x: Expr, storage: DType) -> Expr:
    """An i32 value wrapped to the range of a narrow integer storage dtype."""
    if storage.bits >= 8:
        return x
    if not storage.is_signed:
        return x & ((1 << storage.bits) - 1)
    shift = 32 - storage.bits
    return binary("shr", binary("shl", x, shift), shift)


# ---------------------------------------------------------------------------------------- reductions


def reduce_lanes(b: Recorder, x: Expr, op: str) -> Expr:
    """Lane i combined with lane i + lanes/2, till one is left; 16-byte vectors keep their width."""
    width = live = x.lanes
    while live > 1:
        live //= 2
        if live * x.dtype.bytes >= 16:
            low = Shuffle(x, x, tuple(range(live)), VecType(x.dtype, live))
            high = Shuffle(x, x, tuple(range(live, 2 * live)), VecType(x.dtype, live))
            x, width = b.let(binary(op, low, high)), live
        else:
            pattern = tuple((lane + live) % width for lane in range(width))
            x = b.let(binary(op, x, Shuffle(x, x, pattern, x.type)))
    return Shuffle(x, x, (0,), VecType(x.dtype))


Lowering = Callable[..., Expr]

LOWERINGS: dict[str, Lowering] = {
    "abs": _absolute,
    "copysign": _copy_sign,
    "isnan": _is_nan,
    "isinf": _is_infinite,
    "greater": _greater,
    "lesser": _lesser,
    "max": _maximum,
    "min": _minimum,
    "round": _round,
    "floor": _floor,
    "ceil": _ceil,
    "trunc": _truncate,
    "div": _divide,
    "rem": _remainder,
    "shl": _shift_left,
    "shr": _shift_right,
}
"""Operation -> body(recorder, *operands): what any C-family target can fall back to."""

__all__ = [
    "FORMATS",
    "LOWERINGS",
    "FloatFormat",
    "Raw",
    "Recorder",
    "Unary",
    "decode",
    "encode",
    "fused_by_doubles",
    "raw_dtype",
    "reduce_lanes",
    "saturating_cast",
    "signed",
    "unsigned",
    "wrap_integer",
]

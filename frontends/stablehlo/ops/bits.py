"""Numbers by their bits: counts, conversions between widths, rounding to narrower formats, neighbours."""

from __future__ import annotations

from aino_ir.dtypes import DTYPES, float_info
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value


class Words:
    """Arithmetic on unsigned integers of one width."""

    def __init__(self, c: OpContext, bits: int) -> None:
        self.c = c
        self.bits = bits
        self.dtype = DTYPES[f"u{bits}"]

    def of(self, x: Value) -> Value:
        """The bits of a value of that width."""
        return x if x.dtype is self.dtype else self.c.emit("bitcast", x, to=self.dtype)

    def __call__(self, op: str, *operands: Value | int) -> Value:
        """The result of an op on words."""
        words = (x if isinstance(x, Value) else self.c.scalar(x, self.dtype) for x in operands)
        return self.c.emit(op, *words)

    def repeated(self, pattern: int, width: int) -> int:
        """A pattern of so many bits again and again."""
        return sum(pattern << at for at in range(0, self.bits, width))


def ones(w: Words, x: Value) -> Value:
    """How many bits are set: sums of pairs, then of fours, then of bytes."""
    x = w("sub", x, w("bitwise_and", w("shift_right", x, 1), w.repeated(1, 2)))
    threes = w.repeated(3, 4)
    x = w("add", w("bitwise_and", x, threes), w("bitwise_and", w("shift_right", x, 2), threes))
    x = w("bitwise_and", w("add", x, w("shift_right", x, 4)), w.repeated(15, 8))
    step = 8
    while step < w.bits:
        x = w("add", x, w("shift_right", x, step))
        step *= 2
    return w("bitwise_and", x, 2 * w.bits - 1)


def population(c: OpContext, x: Value) -> Value:
    """How many bits of each number are set."""
    w = Words(c, x.dtype.bits)
    return c.cast(ones(w, w.of(x)), x.dtype)


def leading_zeros(c: OpContext, x: Value) -> Value:
    """How many bits above the highest one are clear: all bits below it are set and counted."""
    w = Words(c, x.dtype.bits)
    y = w.of(x)
    step = 1
    while step < w.bits:
        y = w("bitwise_or", y, w("shift_right", y, step))
        step *= 2
    return c.cast(w("sub", w.bits, ones(w, y)), x.dtype)


def bitcast(c: OpContext, x: Value) -> Value:
    """The same bits, those of a last axis of several narrow numbers taken for a wide one or back."""
    if x.dtype is c.dtype:
        return x
    if x.dtype.is_bool or c.dtype.is_bool or min(x.dtype.bits, c.dtype.bits) < 8:
        c.unsupported("numbers of less than a byte")
    if x.dtype.bits == c.dtype.bits:
        return c.emit("bitcast", x, to=c.dtype)
    narrow, wide = sorted((x.dtype.bits, c.dtype.bits))
    count = wide // narrow
    w = Words(c, wide)
    places = c.cast(
        c.emit("mul", c.emit("range", size=count, dtype="i64"), c.scalar(narrow, DTYPES["i64"])), w.dtype
    )
    if x.dtype.bits == wide:
        spread = w("shift_right", c.reshape(w.of(x), (*x.shape, 1)), places)
        part = c.cast(w("bitwise_and", spread, (1 << narrow) - 1), DTYPES[f"u{narrow}"])
        return part if part.dtype is c.dtype else c.emit("bitcast", part, to=c.dtype)
    shifted = w("shift_left", c.cast(Words(c, narrow).of(x), w.dtype), places)
    joined = c.emit("reduce.sum", shifted, axes=(x.rank - 1,), keepdims=False)
    return joined if joined.dtype is c.dtype else c.emit("bitcast", joined, to=c.dtype)


def reduce_precision(c: OpContext, x: Value) -> Value:
    """x rounded half to even to so many exponent and mantissa bits; too small is zero, too large infinite."""
    info = float_info(x.dtype)
    exponent, mantissa = c.integer("exponent_bits"), c.integer("mantissa_bits")
    w = Words(c, x.dtype.bits)
    bits = w.of(x)
    own = int(info.nmant)
    if mantissa < own:
        cut = own - mantissa
        last = w("bitwise_and", w("shift_right", bits, cut), 1)
        bits = w("add", bits, w("add", last, (1 << (cut - 1)) - 1))
        bits = w("bitwise_and", bits, ((1 << w.bits) - 1) & ~((1 << cut) - 1))
    rounded = c.emit("bitcast", bits, to=x.dtype)
    if exponent < info.nexp:
        bias = (1 << (exponent - 1)) - 1
        size = c.emit("abs", rounded)
        least, above = c.scalar(2.0 ** (1 - bias), x.dtype), c.scalar(2.0 ** (bias + 1), x.dtype)
        zero = c.emit("mul", rounded, c.scalar(0.0, x.dtype))
        huge = c.emit("mul", rounded, c.scalar(float("inf"), x.dtype))
        rounded = c.emit("select", c.emit("ge", size, above), huge, rounded)
        rounded = c.emit("select", c.emit("lt", size, least), zero, rounded)
    return c.emit("select", c.emit("is_nan", x), x, rounded)


def next_after(c: OpContext, x: Value, y: Value) -> Value:
    """The neighbour of x on the way to y; y itself where they are equal."""
    w = Words(c, x.dtype.bits)
    bits, sign = w.of(x), 1 << (w.bits - 1)
    zero = c.scalar(0, x.dtype)
    at_zero = c.emit("eq", x, zero)
    upwards = c.emit("gt", y, x)
    grows = c.emit("eq", upwards, c.emit("gt", x, zero))
    moved = c.emit("select", grows, w("add", bits, 1), w("sub", bits, 1))
    least = c.emit("select", upwards, c.scalar(1, w.dtype), c.scalar(sign | 1, w.dtype))
    found = c.emit("bitcast", c.emit("select", at_zero, least, moved), to=x.dtype)
    found = c.emit("select", c.emit("eq", x, y), y, found)
    unknown = c.emit("logical_or", c.emit("is_nan", x), c.emit("is_nan", y))
    return c.emit("select", unknown, c.emit("add", x, y), found)


ROWS: dict[str, Row] = {
    "chlo.next_after": next_after,
    "stablehlo.bitcast_convert": bitcast,
    "stablehlo.count_leading_zeros": leading_zeros,
    "stablehlo.popcnt": population,
    "stablehlo.reduce_precision": reduce_precision,
}

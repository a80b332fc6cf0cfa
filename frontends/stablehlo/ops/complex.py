"""Operations on complex numbers: parts, arithmetic, functions, products, Fourier transforms.

`PARTWISE` operations do the same to real and imaginary parts; the others have rows of their own in `COMPLEX`.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np

from aino_ir.dtypes import DType
from aino_ir.frontends.complex_numbers import (
    Complex,
    Number,
    Parts,
    binary,
    by_parts,
    cosine,
    hyperbolic_sine,
    hyperbolic_tangent,
    sign,
    sine,
    transformed,
    unary,
)
from aino_ir.frontends.stablehlo.context import OpContext, is_complex
from aino_ir.frontends.stablehlo.ops.products import dot_general
from aino_ir.graph import Value

FOR_BOTH = frozenset({"stablehlo.case", "stablehlo.if", "stablehlo.optimization_barrier", "stablehlo.while"})
"""Operations whose rows take complex numbers as they are."""

PARTWISE = frozenset(
    f"stablehlo.{name}"
    for name in (
        "broadcast_in_dim concatenate dynamic_broadcast_in_dim dynamic_gather dynamic_pad dynamic_reshape"
        " dynamic_slice dynamic_update_slice gather pad real_dynamic_slice reshape reverse slice transpose"
    ).split()
)
"""Operations that move elements."""


def constant(c: OpContext) -> Complex:
    """Dense elements; jaxlib does not hand complex ones over but as text."""
    text = c.op.get_asm().partition("dense<")[2].rpartition("> :")[0]
    if text.startswith('"0x'):
        flat = np.frombuffer(bytes.fromhex(text.strip('"')[2:]), c.dtype.numpy)
    else:
        pairs = _PAIR.findall(text)
        flat = np.array([[_number(part, c.dtype) for part in pair] for pair in pairs]).astype(c.dtype.numpy)
    parts = np.broadcast_to(flat.reshape(-1, 2), (math.prod(c.shape), 2))
    return Complex(*(c.b.constant(np.ascontiguousarray(parts[:, n]).reshape(c.shape)) for n in (0, 1)))


_PAIR = re.compile(r"\(([^,()]+),([^,()]+)\)")


def _number(text: str, dtype: DType) -> Any:
    """A number as MLIR writes it: decimal, or by its bits."""
    if not text.startswith("0x"):
        return float(text)
    return np.array(int(text, 16), f"u{dtype.bytes}").view(dtype.numpy)[()]


def real(c: OpContext, x: Number) -> Value:
    """The real part."""
    return x.real if isinstance(x, Complex) else x


def imaginary(c: OpContext, x: Number) -> Value:
    """The imaginary part."""
    return x.imaginary if isinstance(x, Complex) else c.filled(x.shape, 0, x.dtype)


def join(c: OpContext, re: Value, im: Value) -> Complex:
    """Complex numbers of two parts."""
    return Complex(re, im)


def size(c: OpContext, x: Complex) -> Value:
    """|x|"""
    return Parts(c, c.dtype).size(x)


def compare(c: OpContext, x: Complex, y: Complex) -> Value:
    """Whether both parts are the same, or one differs."""
    pairs = ((x.real, y.real), (x.imaginary, y.imaginary))
    same = c.emit("logical_and", *(c.emit("eq", a, b) for a, b in pairs))
    return same if c.word("comparison_direction") == "EQ" else c.emit("logical_not", same)


def convert(c: OpContext, x: Number) -> Number:
    """Other parts; real numbers get imaginary part zero, complex ones lose theirs."""
    if is_complex(c.op.results[0].type):
        return Parts(c, c.dtype).of(x)
    return c.cast(x.real, c.dtype)


def select(c: OpContext, condition: Value, x: Complex, y: Complex) -> Complex:
    """x where the condition holds."""
    pairs = ((x.real, y.real), (x.imaginary, y.imaginary))
    return Complex(*(c.emit("select", condition, a, b) for a, b in pairs))


def power(p: Parts, x: Complex, y: Complex) -> Complex:
    """e ** (y log x); 1 for exponent 0, 0 for base 0."""
    c, value = p.c, p.exp(p.times(y, p.log(x)))
    gone = c.emit("logical_and", p("eq", x.real, 0.0), p("eq", x.imaginary, 0.0))
    none = c.emit("logical_and", p("eq", y.real, 0.0), p("eq", y.imaginary, 0.0))
    re = c.emit("select", none, p.number(1.0), c.emit("select", gone, p.number(0.0), value.real))
    im = c.emit("select", c.emit("logical_or", gone, none), p.number(0.0), value.imaginary)
    return Complex(re, im)


def product(c: OpContext, x: Number, y: Number) -> Complex:
    """Four real contractions."""
    p = Parts(c, c.dtype)
    a, b = p.of(x), p.of(y)
    return Complex(
        c.emit("sub", dot_general(c, a.real, b.real), dot_general(c, a.imaginary, b.imaginary)),
        c.emit("add", dot_general(c, a.real, b.imaginary), dot_general(c, a.imaginary, b.real)),
    )


def reduce(c: OpContext, x: Complex, start: Complex) -> Complex:
    """A sum."""
    from aino_ir.frontends.stablehlo.ops.reductions import combiner_of

    if combiner_of(c.op.regions[0]) != "add":
        c.unsupported("complex numbers in a region that is no sum")
    axes = c.integers("dimensions")
    total = Complex(
        *(c.emit("reduce.sum", part, axes=axes, keepdims=False) for part in (x.real, x.imaginary))
    )
    return Parts(c, c.dtype).plus(total, start)


def scatter(c: OpContext, *operands: Number) -> Any:
    """An assignment or a sum, part by part."""
    from aino_ir.frontends.stablehlo.ops import scatters
    from aino_ir.frontends.stablehlo.ops.reductions import combiner_of

    if combiner_of(c.op.regions[0]) not in ("second", "add"):
        c.unsupported("a scatter of complex numbers that is no assignment or sum")
    return by_parts(c, partial(scatters.scatter, c, *operands))


def fft(c: OpContext, x: Number) -> Number:
    """Fourier transforms along the last axes; those of real numbers keep what symmetry does not tell."""
    kind, lengths = c.word("fft_type"), c.integers("fft_length")
    rank = x.rank
    axes = list(range(rank - len(lengths), rank))
    if 0 in x.shape:
        c.unsupported("no numbers")
    p = Parts(c, c.dtype)
    count = float(np.prod(lengths))
    if kind == "FFT":
        return transformed(c, p.of(x), axes, True)
    if kind == "IFFT":
        return _divided(p, transformed(c, p.of(x), axes, False), count)
    if kind == "RFFT":
        y = transformed(c, p.of(x), axes, True)
        kept = lengths[-1] // 2 + 1
        return Complex(*(c.cut(part, rank - 1, 0, kept) for part in (y.real, y.imaginary)))
    y = transformed(c, x, axes[:-1], False)
    whole = transformed(c, _mirrored(c, y, lengths[-1]), axes[-1:], False)
    return _divided(p, whole, count).real


def _mirrored(c: OpContext, x: Complex, length: int) -> Complex:
    """The transform of a real line of so many places from its first half: the rest is conjugated."""
    last, rest = x.rank - 1, (length - 1) // 2
    if rest == 0:
        return x
    starts = [rest if a == last else 0 for a in range(x.rank)]
    sizes = [rest if a == last else d for a, d in enumerate(x.shape)]
    steps = [-1 if a == last else 1 for a in range(x.rank)]
    tails = [c.emit("slice", v, starts=starts, sizes=sizes, steps=steps) for v in (x.real, x.imaginary)]
    tails[1] = c.emit("neg", tails[1])
    pairs = zip((x.real, x.imaginary), tails, strict=True)
    return Complex(*(c.emit("concat", v, tail, axis=last) for v, tail in pairs))


def _divided(p: Parts, x: Complex, count: float) -> Complex:
    return Complex(p("mul", x.real, 1 / count), p("mul", x.imaginary, 1 / count))


def one(p: Parts) -> Complex:
    """The number 1."""
    return p.of(1.0)


COMPLEX: dict[str, Any] = {
    "chlo.conj": lambda c, x: Complex(x.real, c.emit("neg", x.imaginary)),
    "chlo.cosh": unary(lambda p, x: cosine(p, p.turned(x))),
    "chlo.sinh": unary(hyperbolic_sine),
    "chlo.square": unary(lambda p, x: p.times(x, x)),
    "stablehlo.abs": size,
    "stablehlo.add": binary(Parts.plus),
    "stablehlo.compare": compare,
    "stablehlo.complex": join,
    "stablehlo.constant": constant,
    "stablehlo.convert": convert,
    "stablehlo.cosine": unary(cosine),
    "stablehlo.divide": binary(Parts.over),
    "stablehlo.dot_general": product,
    "stablehlo.exponential": unary(Parts.exp),
    "stablehlo.exponential_minus_one": unary(lambda p, x: p.plus(p.exp(x), one(p), "sub")),
    "stablehlo.fft": fft,
    "stablehlo.imag": imaginary,
    "stablehlo.log": unary(Parts.log),
    "stablehlo.log_plus_one": unary(lambda p, x: p.log(p.plus(x, one(p)))),
    "stablehlo.logistic": unary(lambda p, x: p.over(one(p), p.plus(one(p), p.exp(p.times(x, p.of(-1.0)))))),
    "stablehlo.multiply": binary(Parts.times),
    "stablehlo.negate": unary(lambda p, x: Complex(p("neg", x.real), p("neg", x.imaginary))),
    "stablehlo.power": binary(power),
    "stablehlo.real": real,
    "stablehlo.reduce": reduce,
    "stablehlo.rsqrt": unary(lambda p, x: p.over(one(p), p.sqrt(x))),
    "stablehlo.scatter": scatter,
    "stablehlo.select": select,
    "stablehlo.sign": unary(sign),
    "stablehlo.sine": unary(sine),
    "stablehlo.sqrt": unary(Parts.sqrt),
    "stablehlo.subtract": binary(lambda p, x, y: p.plus(x, y, "sub")),
    "stablehlo.tanh": unary(hyperbolic_tangent),
}
"""Rows of operations that take or give complex numbers."""

"""Complex numbers as two real values, and arithmetic on them.

The IR computes with real numbers.  At the border of a module a complex tensor of shape [...] is one real
tensor [..., 2]; inside, every operation on complex numbers becomes operations on their parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aino_ir.dims import Dim, DimLike
from aino_ir.dtypes import DType
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value
from aino_ir.ops.signal import roots_of_unity

Number = Any
"""A complex or real tensor, or a plain number."""


@dataclass(frozen=True)
class Complex:
    """A complex tensor being lowered.

    Attributes:
        real, imaginary: values of one type.
    """

    real: Value
    imaginary: Value

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Extents."""
        return self.real.shape

    @property
    def rank(self) -> int:
        """Number of axes."""
        return self.real.rank


def split(e: Emitter, pairs: Value) -> Complex:
    """Real [..., 2] as complex numbers."""
    axis = pairs.rank - 1
    parts = [e.reshape(e.cut(pairs, axis, part, 1), pairs.shape[:-1]) for part in (0, 1)]
    return Complex(*parts)


def joined(e: Emitter, x: Complex) -> Value:
    """Complex numbers as real [..., 2]."""
    columns = [e.reshape(part, (*x.shape, 1)) for part in (x.real, x.imaginary)]
    return e.emit("concat", *columns, axis=x.rank)


def parts_of(values: Sequence[Any]) -> list[Value]:
    """Values in order, complex ones as their two parts."""
    return [p for v in values for p in ((v.real, v.imaginary) if isinstance(v, Complex) else (v,))]


def whole_of(values: Sequence[Value], are_complex: Sequence[bool]) -> list[Any]:
    """What `parts_of` took apart."""
    parts = iter(values)
    return [Complex(next(parts), next(parts)) if two else next(parts) for two in are_complex]


def by_parts(e: Emitter, call: partial[Any]) -> Any:
    """Complex results of a row that is called for real and for imaginary parts.

    The imaginary part of a real tensor of floats, and of a number to fill up with, is zero.
    """

    def part(name: str, value: Any, imaginary: bool) -> Any:
        if isinstance(value, (Complex, complex)):
            real, other = (
                (value.real, value.imaginary) if isinstance(value, Complex) else (value.real, value.imag)
            )
            return other if imaginary else real
        if isinstance(value, (list, tuple)):
            return [part(name, v, imaginary) for v in value]
        if imaginary and isinstance(value, Value) and value.dtype.is_float:
            return e.filled(value.shape, 0, value.dtype)
        return 0 if imaginary and name == "value" else value

    results = []
    for imaginary in (False, True):
        named = {k: part(k, v, imaginary) for k, v in call.keywords.items()}
        results.append(call.func(*(part("", a, imaginary) for a in call.args), **named))
    real, other = results
    if isinstance(real, Value):
        return Complex(real, other)
    return [Complex(r, i) if isinstance(r, Value) else None for r, i in zip(real, other, strict=True)]


class Parts:
    """Arithmetic on complex numbers in one real dtype."""

    def __init__(self, c: Emitter, dtype: DType) -> None:
        self.c = c
        self.dtype = dtype

    def of(self, x: Number) -> Complex:
        """A tensor or number as a complex tensor of the dtype."""
        if isinstance(x, Complex):
            return Complex(self.c.cast(x.real, self.dtype), self.c.cast(x.imaginary, self.dtype))
        if isinstance(x, complex):
            return Complex(self.c.scalar(x.real, self.dtype), self.c.scalar(x.imag, self.dtype))
        real = self._real(x)
        return Complex(real, self.c.filled(real.shape, 0, self.dtype))

    def _real(self, x: Any) -> Value:
        if isinstance(x, Value):
            return self.c.cast(x, self.dtype)
        if isinstance(x, Dim):
            return self.c.cast(self.c.reshape(self.c.b.dims_vector([x]), ()), self.dtype)
        return self.c.scalar(x, self.dtype)

    def number(self, x: float) -> Value:
        """A real number."""
        return self.c.scalar(x, self.dtype)

    def __call__(self, op: str, *operands: Value | float) -> Value:
        """A real op."""
        return self.c.emit(op, *(x if isinstance(x, Value) else self.number(x) for x in operands))

    def plus(self, x: Complex, y: Complex, op: str = "add") -> Complex:
        """x + y, or x - y."""
        return Complex(self(op, x.real, y.real), self(op, x.imaginary, y.imaginary))

    def times(self, x: Complex, y: Complex, op: str = "mul") -> Complex:
        """x y"""
        real = self("sub", self(op, x.real, y.real), self(op, x.imaginary, y.imaginary))
        return Complex(real, self("add", self(op, x.real, y.imaginary), self(op, x.imaginary, y.real)))

    def over(self, x: Complex, y: Complex) -> Complex:
        """x / y, scaled by the larger part of y (Smith 1962)."""
        wide = self("ge", self("abs", y.real), self("abs", y.imaginary))
        large = self.c.emit("select", wide, y.real, y.imaginary)
        small = self.c.emit("select", wide, y.imaginary, y.real)
        ratio = self("div", small, large)
        divisor = self("add", large, self("mul", small, ratio))
        straight = self("add", x.real, self("mul", x.imaginary, ratio))
        crossed = self("add", self("mul", x.real, ratio), x.imaginary)
        down = self("sub", x.imaginary, self("mul", x.real, ratio))
        back = self("sub", self("mul", x.imaginary, ratio), x.real)
        return Complex(
            self("div", self.c.emit("select", wide, straight, crossed), divisor),
            self("div", self.c.emit("select", wide, down, back), divisor),
        )

    def size(self, x: Complex) -> Value:
        """|x|, without overflow on the way."""
        a, b = self("abs", x.real), self("abs", x.imaginary)
        large, small = self("max", a, b), self("min", a, b)
        safe = self.c.emit("select", self("eq", large, 0.0), self.number(1.0), large)
        ratio = self("div", small, safe)
        value = self("mul", large, self("sqrt", self("add", self("mul", ratio, ratio), 1.0)))
        infinite = self.c.emit("logical_or", self.c.emit("is_inf", a), self.c.emit("is_inf", b))
        return self.c.emit("select", infinite, self.number(math.inf), value)

    def polar(self, size: Value, angle: Value) -> Complex:
        """The number of a magnitude and an angle."""
        return Complex(self("mul", size, self("cos", angle)), self("mul", size, self("sin", angle)))

    def exp(self, x: Complex) -> Complex:
        """e^x"""
        return self.polar(self("exp", x.real), x.imaginary)

    def log(self, x: Complex) -> Complex:
        """The principal logarithm."""
        return Complex(self("log", self.size(x)), self("atan2", x.imaginary, x.real))

    def sqrt(self, x: Complex) -> Complex:
        """The principal root: the roots of (|x| + re) / 2 and, signed as im, of (|x| - re) / 2."""
        size = self.size(x)
        real = self("sqrt", self("mul", self("max", self("add", size, x.real), 0.0), 0.5))
        side = self("sqrt", self("mul", self("max", self("sub", size, x.real), 0.0), 0.5))
        return Complex(real, self.c.emit("select", self("lt", x.imaginary, 0.0), self("neg", side), side))

    def turned(self, x: Complex) -> Complex:
        """i x"""
        return Complex(self("neg", x.imaginary), x.real)


def sine(p: Parts, x: Complex) -> Complex:
    """sin a cosh b + i cos a sinh b"""
    return Complex(
        p("mul", p("sin", x.real), p("cosh", x.imaginary)),
        p("mul", p("cos", x.real), p("sinh", x.imaginary)),
    )


def cosine(p: Parts, x: Complex) -> Complex:
    """cos a cosh b - i sin a sinh b"""
    side = p("mul", p("sin", x.real), p("sinh", x.imaginary))
    return Complex(p("mul", p("cos", x.real), p("cosh", x.imaginary)), p("neg", side))


def hyperbolic_sine(p: Parts, x: Complex) -> Complex:
    """-i sin(i x)"""
    y = sine(p, p.turned(x))
    return Complex(y.imaginary, p("neg", y.real))


def hyperbolic_tangent(p: Parts, x: Complex) -> Complex:
    """sinh / cosh"""
    return p.over(hyperbolic_sine(p, x), cosine(p, p.turned(x)))


def sign(p: Parts, x: Complex) -> Complex:
    """x / |x|, and 0 for 0."""
    size = p.size(x)
    gone = p("eq", size, 0.0)
    safe = p.c.emit("select", gone, p.number(1.0), size)
    return Complex(p("div", x.real, safe), p("div", x.imaginary, safe))


def transformed(c: Emitter, x: Complex, axes: Sequence[int], forward: bool) -> Complex:
    """The Fourier sums over several axes of known extents, not divided by anything."""
    pairs = joined(c, x)
    for axis in axes:
        n = int(pairs.shape[axis])
        perm = [*(a for a in range(x.rank) if a != axis), axis, x.rank]
        moved = perm != list(range(x.rank + 1))
        roots = c.b.constant(roots_of_unity(n, pairs.dtype.compute))
        line = c.emit("transpose", pairs, perm=perm) if moved else pairs
        y = c.emit("signal.fft", line, roots, inverse=not forward)
        if not forward:  # the op divides by n
            y = c.emit("mul", y, c.scalar(n, y.dtype))
        back = sorted(range(len(perm)), key=perm.__getitem__)
        pairs = c.emit("transpose", y, perm=back) if moved else y
    return split(c, pairs)


# -- rows of tables -----------------------------------------------------------------------------------


def unary(function: Callable[[Parts, Complex], Complex]) -> Any:
    """A frontend's row for a function of one complex number; the context tells the dtype of its parts."""

    def lower(c: Any, x: Number) -> Complex:
        p = Parts(c, c.dtype)
        return function(p, p.of(x))

    return lower


def binary(function: Callable[[Parts, Complex, Complex], Complex]) -> Any:
    """A frontend's row for a function of two."""

    def lower(c: Any, x: Number, other: Number) -> Complex:
        p = Parts(c, c.dtype)
        return function(p, p.of(x), p.of(other))

    return lower

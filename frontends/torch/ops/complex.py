"""Operators on complex numbers: parts, arithmetic, functions, products, Fourier transforms.

`PARTWISE` operators do the same to real and imaginary parts; the others have rows of their own in `COMPLEX`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType
from aino_ir.frontends.complex_numbers import (
    Complex,
    Number,
    Parts,
    binary,
    cosine,
    hyperbolic_sine,
    hyperbolic_tangent,
    joined,
    sign,
    sine,
    split,
    unary,
)
from aino_ir.frontends.complex_numbers import transformed as fourier_sums
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.frontends.torch.ops.elementwise import to_dtype
from aino_ir.graph import Value


def scaled_sum(op: str) -> Any:
    """A row for x + alpha * other or x - alpha * other."""

    def lower(c: NodeContext, x: Number, other: Number, alpha: Number = 1) -> Complex:
        p = Parts(c, c.dtype)
        y = p.of(other) if alpha == 1 else p.times(p.of(other), p.of(alpha))
        return p.plus(p.of(x), y, op)

    return lower


def divide(c: NodeContext, x: Number, other: Number, rounding_mode: str | None = None) -> Complex:
    """The quotient."""
    p = Parts(c, c.dtype)
    return p.over(p.of(x), p.of(other))


def power(c: NodeContext, x: Number, exponent: Number) -> Complex:
    """x ** exponent, as e^(exponent log x); 1 for exponent 0."""
    p = Parts(c, c.dtype)
    base, to = p.of(x), p.of(exponent)
    if exponent == 2:
        return p.times(base, base)
    value = p.exp(p.times(to, p.log(base)))
    none = c.emit("logical_and", p("eq", to.real, 0.0), p("eq", to.imaginary, 0.0))
    gone = c.emit("logical_and", p("eq", base.real, 0.0), p("eq", base.imaginary, 0.0))
    real = c.emit("select", gone, p.number(0.0), value.real)
    side = c.emit("select", c.emit("logical_or", gone, none), p.number(0.0), value.imaginary)
    return Complex(c.emit("select", none, p.number(1.0), real), side)


def conjugate(c: NodeContext, x: Number) -> Number:
    """The imaginary part negated."""
    return Complex(x.real, c.emit("neg", x.imaginary)) if isinstance(x, Complex) else x


def unchanged(c: NodeContext, x: Number) -> Number:
    """x itself."""
    return x


def negated(c: NodeContext, x: Number) -> Number:
    """-x"""
    if isinstance(x, Complex):
        return Complex(c.emit("neg", x.real), c.emit("neg", x.imaginary))
    return c.emit("neg", x)


def real_part(c: NodeContext, x: Complex) -> Value:
    """The real part."""
    return x.real


def imaginary_part(c: NodeContext, x: Complex) -> Value:
    """The imaginary part."""
    return x.imaginary


def magnitude(c: NodeContext, x: Complex) -> Value:
    """|x|"""
    return Parts(c, x.real.dtype).size(x)


def angle(c: NodeContext, x: Complex) -> Value:
    """The angle of x, in -pi..pi."""
    return c.emit("atan2", x.imaginary, x.real)


def from_parts(
    c: NodeContext, real: Value | None = None, imag: Value | None = None, x: Any = None
) -> Complex:
    """Complex numbers of real and imaginary parts."""
    assert real is not None and imag is not None
    wide = [v if v.shape == c.shape else c.emit("expand", v, shape=c.shape) for v in (real, imag)]
    return Complex(*wide)


def from_polar(c: NodeContext, abs: Value, angle: Value) -> Complex:
    """Complex numbers of magnitudes and angles."""
    return Parts(c, c.dtype).polar(abs, angle)


def as_pairs(c: NodeContext, x: Complex) -> Value:
    """Parts as a last axis of two."""
    return joined(c, x)


def from_pairs(c: NodeContext, x: Value) -> Complex:
    """A last axis of two as parts."""
    return split(c, x)


def convert(c: NodeContext, x: Number, dtype: DType | None = None) -> Number:
    """Into another dtype: real numbers get no imaginary part, complex ones lose theirs."""
    if c.gives_complex:
        return Parts(c, c.dtype).of(x)
    return to_dtype(c, x.real, c.dtype)


def equal(c: NodeContext, x: Number, other: Number) -> Value:
    """Whether both parts are the same."""
    p = Parts(c, (x if isinstance(x, Complex) else other).real.dtype)
    a, b = p.of(x), p.of(other)
    return c.emit("logical_and", p("eq", a.real, b.real), p("eq", a.imaginary, b.imaginary))


def unequal(c: NodeContext, x: Number, other: Number) -> Value:
    """Whether a part differs."""
    return c.emit("logical_not", equal(c, x, other))


def either(op: str) -> Any:
    """A row for a test that holds when it holds for a part."""

    def lower(c: NodeContext, x: Complex) -> Value:
        return c.emit("logical_or", c.emit(op, x.real), c.emit(op, x.imaginary))

    return lower


def product(
    c: NodeContext, x: Number, other: Number = None, mat2: Number = None, vec: Number = None
) -> Complex:
    """Products of matrices and vectors: four real ones."""
    from aino_ir.frontends.torch.ops import contraction

    second = next(v for v in (other, mat2, vec) if v is not None)
    p = Parts(c, c.dtype)

    def real(a: Value, b: Value) -> Value:
        return c.reshape(contraction.product(c, a, b), c.shape)

    a, b = p.of(x), p.of(second)
    return Complex(
        c.emit("sub", real(a.real, b.real), real(a.imaginary, b.imaginary)),
        c.emit("add", real(a.real, b.imaginary), real(a.imaginary, b.real)),
    )


def filled(c: NodeContext, value: Number) -> Complex:
    """One number in the shape that torch says."""
    number = Parts(c, c.dtype).of(value)
    return Complex(*(c.emit("expand", v, shape=c.shape) for v in (number.real, number.imaginary)))


def full(c: NodeContext, size: Any, fill_value: Number, dtype: Any = None) -> Complex:
    """One number in a shape."""
    return filled(c, fill_value)


def full_like(c: NodeContext, x: Number, fill_value: Number, dtype: Any = None) -> Complex:
    """One number in the shape of another tensor."""
    return filled(c, fill_value)


def constant_in(number: float) -> Any:
    """A row for zeros, ones and tensors without contents (which are zero here)."""

    def lower(c: NodeContext, x: Any = None, size: Any = (), stride: Any = (), dtype: Any = None) -> Complex:
        return filled(c, number)

    return lower


# -- Fourier transforms -------------------------------------------------------------------------------


def transformed(c: NodeContext, x: Complex, axes: Sequence[int], forward: bool) -> Complex:
    """The sums over several axes, not divided by anything."""
    if not all(is_static(x.shape[a]) for a in axes):
        c.unsupported("a Fourier transform of a symbolic extent")
    return fourier_sums(c, x, axes, forward)


def normalised(c: NodeContext, x: Complex, extents: Sequence[DimLike], mode: int) -> Complex:
    """Divided by nothing (0), by the root of the number of elements (1), or by that number (2)."""
    count = 1
    for extent in extents:
        count *= int(extent)  # type: ignore[arg-type]
    if mode == 0 or count == 0:
        return x
    share = c.scalar(1 / math.sqrt(count) if mode == 1 else 1 / count, x.real.dtype)
    return Complex(c.emit("mul", x.real, share), c.emit("mul", x.imaginary, share))


def complex_to_complex(
    c: NodeContext, x: Complex, dim: Sequence[int], normalization: int, forward: bool
) -> Complex:
    """The transform of complex numbers."""
    axes = c.axes(list(dim), x.rank) if dim else ()
    return normalised(c, transformed(c, x, axes, forward), [x.shape[a] for a in axes], normalization)


def real_to_complex(
    c: NodeContext, x: Value, dim: Sequence[int], normalization: int, onesided: bool
) -> Complex:
    """The transform of real numbers; one-sided, without what follows by symmetry on the last axis."""
    axes = c.axes(list(dim), x.rank)
    wide = Parts(c, c.dtype).of(x)
    y = normalised(c, transformed(c, wide, axes, True), [x.shape[a] for a in axes], normalization)
    if not onesided:
        return y
    last = axes[-1]
    kept = int(x.shape[last]) // 2 + 1
    return Complex(*(c.cut(part, last, 0, kept) for part in (y.real, y.imaginary)))


def complex_to_real(
    c: NodeContext, x: Complex, dim: Sequence[int], normalization: int, last_dim_size: DimLike
) -> Value:
    """The inverse of the one-sided transform: what is missing on the last axis is mirrored and conjugated."""
    axes = c.axes(list(dim), x.rank)
    last, size = axes[-1], last_dim_size
    if not is_static(size):
        c.unsupported("a Fourier transform of a symbolic extent")
    y = transformed(c, x, axes[:-1], False)
    count = int(size)  # type: ignore[arg-type]
    parts = [c.cut(part, last, 0, count // 2 + 1) for part in (y.real, y.imaginary)]
    mirrored = (count - 1) // 2
    if mirrored:
        starts = [mirrored if a == last else 0 for a in range(x.rank)]
        steps = [-1 if a == last else 1 for a in range(x.rank)]
        sizes = [mirrored if a == last else d for a, d in enumerate(x.shape)]
        tails = [c.emit("slice", part, starts=starts, sizes=sizes, steps=steps) for part in parts]
        tails[1] = c.emit("neg", tails[1])
        parts = [c.emit("concat", part, tail, axis=last) for part, tail in zip(parts, tails, strict=True)]
    whole = transformed(c, Complex(*parts), axes[-1:], False)
    extents = [count if a == last else x.shape[a] for a in axes]
    return normalised(c, whole, extents, normalization).real


PARTWISE = frozenset(
    f"aten.{name}"
    for name in (
        "_reshape_copy _unsafe_view alias as_strided cat chunk clone constant_pad_nd copy cumsum detach"
        " diagonal expand flip gather index.Tensor index_select lift_fresh_copy mean narrow permute positive"
        " repeat roll select.int slice.Tensor split.Tensor split_with_sizes squeeze stack sum t take"
        " transpose.int tril triu unbind.int unfold unsqueeze view.default where.self"
    ).split()
)
"""Linear operators with real coefficients, and those that move elements."""

COMPLEX: dict[str, Any] = {
    "aten._conj": conjugate,
    "aten._conj_physical": conjugate,
    "aten._fft_c2c": complex_to_complex,
    "aten._fft_c2r": complex_to_real,
    "aten._neg_view": negated,
    "aten._to_copy": convert,
    "aten.abs": magnitude,
    "aten.add": scaled_sum("add"),
    "aten.angle": angle,
    "aten.bmm.default": product,
    "aten.conj": conjugate,
    "aten.conj_physical": conjugate,
    "aten.cos": unary(cosine),
    "aten.cosh": unary(lambda p, x: cosine(p, p.turned(x))),
    "aten.div": divide,
    "aten.dot": product,
    "aten.empty": constant_in(0),
    "aten.empty_like": constant_in(0),
    "aten.eq": equal,
    "aten.exp": unary(Parts.exp),
    "aten.full": full,
    "aten.full_like": full_like,
    "aten.imag": imaginary_part,
    "aten.isinf": either("is_inf"),
    "aten.isnan": either("is_nan"),
    "aten.log": unary(Parts.log),
    "aten.matmul": product,
    "aten.mm.default": product,
    "aten.mul": binary(Parts.times),
    "aten.mv": product,
    "aten.ne": unequal,
    "aten.neg": negated,
    "aten.new_empty": constant_in(0),
    "aten.new_zeros": constant_in(0),
    "aten.ones": constant_in(1),
    "aten.ones_like": constant_in(1),
    "aten.pow": power,
    "aten.real": real_part,
    "aten.reciprocal": unary(lambda p, x: p.over(p.of(1.0), x)),
    "aten.resolve_conj": unchanged,
    "aten.resolve_neg": unchanged,
    "aten.sgn": unary(sign),
    "aten.sin": unary(sine),
    "aten.sinh": unary(hyperbolic_sine),
    "aten.sqrt": unary(Parts.sqrt),
    "aten.sub": scaled_sum("sub"),
    "aten.tanh": unary(hyperbolic_tangent),
    "aten.view_as_real": as_pairs,
    "aten.zeros": constant_in(0),
    "aten.zeros_like": constant_in(0),
}
"""Rows of operators that take or give complex tensors."""

TABLE: dict[str, Row] = {
    "aten._fft_c2c": complex_to_complex,
    "aten._fft_c2r": complex_to_real,
    "aten._fft_r2c": real_to_complex,
    "aten.complex": from_parts,
    "aten.polar": from_polar,
    "aten.view_as_complex": from_pairs,
    "aten.view_as_real": as_pairs,
}

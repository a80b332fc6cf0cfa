"""Conversions between dtypes, and choosing between values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.dims import Dim, DimLike
from aino_ir.dtypes import DType, boolean, f32, float_info, i32, i64, integer_range
from aino_ir.elementwise import Elementwise
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, cast, const, maximum, minimum, round_to, select, unary
from aino_ir.op import Sample, bool_attr, dtype_attr, operand, str_attr
from aino_ir.ops.math import SYMBOLIC, Array
from aino_ir.sampling import accepted_dtypes, edge_values, random_values, seeded
from aino_ir.symbolic import elementwise_dims, is_symbolic

INTEGERS = ("i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "i4")


class Cast(Elementwise):
    """out = x as dtype `to`.

    To bool: x != 0 (NaN is true).  Integer to integer wraps.  Float to integer drops the fraction;
    out of range it saturates and NaN gives 0 with `semantics` "saturate"; with "x86" it gives what
    torch and ONNX Runtime show there: the least i32 (through which 8 and 16 bit results wrap) or i64
    (through which u32 wraps; u64 above 2^63 is exact).  To a float it rounds half to even; to a
    storage dtype through its compute dtype (f64 to f16 rounds to f32 first).  A float too large
    becomes inf, or NaN where the format has none; with `saturate` the largest finite value.
    """

    name = "math.cast"
    traits = SYMBOLIC
    accepts = "any"
    x = operand()
    to = dtype_attr()
    semantics = str_attr("saturate")
    saturate = bool_attr(False)
    sample_attrs = (
        *({"to": to} for to in ("f32", "f64", "f16", "bf16", "bool", *INTEGERS)),
        *({"to": to, "semantics": "x86"} for to in INTEGERS),
        *({"to": to, "saturate": flag} for to in ("f8e4m3fn", "f8e5m2") for flag in (False, True)),
    )

    def result_dtype(self, ic: InferContext) -> DType:
        super().result_dtype(ic)
        if self.semantics not in ("saturate", "x86"):
            ic.bad_attribute("semantics", "saturate or x86", self.semantics)
        if not (self.to.is_float or self.to.is_integer or self.to.is_bool):
            ic.bad_attribute("to", "a real dtype", self.to)
        return self.to

    def expr(self, x: Expr) -> Expr:
        to, compute = self.to, self.to.compute
        if x.dtype.is_float and to.is_integer:
            return self._integer_expr(x)
        if x.dtype.is_float and to.is_float and self.saturate and not _is_wide(to):
            largest = largest_finite(to)
            x = select(unary("isnan", x), x, minimum(maximum(x, -largest), largest))
        return round_to(cast(x, compute), to)

    def _integer_expr(self, x: Expr) -> Expr:
        if self.semantics == "x86":
            return cast(_x86_expr(x, self.to), self.to.compute)
        y = cast(x, self.to.compute)
        if not self.to.is_storage:
            return y
        low, high = integer_range(self.to)
        return minimum(maximum(y, low), high)

    def evaluate(self, ev: Any, x: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda v: self._of_dim(ev.symbols, v), x)
        source, to = self.x.dtype, self.to
        if source.is_float and to.is_integer:
            whole = x86_integer(x, to) if self.semantics == "x86" else saturated_integer(x, to)
            return ev.cast(whole, to)  # type: ignore[no-any-return]
        if source.is_float and to.is_float and self.saturate and not _is_wide(to):
            x = np.clip(x, -largest_finite(to), largest_finite(to)).astype(x.dtype)
        if to.is_storage:
            x = x.astype(to.compute.numpy)
        return ev.cast(x != 0 if to.is_bool else x, to)  # type: ignore[no-any-return]

    def _of_dim(self, symbols: Any, v: DimLike) -> DimLike | None:
        if self.to.is_bool:
            zero = symbols.prove_eq(v, 0)
            return None if zero is None else not zero
        if not self.to.is_integer:
            return None
        low, high = integer_range(self.to)
        if isinstance(v, Dim):  # extents of 2^31 and more do not occur where a model stores them in 32 bits
            fits = self.to in (i64, i32) or (self.to.bits >= 32 and symbols.prove_ge(v, 0))
            return v if fits else None
        return ((v - low) & (high - low)) + low


class Select(Elementwise):
    """out = on_true if condition else on_false, all three broadcast; both sides are evaluated."""

    name = "math.select"
    traits = SYMBOLIC
    derive_samples = False
    condition = operand()
    on_true = operand()
    on_false = operand()

    def result_dtype(self, ic: InferContext) -> DType:
        condition = ic.tensor(self.condition, "condition").dtype
        if not condition.is_bool:
            ic.bad_dtype("dtype of condition", "bool", condition)
        return ic.same_dtype(self.on_true, self.on_false)

    def expr(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        return select(condition, a, b)

    def evaluate(self, ev: Any, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition.astype(bool), a, b)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("any"):
            edges = edge_values(dtype)
            flags = random_values(boolean, edges.shape, rng)
            yield Sample((flags, edges, edges[::-1].copy()), {}, f"{dtype} edges")
        for shapes in (((2, 1, 3), (4, 1), (3,)), ((0, 3), (3,), ()), ((), (5,), (5,)), ((), (), ())):
            kinds = (boolean, f32, f32)
            yield Sample(
                tuple(random_values(k, s, rng) for k, s in zip(kinds, shapes, strict=True)), {}, str(shapes)
            )


def _is_wide(dtype: DType) -> bool:
    """Whether a float dtype has more than 8 bits: those never saturate."""
    return dtype.bits > 8


def largest_finite(dtype: DType) -> float:
    """The largest finite value of a float dtype."""
    return float(float_info(dtype).max)


def saturated_integer(x: Array, to: DType) -> Array:
    """Floats truncated into the range of `to`; NaN gives 0."""
    low, high = integer_range(to)
    whole = np.where(np.isnan(x), 0.0, np.trunc(x.astype(np.float64)))
    inside = (whole > float(low)) & (whole < float(high))  # float(2^63 - 1) is 2^63: >= is out of range
    dtype = to.compute.numpy
    middle = np.where(inside, whole, 0.0).astype(dtype)
    return np.where(inside, middle, np.where(whole <= float(low), dtype.type(low), dtype.type(high)))


def x86_integer(x: Array, to: DType) -> Array:
    """Floats converted as cvttss2si and its kin do: the least integer stands for all that does not fit."""
    whole = np.trunc(x.astype(np.float64))
    if to.bits == 64 and not to.is_signed:
        upper = whole >= 2.0**63
        bits = _indefinite(np.where(upper, whole - 2.0**63, whole), i64).astype(np.uint64)
        return np.where(upper, bits ^ np.uint64(1 << 63), bits)
    through = i32 if to.bits < 32 or to is i32 else i64
    return _indefinite(whole, through)


def _indefinite(whole: Array, dtype: DType) -> Array:
    low, high = integer_range(dtype)
    fits = (whole >= float(low)) & (whole < float(high + 1))
    return np.where(fits, np.where(fits, whole, 0.0).astype(dtype.numpy), dtype.numpy.type(low))


def _x86_expr(x: Expr, to: DType) -> Expr:
    if to.bits == 64 and not to.is_signed:
        half = 2.0**63
        upper = x >= half
        bits = cast(_indefinite_expr(select(upper, x - half, x), i64), to)
        return select(upper, bits ^ (1 << 63), bits)
    through = i32 if to.bits < 32 or to is i32 else i64
    return _indefinite_expr(x, through)


def _indefinite_expr(x: Expr, dtype: DType) -> Expr:
    low, high = integer_range(dtype)
    below = x >= float(low) if x.dtype is f32 or dtype.bits == 64 else x > float(low) - 1.0
    fits = below & (x < float(high + 1))
    return select(fits, cast(x, dtype), const(low, dtype))

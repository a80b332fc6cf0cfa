"""References and error measure for the vector math library, shared by its tests and `measure_math.py`.

f32 functions are compared with double-precision ones, f64 functions with mpmath at 60 digits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES
from aino_ir.loops.expr import Arg, Expr, VecType
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.math import FUNCTIONS, expand

Array = np.ndarray[Any, Any]
EXPLICIT_BITS = {"f32": 23, "f64": 52}
LEAST_EXPONENT = {"f32": -149, "f64": -1074}
FLOATS: dict[str, type[np.floating[Any]]] = {"f32": np.float32, "f64": np.float64}
OVERFLOW = {"f32": float(np.finfo(np.float32).max) + 2.0**103, "f64": math.inf}
GELU_CUBIC = 0.044715


def _each(f: Callable[..., float]) -> Callable[..., Array]:
    def apply(*xs: Array) -> Array:
        return np.array([f(*v) for v in zip(*(x.tolist() for x in xs), strict=True)], np.float64)

    return apply


def _sine(f: Callable[[float], float]) -> Callable[[Array], Array]:
    return _each(lambda x: f(x) if math.isfinite(x) else math.nan)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu_tanh(x: Array) -> Array:
    return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + GELU_CUBIC * x**3)))


DOUBLE: dict[str, Callable[..., Array]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": _sine(math.sin),
    "cos": _sine(math.cos),
    "tan": _sine(math.tan),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _each(math.erf),
    "erfc": _each(math.erfc),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": _softplus,
    "gelu": lambda x: x * 0.5 * _each(math.erfc)(-x * math.sqrt(0.5)),
    "gelu_tanh": _gelu_tanh,
    "pow": np.power,
    "fmod": np.fmod,
}
"""Double-precision references, right at the special values too (the sine of a huge number included)."""


def double_reference(name: str, *xs: Array) -> Array:
    """The function on f64 arrays; no floating-point warning leaves here."""
    with np.errstate(all="ignore"):
        return np.asarray(DOUBLE[name](*xs))


def exact_reference(name: str, *xs: Array) -> Array:
    """The function at finite points in extended precision: (n, 2) f64 numbers whose sums are the values."""
    import mpmath as mp

    formulas: dict[str, Callable[..., Any]] = {
        "exp2": lambda x: mp.mpf(2) ** x,
        "log2": lambda x: mp.log(x, 2),
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "softplus": lambda x: mp.log1p(mp.exp(x)),
        "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "gelu_tanh": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
        "pow": lambda x, y: mp.power(x, y),
    }
    f = formulas.get(name) or getattr(mp, name)
    rows = []
    with mp.workdps(60):
        for values in zip(*(x.tolist() for x in xs), strict=True):
            exact = f(*(mp.mpf(v) for v in values))
            high = float(exact)
            rows.append((high, float(exact - mp.mpf(high)) if math.isfinite(high) else 0.0))
    return np.array(rows, np.float64)


def ulp_errors(dtype: str, got: Array, want: Array, rest: Array | float = 0.0) -> Array:
    """Errors of `got` in units in the last place of `want + rest`; infinite where the kind is wrong.

    The kind is: NaN, infinity (also by overflow), the sign of a zero.
    """
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(want)
        exponent = np.where(want == 0, LEAST_EXPONENT[dtype], exponent)
        ulp = np.maximum(exponent - 1 - EXPLICIT_BITS[dtype], LEAST_EXPONENT[dtype])
        wide = got.astype(np.float64)
        errors = np.abs(np.ldexp(wide - want, -ulp) - np.ldexp(rest, -ulp))
        kind = np.isnan(wide) | ((wide == 0) & (want == 0) & (np.signbit(wide) != np.signbit(want)))
        errors = np.where(kind, np.inf, errors)
        overflow = np.abs(want) >= OVERFLOW[dtype]
        errors = np.where(overflow, np.where(wide == np.copysign(np.inf, want), 0, np.inf), errors)
        return np.where(np.isnan(want), np.where(np.isnan(wide), 0, np.inf), errors)


def edges(dtype: str) -> Array:
    """Zeros, units, denormals, the ends of the range, infinities, NaN."""
    info = np.finfo(FLOATS[dtype])
    one_up = float(np.nextafter(info.dtype.type(1), info.dtype.type(2)))
    positive = [0.0, 1.0, one_up, 0.5, 2.0, 3.0, float(info.tiny), float(info.max), math.inf]
    positive += [float(info.smallest_subnormal), float(info.tiny) / 2, 2.0**24 - 1, 2.0**52 + 1, 1e6]
    return np.array([s * v for v in positive for s in (1, -1)] + [math.nan], FLOATS[dtype])


def sample(dtype: str, count: int, seed: int) -> Array:
    """Edges, then about `count` numbers: all bit patterns, all magnitudes, and the usual ranges."""
    rng = np.random.default_rng(seed)
    kind = np.uint32 if dtype == "f32" else np.uint64
    part = count // 5
    bits = rng.integers(0, np.iinfo(kind).max, part, kind, endpoint=True).view(FLOATS[dtype])
    bits = np.where(np.isnan(bits), FLOATS[dtype](math.nan), bits)  # no signalling NaN
    spread = rng.standard_normal(part) * 10.0 ** rng.uniform(-4, 3, part)
    far = rng.uniform(-110, 110, part) if dtype == "f32" else rng.uniform(-760, 760, part)
    parts: Sequence[Array] = (spread, rng.uniform(-16, 16, part), rng.uniform(-2, 2, part), far)
    return np.concatenate([edges(dtype), bits, *(p.astype(FLOATS[dtype]) for p in parts)])


def tree(name: str, dtype: str) -> Expr:
    """A function's body over its arguments, as one tree with shared sub-expressions."""
    return expand(name, *(Arg(i, VecType(DTYPES[dtype])) for i in range(FUNCTIONS[name].arity)))


def fingerprint(name: str) -> str:
    """A hash of the f32 body: a measurement counts as long as it stays the same."""
    nodes = list(walk(tree(name, "f32")))
    number = {id(node): i for i, node in enumerate(nodes)}
    digest = hashlib.sha256()
    for node in nodes:
        own = [getattr(node, key, "") for key in ("op", "index", "value")]
        children = [number[id(child)] for child in node.children()]
        digest.update(f"{type(node).__name__} {node.type} {own} {children}\n".encode())
    return digest.hexdigest()[:16]

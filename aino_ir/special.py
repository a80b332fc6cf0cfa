"""Special functions on numpy arrays in double precision, for the interpreter.

`erf` and `erfc` follow the rational approximations of FreeBSD's msun (s_erf.c, Sun Microsystems,
1993): below 1 ulp.  The others are compositions that lose nothing to cancellation or overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_SMALL_P = (
    1.28379167095512558561e-01,
    -3.25042107247001499370e-01,
    -2.84817495755985104766e-02,
    -5.77027029648944159157e-03,
    -2.37630166566501626084e-05,
)
_SMALL_Q = (
    1.0,
    3.97917223959155352819e-01,
    6.50222499887672944485e-02,
    5.08130628187576562776e-03,
    1.32494738004321644526e-04,
    -3.96022827877536812320e-06,
)
_ERX = 8.45062911510467529297e-01
_MIDDLE_P = (
    -2.36211856075265944077e-03,
    4.14856118683748331666e-01,
    -3.72207876035701323847e-01,
    3.18346619901161753674e-01,
    -1.10894694282396677476e-01,
    3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)
_MIDDLE_Q = (
    1.0,
    1.06420880400844228286e-01,
    5.40397917702171048937e-01,
    7.18286544141962662868e-02,
    1.26171219808761642112e-01,
    1.36370839120290507362e-02,
    1.19844998467991074170e-02,
)
_LARGE_P = (
    -9.86494403484714822705e-03,
    -6.93858572707181764372e-01,
    -1.05586262253232909814e01,
    -6.23753324503260060396e01,
    -1.62396669462573470355e02,
    -1.84605092906711035994e02,
    -8.12874355063065934246e01,
    -9.81432934416914548592e00,
)
_LARGE_Q = (
    1.0,
    1.96512716674392571292e01,
    1.37657754143519042600e02,
    4.34565877475229228821e02,
    6.45387271733267880336e02,
    4.29008140027567833386e02,
    1.08635005541779435134e02,
    6.57024977031928170135e00,
    -6.04244152148580987438e-02,
)
_TAIL_P = (
    -9.86494292470009928597e-03,
    -7.99283237680523006574e-01,
    -1.77579549177547519889e01,
    -1.60636384855821916062e02,
    -6.37566443368389627722e02,
    -1.02509513161107724954e03,
    -4.83519191608651397019e02,
)
_TAIL_Q = (
    1.0,
    3.03380607434824582924e01,
    3.25792512996573918826e02,
    1.53672958608443695994e03,
    3.19985821950859553908e03,
    2.55305040643316442583e03,
    4.74528541206955367215e02,
    -2.24409524465858183362e01,
)

_SQRT_HALF, _SQRT_HALF_LOW = 0.7071067811865476, -4.833646656726457e-17
"""The square root of 1/2 as the sum of two doubles."""


def in_double(function: Callable[..., Any], *xs: Array) -> Array:
    """function(*xs) computed in double precision and rounded once to the dtype of the first operand."""
    wide = (x.astype(np.float64, copy=False) for x in xs)
    return np.asarray(function(*wide)).astype(xs[0].dtype, copy=False)


def erf(x: Array) -> Array:
    """2/sqrt(pi) * integral of exp(-t^2) from 0 to x, in f64."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    tail = np.copysign(1.0 - _erfc_positive(np.maximum(size, 0.84375)), x)
    return np.asarray(np.where(size < 0.84375, x + x * _small(x), tail))


def erfc(x: Array) -> Array:
    """1 - erf(x), accurate in the right tail, in f64."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    tail = _erfc_positive(np.maximum(size, 0.84375))
    near = np.where(x < 0.25, 1.0 - (x + x * _small(x)), 0.5 - (x - 0.5 + x * _small(x)))
    return np.where(size < 0.84375, near, np.where(x < 0, 2.0 - tail, tail))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, in f64."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1.0 + e))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow, in f64."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def gelu(x: Array) -> Array:
    """x * Phi(x) = x/2 * erfc(-x / sqrt(2)), in f64; the rounding of the argument is made good."""
    z = -x * _SQRT_HALF
    near = np.where(np.abs(x) < 40.0, x, 0.0)
    lost = -_product_error(near, _SQRT_HALF) - near * _SQRT_HALF_LOW
    slope = -2.0 / np.sqrt(np.pi) * np.exp(-z * z)
    return np.asarray(0.5 * x * (erfc(z) + slope * lost))


def gelu_tanh(x: Array) -> Array:
    """x/2 * (1 + tanh(u)) with u = sqrt(2/pi) * (x + 0.044715 x^3), as x * sigmoid(2u).

    In the longest float there is, since the error of u grows by |u| in the left tail.
    """
    long = np.longdouble
    wide = x.astype(long)
    factor = np.sqrt(long(2) / (4 * np.arctan(long(1))))
    u = factor * (wide + (long(44715) / 1000000) * wide * wide * wide)
    return np.asarray(wide * sigmoid(2 * u)).astype(np.float64)


def _product_error(a: Array, b: float) -> Array:
    """a * b less the rounded product, exactly (Dekker's product with Veltkamp's splitting)."""

    def split(v: Any) -> tuple[Any, Any]:
        t = v * 134217729.0
        high = t - (t - v)
        return high, v - high

    (ah, al), (bh, bl) = split(a), split(b)
    return np.asarray(((ah * bh - a * b) + ah * bl + al * bh) + al * bl)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    total = np.full(np.shape(x), coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _small(x: Array) -> Array:
    z = np.minimum(x * x, 1.0)
    return _polynomial(z, _SMALL_P) / _polynomial(z, _SMALL_Q)


def _erfc_positive(x: Array) -> Array:
    """Complementary error function for x >= 0.84375 (NaN passes)."""
    s = np.minimum(x, 1.25) - 1.0
    middle = 1.0 - _ERX - _polynomial(s, _MIDDLE_P) / _polynomial(s, _MIDDLE_Q)
    bounded = np.clip(x, 1.25, 30.0)
    inverse = 1.0 / (bounded * bounded)
    large = _polynomial(inverse, _LARGE_P) / _polynomial(inverse, _LARGE_Q)
    tail = _polynomial(inverse, _TAIL_P) / _polynomial(inverse, _TAIL_Q)
    ratio = np.where(bounded < 1 / 0.35, large, tail)
    head = np.asarray(bounded.view(np.int64) & ~0xFFFFFFFF).view(np.float64)  # exact square below
    exponential = np.exp(-head * head - 0.5625) * np.exp((head - bounded) * (head + bounded) + ratio)
    return np.where(np.isnan(x), x, np.where(x < 1.25, middle, exponential / bounded))

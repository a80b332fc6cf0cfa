"""Special functions of chlo, composed in double precision and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aino_ir.dtypes import f64
from aino_ir.frontends.special import Doubles, digamma, inverse_error, log_gamma
from aino_ir.frontends.stablehlo.context import Lowering, OpContext, Row
from aino_ir.graph import Value

ZETA_TERMS = 10
"""Terms of the zeta function's sum before the rest is estimated."""

BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
"""B_2k / (2k)! of the Euler-Maclaurin formula."""

NODES, FAR = 32, 30.0
"""Points on a half circle for the Bessel function, and from where on its asymptotic series is taken."""


def in_doubles(function: Callable[..., Value]) -> Lowering:
    """A row for a function of real numbers that is computed in f64."""

    def lower(c: OpContext, *operands: Value) -> Value:
        return c.cast(function(Doubles(c), *(c.cast(x, f64) for x in operands)), c.dtype)

    return lower


def zeta(d: Doubles, x: Value, q: Value) -> Value:
    """The sum of (q + k) ** -x over k = 0, 1 ...: some terms, then Euler and Maclaurin's; x > 1, q > 0."""
    total = d.value(0.0)
    for k in range(ZETA_TERMS):
        total = d("add", total, d("pow", d("add", q, float(k)), d("neg", x)))
    end = d("add", q, float(ZETA_TERMS))
    power = d("pow", end, d("neg", x))
    total = d("add", total, d("div", d("mul", power, end), d("sub", x, 1.0)))
    total = d("add", total, d("mul", power, 0.5))
    rising = d("div", x, end)
    for number, factor in enumerate(BERNOULLI):
        total = d("add", total, d("mul", d("mul", power, rising), factor))
        steps = (2 * number + 1.0, 2 * number + 2.0)
        square = d("mul", end, end)
        rising = d("div", d("mul", rising, d("mul", d("add", x, steps[0]), d("add", x, steps[1]))), square)
    legal = d.c.emit("logical_and", d("gt", x, 1.0), d("gt", q, 0.0))
    return d.select(legal, total, d.select(d("eq", x, 1.0), math.inf, math.nan))


def polygamma(d: Doubles, n: Value, x: Value) -> Value:
    """The n-th derivative of digamma: (-1) ** (n + 1) n! zeta(n + 1, x) for n > 0."""
    after = d("add", n, 1.0)
    odd = d("eq", d("mod", n, 2.0), 1.0)
    size = d("mul", d("exp", log_gamma(d, after)), zeta(d, after, x))
    return d.select(d("eq", n, 0.0), digamma(d, x), d.select(odd, size, d("neg", size)))


def scaled_bessel(d: Doubles, x: Value) -> Value:
    """exp(-|x|) I1(x): the trapezoid rule on its integral, which converges fast; its series for large x."""
    size = d("abs", x)
    angles = np.pi * (np.arange(NODES) + 0.5) / NODES
    c = d.c
    nodes, weights = (c.b.constant(v) for v in (np.cos(angles) - 1, np.cos(angles) / NODES))
    spread = d("mul", c.reshape(size, (*size.shape, 1)), nodes)
    near = d("reduce.sum", d("mul", d("exp", spread), weights), axes=(size.rank,), keepdims=False)
    safe = d("max", size, FAR)
    term = total = d.value(1.0)
    for k in range(1, 14):
        term = d("div", d("mul", term, -(4.0 - (2 * k - 1) ** 2) / (8 * k)), safe)
        total = d("add", total, term)
    far = d("div", total, d("sqrt", d("mul", safe, 2 * math.pi)))
    value = d.select(d("lt", size, FAR), near, far)
    return d.select(d("lt", x, 0.0), d("neg", value), value)


ROWS: dict[str, Row] = {
    "chlo.bessel_i1e": in_doubles(scaled_bessel),
    "chlo.digamma": in_doubles(digamma),
    "chlo.erf_inv": in_doubles(inverse_error),
    "chlo.lgamma": in_doubles(log_gamma),
    "chlo.polygamma": in_doubles(polygamma),
    "chlo.zeta": in_doubles(zeta),
}

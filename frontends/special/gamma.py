"""The gamma function and what comes of it: its derivatives, zeta functions, incomplete integrals."""

from __future__ import annotations

import math

from aino_ir.frontends.special.doubles import Doubles
from aino_ir.graph import Value

LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)
"""Coefficients of Lanczos' approximation with g = 7 (Godfrey)."""

DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
"""B_2k / 2k of the asymptotic series of the digamma function."""

BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
    854513 / 138,
    -236364091 / 2730,
)
"""B_2, B_4 ..."""

SHIFT = 10
"""From here on the asymptotic series is as exact as doubles."""


def log_gamma(d: Doubles, x: Value) -> Value:
    """log |gamma(x)|: Lanczos above 1/2, by reflection below; infinite at 0, -1, -2 ..."""
    low = d("lt", x, 0.5)
    y = d("sub", d.select(low, d("sub", 1.0, x), x), 1.0)
    total = d.value(LANCZOS[0])
    for number, factor in enumerate(LANCZOS[1:], 1):
        total = d("add", total, d("div", factor, d("add", y, float(number))))
    t = d("add", y, 7.5)
    main = d("sub", d("mul", d("add", y, 0.5), d("log", t)), t)
    value = d("add", d("add", main, d("log", total)), math.log(2 * math.pi) / 2)
    fraction = d("sub", x, d("floor", x))
    sine = d("abs", d("sin", d("mul", math.pi, fraction)))
    below = d("sub", math.log(math.pi), d("add", d("log", sine), value))
    pole = d.c.emit("logical_and", low, d("eq", fraction, 0.0))
    value = d.select(pole, math.inf, d.select(low, below, value))
    return d.select(d.c.emit("is_inf", x), math.inf, value)


def digamma(d: Doubles, x: Value) -> Value:
    """The derivative of log gamma: shifted up to its asymptotic series; by reflection below zero."""
    low = d("le", x, 0.0)
    y = d.select(low, d("sub", 1.0, x), x)
    total = d.value(0.0)
    for _ in range(SHIFT):
        small = d("lt", y, float(SHIFT))
        total = d("sub", total, d.select(small, d("div", 1.0, y), 0.0))
        y = d.select(small, d("add", y, 1.0), y)
    square = d("div", 1.0, d("mul", y, y))
    series = d.value(0.0)
    for factor in reversed(DIGAMMA_SERIES):
        series = d("mul", square, d("add", series, factor))
    value = d("add", total, d("sub", d("sub", d("log", y), d("div", 0.5, y)), series))
    fraction = d("sub", x, d("floor", x))
    cotangent = d("div", math.pi, d("tan", d("mul", math.pi, fraction)))
    whole = d("eq", fraction, 0.0)
    zero = d("div", -1.0, x)
    pole = d.select(d("eq", x, 0.0), zero, math.nan)
    return d.select(low, d.select(whole, pole, d("sub", value, cotangent)), value)


def polygamma(d: Doubles, n: int, x: Value) -> Value:
    """The n-th derivative of the digamma function.

    Above zero (-1)^(n+1) n! times the sum of (x + k)^-(n+1): terms, then Euler and Maclaurin's formula.
    Below by reflection with the n-th derivative of the cotangent, a polynomial in the cotangent itself.
    """
    if n == 0:
        return digamma(d, x)
    low = d("le", x, 0.0)
    y = d.select(low, d("sub", 1.0, x), x)
    total, shift = d.value(0.0), max(SHIFT, n)
    for k in range(shift):
        total = d("add", total, _power(d, d("div", 1.0, d("add", y, float(k))), n + 1))
    inverse = d("div", 1.0, d("add", y, float(shift)))
    power, square = _power(d, inverse, n), d("mul", inverse, inverse)
    total = d("add", total, d("mul", power, d("add", 1.0 / n, d("mul", 0.5, inverse))))
    series = d.value(0.0)
    for k in range(8, 0, -1):
        rising = math.prod(range(n + 1, n + 2 * k))
        factor = BERNOULLI[k - 1] * rising / math.factorial(2 * k)
        series = d("mul", square, d("add", factor, series))
    total = d("add", total, d("mul", power, series))
    sign = 1.0 if n % 2 else -1.0
    above = d("mul", sign * math.factorial(n), total)
    fraction = d("sub", x, d("floor", x))
    cotangent = d("div", 1.0, d("tan", d("mul", math.pi, fraction)))
    derivative = d("mul", math.pi ** (n + 1), d.horner(cotangent, _cotangent_derivative(n)))
    below = d("sub", d("mul", -sign, above), derivative)
    pole = d.select(d("eq", fraction, 0.0), sign * math.inf, below)
    return d.select(low, pole, above)


def _power(d: Doubles, x: Value, n: int) -> Value:
    """x^n for n > 0, by squares."""
    if n == 1:
        return x
    half = _power(d, x, n // 2)
    whole = d("mul", half, half)
    return d("mul", whole, x) if n % 2 else whole


def _cotangent_derivative(n: int) -> list[float]:
    """Coefficients, lowest first, of the polynomial that the n-th derivative of cot x is in cot x."""
    found = [0, 1]  # lowest first: cot x itself
    for _ in range(n):
        slope = [k * number for k, number in enumerate(found)][1:]
        found = [-(a + b) for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return [float(number) for number in found]


# -- zeta ---------------------------------------------------------------------------------------------


def hurwitz_zeta(d: Doubles, x: Value, q: Value) -> Value:
    """The sum of (q + k)^-x over k = 0, 1, 2 ...; its terms below zero are a difference of such sums.

    NaN for x < 1, and for negative q with a fractional x; infinite at x = 1 and for q = 0, -1, -2 ...
    """
    below, whole = d("lt", q, 0.0), d("floor", q)
    fraction = d("sub", q, whole)
    above = _positive_zeta(d, x, d.select(below, fraction, q))
    rest = d("sub", 1.0, fraction)
    terms = d("sub", _positive_zeta(d, x, rest), _positive_zeta(d, x, d("sub", rest, whole)))
    terms = d.select(d.is_odd(x), d("neg", terms), terms)
    return d.choose(
        [
            (d("eq", x, 1.0), math.inf),
            (d("lt", x, 1.0), math.nan),
            (d.both(d("le", q, 0.0), d("eq", q, whole)), math.inf),
            (d.both(below, d("ne", x, d("floor", x))), math.nan),
            (below, d("add", above, terms)),
        ],
        above,
    )


def _positive_zeta(d: Doubles, x: Value, q: Value) -> Value:
    """Terms, then Euler and Maclaurin's formula (DLMF 25.11.28), for q > 0."""
    power = d("neg", x)
    total = d("pow", q, power)
    for k in range(1, SHIFT):
        total = d("add", total, d("pow", d("add", q, float(k)), power))
    bottom = d("add", q, float(SHIFT))
    last = d("pow", bottom, power)
    inverse = d("div", 1.0, bottom)
    series = d("add", 0.5, d("div", bottom, d("sub", x, 1.0)))
    rising = d("mul", x, inverse)
    for k, number in enumerate(BERNOULLI, 1):
        series = d("add", series, d("mul", rising, number / math.factorial(2 * k)))
        for step in (2 * k - 1, 2 * k):
            rising = d("mul", rising, d("mul", inverse, d("add", x, float(step))))
    return d("add", total, d.select(d("eq", last, 0.0), 0.0, d("mul", last, series)))


# -- incomplete gamma functions -----------------------------------------------------------------------

STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""B_2k / (2k (2k - 1)) of Stirling's series."""

UNIFORM_FROM = 1e6
"""From this a on the first term of Temme's uniform expansion serves (its error is below 1e-11)."""


def incomplete_gamma(d: Doubles, a: Value, x: Value, upper: bool) -> Value:
    """The share of the integral of t^(a-1) exp(-t) that lies below x (above it when `upper`).

    The power series (DLMF 8.7.1) below a + 1 and the continued fraction (DLMF 8.9.2, by Lentz's method)
    above, in one loop of as many turns as the largest a needs; Temme's expansion (DLMF 8.12.3) for very
    large a.
    """
    lower, higher = _below_and_above(d, a, x)
    beyond = d("ge", x, d("add", a, 1.0))
    first, second = (lower, higher) if not upper else (higher, lower)
    value = d.select(beyond if upper else d("lt", x, d("add", a, 1.0)), first, d("sub", 1.0, second))
    value = d.select(d("ge", a, UNIFORM_FROM), _uniform(d, a, x, upper), value)
    nothing, everything = (1.0, 0.0) if upper else (0.0, 1.0)
    infinite_a, infinite_x = d.infinite(a), d.infinite(x)
    return d.choose(
        [
            (d("lt", x, 0.0), math.nan),
            (d("lt", a, 0.0), math.nan),
            (d.both(d("eq", a, 0.0), d("eq", x, 0.0)), math.nan),
            (d("eq", a, 0.0), everything),
            (d("eq", x, 0.0), nothing),
            (d.both(infinite_a, infinite_x), math.nan),
            (infinite_a, nothing),
            (infinite_x, everything),
        ],
        value,
    )


def _below_and_above(d: Doubles, a: Value, x: Value) -> tuple[Value, Value]:
    """P by its series where x < a + 1, and Q by its continued fraction where x >= a + 1."""
    safe = d("min", d("max", a, 1e-300), UNIFORM_FROM)
    edge = d("add", safe, 1.0)
    small, large = d("min", x, edge), d("min", d("max", x, edge), 1e300)
    looped = d.both(d("gt", safe, 0.0), d("lt", safe, UNIFORM_FROM))
    turns = d("add", 160.0, d("sqrt", d("mul", 80.0, d.largest(d.select(looped, safe, 1.0)))))
    one = d("add", d("mul", small, 0.0), d("add", d("mul", safe, 0.0), 1.0))
    start = d("add", d("sub", large, safe), 1.0)
    fraction = d("mul", one, d("div", 1.0, start))

    def turn(
        d: Doubles,
        k: Value,
        term: Value,
        total: Value,
        c: Value,
        e: Value,
        product: Value,
        a: Value,
        small: Value,
        start: Value,
    ) -> list[Value]:
        n = d("add", k, 1.0)
        term = d("mul", term, d("div", small, d("add", a, n)))
        factor = d("mul", n, d("sub", a, n))
        bottom = d("add", start, d("mul", 2.0, n))
        e = d("div", 1.0, d("add", d("mul", factor, e), bottom))
        c = d("add", bottom, d("div", factor, c))
        return [term, d("add", total, term), c, e, d("mul", product, d("mul", c, e))]

    states = [one, one, d("mul", one, 1e300), fraction, fraction]
    _, total, _, _, product = d.repeat(turns, states, [safe, small, start], turn)
    below = d("mul", total, _density(d, safe, small))
    return below, d("mul", d("mul", product, safe), _density(d, safe, large))


def _density(d: Doubles, a: Value, x: Value) -> Value:
    """x^a exp(-x) / gamma(a + 1), without the loss of the difference of large logarithms."""
    low = d("min", a, float(SHIFT))
    plain = d("exp", d("sub", d("sub", d("mul", low, d("log", x)), x), log_gamma(d, d("add", low, 1.0))))
    high = d("max", a, float(SHIFT))
    apart = d("div", d("sub", x, high), high)
    deviation = d("mul", high, d("sub", d("log1p", apart), apart))
    inverse = d("div", 1.0, high)
    series = d("mul", inverse, d.horner(d("mul", inverse, inverse), STIRLING))
    wide = d("div", d("exp", d("sub", deviation, series)), d("sqrt", d("mul", 2 * math.pi, high)))
    return d.select(d("lt", a, float(SHIFT)), plain, wide)


def _uniform(d: Doubles, a: Value, x: Value, upper: bool) -> Value:
    """The first term of Temme's expansion, with x / a = 1 + m and eta^2 / 2 = m - log(1 + m)."""
    m = d("div", d("sub", x, a), a)
    half = d("max", d("sub", m, d("log1p", m)), 0.0)
    size = d("sqrt", d("mul", 2.0, half))
    eta = d.select(d("lt", m, 0.0), d("neg", size), size)
    near = d("lt", d("abs", eta), 1e-4)
    far = d("sub", d("div", 1.0, d.select(near, 1.0, m)), d("div", 1.0, d.select(near, 1.0, eta)))
    factor = d.select(near, -1 / 3, far)
    weight = d("div", d("exp", d("neg", d("mul", a, half))), d("sqrt", d("mul", 2 * math.pi, a)))
    rest = d("mul", weight, factor)
    scaled = d("mul", eta, d("sqrt", d("mul", 0.5, a)))
    if upper:
        return d("add", d("mul", 0.5, d("erfc", scaled)), rest)
    return d("sub", d("mul", 0.5, d("erfc", d("neg", scaled))), rest)

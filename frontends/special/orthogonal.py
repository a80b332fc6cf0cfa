"""Orthogonal polynomials of degrees that are data.

Chebyshev's by their closed forms in an angle (DLMF 18.5.1 to 18.5.4), the others by their recurrences.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aino_ir.frontends.special.doubles import Doubles, Operand
from aino_ir.graph import Value

Polynomial = Callable[[Doubles, Value, Value], Value]
"""Of a point and a degree, which broadcast; negative degrees give 0."""


def chebyshev_first(d: Doubles, x: Value, n: Value) -> Value:
    """T: cos(n angle), beyond the interval cosh."""
    angle, width, turned = _angles(d, x, n)
    inside = d("cos", d("mul", n, angle))
    return _degrees(d, n, _beyond(d, x, inside, d("mul", turned, d("cosh", d("mul", n, width)))))


def chebyshev_second(d: Doubles, x: Value, n: Value) -> Value:
    """U: sin((n + 1) angle) / sin(angle)."""
    angle, width, turned = _angles(d, x, n)
    more = d("add", n, 1.0)
    inside = d("div", d("sin", d("mul", more, angle)), d("sin", angle))
    outside = d("div", d("sinh", d("mul", more, width)), d("sinh", width))
    value = _beyond(d, x, inside, d("mul", turned, outside))
    return _degrees(d, n, d.select(d("eq", d("abs", x), 1.0), d("mul", turned, more), value))


def chebyshev_third(d: Doubles, x: Value, n: Value) -> Value:
    """V: cos((n + 1/2) angle) / cos(angle / 2)."""
    angle, width, turned = _angles(d, x, n)
    more = d("add", n, 0.5)
    inside = d("div", d("cos", d("mul", more, angle)), d("cos", d("mul", 0.5, angle)))
    right = d("div", d("cosh", d("mul", more, width)), d("cosh", d("mul", 0.5, width)))
    left = d("div", d("sinh", d("mul", more, width)), d("sinh", d("mul", 0.5, width)))
    value = _beyond(d, x, inside, d.select(d("lt", x, 0.0), d("mul", turned, left), right))
    ends: list[tuple[Value, Operand]] = [
        (d("eq", x, 1.0), 1.0),
        (d("eq", x, -1.0), d("mul", turned, d("mul", 2.0, more))),
    ]
    return _degrees(d, n, d.choose(ends, value))


def chebyshev_fourth(d: Doubles, x: Value, n: Value) -> Value:
    """W: V at -x, its sign turned for odd degrees."""
    value = chebyshev_third(d, d("neg", x), n)
    return d.select(d.is_odd(n), d("neg", value), value)


def shifted(polynomial: Polynomial) -> Polynomial:
    """The polynomial on the interval from 0 to 1."""

    def at(d: Doubles, x: Value, n: Value) -> Value:
        return polynomial(d, d("sub", d("mul", 2.0, x), 1.0), n)

    return at


def _angles(d: Doubles, x: Value, n: Value) -> tuple[Value, Value, Value]:
    """acos(x) on the interval, acosh(|x|) beyond it, and the sign of odd degrees below zero."""
    angle = d("acos", d("max", d("min", x, 1.0), -1.0))
    width = d("acosh", d("max", d("abs", x), 1.0))
    odd = d.both(d("lt", x, 0.0), d.is_odd(n))
    return angle, width, d.select(odd, -1.0, 1.0)


def _beyond(d: Doubles, x: Value, inside: Value, outside: Value) -> Value:
    return d.select(d("le", d("abs", x), 1.0), inside, outside)


def _degrees(d: Doubles, n: Value, value: Value) -> Value:
    return d.select(d("lt", n, 0.0), 0.0, value)


def hermite_physicists(d: Doubles, x: Value, n: Value) -> Value:
    """H: H(m + 1) = 2 x H(m) - 2 m H(m - 1)."""
    return _recurrent(d, x, n, lambda d, x: d("mul", 2.0, x), _hermite(2.0))


def hermite_probabilists(d: Doubles, x: Value, n: Value) -> Value:
    """He: He(m + 1) = x He(m) - m He(m - 1)."""
    return _recurrent(d, x, n, lambda d, x: x, _hermite(1.0))


def laguerre(d: Doubles, x: Value, n: Value) -> Value:
    """L: (m + 1) L(m + 1) = (2 m + 1 - x) L(m) - m L(m - 1)."""

    def step(d: Doubles, m: Value, x: Value, before: Value, here: Value) -> Value:
        more = d("sub", d("add", d("mul", 2.0, m), 1.0), x)
        return _quotient(d, m, more, before, here)

    return _recurrent(d, x, n, lambda d, x: d("sub", 1.0, x), step)


def legendre(d: Doubles, x: Value, n: Value) -> Value:
    """P: (m + 1) P(m + 1) = (2 m + 1) x P(m) - m P(m - 1)."""

    def step(d: Doubles, m: Value, x: Value, before: Value, here: Value) -> Value:
        more = d("mul", d("add", d("mul", 2.0, m), 1.0), x)
        return _quotient(d, m, more, before, here)

    return _recurrent(d, x, n, lambda d, x: x, step)


Step = Callable[[Doubles, Value, Value, Value, Value], Value]
"""(arithmetic, m, x, degree m - 1, degree m) -> degree m + 1."""


def _hermite(factor: float) -> Step:
    def step(d: Doubles, m: Value, x: Value, before: Value, here: Value) -> Value:
        return d("mul", factor, d("sub", d("mul", x, here), d("mul", m, before)))

    return step


def _quotient(d: Doubles, m: Value, more: Value, before: Value, here: Value) -> Value:
    return d("div", d("sub", d("mul", more, here), d("mul", m, before)), d("add", m, 1.0))


def _recurrent(d: Doubles, x: Value, n: Value, first: Callable[[Doubles, Value], Value], step: Step) -> Value:
    """The polynomial of degree n, from those of degrees 0 and 1, in a loop as long as the largest degree."""
    wide = d("add", x, d("mul", n, 0.0))
    one = d("add", d("mul", wide, 0.0), 1.0)
    finite = d.select(d("lt", d("abs", n), math.inf), n, 0.0)
    turns = d("sub", d("max", d.largest(finite), 1.0), 1.0)

    def turn(d: Doubles, k: Value, before: Value, here: Value, x: Value, n: Value) -> list[Value]:
        m = d("add", k, 1.0)
        more = d("lt", m, n)
        return [d.select(more, here, before), d.select(more, step(d, m, x, before, here), here)]

    _, value = d.repeat(turns, [one, d("mul", one, first(d, wide))], [wide, n], turn)
    return d.choose([(d("lt", n, 0.0), 0.0), (d("eq", n, 0.0), 1.0)], value)


def limited(polynomial: Polynomial, limit: float) -> Polynomial:
    """NaN above a degree."""

    def at(d: Doubles, x: Value, n: Value) -> Value:
        return d.select(d("gt", n, limit), math.nan, polynomial(d, x, d("min", n, limit)))

    return at

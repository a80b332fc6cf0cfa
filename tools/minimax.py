"""Generate the polynomial coefficients of the vector math library (aino_ir/loops/math/coefficients.py).

    python tools/minimax.py                 # list every polynomial with its error
    python tools/minimax.py exp sin         # print the named coefficient lists
    python tools/minimax.py --write         # rewrite aino_ir/loops/math/coefficients.py

Each polynomial is the minimax approximation of a function on an interval in a weighted norm, found
with the Remez exchange algorithm (E. Remez, 1934) in 45-digit arithmetic, then rounded to the dtype
that evaluates it; the error printed is that of the rounded coefficients.  Needs mpmath.
"""

from __future__ import annotations

import argparse
import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp

mp.mp.dps = 45
Real = Any  # mpmath has no types
Function = Callable[[Any], Any]
OUTPUT = Path(__file__).resolve().parent.parent / "aino_ir" / "loops" / "math" / "coefficients.py"


@dataclass(frozen=True)
class Polynomial:
    """One approximation: sum c[k] x^k ~ target(x) on [low, high], error weighted by `weight`.

    Attributes:
        target: the function that the polynomial replaces.
        weight: error(x) * weight(x) is what is made equal; chosen so that it is the relative error
            of the final function.
        low, high: the interval, per dtype (f32, f64).
        degree: the degree, per dtype.
        meaning: what stands in the generated file.
        dtypes: for which dtypes it is wanted.
    """

    target: Function
    weight: Function
    low: tuple[Real, Real]
    high: tuple[Real, Real]
    degree: tuple[int, int]
    meaning: str
    dtypes: tuple[str, ...] = ("f32", "f64")


def both(value: Real) -> tuple[Real, Real]:
    """The same bound for f32 and f64."""
    return (value, value)


def series(coefficient: Function, terms: int = 40) -> Function:
    """sum coefficient(k) x^k: where the closed form cancels, near zero."""
    values = [mp.mpf(coefficient(k)) for k in range(terms)]
    return lambda x: mp.polyval(values[::-1], x)


def near_zero(closed: Function, taylor: Function, radius: float = 1e-3) -> Function:
    """`closed` away from zero, `taylor` close to it."""
    return lambda x: taylor(x) if abs(x) < radius else closed(x)


def odd_part(f: Function, coefficient: Function) -> Function:
    """(f(x) - x) / x^3 as a function of u = x^2; coefficient(k) of x^(2k+3)."""
    closed = lambda u: (f(mp.sqrt(u)) / mp.sqrt(u) - 1) / u  # noqa: E731
    return near_zero(closed, series(coefficient, 20))


def odd_weight(f: Function) -> Function:
    """Relative error of f(x) = x + x^3 P(x^2), by u = x^2."""
    return lambda u: u * mp.sqrt(u) / f(mp.sqrt(u)) if u > 0 else mp.mpf(0)


def _asin_coefficient(k: int) -> Real:
    n = k + 1
    return mp.binomial(2 * n, n) / (mp.mpf(4) ** n * (2 * n + 1))


def _tanh_coefficient(k: int) -> Real:
    n = k + 2
    return mp.mpf(4) ** n * (mp.mpf(4) ** n - 1) * mp.bernoulli(2 * n) / mp.factorial(2 * n)


def _erf_series(u: Real) -> Real:
    """erf(x)/x - 1 by u = x^2, close to zero."""
    terms = (mp.mpf(-u) ** k / (mp.factorial(k) * (2 * k + 1)) for k in range(20))
    return 2 / mp.sqrt(mp.pi) * mp.fsum(terms) - 1


def scaled_erfc(z: Real) -> Real:
    """exp(z^2) erfc(z)."""
    return mp.exp(z * z) * mp.erfc(z)


def _gaussian_tail(which: int, scale: Real, slope: str, end: str, degree: int, name: str) -> Polynomial:
    """scaled_erfc(z * scale) by t = 1 / (1 + slope z) on 0 <= z <= end, for one dtype."""
    c = mp.mpf(slope)

    def target(t: Real) -> Real:
        return scaled_erfc((1 / t - 1) / c * scale)

    return Polynomial(
        target,
        lambda t: 1 / target(t),
        both(1 / (1 + c * mp.mpf(end))),
        both(mp.mpf(1)),
        both(degree),
        f"{name} by t = 1 / (1 + {slope} z) on 0 <= z <= {end}",
        (("f32", "f64")[which],),
    )


LN2 = mp.log(2)
ROOT_HALF = mp.sqrt(mp.mpf(1) / 2)
SMALL_ERF = mp.mpf("0.90625")

POLYNOMIALS: dict[str, Polynomial] = {
    "exp": Polynomial(
        near_zero(lambda r: (mp.exp(r) - 1 - r) / r**2, series(lambda k: 1 / mp.factorial(k + 2))),
        lambda r: r * r / mp.exp(r),
        both(-LN2 * 0.501),
        both(LN2 * 0.501),
        (4, 9),
        "(exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2",
    ),
    "exp2": Polynomial(
        near_zero(lambda r: (2**r - 1) / r, series(lambda k: LN2 ** (k + 1) / mp.factorial(k + 1))),
        lambda r: r / 2**r,
        both(mp.mpf(-0.501)),
        both(mp.mpf(0.501)),
        (5, 10),
        "(2^r - 1) / r on |r| <= 1/2",
    ),
    "log": Polynomial(
        near_zero(
            lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, series(lambda k: mp.mpf(-1) ** k / (k + 3))
        ),
        lambda f: f**3 / mp.log1p(f) if f else mp.mpf(0),
        both(ROOT_HALF - 1),
        both(2 * ROOT_HALF - 1),
        (7, 18),
        "(log(1 + f) - f + f^2/2) / f^3 on sqrt(1/2) <= 1 + f <= sqrt(2)",
    ),
    "log1p_unit": Polynomial(
        near_zero(lambda z: (mp.log1p(z) - z) / z**2, series(lambda k: mp.mpf(-1) ** (k + 1) / (k + 2))),
        lambda z: z * z / mp.log1p(z) if z else mp.mpf(0),
        both(mp.mpf(0)),
        both(mp.mpf(1)),
        (9, 20),
        "(log(1 + z) - z) / z^2 on 0 <= z <= 1",
    ),
    "tanh": Polynomial(
        odd_part(mp.tanh, _tanh_coefficient),
        odd_weight(mp.tanh),
        both(mp.mpf(0)),
        both(mp.mpf("0.625") ** 2),
        (4, 10),
        "(tanh(x) - x) / x^3 by x^2 on |x| <= 0.625",
    ),
    "sinh": Polynomial(
        odd_part(mp.sinh, lambda k: 1 / mp.factorial(2 * k + 3)),
        odd_weight(mp.sinh),
        both(mp.mpf(0)),
        both(mp.mpf(1)),
        (3, 6),
        "(sinh(x) - x) / x^3 by x^2 on |x| <= 1",
    ),
    "sin": Polynomial(
        odd_part(mp.sin, lambda k: mp.mpf(-1) ** (k + 1) / mp.factorial(2 * k + 3)),
        odd_weight(mp.sin),
        both(mp.mpf(0)),
        both((mp.pi / 4 * 1.001) ** 2),
        (3, 6),
        "(sin(r) - r) / r^3 by r^2 on |r| <= pi/4",
    ),
    "cos": Polynomial(
        near_zero(
            lambda u: (mp.cos(mp.sqrt(u)) - 1 + u / 2) / u**2,
            series(lambda k: mp.mpf(-1) ** k / mp.factorial(2 * k + 4), 20),
        ),
        lambda u: u * u / mp.cos(mp.sqrt(u)),
        both(mp.mpf(0)),
        both((mp.pi / 4 * 1.001) ** 2),
        (2, 5),
        "(cos(r) - 1 + r^2/2) / r^4 by r^2 on |r| <= pi/4",
    ),
    "atan": Polynomial(
        odd_part(mp.atan, lambda k: mp.mpf(-1) ** (k + 1) / (2 * k + 3)),
        odd_weight(mp.atan),
        both(mp.mpf(0)),
        both(mp.mpf(1)),
        (8, 20),
        "(atan(a) - a) / a^3 by a^2 on |a| <= 1",
    ),
    "asin": Polynomial(
        odd_part(mp.asin, _asin_coefficient),
        odd_weight(mp.asin),
        both(mp.mpf(0)),
        both(mp.mpf("0.25")),
        (4, 11),
        "(asin(x) - x) / x^3 by x^2 on |x| <= 1/2",
    ),
    "erf": Polynomial(
        near_zero(
            lambda u: mp.erf(mp.sqrt(u)) / mp.sqrt(u) - 1,
            _erf_series,
        ),
        lambda u: mp.sqrt(u) / mp.erf(mp.sqrt(u)) if u > 0 else mp.sqrt(mp.pi) / 2,
        both(mp.mpf(0)),
        both(SMALL_ERF**2),
        (5, 11),
        f"erf(x)/x - 1 by x^2 on |x| <= {mp.nstr(SMALL_ERF, 7)}",
    ),
    "log_erfc": Polynomial(
        lambda x: -mp.log(mp.erfc(x)),
        lambda x: mp.erfc(x) / mp.erf(x),
        both(SMALL_ERF),
        (mp.mpf("3.92"), mp.mpf("5.93")),
        (6, 20),
        f"-log(erfc(x)) on {mp.nstr(SMALL_ERF, 7)} <= x, up to where erf(x) rounds to 1",
    ),
    "erfcx_f32": _gaussian_tail(0, mp.mpf(1), "0.5", "10.1", 10, "exp(z^2) erfc(z)"),
    "erfcx_f64": _gaussian_tail(1, mp.mpf(1), "0.25", "27.3", 23, "exp(z^2) erfc(z)"),
    "mills_f32": _gaussian_tail(0, ROOT_HALF, "0.25", "14.5", 10, "exp(z^2/2) erfc(z/sqrt(2))"),
    "mills_f64": _gaussian_tail(1, ROOT_HALF, "0.25", "38.7", 23, "exp(z^2/2) erfc(z/sqrt(2))"),
    "atanh_tail": Polynomial(
        near_zero(
            lambda u: (2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u) - 2 - u * 2 / 3) / u**2,
            series(lambda k: mp.mpf(2) / (2 * k + 5), 25),
        ),
        lambda u: u * u * mp.sqrt(u) / mp.atanh(mp.sqrt(u)) if u else mp.mpf(0),
        both(mp.mpf(0)),
        both((3 - 2 * mp.sqrt(2)) ** 2),
        (2, 6),
        "(2 atanh(s) - 2 s - 2/3 s^3) / s^5 by s^2 on |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)",
    ),
}
"""Every polynomial by name."""

CONSTANTS: dict[str, Real] = {
    "ln2": LN2,
    "log2e": 1 / LN2,
    "log10e": 1 / mp.log(10),
    "log10_2": mp.log(2) / mp.log(10),
    "half_pi": mp.pi / 2,
    "pi": mp.pi,
    "two_thirds": mp.mpf(2) / 3,
    "two_over_pi": 2 / mp.pi,
    "root_half": ROOT_HALF,
    "gelu_slope": 2 * mp.sqrt(2 / mp.pi),
    "gelu_cubic": 2 * mp.sqrt(2 / mp.pi) * mp.mpf("0.044715"),
}
"""Constants that are written as sums of three numbers of the dtype, largest first."""


def turn_words() -> list[int]:
    """1 / (2 pi) in 64-bit words, the first with 8 bits before the binary point; enough for all of f64."""
    count = 19
    with mp.workdps(400):
        digits = int(mp.floor(mp.mpf(2) ** (64 * count - 8) / (2 * mp.pi)))
    return [digits >> 64 * (count - 1 - k) & (2**64 - 1) for k in range(count)]


def successive(value: Real, which: int) -> list[float]:
    """The nearest number of the dtype, the nearest to what is left, and once more."""
    result, rest = [], mp.mpf(value)
    for _ in range(3):
        result.append(rounded(rest, which))
        rest -= mp.mpf(result[-1])
    return result


def fit(p: Polynomial, which: int) -> tuple[list[float], Real]:
    """Coefficients rounded to the dtype (lowest power first) and the levelled error without rounding.

    The lowest coefficient is rounded first and the others are fitted again to what it left, and so
    on upwards: each takes up the rounding errors of those before it.
    """
    terms = p.degree[which] + 1
    grid = _chebyshev(mp.mpf(p.low[which]), mp.mpf(p.high[which]), 14 * terms)
    points = [(x, p.target(x), p.weight(x)) for x in grid if abs(x) > 1e-9]
    points = [(x, g, abs(w)) for x, g, w in points if w != 0]
    solution, level, picks = _remez(points, _spread(len(points), terms + 1), 14)
    if p.low[which] < 0:  # what a rounding leaves has a pole at zero: only one-sided intervals are refitted
        return [rounded(c, which) for c in solution], level
    coefficients = [rounded(solution[0], which)]
    for _ in range(terms - 1):
        points = [(x, (g - mp.mpf(coefficients[-1])) / x, w * abs(x)) for x, g, w in points]
        solution, _, picks = _remez(points, picks[1:], 3)
        coefficients.append(rounded(solution[0], which))
    return coefficients, level


def _spread(size: int, wanted: int) -> list[int]:
    return [round(i * (size - 1) / (wanted - 1)) for i in range(wanted)]


def _remez(
    points: list[tuple[Real, Real, Real]], picks: list[int], iterations: int
) -> tuple[list[Real], Real, list[int]]:
    """Minimax coefficients for points (x, target, weight), the levelled error and the extrema.

    There is one coefficient less than starting points (`picks`).
    """
    coefficients, level = _solve([points[i] for i in picks])
    for _ in range(iterations):
        errors = [(mp.polyval(coefficients[::-1], x) - g) * w for x, g, w in points]
        new = _alternation(errors, len(picks))
        if new is None or new == picks:
            break
        picks = new
        coefficients, level = _solve([points[i] for i in picks])
    return coefficients, abs(level), picks


def _chebyshev(low: Real, high: Real, n: int) -> list[Real]:
    points = [mp.cos(mp.pi * (n - i) / n) for i in range(n + 1)]
    return [(low + high) / 2 + (high - low) / 2 * x for x in points]


def _solve(points: list[tuple[Real, Real, Real]]) -> tuple[list[Real], Real]:
    """Coefficients whose weighted errors at the points are +E, -E, +E ..."""
    count = len(points) - 1
    rows = [[x**k for k in range(count)] + [mp.mpf(-1) ** i / w] for i, (x, _, w) in enumerate(points)]
    solution = mp.lu_solve(mp.matrix(rows), mp.matrix([g for _, g, _ in points]))
    return list(solution)[:count], solution[count]


def _alternation(errors: list[Real], wanted: int) -> list[int] | None:
    """Indices of `wanted` extrema of alternating sign, or None when there are too few."""
    runs: list[int] = []
    for i, e in enumerate(errors):
        if e == 0:
            continue
        if runs and (errors[runs[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > wanted:
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return runs if len(runs) == wanted else None


def rounded(value: Real, which: int) -> float:
    """The nearest f32 (0) or f64 (1), as a Python float."""
    nearest = float(value)
    if which == 1:
        return nearest
    result: float = struct.unpack("f", struct.pack("f", nearest))[0]
    return result


def generate(name: str, which: int) -> tuple[list[float], float]:
    """Rounded coefficients and log2 of their largest weighted error."""
    p = POLYNOMIALS[name]
    coefficients, _ = fit(p, which)
    reverse = [mp.mpf(c) for c in coefficients[::-1]]
    grid = _chebyshev(mp.mpf(p.low[which]), mp.mpf(p.high[which]), 500)
    worst = max(abs((mp.polyval(reverse, x) - p.target(x)) * p.weight(x)) for x in grid)
    return coefficients, math.log2(worst)


HEADER = '''"""Polynomial coefficients of the vector math library, lowest power first.

Generated by `python tools/minimax.py --write`, which says how; not to be edited.
"""

from __future__ import annotations

Coefficients = tuple[float, ...]
Table = dict[str, Coefficients]

'''


def render(names: Iterable[str]) -> str:
    """The text of the named polynomials."""
    parts = []
    for name in names:
        p = POLYNOMIALS[name]
        lines, table = [f"# {p.meaning}"], []
        for which, dtype in enumerate(("f32", "f64")):
            if dtype not in p.dtypes:
                continue
            coefficients, error = generate(name, which)
            lines.append(f"# {dtype}: largest error 2^{error:.1f}")
            table.append(_entry(dtype, coefficients))
        parts.append("\n".join(lines) + f"\n{name.upper()}: Table = {{\n{''.join(table)}}}\n")
    return "\n".join(parts)


def _entry(dtype: str, values: Iterable[float]) -> str:
    return f'    "{dtype}": (\n' + "".join(f"        {v!r},\n" for v in values) + "    ),\n"


def render_constants() -> str:
    """The text of the constants."""
    parts = ["# Each the sum of three numbers of the dtype, largest first."]
    for name, value in CONSTANTS.items():
        table = "".join(_entry(d, successive(value, which)) for which, d in enumerate(("f32", "f64")))
        parts.append(f"{name.upper()}: Table = {{\n{table}}}")
    words = "".join(f"    0x{w:016X},\n" for w in turn_words())
    parts.append(f"# The bits of 1 / (2 pi), 8 zero bits before the point.\nTURN_WORDS = (\n{words})\n")
    return "\n".join(parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="minimax coefficients of the vector math library")
    parser.add_argument("names", nargs="*", help="polynomials to print")
    parser.add_argument("--write", action="store_true", help=f"rewrite {OUTPUT.name}")
    options = parser.parse_args()
    if options.write:
        OUTPUT.write_text(HEADER + render_constants() + "\n" + render(POLYNOMIALS), encoding="ascii")
    elif options.names:
        print(render(options.names))
    else:
        for name, p in POLYNOMIALS.items():
            for which, dtype in enumerate(("f32", "f64")):
                if dtype in p.dtypes:
                    coefficients, error = generate(name, which)
                    degree = len(coefficients) - 1
                    print(f"{name:12} {dtype} degree {degree:2} error 2^{error:.1f}", flush=True)


if __name__ == "__main__":
    main()

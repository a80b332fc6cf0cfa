"""Special functions composed of ops, against mpmath."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mpmath
import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.frontends import special
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.special import Doubles, orthogonal
from aino_ir.interp import run_module
from aino_ir.types import tensor


def computed(function: Callable[..., object], *columns: Sequence[float]) -> np.ndarray:
    """A function on columns of arguments, by the interpreter."""
    b = Builder()
    inputs = [b.input(f"x{i}", tensor("f64", len(c))) for i, c in enumerate(columns)]
    b.output("y", function(Doubles(Emitter(b)), *inputs))
    b.finish()
    (result,) = run_module(b.module, [np.asarray(c, np.float64) for c in columns])
    return result


def agrees(
    function: Callable[..., object],
    reference: Callable[..., object],
    *columns: Sequence[float],
    within: float = 1e-14,
    digits: int = 30,
) -> None:
    """Demand that every error is small beside the result."""
    got = computed(function, *columns)
    for values, found in zip(zip(*columns, strict=True), got, strict=True):
        with mpmath.workdps(digits):
            wanted = float(reference(*(mpmath.mpf(v) for v in values)))
        assert abs(found - wanted) <= within * abs(wanted), values


SIZES = (1e-6, 0.3, 0.999, 1.001, 2.5, 7.0, 19.9, 20.1, 24.9, 25.1, 60.0, 1e4)


@pytest.mark.parametrize("order", [0, 1])
def test_modified_bessel_functions(order: int) -> None:
    def first(x):
        return mpmath.besseli(order, x) * mpmath.exp(-x)

    def second(x):
        return mpmath.besselk(order, x) * mpmath.exp(x)

    agrees(lambda d, x: special.modified_first(d, x, order, True), first, SIZES)
    agrees(lambda d, x: special.modified_second(d, x, order, True), second, SIZES)
    some = [s for s in SIZES if s < 500]
    agrees(lambda d, x: special.modified_first(d, x, order, False), lambda x: mpmath.besseli(order, x), some)
    agrees(lambda d, x: special.modified_second(d, x, order, False), lambda x: mpmath.besselk(order, x), some)
    ends = [-math.inf, -2.0, 0.0, math.inf, math.nan]
    found = computed(lambda d, x: special.modified_first(d, x, order, False), ends)
    sign = -1 if order else 1
    assert np.array_equal(found[[0, 3]], [sign * math.inf, math.inf]) and np.isnan(found[4])
    assert found[1] == sign * computed(lambda d, x: special.modified_first(d, x, order, False), [2.0])[0]
    found = computed(lambda d, x: special.modified_second(d, x, order, False), ends)
    assert np.isnan(found[[1, 4]]).all() and np.array_equal(found[2:4], [math.inf, 0.0])


@pytest.mark.parametrize("order", [0, 1])
def test_bessel_functions(order: int) -> None:
    def bounded(function):  # errors count beside the amplitude, not at zeros
        return lambda d, x: d("add", function(d, x, order), 1.0)

    agrees(bounded(special.bessel_first), lambda x: 1 + mpmath.besselj(order, x), SIZES)
    agrees(lambda d, x: special.bessel_second(d, x, order), lambda x: mpmath.bessely(order, x), SIZES)
    ends = [-3.0, 0.0, math.inf, math.nan]
    found = computed(lambda d, x: special.bessel_second(d, x, order), ends)
    assert np.isnan(found[[0, 3]]).all() and np.array_equal(found[1:3], [-math.inf, 0.0])
    left, right = computed(lambda d, x: special.bessel_first(d, x, order), [-3.0, 3.0])
    assert left == (-right if order else right)


def test_airy_function() -> None:
    points = (-30.0, -9.01, -9.0, -7.3, -5.0, -4.99, -2.1, -1.0, -0.9, 0.0, 1.5, 1.51, 12.0)
    agrees(special.airy, mpmath.airyai, points, within=2e-13)
    assert np.array_equal(computed(special.airy, [-math.inf, math.inf]), [0, 0])


def test_normal_distribution() -> None:
    agrees(
        special.scaled_complement,
        lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
        (-3.0, -0.2, 0.0, 1.0, 4.49, 4.51, 30.0, 1e9),
    )
    shares = (1e-300, 1e-20, 0.03, 0.5, 0.8, 1 - 1e-9)
    found = computed(special.normal_quantile, shares)
    assert np.allclose([float(mpmath.ncdf(x)) for x in found], shares, rtol=1e-12)
    ends = computed(special.normal_quantile, [0.0, 1.0, -0.1, 1.1, math.nan])
    assert np.array_equal(ends[:2], [-math.inf, math.inf]) and np.isnan(ends[2:]).all()


def test_incomplete_gamma_functions() -> None:
    pairs = [(a, r * max(a, 1)) for a in (0.01, 0.9, 4.0, 90.0, 700.0) for r in (0.05, 0.9, 1.0, 1.2, 3.0)]
    a, x = (list(column) for column in zip(*pairs, strict=True))
    for upper in (False, True):

        def share(a, x, upper=upper):
            return mpmath.gammainc(a, x if upper else 0, mpmath.inf if upper else x, regularized=True)

        def ours(d, a, x, upper=upper):
            return special.incomplete_gamma(d, a, x, upper)

        agrees(ours, share, a, x, within=2e-11)  # small shares are what a share near 1 leaves
    large = computed(lambda d, a, x: special.incomplete_gamma(d, a, x, False), [1e6, 4e7], [1.001e6, 4e7])
    assert np.allclose(large, [0.84134479, 0.50002103], rtol=1e-7)
    a = [-1.0, 1.0, 0.0, 0.0, 2.0, math.inf, math.inf, 2.0]
    x = [1.0, -1.0, 0.0, 1.0, 0.0, 3.0, math.inf, math.inf]
    wanted = [math.nan, math.nan, math.nan, 1.0, 0.0, 0.0, math.nan, 1.0]
    found = computed(lambda d, a, x: special.incomplete_gamma(d, a, x, False), a, x)
    assert np.array_equal(found, wanted, equal_nan=True)


def test_hurwitz_zeta_function() -> None:
    pairs = [(s, q) for s in (1.01, 2.0, 3.0, 7.5, 60.0) for q in (0.1, 1.0, 9.7, 300.0)]
    pairs += [(s, q) for s in (2.0, 5.0) for q in (-0.5, -7.25)]

    def zeta(s, q):
        shifted = [q + k for k in range(8) if q + k < 0]
        return sum(v ** -int(s) for v in shifted) + mpmath.zeta(s, q + len(shifted))

    columns = [list(c) for c in zip(*pairs, strict=True)]
    agrees(special.hurwitz_zeta, zeta, *columns, within=1e-13, digits=200)  # mpmath's digits are absolute
    found = computed(special.hurwitz_zeta, [1.0, 0.5, 2.0, 2.5], [2.0, 2.0, -3.0, -3.5])
    assert np.array_equal(found, [math.inf, math.nan, math.inf, math.nan], equal_nan=True)


POINTS = (-3.0, -1.0, -0.999, -0.4, 0.0, 0.7, 1.0, 2.5)


def recurrent(first: Callable[..., object], step: Callable[..., object]) -> Callable[..., object]:
    """A polynomial by its recurrence, in many digits."""

    def of(x, n):
        before, here = mpmath.mpf(1), first(x)
        if n < 0:
            return 0
        for m in range(1, int(n)):
            before, here = here, step(m, x, before, here)
        return here if n else 1

    return of


def chebyshev(first: Callable[..., object]) -> Callable[..., object]:
    return recurrent(first, lambda m, x, p, q: 2 * x * q - p)


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (orthogonal.chebyshev_first, chebyshev(lambda x: x)),
        (orthogonal.chebyshev_second, chebyshev(lambda x: 2 * x)),
        (orthogonal.chebyshev_third, chebyshev(lambda x: 2 * x - 1)),
        (orthogonal.chebyshev_fourth, chebyshev(lambda x: 2 * x + 1)),
        (
            orthogonal.shifted(orthogonal.chebyshev_fourth),
            lambda x, n: chebyshev(lambda x: 2 * x + 1)(2 * x - 1, n),
        ),
        (orthogonal.hermite_physicists, recurrent(lambda x: 2 * x, lambda m, x, p, q: 2 * (x * q - m * p))),
        (orthogonal.hermite_probabilists, recurrent(lambda x: x, lambda m, x, p, q: x * q - m * p)),
        (
            orthogonal.laguerre,
            recurrent(lambda x: 1 - x, lambda m, x, p, q: ((2 * m + 1 - x) * q - m * p) / (m + 1)),
        ),
        (
            orthogonal.legendre,
            recurrent(lambda x: x, lambda m, x, p, q: ((2 * m + 1) * x * q - m * p) / (m + 1)),
        ),
    ],
)
def test_orthogonal_polynomials(ours: orthogonal.Polynomial, reference: Callable[..., object]) -> None:
    pairs = [(x, n) for x in POINTS for n in (-1.0, 0.0, 1.0, 2.0, 5.0, 12.0)]
    agrees(
        lambda d, x, n: d("add", ours(d, x, n), 100.0),
        lambda x, n: 100 + reference(x, n),
        *zip(*pairs, strict=True),
    )

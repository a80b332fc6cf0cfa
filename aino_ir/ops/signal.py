"""Fast Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from aino_ir.compute import Nest, TensorRef
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import DType, bf16, f16, f32, f64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, VecType, const
from aino_ir.nests import loops, unraveled
from aino_ir.op import Op, Sample, bool_attr, operand
from aino_ir.ops.math import Array
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type

UNROLLED = 13
"""Butterflies up to this radix are written out; those of larger primes are loops over all pairs."""


def radices(length: int) -> list[int]:
    """Factors of a length, in the order of the passes: fours, a two first when one is left, then primes."""
    found: list[int] = []
    if length < 1:
        return found
    while length % 4 == 0:
        found.append(4)
        length //= 4
    if length % 2 == 0:
        found.insert(0, 2)
        length //= 2
    divisor = 3
    while divisor * divisor <= length:
        while length % divisor == 0:
            found.append(divisor)
            length //= divisor
        divisor += 2
    return [*found, length] if length > 1 else found


def roots_of_unity(length: int, dtype: DType) -> Array:
    """cos and sin of 2 pi k / length for k = 0 .. length - 1: [length, 2]."""
    angle = 2 * np.pi * np.arange(length) / max(length, 1)
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(dtype.numpy)


class FourierTransform(Op):
    """out[..., k, :] = sum over j of x[..., j, :] times exp(-2 pi i j k / n), complex numbers as pairs.

    The last axis holds real and imaginary part, the one before it has n places; `roots` is the table
    [n, 2] of `roots_of_unity`.  With `inverse` the sign of the exponent is positive, and the sum is
    divided by n.  Mixed radix, decimation in frequency, in order (Stockham; Temperton 1983), in the
    compute dtype: log n roundings, where a sum of n products has n.
    """

    name = "signal.fft"
    x = operand()
    roots = operand()
    inverse = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        x, roots = ic.tensor(self.x, "x"), ic.tensor(self.roots, "roots")
        if not x.dtype.is_float:
            ic.bad_dtype("dtype of x", "float", x.dtype)
        if x.rank < 2 or not is_static(x.shape[-2]) or x.shape[-1] != 2:
            ic.bad_operand("x", "pairs in the last axis, a number of them in the one before", x)
        if roots.shape != (x.shape[-2], 2) or roots.dtype is not x.dtype.compute:
            ic.bad_operand("roots", f"{x.dtype.compute}[{x.shape[-2]}, 2]", roots)
        return [TensorType(x.dtype, x.shape)]

    @property
    def length(self) -> int:
        """Number of places of a line."""
        return int(self.x.shape[-2])

    def evaluate(self, ev: Any, x: Array, roots: Array) -> Array:
        n = self.length
        if not x.size:
            return np.copy(x)
        sign = roots.dtype.type(1 if self.inverse else -1)
        lines = x.reshape(-1, n, 2).astype(roots.dtype)
        re, im = lines[..., 0], lines[..., 1]
        done = 1
        for radix in radices(n):
            re, im = _pass(re, im, roots, radix, done, sign)
            done *= radix
        out: Array = np.stack([re, im], -1).reshape(x.shape)
        return np.multiply(out, out.dtype.type(1.0 / n)) if self.inverse else out

    def define(self) -> Nest:
        key = f"fft {self.inverse} {self.x.type} {self.roots.type}"
        return Nest(self._build, product(self.x.shape[:-2]), key=key)

    def _build(
        self, b: Any, inputs: tuple[TensorRef | None, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source, roots), (target,) = inputs, outputs
        assert source is not None and roots is not None
        line, n = unraveled(self.x.shape[:-2], unit), self.length
        if n == 0:
            return
        dtype = self.x.dtype.compute
        here, there = b.alloc("line", dtype, 2 * n), b.alloc("next", dtype, 2 * n)
        with loops(b, "i", (n, 2)) as (i, part):
            b.store(here, 2 * i + part, source.load((*line, i, part)))
        passes = _Passes(b, roots, n, dtype, 1 if self.inverse else -1)
        done = 1
        for radix in radices(n):
            passes.run(here, there, radix, done)
            here, there = there, here
            done *= radix
        with loops(b, "i", (n, 2)) as (i, part):
            value = b.load(here, 2 * i + part)
            target.store((*line, i, part), value * const(1.0 / n, dtype) if self.inverse else value)

    def cost(self) -> DimLike:
        """Real operations: about 2 (radix + 4) for each complex number in each pass."""
        return product(self.x.shape[:-1]) * sum(2 * (r + 4) for r in radices(self.length))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 16, 17, 30, 44, 49, 76, 121, 240):
            for inverse in (False, True):
                x = random_values(f32, (2, n, 2), rng)
                yield Sample((x, roots_of_unity(n, f32)), {"inverse": inverse}, f"{n}")
        x = random_values(f32, (2, 17, 2), rng)
        x[0, 3, 0], x[1, 5, 1] = np.inf, np.nan
        yield Sample((x, roots_of_unity(17, f32)), {}, "17, with NaN and infinities")
        for dtype in (f64, f16, bf16):
            x = random_values(dtype, (3, 15, 2), rng)
            yield Sample((x, roots_of_unity(15, dtype.compute)), {}, f"{dtype}")
        for shape in ((8, 2), (0, 6, 2), (2, 0, 2), (2, 3, 9, 2)):
            x = random_values(f32, shape, rng)
            yield Sample((x, roots_of_unity(shape[-2], f32)), {}, f"{list(shape)}")


def _pass(re: Array, im: Array, roots: Array, radix: int, done: int, sign: Any) -> tuple[Array, Array]:
    """One pass over lines [count, n] in numpy; `done` is the product of the radices before."""
    count, n = re.shape
    inner = n // (radix * done)
    shape = (count, done, radix, inner)
    places = [(re.reshape(shape)[:, :, j], im.reshape(shape)[:, :, j]) for j in range(radix)]
    out = []
    whole = _butterfly if radix <= UNROLLED else _all_pairs
    for k, (a, b) in enumerate(whole(places, roots[:: n // radix], sign)):
        turn = roots[k * done * np.arange(inner) % n]
        c, s = turn[:, 0], sign * turn[:, 1]
        turned = k or radix > UNROLLED  # loops over all pairs turn the first, too: by roots[0]
        out.append((a * c - b * s, a * s + b * c) if turned else (a, b))
    re, im = (np.stack([pair[part] for pair in out], 1).reshape(count, n) for part in (0, 1))
    return re, im


def _butterfly(x: Sequence[tuple[Array, Array]], roots: Array, sign: Any) -> list[tuple[Array, Array]]:
    """The transform of as many numbers as there are roots."""
    radix = len(x)
    if radix == 2:
        (a, b), (c, d) = x
        return [(a + c, b + d), (a - c, b - d)]
    if radix == 4:
        even, odd = _butterfly(x[::2], roots, sign), _butterfly(x[1::2], roots, sign)
        (re, im), (ahead, aside) = even[1], odd[1]
        (a, b), (c, d) = even[0], odd[0]
        ahead, aside = sign * ahead, sign * aside
        return [(a + c, b + d), (re - aside, im + ahead), (a - c, b - d), (re + aside, im - ahead)]
    half = range(1, (radix + 1) // 2)
    out = [x[0]] * radix
    sums = {j: tuple(x[j][part] + x[-j][part] for part in (0, 1)) for j in half}
    differences = {j: tuple(x[j][part] - x[-j][part] for part in (0, 1)) for j in half}
    for j in half:
        out[0] = (out[0][0] + sums[j][0], out[0][1] + sums[j][1])
    for k in half:
        (a, b), turned = x[0], [np.zeros_like(x[0][0])] * 2
        for j in half:
            c, s = roots[j * k % radix, 0], sign * roots[j * k % radix, 1]
            a, b = a + c * sums[j][0], b + c * sums[j][1]
            terms = s * differences[j][0], s * differences[j][1]
            turned = [terms[0], terms[1]] if j == 1 else [turned[0] + terms[0], turned[1] + terms[1]]
        out[k] = (a - turned[1], b + turned[0])
        out[radix - k] = (a + turned[1], b - turned[0])
    return out


def _all_pairs(x: Sequence[tuple[Array, Array]], roots: Array, sign: Any) -> list[tuple[Array, Array]]:
    """The transform by its definition."""
    out = []
    for k in range(len(x)):
        a, b = np.zeros_like(x[0][0]), np.zeros_like(x[0][0])
        for j, (re, im) in enumerate(x):
            c, s = roots[j * k % len(x), 0], sign * roots[j * k % len(x), 1]
            a, b = a + (re * c - im * s), b + (re * s + im * c)
        out.append((a, b))
    return out


Pair = tuple[Expr, Expr]
"""Real and imaginary part."""


class _Passes:
    """The passes over one line as loops; lines lie in scratch as pairs."""

    def __init__(self, b: Any, roots: TensorRef, length: int, dtype: DType, sign: int) -> None:
        self.b = b
        self.roots = roots
        self.length = length
        self.dtype = dtype
        self.sign = sign

    def run(self, source: str, target: str, radix: int, done: int) -> None:
        """A pass from one buffer to another."""
        b = self.b
        inner = self.length // (radix * done)
        if radix > UNROLLED:
            self._all_pairs(source, target, radix, done)
            return
        with loops(b, "k", (done, inner)) as (k, i):
            places = [self._load(source, i + inner * (j + radix * k)) for j in range(radix)]
            for j, value in enumerate(self._butterfly(places)):
                if j:
                    value = self._turned(value, j * done * i % self.length if inner > 1 else 0)
                self._store(target, i + inner * (k + done * j), value)

    def _all_pairs(self, source: str, target: str, radix: int, done: int) -> None:
        b, n = self.b, self.length
        inner = n // (radix * done)
        with loops(b, "k", (done, radix, inner)) as (k, q, i):
            re, im = (b.reg(part, VecType(self.dtype), 0.0) for part in ("re", "im"))
            with b.loop("j", 0, radix) as j:
                value = self._load(source, i + inner * (j + radix * k))
                x, y = self._turned(value, j * q % radix * (n // radix))
                b.set(re, re.read() + x)
                b.set(im, im.read() + y)
            self._store(
                target, i + inner * (k + done * q), self._turned((re.read(), im.read()), q * done * i % n)
            )

    def _load(self, buffer: str, place: DimLike) -> Pair:
        b = self.b
        return b.let(b.load(buffer, 2 * place)), b.let(b.load(buffer, 2 * place + 1))

    def _store(self, buffer: str, place: DimLike, value: Pair) -> None:
        for part in (0, 1):
            self.b.store(buffer, 2 * place + part, value[part])

    def _root(self, place: DimLike) -> Pair:
        b = self.b
        sine = b.let(self.roots.load((place, 1)))
        return b.let(self.roots.load((place, 0))), sine if self.sign > 0 else b.let(-sine)

    def _turned(self, value: Pair, place: DimLike) -> Pair:
        """A number times a root."""
        b, (x, y), (c, s) = self.b, value, self._root(place)
        return b.let(x * c - y * s), b.let(x * s + y * c)

    def _sum(self, x: Pair, y: Pair) -> Pair:
        return self.b.let(x[0] + y[0]), self.b.let(x[1] + y[1])

    def _difference(self, x: Pair, y: Pair) -> Pair:
        return self.b.let(x[0] - y[0]), self.b.let(x[1] - y[1])

    def _across(self, x: Pair) -> Pair:
        """A number times i, or times -i in the forward direction."""
        return (self.b.let(-x[1]), x[0]) if self.sign > 0 else (x[1], self.b.let(-x[0]))

    def _butterfly(self, x: Sequence[Pair]) -> list[Pair]:
        radix = len(x)
        if radix == 2:
            return [self._sum(x[0], x[1]), self._difference(x[0], x[1])]
        if radix == 4:
            even, odd = self._butterfly(x[::2]), self._butterfly(x[1::2])
            side = self._across(odd[1])
            return [
                self._sum(even[0], odd[0]),
                self._sum(even[1], side),
                self._difference(even[0], odd[0]),
                self._difference(even[1], side),
            ]
        half = range(1, (radix + 1) // 2)
        sums = {j: self._sum(x[j], x[-j]) for j in half}
        differences = {j: self._difference(x[j], x[-j]) for j in half}
        out = [x[0]] * radix
        for j in half:
            out[0] = self._sum(out[0], sums[j])
        for k in half:
            ahead, side = x[0], x[0]
            for j in half:
                c, s = self._root(j * k % radix * (self.length // radix))
                ahead = self._sum(ahead, (c * sums[j][0], c * sums[j][1]))
                term = self.b.let(s * differences[j][0]), self.b.let(s * differences[j][1])
                side = term if j == 1 else self._sum(side, term)
            side = -side[1], side[0]
            out[k], out[radix - k] = self._sum(ahead, side), self._difference(ahead, side)
        return out

"""Pseudo-random bits by position: no state, so that any part of the numbers can be made anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Compute, axes, coordinates
from aino_ir.dtypes import u64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, cast, const, index
from aino_ir.op import Op, Sample, Trait, dims_attr, int_attr
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import flatten
from aino_ir.types import TensorType, Type

GAMMA = 0x9E3779B97F4A7C15
"""The odd number nearest to 2^64 divided by the golden ratio: the step of the sequence."""

FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Multipliers of the finaliser."""

MASK = 2**64 - 1


class RandomBits(Op):
    """out[i] = 64 pseudo-random bits that depend on `seed`, `offset` and the position i alone.

    They are element i of the `offset`-th sequence of `seed`: SplitMix64 (Steele, Lea, Flood 2014) started
    at mix(seed) + offset * mix(1), both from its own finaliser.  Equal ops give equal bits, in every run
    and on every target.
    """

    name = "random.bits"
    traits = frozenset({Trait.RANDOM})
    shape = dims_attr()
    seed = int_attr(0)
    offset = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        return [TensorType(u64, ic.result_shape(self.shape))]

    def _start(self) -> int:
        return (mixed(self.seed) + self.offset * mixed(1)) & MASK

    def evaluate(self, ev: Any) -> Array:
        shape = ev.dims(self.shape)
        with np.errstate(over="ignore"):
            z = np.arange(1, np.prod(shape, dtype=np.int64) + 1, dtype=np.uint64) * np.uint64(GAMMA)
            z = z + np.uint64(self._start())
            z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
            z = z ^ (z >> np.uint64(31))
        return np.asarray(z.reshape(shape))

    def define(self) -> Compute:
        space = axes("i", self.shape)
        position = cast(index(flatten(coordinates(space), self.shape) + 1), u64)
        z: Expr = position * const(GAMMA, u64) + const(self._start(), u64)
        z = (z ^ (z >> const(30, u64))) * const(FIRST, u64)
        z = (z ^ (z >> const(27, u64))) * const(SECOND, u64)
        return Compute(space, z ^ (z >> const(31, u64)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, seed, offset in (((3, 5), 0, 0), ((17,), -1, 3), ((), 2**62, 1), ((2, 0), 1, 0)):
            yield Sample((), {"shape": shape, "seed": seed, "offset": offset}, f"{list(shape)} of {seed}")


def mixed(number: int) -> int:
    """SplitMix64's finaliser."""
    z = (number + GAMMA) & MASK
    z = ((z ^ (z >> 30)) * FIRST) & MASK
    z = ((z ^ (z >> 27)) * SECOND) & MASK
    return z ^ (z >> 31)

"""The inputs of `benchmarks.gpu`'s cases: drawn from their names, so that every machine has the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES

Array = np.ndarray[Any, Any]


def drawn(name: str, inputs: Sequence[Sequence[Any]]) -> list[Array]:
    """The inputs of a case: numbers about zero, indices below their bound.

    Args:
        name: of the case.
        inputs: (dtype, shape) of each, or (dtype, shape, bound) for indices.
    """
    random = np.random.default_rng(zlib.crc32(name.encode("ascii")))
    made = []
    for dtype, shape, *bound in inputs:
        numpy = DTYPES[dtype].numpy
        if bound:
            made.append(random.integers(0, bound[0], shape).astype(numpy))
        elif dtype[0] in "iu":
            made.append(random.integers(-100 if dtype[0] == "i" else 0, 100, shape).astype(numpy))
        else:
            made.append(random.standard_normal(shape, np.float32).astype(numpy))
    return made


def weights(name: str, dtype: str, size: int) -> Array:
    """Random numbers of a constant of so many bytes, small as those of trained networks are."""
    random = np.random.default_rng(zlib.crc32(name.encode("ascii")))
    numpy = DTYPES[dtype].numpy
    values = random.standard_normal(size // numpy.itemsize, np.float32)
    values *= np.float32(0.03)
    return values.astype(numpy)

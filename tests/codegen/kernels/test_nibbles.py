"""Weights that kernels decode as they read them: bytes, nibbles, one scale a channel or a group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.codegen.kernels.nibbles import Nibbles
from aino_ir.dtypes import DTYPES, u8
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    check,
    check_compiled,
    normal,
    problem,
)

NUMPY = {"i8": np.int8, "u8": np.uint8, "i4": ml_dtypes.int4, "u4": ml_dtypes.uint4}


def weights(dtype: str, k: int, n: int) -> Given:
    rng = np.random.default_rng([k, n])
    low = -(1 << (DTYPES[dtype].bits - 1)) if dtype[0] == "i" else 0
    drawn = rng.integers(low, low + (1 << DTYPES[dtype].bits), (k, n))
    return Given(drawn.astype(NUMPY[dtype]), constant=True)


def product(m: int, k: int, n: int, dtype: str, group: int = 0, zero: bool = False) -> Problem:
    """x times decoded weights, with a bias behind it."""
    shape = (-(-k // group), n) if group else (n,)
    rng = np.random.default_rng(7)
    scale = Given((rng.random(shape) + 0.1).astype(np.float32), constant=True)
    zeros = [Given(rng.integers(0, 8, shape).astype(NUMPY[dtype]), constant=True)] if zero else []

    def body(b: Any, x: Any, w: Any, scale: Any, bias: Any, *zero: Any) -> list[Any]:
        if group:
            w = b.dequantize_groups(w, scale, *zero, axis=0, group=group)
        else:
            w = b.dequantize(w, scale, *zero)
        return [b.add(b.matmul(x, w), bias)]

    bias = Given(normal(n, seed=3), constant=True)
    return problem(body, Given(normal(m, k)), weights(dtype, k, n), scale, bias, *zeros, terms=k)


CASES = [
    product(5, 24, 19, "i8"),
    product(1, 33, 40, "i4"),
    product(4, 20, 16, "u4", group=8, zero=True),
    product(3, 21, 9, "i4", group=6),
    product(7, 12, 8, "u8", zero=True),
    product(2, 2, 24, "i4"),
]


def made(text: str) -> list[Built]:
    return [kernel for p in CASES for kernel in check(p, text, only="contract", most=1)]


def test_kernels_decode_what_they_read() -> None:
    for kernel in made("c:avx2"):
        transforms = {type(p.transform) for _, p in kernel.candidate.packings}
        narrow = kernel.problem.spec.operands[1].dtype.bits == 4
        assert (Nibbles in transforms) is narrow


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled(isa: str, tmp_path: Path) -> None:
    check_compiled(made(f"c:{isa}"), isa, tmp_path)


@pytest.mark.parametrize("dtype", ["i4", "u4"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (5, 3)), (1, (4, 6)), (0, (0, 2))])
def test_two_neighbours_share_a_byte(axis: int, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 8, shape).astype(NUMPY[dtype])
    packing = Nibbles(axis)
    packed = packing.apply(array)
    assert packed.shape == packing.shape(shape) and packed.dtype == np.uint8
    assert packing.dtype(DTYPES[dtype]) is u8
    both = np.stack([packed & 15, packed >> 4], axis=axis + 1)
    whole = both.reshape([2 * d if a == axis else d for a, d in enumerate(packed.shape)])
    assert np.array_equal(np.take(whole, range(shape[axis]), axis=axis), array.astype(np.uint8))

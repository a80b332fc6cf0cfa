"""Fast Fourier transforms against numpy's, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES, f32
from aino_ir.errors.ir import BadOperand
from aino_ir.interp import run_module
from aino_ir.ops.signal import FourierTransform, radices, roots_of_unity
from aino_ir.types import tensor

LENGTHS = (*range(1, 33), 49, 60, 64, 97, 100, 121, 128, 187, 210, 243, 1024)


@pytest.mark.parametrize("n", LENGTHS)
def test_lengths_are_products_of_their_radices(n: int) -> None:
    assert np.prod(radices(n), dtype=int) == n


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_transforms_are_those_of_numpy(dtype: str, inverse: bool) -> None:
    kind = DTYPES[dtype]
    rng = np.random.default_rng(3)
    for n in LENGTHS:
        b = Builder()
        x = b.input("x", tensor(dtype, 3, n, 2))
        b.output("y", b.op(FourierTransform, x, b.constant(roots_of_unity(n, kind)), inverse=inverse).result)
        given = rng.normal(size=(3, n, 2)).astype(kind.numpy)
        (got,) = run_module(b.module, [given])
        z = given[..., 0].astype(np.float64) + 1j * given[..., 1]
        want = np.fft.ifft(z) if inverse else np.fft.fft(z)
        error = np.abs(got[..., 0] + 1j * got[..., 1].astype(np.float64) - want)
        scale = np.sqrt(np.mean(np.abs(want) ** 2))
        bound = 4 * np.finfo(kind.numpy).eps * np.log2(2 * n)  # about one rounding a pass
        if max(radices(n), default=1) > 13:
            bound *= np.sqrt(n)  # a large prime: sums of that many products
        assert error.max() <= bound * scale, n


def test_what_it_takes() -> None:
    b = Builder()
    roots = b.constant(roots_of_unity(4, f32))
    for shape in ((4,), (4, 3), (5, 2)):
        with pytest.raises(BadOperand):
            b.op(FourierTransform, b.input(f"x{shape}", tensor("f32", *shape)), roots)

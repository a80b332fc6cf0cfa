"""The generator for sums of bytes that fit 16 bits: depthwise and single-channel convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.op import OPS
from aino_ir.types import ROW_MAJOR, Layout, permuted
from tests.codegen.kernels.support import (
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    problem,
    rejects,
    unit_text,
)
from tests.codegen.kernels.test_dot import extremes, number, offsets, product, scales

LAST = permuted(0, 2, 3, 1)


def small_weights(shape: tuple[int, ...], most: int = 128) -> np.ndarray:
    """Weights of which the positive ones of a channel add up to `most`, and the negative ones."""
    rng = np.random.default_rng([7, *shape])
    flat = np.zeros((shape[0], int(np.prod(shape[1:]))), np.int64)
    for row in flat:
        signs = rng.choice((-1, 1), row.size)
        for sign in (-1, 1):
            places = np.flatnonzero(signs == sign)
            if places.size:
                np.add.at(row, rng.choice(places, most), sign)
    return np.clip(flat, -128, 127).astype(np.int8).reshape(shape)


def convolution(
    x: tuple[int, ...],
    w: tuple[int, ...],
    stride: int = 1,
    pad: int = 0,
    dtype: Any = np.uint8,
    layout: Layout = LAST,
    most: int = 128,
    dilation: int = 1,
) -> Problem:
    """A convolution whose result is scaled, cut at zero and quantised again."""
    attrs = {
        "strides": (stride,) * 2,
        "dilations": (dilation,) * 2,
        "pads_before": (pad,) * 2,
        "pads_after": (pad,) * 2,
        "groups": x[1] // w[1],
    }

    def body(b: Any, x: Any, w: Any, scale: Any, offset: Any, step: Any) -> list[Any]:
        y = b.op(OPS["quant.conv"], x, w, scale, offset, **attrs).result
        return [b.quantize(b.relu(y), step, to="u8")]

    return problem(
        body,
        Given(extremes(dtype, *x), layout),
        Given(small_weights(w, most), constant=True),
        Given(scales(w[0]).array.reshape(-1, 1, 1), constant=True),
        offsets(w[0]),
        number(0.5),
        layouts=[layout],
        error_class="exact",
    )


CASES = {
    "depthwise": convolution((1, 32, 6, 9), (32, 1, 3, 3), pad=1),
    "two strides": convolution((2, 16, 7, 8), (16, 1, 3, 3), stride=2, pad=1),
    "ragged": convolution((1, 21, 5, 5), (21, 1, 3, 3), pad=1),
    "signed": convolution((1, 24, 5, 6), (24, 1, 3, 3), dtype=np.int8),
    "dilated": convolution((1, 8, 9, 9), (8, 1, 3, 3), pad=2, dilation=2),
    "one channel": convolution((2, 1, 8, 8), (12, 1, 3, 3), pad=1),
    "one channel, row-major": convolution((1, 1, 9, 20), (4, 1, 3, 3), pad=1, layout=ROW_MAJOR),
    "pointwise": convolution((1, 6, 5, 5), (10, 6, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_convolution(name: str) -> None:
    check(CASES[name], only="short")


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled(isa: str, tmp_path: Path) -> None:
    made = [k for p in CASES.values() for k in check(p, f"c:{isa}", only="short", most=1)]
    check_compiled(made, isa, tmp_path)


def test_compiles_for_wide_vectors(tmp_path: Path) -> None:
    """32 sums a vector, widened by halves."""
    made = check(convolution((1, 64, 5, 5), (64, 1, 3, 3)), "c:avx512", only="short", most=1)
    assert "upper_i16x32(" in unit_text(made, "avx512")
    check_compiles(made, "avx512", tmp_path)


def test_targets_without_vectors_sum_one_at_a_time() -> None:
    made = check(CASES["depthwise"], "c:cortex-m", only="short", most=1)
    assert all(dict(kernel.candidate.params)["lanes"] == 1 for kernel in made)


def test_sums_that_may_be_larger_are_left_to_others() -> None:
    """One more unit of weight, and the largest activations would leave 16 bits."""
    p = convolution((1, 8, 5, 5), (8, 1, 3, 3), most=129)
    assert "fit 16 bits" in rejects(p)["short"]


def test_slices_along_the_reduction_prove_nothing() -> None:
    """Rows of a matrix that fit say nothing about its columns, which are what is summed."""
    p = product(3, 40, 2, most=60)
    assert p.spec.operands[1].short is not None and p.spec.operands[1].short.whole
    assert "fit 16 bits" in rejects(p)["short"]

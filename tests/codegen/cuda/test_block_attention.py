"""Attention of f32 by blocks of threads: shapes, masks and biases, emulated and in the loop interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.codegen.cuda.test_flash_attention import EMULATED
from tests.codegen.cuda.test_tensor_cores import check_emulated
from tests.codegen.kernels.support import Built, Given, Problem, kernels, normal, problem, rejects


def attention(
    queries: int,
    keys: int,
    width: int,
    value_width: int = 0,
    heads: tuple[int, int] = (2, 2),
    bias: Any = None,
    dtype: Any = np.float32,
    **attrs: Any,
) -> Problem:
    q = normal(1, heads[0], queries, width)
    k, v = (normal(1, heads[1], keys, w) for w in (width, value_width or width))
    operands = [q, k, v] if bias is None else [q, k, v, bias.astype(np.float32)]
    attrs.setdefault("scale", width**-0.5)
    return problem(
        lambda b, *x: [b.attention(*x, **attrs)],
        *(Given(x.astype(dtype)) for x in operands),
        terms=4 * (keys + width),
    )


def block(p: Problem) -> list[Built]:
    return kernels(p, EMULATED, "block attention", bounds=False)


def test_shapes(tmp_path: Path) -> None:
    shapes = [(32, 64, 64, 64), (33, 70, 20, 16), (1, 19, 40, 23), (5, 33, 48, 130)]
    check_emulated([k for s in shapes for k in block(attention(*s))], tmp_path)


def test_masks(tmp_path: Path) -> None:
    mask = np.where(normal(20, 50) > 0, 0.0, -np.inf)
    mask[3] = -np.inf
    made = [
        *block(attention(40, 50, 16, heads=(4, 2), causal=True, offset=10)),
        *block(attention(20, 50, 16, bias=mask[None, None], masked_rows_zero=True)),
        *block(attention(20, 50, 16, bias=mask[None, None])),
        *block(attention(20, 50, 16, bias=normal(1, 2, 1, 50), scale=30.0)),
    ]
    check_emulated(made, tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    (built,) = block(attention(3, 12, 16, heads=(1, 1)))
    assert built.interpret() is None


@pytest.mark.parametrize(
    ("p", "why"),
    [
        (attention(8, 8, 200, dtype=np.float32), "192 at most"),
        (attention(8, 8, 16, dtype=np.float64), "another type"),
    ],
)
def test_what_is_left_to_others(p: Problem, why: str) -> None:
    assert why in rejects(p, EMULATED)["block attention"]


def test_wide_heads_of_16_bits_are_computed_in_f32(tmp_path: Path) -> None:
    check_emulated(block(attention(4, 20, 160, dtype=ml_dtypes.bfloat16)), tmp_path)


def block_kernels() -> list[Built]:
    """Kernels for whoever compiles them for devices."""
    return [*block(attention(256, 256, 64, causal=True)), *block(attention(256, 256, 192))]

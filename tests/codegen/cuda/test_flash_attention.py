"""Attention on tensor cores: shapes, masks and biases, emulated and in the loop interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.types import ROW_MAJOR, Layout
from tests.codegen.cuda.test_tensor_cores import check_emulated, half
from tests.codegen.kernels.support import Built, Given, Problem, kernels, normal, problem, rejects

EMULATED = "c:cuda-emu"


def attention(
    queries: int,
    keys: int,
    width: int,
    value_width: int = 0,
    heads: tuple[int, int] = (2, 2),
    bias: Any = None,
    dtype: Any = ml_dtypes.bfloat16,
    layout: Layout = ROW_MAJOR,
    **attrs: Any,
) -> Problem:
    q = half(1, heads[0], queries, width, dtype=dtype)
    k, v = (
        half(1, heads[1], keys, w, dtype=dtype, seed=n) for n, w in ((1, width), (2, value_width or width))
    )
    operands = [q, k, v] if bias is None else [q, k, v, bias.astype(dtype)]
    attrs.setdefault("scale", width**-0.5)
    return problem(
        lambda b, *x: [b.attention(*x, **attrs)],
        *(Given(o, layout) for o in operands[:3]),
        *map(Given, operands[3:]),
        terms=4 * (keys + width),
        error_class="approximate",
    )


def flash(p: Problem) -> list[Built]:
    return kernels(p, EMULATED, "flash attention", bounds=False)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "value_width"),
    [(64, 64, 64, 64), (33, 70, 32, 16), (65, 130, 128, 128), (1, 19, 40, 24), (70, 65, 48, 80)],
)
def test_shapes(queries: int, keys: int, width: int, value_width: int, tmp_path: Path) -> None:
    check_emulated(flash(attention(queries, keys, width, value_width)), tmp_path)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_causal_groups_of_heads(dtype: Any, tmp_path: Path) -> None:
    p = attention(70, 90, 32, heads=(4, 2), causal=True, offset=20, dtype=dtype)
    check_emulated(flash(p), tmp_path)


def test_biases_and_masked_rows(tmp_path: Path) -> None:
    mask = np.where(normal(20, 50) > 0, 0.0, -np.inf)
    mask[3] = -np.inf
    made = [
        *flash(attention(20, 50, 16, bias=mask[None, None], masked_rows_zero=True)),
        *flash(attention(20, 50, 16, bias=mask[None, None])),
        *flash(attention(20, 50, 16, bias=normal(1, 2, 1, 50), scale=30.0)),
    ]
    check_emulated(made, tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    (built,) = flash(attention(5, 20, 16, heads=(1, 1)))
    assert built.interpret() is None


def test_what_is_left_to_others() -> None:
    q = Given(normal(1, 2, 8, 16))
    p = problem(lambda b, *x: [b.attention(*x)], q, q, q)
    assert "operands of f32" in rejects(p, EMULATED)["flash attention"]
    assert "128 at most" in rejects(attention(8, 8, 256), EMULATED)["flash attention"]


def flash_kernels() -> list[Built]:
    """Kernels for whoever compiles them for devices."""
    return [
        *flash(attention(256, 256, 64, causal=True)),
        *flash(attention(256, 256, 128)),
        *flash(attention(100, 100, 64, bias=normal(1, 1, 100, 100))),
    ]

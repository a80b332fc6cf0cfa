"""The attention generator: tails in every extent, grouped heads, masks, causal rows, rows without keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.dims import symbol
from aino_ir.types import ROW_MAJOR, Layout, permuted
from tests.codegen.kernels.support import (
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    kernels,
    normal,
    problem,
)

HEADS_INSIDE = permuted(0, 2, 1, 3)
"""[batch, position, head, width] in memory, as projections leave it."""


def attention(
    batch: int = 1,
    heads: int = 2,
    kv_heads: int = 2,
    queries: int = 5,
    keys: int = 7,
    width: int = 8,
    value_width: int = 8,
    *,
    bias: Any = None,
    dtype: Any = np.float32,
    layout: Layout = ROW_MAJOR,
    **attrs: Any,
) -> Problem:
    operands = [
        Given(normal(batch, heads, queries, width, dtype=dtype), layout),
        Given(normal(batch, kv_heads, keys, width, seed=1, dtype=dtype), layout),
        Given(normal(batch, kv_heads, keys, value_width, seed=2, dtype=dtype), layout),
    ]
    if bias is not None:
        operands.append(Given(bias))
    attrs = {"scale": width**-0.5, **attrs}
    return problem(
        lambda b, *v: [b.attention(*v, **attrs)], *operands, layouts=[layout], terms=4 * (keys + width)
    )


@settings(max_examples=20)
@given(
    st.integers(1, 2),
    st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    st.integers(1, 20),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
)
def test_tails(
    batch: int, heads: tuple[int, int], queries: int, keys: int, width: int, value_width: int, causal: bool
) -> None:
    check(attention(batch, *heads, queries, keys, width, value_width, causal=causal), proved=False)


@pytest.mark.parametrize("offset", [-3, 0, 2, 40])
def test_causal_offsets(offset: int) -> None:
    """Queries before the first key see none: their rows are zero where that is asked for."""
    for queries, keys in ((9, 9), (5, 21), (21, 5)):
        attrs = {"causal": True, "offset": offset, "masked_rows_zero": True}
        check(attention(queries=queries, keys=keys, **attrs), proved=False)


def test_rows_without_keys_are_nan_unless_zero_is_asked_for() -> None:
    mask = np.zeros((5, 7), np.float32)
    mask[1], mask[2, 3:] = -np.inf, -np.inf
    zero = check(attention(bias=mask, masked_rows_zero=True), proved=False)[0].problem
    plain = check(attention(bias=mask), proved=False)[0].problem
    assert (zero.expected[0][:, :, 1] == 0).all()
    assert np.isnan(plain.expected[0][:, :, 1]).all()


@pytest.mark.parametrize("shape", [(), (7,), (5, 7), (2, 1, 7), (1, 2, 5, 7), (1, 1, 5, 1)])
def test_biases_broadcast(shape: tuple[int, ...]) -> None:
    check(attention(bias=normal(*shape, seed=5)), proved=False)


def test_nan_and_infinity() -> None:
    p = attention(queries=9, keys=21)
    p.arrays[0][0, 0, 3, 2] = np.nan
    q = problem(lambda b, *v: [b.attention(*v, scale=0.35)], *(Given(a) for a in p.arrays), terms=100)
    assert np.isnan(q.expected[0][0, 0, 3]).all() and not np.isnan(q.expected[0][0, 1]).any()
    check(q, proved=False)


def test_large_logits_do_not_overflow() -> None:
    check(attention(queries=7, keys=19, scale=200.0), proved=False)


def test_layouts_and_dtypes() -> None:
    check(attention(2, 3, 3, 7, 19, 16, 16, layout=HEADS_INSIDE), proved=False)
    for dtype in (np.float64, np.float16):
        check(attention(1, 2, 1, 7, 19, 12, 9, dtype=dtype), proved=False)


def test_the_same_value_as_query_key_and_value() -> None:
    x = Given(normal(1, 2, 9, 8))
    check(problem(lambda b, v: [b.attention(v, v, v, scale=0.5)], x, terms=70), proved=False)


def test_operands_may_come_in_any_order() -> None:
    """The score's reads are of operands by number: a mask that is read first must stay the mask."""
    mask = normal(5, 7, seed=9)
    q, k, v = normal(1, 2, 5, 8), normal(1, 2, 7, 8, seed=1), normal(1, 2, 7, 8, seed=2)

    def body(b: Any, m: Any, v: Any, k: Any, q: Any) -> list[Any]:
        return [b.attention(q, k, v, b.mul(m, m), scale=0.5)]

    check(problem(body, Given(mask), Given(v), Given(k), Given(q), terms=70), proved=False)


def test_symbolic_lengths() -> None:
    def make(queries: int, keys: int) -> Problem:
        return problem(
            lambda b, q, k, v: [b.attention(q, k, v, scale=0.5)],
            Given(normal(1, 2, queries, 8), shape=(1, 2, symbol("q"), 8)),
            Given(normal(1, 2, keys, 8, seed=1), shape=(1, 2, symbol("k"), 8)),
            Given(normal(1, 2, keys, 8, seed=2), shape=(1, 2, symbol("k"), 8)),
            symbols={"q": (1, 64), "k": (1, 64)},
            values={"q": queries, "k": keys},
            terms=4 * keys,
        )

    first = make(5, 7)
    for kernel in check(first, proved=False):
        for size in ((1, 1), (2, 33), (13, 16), (6, 40)):
            p = make(*size)
            assert p.spec.key == first.spec.key
            why = replace(kernel, problem=p).interpret()
            assert why is None, f"at {size}: {why}"


def examples() -> list[Problem]:
    return [
        attention(2, 4, 2, 13, 37, 12, 20),
        attention(1, 1, 1, 9, 9, 8, 8, causal=True),
        attention(bias=normal(5, 7, seed=5), dtype=np.float32),
        attention(1, 2, 2, 7, 19, 12, 9, dtype=np.float64),
        attention(1, 2, 1, 7, 19, 16, 16, layout=HEADS_INSIDE),
    ]


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled_kernels(isa: str, tmp_path: Path) -> None:
    check_compiled([k for p in examples() for k in kernels(p, f"c:{isa}", bounds=False)], isa, tmp_path)


def test_avx512_compiles(tmp_path: Path) -> None:
    check_compiles([k for p in examples() for k in kernels(p, "c:avx512", bounds=False)], "avx512", tmp_path)

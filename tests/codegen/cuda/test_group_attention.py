"""Attention by groups of warps: shapes, masks, layouts and numbers of groups, emulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.loops.stmt import GroupProduct, Store, walk_statements
from aino_ir.types import Layout
from tests.codegen.cuda.test_flash_attention import EMULATED, attention, flash
from tests.codegen.cuda.test_tensor_cores import check_emulated, half
from tests.codegen.kernels.support import Built, Given, Problem, candidates, kernels, normal, problem, rejects


def grouped(p: Problem, most: int = 2) -> list[Built]:
    return kernels(p, EMULATED, "group attention", most, bounds=False)


def test_causal_groups_of_heads(tmp_path: Path) -> None:
    made = grouped(attention(140, 150, 64, heads=(2, 1), causal=True, offset=10))
    assert sorted(k.fn.threads for k in made) == [128, 256]
    check_emulated(made, tmp_path)
    for kernel in made:
        products = [s for s in walk_statements(kernel.fn.body) if isinstance(s, GroupProduct)]
        assert len(products) == 4  # where all keys are seen, and at the end
        assert [s.second.turned for s in products] == [False, True] * 2
        assert {s.buffer for s in walk_statements(kernel.fn.body) if isinstance(s, Store)} == {"out"}


def test_wide_heads_biases_and_masked_rows(tmp_path: Path) -> None:
    mask = np.where(normal(20, 70) > 0, 0.0, -np.inf)
    mask[3] = -np.inf
    made = [
        *grouped(attention(20, 70, 128, bias=mask[None, None], masked_rows_zero=True), most=1),
        *grouped(attention(9, 64, 100, 52, bias=normal(1, 2, 1, 64), scale=30.0, dtype=np.float16), most=1),
    ]
    check_emulated(made, tmp_path)


def test_queries_keys_and_values_that_lie_across(tmp_path: Path) -> None:
    across = Layout(((0, None), (1, None), (3, None), (2, None)))
    (built,) = grouped(attention(64, 64, 64, heads=(1, 1), layout=across), most=1)
    logits, values = (s for s in walk_statements(built.fn.body) if isinstance(s, GroupProduct))
    assert [f.turned for _, f in (*logits.shared, *values.shared)] == [True, True, False]
    check_emulated([built], tmp_path)


def test_lengths_that_a_run_decides(tmp_path: Path) -> None:
    b = Builder()
    queries, keys = b.symbol("queries", 1, 200), b.symbol("keys", 1, 200)
    p = problem(
        lambda b, *x: [b.attention(*x, scale=0.125, causal=True)],
        Given(half(1, 2, 37, 64), shape=(1, 2, queries, 64)),
        *(Given(half(1, 2, 70, 64, seed=n), shape=(1, 2, keys, 64)) for n in (1, 2)),
        symbols={"queries": (1, 200), "keys": (1, 200)},
        values={"queries": 37, "keys": 70},
        terms=600,
        error_class="approximate",
    )
    check_emulated([*grouped(p, most=1), *flash(p)], tmp_path)


@pytest.mark.parametrize(
    ("width", "target", "why"),
    [
        (80, "cuda:sm_90a", "leave much of whole lines empty"),
        (64, "cuda:sm_80", "sm_80 has no products of groups"),
        (256, "cuda:sm_90a", "128 at most"),
    ],
)
def test_what_is_left_to_others(width: int, target: str, why: str) -> None:
    assert why in rejects(attention(64, 64, width), target)["group attention"]


def test_long_sequences_have_two_groups() -> None:
    for queries, text in ((64, "64 queries"), (16384, "128 queries")):
        first, *_ = candidates(attention(queries, 64, 64), "cuda:sm_90a")
        assert first.generator == "group attention" and text in first.name

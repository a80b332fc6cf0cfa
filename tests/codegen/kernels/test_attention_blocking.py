"""Blocks of the attention generator: exact tails of queries, cut keys, several register tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.loops.verify import verify_loops
from aino_ir.ops.attention import Attention
from tests.codegen.kernels.support import Built, Given, Problem, candidates, check_compiled, normal, problem
from tests.codegen.native import target

EXAMPLES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 1, 17, 21, 8, 8), {}),
    ((1, 1, 6, 33, 5, 12), {}),
    ((1, 1, 29, 29, 8, 16), {"causal": True}),
    ((1, 1, 4, 9, 8, 16), {"causal": True, "offset": 5}),
    ((1, 1, 13, 30, 8, 19), {}),
]
"""(heads, kv heads, queries, keys, width, value width), attributes."""

BLOCKINGS = [(1, 64, 1), (2, 16, 1), (3, 5, 2)]
"""(register tiles of a block, keys at a time, units a head)."""


def attention(shape: tuple[int, ...], attributes: dict[str, Any]) -> Problem:
    heads, kv_heads, queries, keys, width, value_width = shape
    q = Given(normal(1, heads, queries, width))
    k = Given(normal(1, kv_heads, keys, width, seed=1))
    v = Given(normal(1, kv_heads, keys, value_width, seed=2))
    return problem(
        lambda b, q, k, v: [b.op(Attention, q, k, v, scale=0.3, **attributes).result], q, k, v, terms=keys
    )


def blocked(p: Problem, tiles: int, depth: int, blocks: int) -> Built:
    """The kernel with other blocks than the generator would choose."""
    first = candidates(p, only="attention")[0]
    params = {**dict(first.params), "tiles": tiles, "depth": depth, "blocks": blocks}
    candidate = replace(first, params=tuple(params.items()))
    fn = AttentionGenerator().build(p.spec, candidate, target("c:avx2"))
    kernel = Built(p, candidate, fn, verify_loops(fn).unproved)
    assert not [access for access in kernel.unproved if " where " not in access]
    return kernel


@pytest.mark.parametrize(("shape", "attributes"), EXAMPLES)
def test_every_blocking_gives_the_same(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    p = attention(shape, attributes)
    for numbers in BLOCKINGS:
        assert blocked(p, *numbers).interpret() is None


def test_compiled(tmp_path: Path) -> None:
    check_compiled([blocked(attention(*example), 2, 16, 2) for example in EXAMPLES], "avx2", tmp_path)

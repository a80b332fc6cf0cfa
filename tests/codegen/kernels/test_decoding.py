"""Products with weights of 4 and 8 bits: decoded once a tile, scaled once a run, right at the ends of the range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.kernels.decoding import DecodingGenerator
from aino_ir.codegen.kernels.decoding_parts import Parts, parts_of
from aino_ir.codegen.kernels.words import NIBBLES, Words
from aino_ir.dtypes import DTYPES, i32
from aino_ir.kernels import Candidate
from aino_ir.loops.stmt import Prefetch
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    candidates,
    check,
    check_compiled,
    check_compiles,
    kernels,
    normal,
    problem,
    rejects,
    unit_text,
)
from tests.codegen.kernels.test_nibbles import NUMPY, product, weights
from tests.codegen.native import target

Array = np.ndarray[Any, Any]


def turned(m: int, k: int, n: int, dtype: str, group: int) -> Problem:
    """x times the transpose of weights [n, k], as a Linear layer has them, with an activation behind it."""
    w = weights(dtype, n, k)
    scale = Given(
        (np.random.default_rng(1).random((n, -(-k // group))) + 0.1).astype(np.float32), constant=True
    )

    def body(b: Any, x: Any, w: Any, scale: Any) -> list[Any]:
        w = b.dequantize_groups(w, scale, axis=1, group=group)
        return [b.gelu(b.matmul(x, b.transpose(w, perm=(1, 0))))]

    return problem(body, Given(normal(m, k)), w, scale, terms=k)


CASES = {
    "i8": product(5, 24, 19, "i8"),
    "i4, odd": product(1, 33, 40, "i4"),
    "u4, zero": product(4, 20, 16, "u4", group=8, zero=True),
    "i4, zero": product(2, 32, 12, "i4", group=16, zero=True),
    "i8, groups": product(3, 21, 9, "i8", group=6),
    "u8, zero": product(7, 12, 8, "u8", zero=True),
    "i4, groups, tail": product(1, 77, 70, "i4", group=32),
    "i4, rows": product(9, 40, 24, "i4", group=8),
    "i4, one run": product(1, 12, 8, "i4", group=16),
    "turned": turned(2, 48, 21, "i4", 16),
    "nothing to add": product(2, 0, 5, "i4"),
}


PORTABLE = ("u4, zero", "i4, groups, tail")


def made(text: str, names: Iterable[str] = CASES, most: int = 2) -> list[Built]:
    return [kernel for name in names for kernel in check(CASES[name], text, only="decoding", most=most)]


@pytest.fixture(scope="module")
def avx2() -> list[Built]:
    return made("c:avx2")


def test_weights_of_4_bits_are_stored_as_words(avx2: list[Built]) -> None:
    for kernel in avx2:
        narrow = kernel.problem.spec.operands[1].dtype.bits == 4
        stored = {type(p.transform) for _, p in kernel.candidate.packings}
        assert (Words in stored) is narrow


def test_compiled_on_avx2(avx2: list[Built], tmp_path: Path) -> None:
    assert "byte_1_to_3_i32x8" in unit_text(avx2, "avx2")
    check_compiled(avx2, "avx2", tmp_path)


def test_compiled_portably(tmp_path: Path) -> None:
    portable = made("c:portable", PORTABLE, most=1)
    assert "byte_1_to_3" not in unit_text(portable, "portable")
    check_compiled(portable, "portable", tmp_path)


def test_compiles_for_avx512(tmp_path: Path) -> None:
    check_compiles(
        kernels(CASES["i4, groups, tail"], "c:avx512", only="decoding", most=1), "avx512", tmp_path
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, 1e30, 1e-38], ids=str)
def test_extreme_activations_mean_what_they_do_elsewhere(value: float) -> None:
    x = normal(1, 48)
    if abs(value) < 1:
        x[:] = value
    x[0, 5] = value
    assert check(extreme(x), "c:avx2", only="decoding", most=1)


def extreme(x: Array) -> Problem:
    """x times weights with scales of an eighth."""
    scale = Given(np.full((3, 16), 0.125, np.float32), constant=True)

    def body(b: Any, x: Any, w: Any, scale: Any) -> list[Any]:
        return [b.matmul(x, b.dequantize_groups(w, scale, axis=0, group=16))]

    return problem(body, Given(x), weights("i4", 48, 16), scale, terms=48)


def test_rows_of_a_tile_share_what_is_decoded() -> None:
    (kernel,) = kernels(product(8, 64, 8, "i4", group=32), "c:portable", only="decoding", most=1)
    rows = dict(kernel.candidate.params)["rows"]
    text = unit_text([kernel], "portable")
    hot = text[text.index("step") :]
    hot = hot[: hot.index("}")]
    assert rows > 1
    assert hot.count("fma_f32x4(") == rows * hot.count("convertvector(")


def test_a_single_row_costs_less_than_by_the_general_contraction() -> None:
    p = product(1, 1024, 1024, "i4", group=128)
    best = candidates(p)[0]
    costs = {g: min(c.cost for c in candidates(p, only=g)) for g in ("decoding", "contract")}
    assert best.generator == "contract" or best.cost == costs["decoding"]
    assert costs["decoding"] < costs["contract"]


def test_scales_lie_beside_their_panel() -> None:
    p = product(1, 64, 64, "i4", group=32)
    best = min(candidates(p, only="decoding"), key=lambda c: c.cost)
    packed = {p.spec.operands[i].name: packing for i, packing in best.packings}
    assert set(packed) == {"x", "scale"}
    width = dict(best.params)["vectors"] * dict(best.params)["lanes"]
    assert packed["scale"].layout.tiles == ((1, width),)
    assert packed["x"].layout.tiles[-1] == (1, width)


REFUSED = {
    "groups end inside a word": product(3, 21, 9, "i4", group=6),
    "plain weights": problem(
        lambda b, x, w: [b.matmul(x, w)], Given(normal(2, 8)), Given(normal(8, 8), constant=True), terms=8
    ),
    "weights are no constants": problem(
        lambda b, x, w: [b.matmul(x, b.widen(w))],
        Given(normal(2, 8)),
        replace(weights("i8", 8, 8), constant=False),
        terms=8,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_leaves_to_others(name: str) -> None:
    assert "decoded from constants" in rejects(REFUSED[name])["decoding"]


def test_the_run_is_the_group() -> None:
    for group, run in ((0, 77), (32, 32), (128, 77)):
        parts = parts_of(product(1, 77, 8, "i4", group=group).spec)
        assert isinstance(parts, Parts) and parts.run == run


def test_weights_are_asked_for_before_they_are_needed() -> None:
    p = product(1, 256, 32, "i4", group=128)
    goal = target("c:avx2")
    (best, *_) = [c for c in DecodingGenerator().candidates(p.spec, goal) if isinstance(c, Candidate)]
    fn = DecodingGenerator().build(p.spec, best, goal)

    def count(statements: Any) -> int:
        inner = (b for s in statements for b in (getattr(s, "body", ()), getattr(s, "then", ())) if b)
        return sum(isinstance(s, Prefetch) for s in statements) + sum(map(count, inner))

    width = dict(best.params)["vectors"] * dict(best.params)["lanes"]
    assert count(fn.body) == -(-width * 4 // 64)


@pytest.mark.parametrize("dtype", ["i4", "u4"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (13, 3)), (1, (4, 16)), (0, (0, 2))])
def test_eight_neighbours_share_a_word(axis: int, shape: tuple[int, ...], dtype: str) -> None:
    low = -8 if dtype == "i4" else 0
    array = np.random.default_rng(0).integers(low, low + 16, shape).astype(NUMPY[dtype])
    packing = Words(axis)
    packed = packing.apply(array)
    assert packed.shape == packing.shape(shape) and packed.dtype == np.int32
    assert packing.dtype(DTYPES[dtype]) is i32
    for place, value in np.ndenumerate(array):
        e = place[axis] % NIBBLES
        word = int(packed[tuple(c // NIBBLES if a == axis else c for a, c in enumerate(place))])
        assert word >> 8 * (e % 4) + 4 * (e // 4) & 15 == int(value) & 15

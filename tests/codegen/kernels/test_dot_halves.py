"""The generator for contractions of bf16: two products a lane, with weights that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.loops.evaluate import half_products
from aino_ir.types import permuted
from tests.codegen.kernels.emulated import emulated
from tests.codegen.kernels.support import (
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    check_text,
    problem,
    rejects,
    square_window,
    target,
    unit_text,
)

LAST = permuted(0, 2, 3, 1)


def halves(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bf16."""
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return drawn.astype(ml_dtypes.bfloat16)


def product(m: int, k: int, n: int) -> Problem:
    """A product with a bias and an activation, its result in bf16."""

    def body(b: Any, x: Any, w: Any, bias: Any) -> list[Any]:
        wide = b.cast(b.matmul(x, w), to="f32")
        return [b.cast(b.relu(b.add(wide, bias)), to="bf16")]

    bias = np.linspace(-1, 1, n).astype(np.float32)
    x, w = Given(halves(m, k)), Given(halves(k, n, seed=1), constant=True)
    return problem(body, x, w, Given(bias, constant=True), terms=k)


def conv(x: tuple[int, ...], w: tuple[int, ...], stride: int = 1, pad: int = 0) -> Problem:
    """A convolution with channels last."""
    attrs = square_window(stride, pad)
    given = Given(halves(*x), LAST), Given(halves(*w, seed=1), constant=True)
    terms = int(np.prod(w[1:]))
    return problem(lambda b, x, w: [b.conv(x, w, **attrs)], *given, layouts=[LAST], terms=terms)


CASES = (
    product(6, 70, 33),
    product(3, 21, 8),
    product(1, 5, 40),
    conv((1, 8, 6, 6), (16, 8, 3, 3), pad=1),
    conv((2, 3, 7, 7), (8, 3, 3, 3), stride=2, pad=1),
)


@pytest.mark.parametrize("p", CASES, ids=lambda p: p.spec.label)
def test_loops(p: Problem) -> None:
    assert all("two products in f32" in k.candidate.name for k in check(p, only="dot", most=3))


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled(isa: str, tmp_path: Path) -> None:
    made = [k for p in CASES for k in check(p, f"c:{isa}", only="dot", most=1)]
    check_compiled(made, isa, tmp_path)


@pytest.mark.parametrize("isa", ["avx512", "avx512bf16"])
def test_compiles_for_wide_vectors(isa: str, tmp_path: Path) -> None:
    made = [k for p in CASES for k in check(p, f"c:{isa}", only="dot", most=1)]
    check_compiles(made, isa, tmp_path)
    assert ("vdpbf16ps" in unit_text(made, isa)) is (isa == "avx512bf16")


def test_the_instruction_has_the_same_bits(tmp_path: Path) -> None:
    """What is printed for avx512_bf16, run with its instruction emulated, agrees with the interpreter."""
    made = [k for p in CASES for k in check(p, "c:avx512bf16", only="dot", most=1)]
    text = emulated(unit_text(made, "avx512bf16"))
    assert "emulated_vdpbf16ps(" in text
    check_text(made, text, "portable", tmp_path)


def test_the_odd_product_is_added_first() -> None:
    """1 + 2^-24 + 2^-24: either product alone is rounded away, even and odd in turn."""
    one, tiny, big = (np.float32(v).view(np.uint32) >> 16 for v in (1, 2**-24, 2**24))
    ones = np.array([one, one], np.uint16)
    x = np.array([tiny, tiny], np.uint16)
    assert half_products(np.ones(1, np.float32), x, ones).tolist() == [1.0]
    x = np.array([one, big], np.uint16)  # even 1, odd 2^24: -2^24 + 2^24 + 1
    assert half_products(np.full(1, -(2.0**24), np.float32), x, ones).tolist() == [1.0]
    x = np.array([big, one], np.uint16)  # even 2^24, odd 1: (-2^24 + 1) + 2^24
    assert half_products(np.full(1, -(2.0**25), np.float32), x, ones).tolist() == [-(2.0**24)]


def test_targets_know_the_instruction() -> None:
    assert target("c:avx512bf16").multiplies_halves and target("c:avx512bf16").multiplies_bytes
    assert not target("c:avx512vnni").multiplies_halves


def test_what_has_no_pairs_is_turned_down() -> None:
    def body(b: Any, x: Any, w: Any) -> list[Any]:
        return [b.matmul(x, w)]

    free = problem(body, Given(halves(4, 8)), Given(halves(8, 6)))
    assert "constants that can be packed" in rejects(free)["dot"]
    turned = problem(body, Given(halves(4, 8), permuted(1, 0)), Given(halves(8, 6), constant=True))
    assert "not contiguous" in rejects(turned)["dot"]

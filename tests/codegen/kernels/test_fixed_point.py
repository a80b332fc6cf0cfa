"""One row in fixed point times weights of 4 bits: as near as sums of floats, by instructions for bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.kernels.contract import CLOCK
from aino_ir.codegen.kernels.decoding import DecodingGenerator
from aino_ir.codegen.kernels.fixed_point import CHUNK, LIMBS, STAGING_CYCLES, WIDEST
from aino_ir.codegen.kernels.words import NIBBLES, WordBytes, Words
from aino_ir.dtypes import DTYPES, u8
from aino_ir.kernels import Candidate, KernelSpec
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.verify import verify_loops
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    check_compiled,
    check_compiles,
    normal,
    problem,
    unit_text,
)
from tests.codegen.kernels.test_nibbles import NUMPY, product, weights
from tests.codegen.native import target

Array = np.ndarray[Any, Any]

CASES = {
    "groups": product(1, 256, 70, "i4", group=128),
    "unsigned, zero": product(1, 64, 24, "u4", group=32, zero=True),
    "zero": product(1, 64, 8, "i4", group=64, zero=True),
    "channels": product(1, 128, 19, "i4"),
    "unsigned": product(1, 96, 8, "u4", group=96),
}


def offers(spec: KernelSpec, text: str) -> list[Candidate]:
    """Candidates that multiply bytes, the cheapest first."""
    found = DecodingGenerator(99).candidates(spec, target(text))
    return [c for c in found if isinstance(c, Candidate) and "three bytes" in c.name]


def made(p: Problem, text: str, most: int = 1) -> list[Built]:
    """Kernels that multiply bytes, built and run in the loop interpreter."""
    out = []
    for candidate in offers(p.spec, text)[:most]:
        fn = DecodingGenerator().build(p.spec, candidate, target(text))
        out.append(Built(p, candidate, fn, verify_loops(fn, bounds=True).unproved))
        assert not out[-1].unproved
        why = out[-1].interpret()
        assert why is None, f"{candidate.name}: {why}"
    assert out
    return out


def test_compiled(tmp_path: Path) -> None:
    kernels = [k for p in CASES.values() for k in made(p, "c:avx2", most=2)]
    assert "dot_pairs_i16x16" in unit_text(kernels, "avx2")
    check_compiled(kernels, "avx2", tmp_path)


def test_one_instruction_adds_four_products_where_there_is_one(tmp_path: Path) -> None:
    kernels = made(CASES["groups"], "c:avx512vnni")
    text = unit_text(kernels, "avx512vnni")
    assert "dot_u8_i32x16" in text and "dot_pairs" not in text
    check_compiles(kernels, "avx512vnni", tmp_path)


def row(x: Array) -> Problem:
    """A row times weights with scales of an eighth."""
    k = x.shape[1]
    scale = Given(np.full((k // 32, 16), 0.125, np.float32), constant=True)

    def body(b: Any, x: Any, w: Any, scale: Any) -> list[Any]:
        return [b.matmul(x, b.dequantize_groups(w, scale, axis=0, group=32))]

    return problem(body, Given(x), weights("i4", k, 16), scale, terms=k)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38, 1e30, 1e-38, 0.0], ids=str)
def test_extreme_rows_mean_what_they_do_elsewhere(value: float) -> None:
    x = normal(1, 64)
    if abs(value) < 1:
        x[:] = value
    x[0, 40] = value
    made(row(x), "c:avx2")


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e5])
def test_as_near_as_sums_of_floats(spread: float) -> None:
    """Against f64, with an element in each block that is so many times as large as the others."""
    x = normal(1, 256)
    x[0, 5::32] *= spread
    p = row(x)
    (kernel,) = made(p, "c:avx2")
    views = p.memory(kernel.candidate)
    run_kernel(kernel.fn, views, {}, 0, int(kernel.fn.units))  # type: ignore[arg-type]
    (got,) = p.results(views)
    w = next(a for a in p.arrays if a.shape == (256, 16) and a.dtype != np.float32).astype(np.float64) / 8
    exact = x.astype(np.float64) @ w
    allowed = 2.0**-24 * np.sqrt(256) * (np.abs(x).astype(np.float64) @ np.abs(w))
    assert (np.abs(got - exact) <= allowed).all()


def test_whole_numbers_are_exact() -> None:
    """A row of integers whose largest is what a unit is made of loses nothing."""
    x = np.random.default_rng(3).integers(-1000, 1000, (1, 64)).astype(np.float32)
    x[0, ::32] = 127 << 16
    p = row(x)
    (kernel,) = made(p, "c:avx2")
    assert kernel.candidate.generator == "decoding"


def test_sums_of_a_chunk_fit() -> None:
    assert CHUNK // 2 * 15 * 128 < 1 << 15
    limbs, rest = [], WIDEST + 1
    for _ in range(LIMBS - 1):
        limbs.append((rest & 255) - (256 if rest & 128 else 0))
        rest = (rest - limbs[-1]) >> 8
    assert all(-128 <= limb <= 127 for limb in (*limbs, rest))


REFUSED = {
    "rows": (product(2, 64, 8, "i4", group=32).spec, "c:avx2"),
    "bytes": (product(1, 64, 8, "i8", group=32).spec, "c:avx2"),
    "groups that no block divides": (product(1, 72, 8, "i4", group=24).spec, "c:avx2"),
    "strict": (replace(CASES["groups"].spec, numerics="strict"), "c:avx2"),
    "no such instructions": (CASES["groups"].spec, "c:portable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_multiplied_as_floats(name: str) -> None:
    assert not offers(*REFUSED[name])


def test_cutting_the_row_into_bytes_is_paid_for_by_many_outputs() -> None:
    (few, *_), (many, *_) = (offers(product(1, 256, n, "i4", group=128).spec, "c:avx2") for n in (8, 256))
    assert few.cost > 256 * STAGING_CYCLES / CLOCK
    assert many.cost < 32 * few.cost / 2
    best = next(iter(DecodingGenerator().candidates(CASES["groups"].spec, target("c:avx2"))))
    assert isinstance(best, Candidate) and "three bytes" in best.name


@pytest.mark.parametrize(("dtype", "offset"), [("i4", 8), ("u4", 0)])
@pytest.mark.parametrize(("axis", "shape"), [(0, (13, 3)), (1, (4, 16))])
def test_words_byte_by_byte(axis: int, shape: tuple[int, ...], dtype: str, offset: int) -> None:
    array = np.random.default_rng(0).integers(-offset, 16 - offset, shape).astype(NUMPY[dtype])
    packing = WordBytes(axis, offset)
    packed = packing.apply(array)
    assert packed.shape == packing.shape(shape) and packed.dtype == np.uint8
    assert packing.dtype(DTYPES[dtype]) is u8
    assert packed.shape[axis] == 4 * Words(axis).shape(shape)[axis]
    for place, value in np.ndenumerate(array):
        e = place[axis] % NIBBLES
        byte = 4 * (place[axis] // NIBBLES) + e % 4
        stored = int(packed[tuple(byte if a == axis else c for a, c in enumerate(place))])
        assert stored >> 4 * (e // 4) & 15 == int(value) + offset

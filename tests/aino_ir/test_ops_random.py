"""Random bits: what they are, and that loops make the same ones."""

from __future__ import annotations

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.definition_interp import evaluate_op_definition
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.op import Sample
from aino_ir.ops.random import MASK, RandomBits, mixed
from aino_ir.sampling import sample_module

SAMPLES = list(RandomBits.samples())


def bits(*shape: int, seed: int = 0, offset: int = 0) -> np.ndarray:
    b = Builder()
    b.output("y", b.random_bits(shape=shape, seed=seed, offset=offset))
    return np.asarray(run_module(b.module, [])[0])


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator, step by step."""
    out = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def test_it_is_splitmix64() -> None:
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]  # the reference's own
    assert bits(2, 3, seed=9).reshape(-1).tolist() == splitmix64(mixed(9), 6)
    assert bits(4, seed=9, offset=2).tolist() == splitmix64((mixed(9) + 2 * mixed(1)) & MASK, 4)


@pytest.mark.parametrize("sample", SAMPLES, ids=[s.note for s in SAMPLES])
def test_loops_make_the_same_bits(sample: Sample) -> None:
    module = sample_module(RandomBits, sample)
    op = module.main.block.first
    assert op is not None
    (got,) = evaluate_op_definition(op, [])
    assert np.array_equal(got, run_module(module, [])[0])


def native(module: Module) -> np.ndarray:
    return np.asarray(aino.compile(module, "c:portable").run()[0])


def test_native_code_makes_the_same_bits() -> None:
    module = sample_module(RandomBits, SAMPLES[0])
    assert np.array_equal(native(module), run_module(module, [])[0])


def test_seeds_and_offsets_give_other_sequences() -> None:
    rows = [bits(64, seed=s, offset=o) for s, o in ((0, 0), (1, 0), (0, 1), (-1, 0))]
    assert len({r.tobytes() for r in rows}) == 4
    assert len(np.unique(np.concatenate(rows))) == 4 * 64


def test_bits_are_balanced() -> None:
    """Of 100,000 draws each bit is set half the time, within 5 standard deviations."""
    drawn = bits(100_000, seed=3)
    for k in range(64):
        assert abs(int((drawn >> np.uint64(k) & np.uint64(1)).sum()) - 50_000) < 5 * 158

"""The benchmark of a decoder's step, on a step that is next to nothing."""

from __future__ import annotations

import argparse

import numpy as np

import aino_ir as aino
from aino_ir.graph import Module
from aino_ir.types import tensor
from benchmarks.compression import decoder

WORDS, WIDTH = 192, 512


def step() -> Module:
    """Logits of a token by its embedding, a layer, and a head."""
    rng = np.random.default_rng(0)
    b = aino.Builder()
    token, position = b.input("token", tensor("i64", 1, 1)), b.input("position", tensor("i64", 1))
    h = b.gather(b.constant(rng.standard_normal((WORDS, WIDTH)).astype(np.float32)), token, axis=0)
    h = b.add(b.reshape(h, shape=(1, WIDTH)), b.cast(position, to="f32"))
    for outputs in (WIDTH, WORDS):
        h = b.matmul(h, b.constant(rng.standard_normal((WIDTH, outputs)).astype(np.float32) / 16))
    b.output("logits", h)
    made: Module = b.module
    return made


def test_a_step_with_weights_of_few_bits_is_compared() -> None:
    row = decoder.compared(
        step(), "int4-weight", argparse.Namespace(layers=1, threads=1, turns=3, group=32), WORDS
    )
    assert row["applied"] == row["layers"] == row["decoding"] == 2, row["refused"]
    assert 10 < row["sqnr"] < 40
    assert row["weight_bytes"][1] < row["weight_bytes"][0]
    assert min(row["ms_before"], row["ms_after"], row["times_as_fast"]) > 0
    assert "2 of 2 layers" in decoder.line(row)


def test_steps_follow_each_other() -> None:
    found = decoder.steps(3, 50)
    assert [int(position[0]) for _, position in found] == [0, 1, 2]
    assert all(token.shape == (1, 1) and 0 < token[0, 0] < 50 for token, _ in found)

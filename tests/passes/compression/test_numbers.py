"""Grids of activations and weights, rounding, groups that do not divide, and GPTQ."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from aino_ir.constants import Const
from aino_ir.passes.compression.gptq import gptq
from aino_ir.passes.compression.guard import sqnr
from aino_ir.passes.compression.numbers import activation_grid, round_weights, weight_recipe
from aino_ir.short_sums import DEPTHS, MOST, lane_sums, short_sums

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((50, 6)).astype(np.float32)


def test_activation_grid_holds_zero_and_the_ends() -> None:
    grid = activation_grid(-1.0, 3.0, False)
    assert grid.rounded(np.float32(0)) == 0
    assert np.abs(grid.rounded(np.array([-1.0, 3.0])) - [-1, 3]).max() <= grid.scale / 2
    assert activation_grid(-1.0, 3.0, True).zero == 128


@pytest.mark.parametrize("symmetric", [False, True])
def test_all_zeros_have_scale_one(symmetric: bool) -> None:
    grid = activation_grid(0.0, 0.0, symmetric)
    assert grid.scale == 1 and grid.rounded(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("per", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rounding_is_within_half_a_step(bits: int, per: str, symmetric: bool) -> None:
    q = round_weights(MATRIX, weight_recipe(bits, per, 16, symmetric), 1)
    assert (
        q.integers.dtype
        == {
            (8, True): np.int8,
            (8, False): np.uint8,
            (4, True): ml_dtypes.int4,
            (4, False): ml_dtypes.uint4,
        }[bits, symmetric]
    )
    assert q.scale.shape == {"tensor": (), "channel": (1, 6), "group": (4, 6)}[per]
    step = np.repeat(q.scale, 16, 0)[:50] if per == "group" else q.scale
    slack = 0.5 if symmetric else 1.0  # a rounded zero point may push an end over
    assert (np.abs(q.values() - MATRIX) <= step * slack * 1.001).all()


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_short_sums_fit_and_use_what_there_is(depth: int, per: str) -> None:
    q = round_weights(MATRIX, weight_recipe(8, per, 1, True, depth), 1)
    fact = short_sums(Const.of(q.integers))
    assert fact is not None and fact.depths[0] >= depth
    assert lane_sums(q.integers, 0, depth).max() > MOST - 8 * depth
    assert np.abs(q.values() - MATRIX).max() <= q.scale.max() / 2 * 1.001


def test_short_sums_cost_no_more_than_they_must() -> None:
    w = np.random.default_rng(1).standard_normal((512, 16)).astype(np.float32)
    found = {d: round_weights(w, weight_recipe(8, "channel", 1, True, d), 1) for d in (0, *DEPTHS)}
    quality = {d: sqnr(q.values(), w) for d, q in found.items()}
    assert quality[0] >= quality[1] >= quality[2] >= quality[4]
    assert quality[0] - quality[2] < 6 and quality[0] - quality[4] < 10


@pytest.mark.parametrize("depthwise", [False, True])
def test_short_sums_of_convolutions(depthwise: bool) -> None:
    w = np.random.default_rng(2).standard_normal((6, 1 if depthwise else 20, 3, 3)).astype(np.float32)
    q = round_weights(w, weight_recipe(8, "channel", 1, True, 2), 0)
    fact = short_sums(Const.of(q.integers))
    assert fact is not None and (fact.whole if depthwise else fact.depths[1] >= 2)


def test_zero_channels_and_sizes() -> None:
    w = MATRIX.copy()
    w[:, 2] = 0
    q = round_weights(w, weight_recipe(4, "group", 128, True), 1)
    assert (q.values()[:, 2] == 0).all() and (q.scale[:, 2] == 1).all()
    assert q.nbytes == 150 + 4 * 6


@pytest.mark.parametrize("per", ["channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_loses_less_of_the_outputs(per: str, symmetric: bool) -> None:
    mix = RNG.standard_normal((50, 50))
    x = (RNG.standard_normal((400, 50)) @ mix).astype(np.float32)
    recipe = weight_recipe(4, per, 16, symmetric)
    plain, better = round_weights(MATRIX, recipe, 1), gptq(MATRIX, x.T @ x, recipe)
    exact = x @ MATRIX
    assert sqnr(x @ better.values(), exact) > sqnr(x @ plain.values(), exact) + 1.0


def test_gptq_takes_inputs_that_are_always_zero() -> None:
    x = RNG.standard_normal((100, 50)).astype(np.float32)
    x[:, 5] = 0
    q = gptq(MATRIX, x.T @ x, weight_recipe(4, "channel", 1, True))
    assert np.isfinite(q.values()).all()

"""Scales of quantised outputs become part of the scales of what is summed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.passes.compression.output_scales import fold_output_scales
from aino_ir.types import tensor
from aino_ir.verify import verify

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(-60, 60, (12, 8)).astype(np.int8)
SCALES = np.linspace(0.001, 0.01, 8).astype(np.float32)


def product(b: Builder, x: Value) -> Value:
    scale, offset = b.constant(SCALES), b.constant(np.arange(8, dtype=np.int32) * 50)
    return b.quant_matmul(x, b.constant(WEIGHTS), scale, offset)  # type: ignore[no-any-return]


def rest(b: Builder, x: Value) -> Value:
    """Other integers of the product's shape, decoded."""
    part = b.slice(x, starts=(0, 0), sizes=(5, 8), steps=(1, 1))
    return b.dequantize(part, b.constant(np.float32(0.3)), b.constant(np.uint8(3)))  # type: ignore[no-any-return]


def module_of(body: Callable[[Builder, Value], Value], scale: object = np.float32(0.47)) -> Module:
    b = Builder()
    y = body(b, b.input("x", tensor("u8", 5, 12)))
    b.output("y", b.quantize(y, b.constant(scale), b.constant(np.uint8(100)), to="u8"))
    b.finish()
    return b.module


FOLDED: dict[str, Callable[[Builder, Value], Value]] = {
    "product": product,
    "activation": lambda b, x: b.relu(product(b, x)),
    "clip": lambda b, x: b.clip(product(b, x), min=-20.0, max=30.0),
    "residual": lambda b, x: b.relu(b.add(product(b, x), rest(b, x))),
    "bias": lambda b, x: b.add(product(b, x), b.constant(np.linspace(-9, 9, 8, dtype=np.float32))),
}


def scale_of_output(module: Module) -> np.ndarray:
    (op,) = [op for op in module.main.block if op.name == "quant.quantize"]
    return op.scale.op.value.array()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", FOLDED)
def test_codes_are_the_same_but_for_ties(name: str) -> None:
    before = module_of(FOLDED[name])
    after = before.clone()
    fold_output_scales(after)
    verify(after)
    assert scale_of_output(after) == 1 and scale_of_output(before) != 1
    x = RNG.integers(0, 256, (5, 12)).astype(np.uint8)
    (want,), (got,) = run_module(before, [x]), run_module(after, [x])
    apart = np.abs(want.astype(int) - got)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.05
    assert len(np.unique(want)) > 5


def test_what_others_read_is_left_alone() -> None:
    b = Builder()
    y = product(b, b.input("x", tensor("u8", 5, 12)))
    b.output("y", b.quantize(y, b.constant(np.float32(0.5)), to="u8"))
    b.output("z", b.exp(y))
    b.finish()
    fold_output_scales(b.module)
    assert scale_of_output(b.module) == np.float32(0.5)


def test_other_functions_are_not_linear() -> None:
    module = module_of(lambda b, x: b.tanh(product(b, x)))
    fold_output_scales(module)
    assert scale_of_output(module) != 1


def test_scales_of_channels_stay() -> None:
    module = module_of(product, np.linspace(0.1, 1, 8, dtype=np.float32))
    fold_output_scales(module)
    assert scale_of_output(module).size == 8

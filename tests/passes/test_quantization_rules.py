"""Identities of quantised numbers: each fires, keeps every bit, and declines where its law does not hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.types import tensor
from tests.passes.helpers import assert_same_meaning, op_names, run_pass

Body = Callable[[Builder, Value], Value]


def module_of(body: Body, dtype: str = "f32") -> Module:
    b = Builder()
    b.output("y", body(b, b.input("x", tensor(dtype, 4, 6))))
    return b.module


def quantize(b: Builder, x: Value, scale: float, zero: int | None, to: type = np.uint8) -> Value:
    point = None if zero is None else b.constant(np.asarray(zero, to))
    name = {np.uint8: "u8", np.int8: "i8"}[to]
    return b.quantize(x, b.constant(np.float32(scale)), point, to=name)  # type: ignore[no-any-return]


GONE: dict[str, Body] = {
    "relu at 0": lambda b, x: quantize(b, b.relu(x), 0.1, None),
    "relu at a zero point of 0": lambda b, x: quantize(b, b.relu(x), 0.1, 0),
    "relu6 over 255 codes": lambda b, x: quantize(b, b.clip(x, min=0.0, max=6.0), 6 / 255, 0),
    "clip beyond both ends": lambda b, x: quantize(b, b.clip(x, min=-9.0, max=9.0), 0.05, 128),
    "signed clip": lambda b, x: quantize(b, b.clip(x, min=-13.0, max=13.0), 0.1, 0, np.int8),
}
KEPT: dict[str, Body] = {
    "relu above the least code": lambda b, x: quantize(b, b.relu(x), 0.1, 7),
    "relu of signed codes": lambda b, x: quantize(b, b.relu(x), 0.1, 0, np.int8),
    "clip within": lambda b, x: quantize(b, b.clip(x, min=0.0, max=6.0), 0.1, 0),
    "a negative scale": lambda b, x: quantize(b, b.relu(x), -0.1, 0),
    "a scale of rows": lambda b, x: b.quantize(
        b.relu(x), b.constant(np.linspace(0.1, 1, 6, dtype=np.float32)), to="u8"
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_saturation_cuts_off(name: str) -> None:
    module = module_of(GONE[name])
    after = module.clone()
    run_pass(Canonicalize(), after)
    assert [n for n in op_names(after) if n.startswith("math.")] == []
    assert_same_meaning(module, after)


@pytest.mark.parametrize("name", KEPT)
def test_what_cuts_off_more_stays(name: str) -> None:
    module = module_of(KEPT[name])
    run_pass(Canonicalize(), module)
    assert any(n in ("math.relu", "math.clip") for n in op_names(module))


def test_zero_points_of_zero_go() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = quantize(b, x, 0.1, 0)
        return b.dequantize(y, b.constant(np.float32(0.1)), b.constant(np.uint8(0)))  # type: ignore[no-any-return]

    module = module_of(body)
    after = module.clone()
    run_pass(Canonicalize(), after)
    assert all(op.zero is None for op in after.main.block if op.name.startswith("quant."))
    assert_same_meaning(module, after)


def test_other_zero_points_stay() -> None:
    module = module_of(lambda b, x: quantize(b, x, 0.1, 3))
    run_pass(Canonicalize(), module)
    (op,) = [op for op in module.main.block if op.name == "quant.quantize"]
    assert op.zero is not None

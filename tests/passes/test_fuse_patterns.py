"""Named patterns, in the ways in which exporters write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.base import PassContext
from aino_ir.passes.fuse_patterns import FusePatterns
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, assert_not_fused, op_names, run_pass

Body = Callable[[Builder, Value], Value]


def module_of(body: Body) -> Module:
    b = Builder()
    b.output("y", body(b, b.input("x", tensor("f32", 3, 8))))
    return b.module


def c(b: Builder, value: object) -> Value:
    return b.constant(np.asarray(value, np.float32))


def erf(b: Builder, x: Value) -> Value:
    return b.add(b.erf(b.div(x, c(b, math.sqrt(2)))), c(b, 1))


def tanh(b: Builder, x: Value, cube: Value | None = None) -> Value:
    cube = cube if cube is not None else b.pow(x, c(b, 3))
    inner = b.mul(b.add(x, b.mul(cube, c(b, 0.044715))), c(b, math.sqrt(2 / math.pi)))
    return b.add(b.tanh(inner), c(b, 1))


def mean(b: Builder, x: Value, axis: int = -1, keep: bool = True) -> Value:
    return b.reduce_mean(x, axes=(axis,), keepdims=keep)


def centred(b: Builder, x: Value) -> Value:
    return b.sub(x, mean(b, x))


def spread(b: Builder, d: Value) -> Value:
    return b.sqrt(b.add(mean(b, b.pow(d, c(b, 2))), c(b, 1e-5)))


def layer_norm(b: Builder, x: Value) -> Value:
    d = centred(b, x)
    return b.div(d, spread(b, d))


def rms(b: Builder, x: Value) -> Value:
    return b.mul(x, b.rsqrt(b.add(mean(b, b.mul(x, x)), c(b, 1e-6))))


FUSED: dict[str, tuple[Body, list[str]]] = {
    "gelu, half first": (lambda b, x: b.mul(b.mul(x, c(b, 0.5)), erf(b, x)), ["math.gelu"]),
    "gelu, half last": (lambda b, x: b.mul(b.mul(x, erf(b, x)), c(b, 0.5)), ["math.gelu"]),
    "gelu, half inside": (lambda b, x: b.mul(x, b.mul(c(b, 0.5), erf(b, x))), ["math.gelu"]),
    "gelu, product": (
        lambda b, x: b.mul(b.mul(x, c(b, 0.5)), b.add(c(b, 1), b.erf(b.mul(x, c(b, math.sqrt(0.5)))))),
        ["math.gelu"],
    ),
    "gelu, tanh": (lambda b, x: b.mul(b.mul(x, c(b, 0.5)), tanh(b, x)), ["math.gelu"]),
    "gelu, tanh, product": (
        lambda b, x: b.mul(c(b, 0.5), b.mul(x, tanh(b, x, b.mul(b.mul(x, x), x)))),
        ["math.gelu"],
    ),
    "silu": (lambda b, x: b.mul(b.sigmoid(x), x), ["math.silu"]),
    "hard swish, divided": (
        lambda b, x: b.div(b.mul(x, b.clip(b.add(x, c(b, 3)), min=0, max=6)), c(b, 6)),
        ["math.hard_swish"],
    ),
    "hard swish, gate divided": (
        lambda b, x: b.mul(x, b.div(b.clip(b.add(x, c(b, 3)), min=0, max=6), c(b, 6))),
        ["math.hard_swish"],
    ),
    "hard swish, multiplied": (
        lambda b, x: b.mul(x, b.mul(b.clip(b.add(x, c(b, 3)), min=0, max=6), c(b, 1 / 6))),
        ["math.hard_swish"],
    ),
    "hard swish, hard sigmoid": (lambda b, x: b.mul(x, b.hard_sigmoid(x, alpha=1 / 6)), ["math.hard_swish"]),
    "layer norm": (layer_norm, ["normalize.layer_norm"]),
    "layer norm, two differences": (
        lambda b, x: b.div(centred(b, x), spread(b, centred(b, x))),
        ["normalize.layer_norm"],
    ),
    "layer norm, scale and bias": (
        lambda b, x: b.add(b.mul(layer_norm(b, x), c(b, np.arange(8))), c(b, np.ones(8))),
        ["normalize.layer_norm"],
    ),
    "rms norm": (lambda b, x: b.mul(c(b, np.arange(8)), rms(b, x)), ["normalize.rms_norm"]),
    "rms norm, reciprocal": (
        lambda b, x: b.mul(x, b.div(c(b, 1), b.sqrt(b.add(mean(b, b.pow(x, c(b, 2))), c(b, 1e-6))))),
        ["normalize.rms_norm"],
    ),
}


def softmax_steps(
    b: Builder, x: Value, axis: int = -1, summed: int | None = None, keep: bool = True
) -> tuple[Value, Value, Value]:
    """x - max, its exponential, and the sum of that."""
    off = b.sub(x, b.reduce_max(x, axes=(axis,), keepdims=True))
    power = b.exp(off)
    return off, power, b.reduce_sum(power, axes=(axis if summed is None else summed,), keepdims=keep)


def softmax(b: Builder, x: Value, **options: Any) -> Value:
    _, power, total = softmax_steps(b, x, **options)
    return b.div(power, total)


def log_softmax(b: Builder, x: Value, **options: Any) -> Value:
    off, _, total = softmax_steps(b, x, **options)
    return b.sub(off, b.log(total))


FUSED["softmax"] = (softmax, ["normalize.softmax"])
FUSED["softmax along the first axis"] = (lambda b, x: softmax(b, x, axis=0), ["normalize.softmax"])
FUSED["log softmax"] = (log_softmax, ["normalize.log_softmax"])


@pytest.mark.parametrize("case", FUSED)
def test_fused(case: str) -> None:
    body, left = FUSED[case]
    assert_fuses(
        module_of(body),
        [FusePatterns()] if "two" not in case else ["eliminate-common-subexpressions", FusePatterns()],
        left,
    )


KEPT: dict[str, tuple[Body, str]] = {
    "gate of another slope": (
        lambda b, x: b.mul(x, b.hard_sigmoid(x, alpha=0.2)),
        "the gate is 0.2 x + 0.5",
    ),
    "gate cut elsewhere": (
        lambda b, x: b.div(b.mul(x, b.clip(b.add(x, c(b, 3)), min=0, max=5)), c(b, 6)),
        "the gate is cut at 0.0 and 5.0",
    ),
    "mean over rows": (
        lambda b, x: b.mul(x, b.rsqrt(b.add(mean(b, b.mul(x, x), axis=0), c(b, 1e-6)))),
        "the mean is over axes (0,)",
    ),
    "scale per row": (
        lambda b, x: b.mul(b.rms_norm(x), c(b, np.ones((3, 1)))),
        "the parameter has shape (3, 1)",
    ),
}


KEPT["softmax over two axes"] = (
    lambda b, x: softmax(b, x, summed=0),
    "maximum and sum are not over the same one axis, kept",
)


@pytest.mark.parametrize("case", KEPT)
def test_refused(case: str) -> None:
    body, reason = KEPT[case]
    assert_not_fused(module_of(body), FusePatterns(), reason)


def test_other_constants_are_no_gelu() -> None:
    module = module_of(lambda b, x: b.mul(b.mul(x, c(b, 0.5)), b.add(b.erf(b.div(x, c(b, 1.5))), c(b, 1))))
    before = op_names(module)
    run_pass(FusePatterns(), module)
    assert op_names(module) == before


def test_strict_numerics_name_nothing() -> None:
    module = module_of(FUSED["silu"][0])
    run_pass(FusePatterns(), module, PassContext(numerics="strict"))
    assert op_names(module) == ["math.sigmoid", "math.mul"]

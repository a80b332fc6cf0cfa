"""Padding before windows: what convolutions and pools may take over, and what not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.absorb_pads import AbsorbPads
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, assert_not_fused

WINDOW = {"strides": (2, 1), "dilations": (1, 1), "pads_before": (1, 0), "pads_after": (0, 0)}
SPATIAL = {"before": (0, 0, 1, 2), "after": (0, 0, 0, 3)}


def conv(b: Builder, x: Value) -> Value:
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return b.conv(x, b.constant(w), **WINDOW)


def max_pool(b: Builder, x: Value) -> Value:
    return b.max_pool(x, kernel=(3, 2), **WINDOW)


def avg_pool(b: Builder, x: Value, include: bool = True, ceil: bool = False) -> Value:
    return b.avg_pool(x, kernel=(3, 2), **WINDOW, count_include_pad=include, ceil_mode=ceil)


def padded(window: Any, **pad: Any) -> Module:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3, 7, 8))
    b.output("y", window(b, b.pad(x, **pad)))
    return b.module


@pytest.mark.parametrize(
    ("window", "value", "name"),
    [(conv, 0.0, "nn.conv"), (max_pool, -np.inf, "nn.max_pool"), (avg_pool, 0.0, "nn.avg_pool")],
)
def test_absorbed(window: Any, value: float, name: str) -> None:
    module = padded(window, value=value, **SPATIAL)
    assert_fuses(module, AbsorbPads(), [name])
    op = next(o for o in module.main.block if o.name == name)
    assert (op.pads_before, op.pads_after) == ((2, 2), (0, 3))


@pytest.mark.parametrize(
    ("window", "pad", "reason"),
    [
        (conv, {"value": 1.0, **SPATIAL}, "padding with 1.0, not 0.0"),
        (max_pool, {"value": 0.0, **SPATIAL}, "padding with 0.0, not -inf"),
        (conv, {"mode": "edge", **SPATIAL}, "edge padding"),
        (conv, {"before": (0, 0, -1, 0), "after": (0, 0, 0, 0)}, "constant padding by"),
        (max_pool, {"value": -np.inf, "before": (0, 1, 0, 0), "after": (0, 0, 0, 0)}, "channels are padded"),
        (lambda b, x: avg_pool(b, x, include=False), SPATIAL, "does not count its padding"),
        (lambda b, x: avg_pool(b, x, ceil=True), SPATIAL, "ceil-mode"),
    ],
)
def test_refused(window: Any, pad: dict[str, Any], reason: str) -> None:
    assert_not_fused(padded(window, **pad), AbsorbPads(), reason)

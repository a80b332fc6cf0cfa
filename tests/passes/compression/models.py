"""Small models with layers to compress, and calibration data for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.types import tensor

Array = np.ndarray[Any, Any]

SAME = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
HALF = {"kernel": (2, 2), "strides": (2, 2), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}


def weights(rng: np.random.Generator, *shape: int, fan: int) -> Array:
    return np.asarray(rng.standard_normal(shape) / np.sqrt(fan), np.float32)


def mlp(batch: int = 4, width: int = 20, hidden: int = 24) -> Module:
    """Two layers, fc1 and fc2."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", tensor("f32", batch, width))
    first = b.matmul(x, b.constant(weights(rng, width, hidden, fan=width), "fc1.weight"))
    h = b.relu(b.add(first, b.constant(weights(rng, hidden, fan=1))))
    second = b.matmul(h, b.constant(weights(rng, 10, hidden, fan=hidden), "fc2.weight"), transpose_rhs=True)
    b.output("y", b.add(second, b.constant(weights(rng, 10, fan=1))))
    b.finish()
    return b.module


def cnn() -> Module:
    """Convolutions c1 and c2 with a residual around c2, a pool, and a product fc."""
    rng = np.random.default_rng(1)
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3, 8, 8))
    w = b.constant(weights(rng, 8, 3, 3, 3, fan=27), "c1.weight")
    h = b.relu(b.conv(x, w, b.constant(weights(rng, 8, fan=1)), **SAME))
    w = b.constant(weights(rng, 8, 8, 3, 3, fan=72), "c2.weight")
    h = b.relu(b.add(b.conv(h, w, b.constant(weights(rng, 8, fan=1)), **SAME), h))
    h = b.reshape(b.max_pool(h, **HALF), shape=(2, 128))
    b.output("y", b.matmul(h, b.constant(weights(rng, 128, 10, fan=128), "fc.weight")))
    b.finish()
    return b.module


def samples(module: Module, count: int = 6, seed: int = 3) -> list[tuple[Array, ...]]:
    rng = np.random.default_rng(seed)
    return [
        tuple(rng.standard_normal(v.shape).astype(np.float32) for v in module.main.inputs)  # type: ignore[arg-type]
        for _ in range(count)
    ]

"""What tests of JAX functions share: modules that are imported late, and arguments."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Lazily:
    """A module that is imported when a test needs it: jax starts threads, which forks of other tests mind."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


IMAGE = ("NHWC", "HWIO", "NHWC")


def normal(*shape: int) -> Any:
    """Normal numbers of float32, always the same for a shape."""
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def whole(*numbers: Any) -> Any:
    """Numbers of int32."""
    return np.array(numbers, np.int32)

"""Targets on which the semantics table is tried, and arrays to try it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.driver.api import compile
from aino_ir.graph import Module

NAN, INF = float("nan"), float("inf")
I32, I64 = np.iinfo(np.int32), np.iinfo(np.int64)
TARGETS = {"reference": ("reference", 0), "c": ("c", 0), "c-passes": ("c", 2), "portable": ("c:portable", 0)}
every_target = pytest.mark.parametrize("target", TARGETS)


def compiled(module: Module, target: str) -> Any:
    name, level = TARGETS[target]
    return compile(module, name, level=level, threads=1)


def array(values: Any, dtype: Any) -> Any:
    return np.array(values, dtype)


def f32(*values: float) -> Any:
    return array(values, np.float32)


def i32(*values: int) -> Any:
    return array(values, np.int32)

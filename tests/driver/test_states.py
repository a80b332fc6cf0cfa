"""State slots: what a run leaves behind is what the next one finds, in native code as in the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dtypes import f32, i64
from aino_ir.graph import Module
from aino_ir.types import TensorType


def counter(first: Any = None) -> Module:
    """total += x, and steps += 1; gives both."""
    module = Module("counter")
    b = Builder(module.add_function())
    x = b.input("x", TensorType(f32, (3,)))
    total = b.state("total", TensorType(f32, (3,)), None if first is None else Const.of(np.float32(first)))
    steps = b.state("steps", TensorType(i64, (1,)), Const.of(np.int64([10])))
    new_total = b.add(total, x)
    new_steps = b.add(steps, b.constant(np.int64([1])))
    b.output("total", new_total)
    b.output("steps", new_steps)
    b.finish([new_total, new_steps])
    return module


def runs(exe: Any, times: int) -> list[tuple[list[float], int]]:
    out = []
    for _ in range(times):
        total, steps = exe.run(np.float32([1, 2, 3]))
        out.append((total.tolist(), int(steps[0])))
    return out


@pytest.mark.parametrize("target", ["c", "reference"])
@pytest.mark.parametrize("first", [None, [5, 6, 7]], ids=["zeros", "given"])
def test_states_begin_as_declared_and_live_on(target: str, first: Any) -> None:
    start = np.float32(first if first is not None else [0, 0, 0])
    exe = aino.compile(counter(first), target=target)
    x = np.float32([1, 2, 3])
    assert runs(exe, 3) == [((start + x * n).tolist(), 10 + n) for n in (1, 2, 3)]


def test_executables_do_not_share_states(tmp_path: Path) -> None:
    exe = aino.compile(counter([5, 6, 7]))
    first = runs(exe, 2)
    again = aino.load_executable(exe.save(tmp_path / "m.aino"))
    assert runs(again, 2) == first
    assert runs(exe, 1)[0][1] == 13

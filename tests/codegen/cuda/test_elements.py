"""Vectors of results a thread: pooling, depthwise convolution, resizing, sums that lie across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda import elements
from aino_ir.types import ROW_MAJOR, Layout, permuted
from tests.codegen.cuda.test_tensor_cores import EMULATED, check_emulated
from tests.codegen.kernels.support import Built, Given, Problem, kernels, normal, problem
from tests.codegen.native import target

CHANNELS_LAST = permuted(0, 2, 3, 1)


def window(size: int, stride: int, pad: int) -> dict[str, Any]:
    return {
        "strides": (stride, stride),
        "dilations": (1, 1),
        "pads_before": (pad, pad),
        "pads_after": (pad, 0),
    }


def pools(dtype: Any, layout: Layout) -> list[Problem]:
    x = normal(1, 24, 7, 27).astype(dtype)
    w = normal(24, 1, 3, 3).astype(dtype)
    given = Given(x, layout)
    return [
        problem(lambda b, v: [b.max_pool(v, kernel=(3, 3), **window(3, 2, 1))], given, layouts=[layout]),
        problem(lambda b, v: [b.avg_pool(v, kernel=(2, 2), **window(2, 1, 1))], given, layouts=[layout]),
        problem(
            lambda b, v, u: [b.relu(b.conv(v, u, None, groups=24, **window(3, 1, 1)))],
            given,
            Given(w),
            layouts=[layout],
            terms=9,
        ),
    ]


def made_by_elements(problems: list[Problem]) -> list[Built]:
    return [k for p in problems for k in kernels(p, EMULATED, "element", bounds=False)]


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for a device that a few threads occupy."""
    monkeypatch.setattr(elements, "BUSY", 1)


def test_windows_by_vectors(tmp_path: Path) -> None:
    made = [
        *made_by_elements(pools(np.float32, ROW_MAJOR)[:1]),
        *made_by_elements(pools(np.float32, CHANNELS_LAST)),
        *made_by_elements(pools(np.float16, CHANNELS_LAST)[1:]),
        *made_by_elements([problem(lambda b, x: [b.reduce_max(x, axes=(0,))], Given(normal(5, 30)))]),
    ]
    assert all("elements" in k.candidate.name for k in made)
    check_emulated(made, tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    for built in made_by_elements(pools(np.float32, CHANNELS_LAST)[1:2]):
        assert built.interpret() is None


def test_padding_is_asked_for_once_a_vector() -> None:
    (built,) = made_by_elements(pools(np.float32, CHANNELS_LAST)[:1])
    text = print_unit([built.fn], target(EMULATED))
    assert "wide_f32x4_load(" in text and ".lane[lane] = mask" not in text


def test_few_results_have_a_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "BUSY", 1 << 14)
    made = made_by_elements(pools(np.float32, CHANNELS_LAST))
    assert all("each element" in k.candidate.name for k in made)

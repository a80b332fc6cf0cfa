"""Few long rows by many blocks: softmax, norms and argmax in several kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.cuda import split_reductions
from aino_ir.codegen.cuda.split_rows import split_rows
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import normal
from tests.codegen.cuda.test_split_reductions import launches
from tests.codegen.kernels.support import Given, problem

PASS = 2
MAP = 1


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of a few hundred elements, which are emulated in no time."""
    monkeypatch.setattr(split_reductions, "LONG", 1 << 10)
    monkeypatch.setattr(split_reductions, "STRETCH", 1 << 8)


def test_softmax_and_its_kin_read_rows_twice() -> None:
    def build(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
        scaled = b.mul(x, b.constant(np.float32(1.5)))
        return b.softmax(scaled), b.log_softmax(y, axis=0), b.reduce_log_sum_exp(y, axes=(0,))

    x, y = normal(3, 1031), normal(1300, 2)  # the first has no even stretches
    x[0, 40:] = -np.inf  # whole stretches
    x[1, 7], y[1299, 1] = 500, -90
    assert launches(build, ["f32 3 1031", "f32 1300 2"], x, y) == 3 * PASS + 2 * MAP


def test_rows_of_nothing_of_what_is_no_number_and_of_equals() -> None:
    x = np.round(normal(5, 1030) * 4).astype(np.float32)  # many are equal
    x[0], x[1, 5], x[2, 1000] = -np.inf, np.nan, np.inf

    def build(b: Any, x: Value) -> tuple[Value, ...]:
        positions = b.argmax(x, axis=1), b.argmin(x, axis=1, select_last_index=True)
        return b.softmax(x), b.reduce_log_sum_exp(x, axes=(1,)), *positions

    assert launches(build, ["f32 5 1030"], x) == 4 * PASS + MAP


def test_norms_have_two_passes() -> None:
    def build(b: Any, x: Value, scale: Value) -> Value:
        return b.layer_norm(x, scale, scale)  # type: ignore[no-any-return]

    assert launches(build, ["bf16 2 1536", "bf16 1536"], *_halves(), tolerance=2e-2) == 2 * PASS + MAP


def _halves() -> tuple[Any, ...]:
    import ml_dtypes

    return tuple(normal(*shape).astype(ml_dtypes.bfloat16) for shape in ((2, 1536), (1536,)))


@pytest.mark.parametrize("shape", [(65, 1100), (3, 1000)])
def test_what_one_kernel_does_as_well(shape: tuple[int, ...]) -> None:
    assert split_rows(problem(lambda b, x: [b.softmax(x)], Given(normal(*shape))).spec) is None


def test_the_logits_of_a_large_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    division = split_rows(problem(lambda b, x: [b.softmax(x)], Given(normal(1, 151_936))).spec)
    assert division is not None
    assert [part.spec.anchor for part in division.parts] == ["softmax_parts", "softmax_rows", "softmax"]
    assert division.temporaries[0][1].shape == (1, 16)

"""Sorting and top-k by blocks: ties, NaN, lengths that are no power of two, lines longer than a block holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda import block_sorts
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import EMULATED, module
from tests.codegen.cuda.test_tensor_cores import check_emulated
from tests.codegen.kernels.support import Built, Given, kernels, problem, rejects


def lines(*shape: int, dtype: str = "f32") -> np.ndarray[Any, Any]:
    """Numbers of which many are equal."""
    drawn = np.random.default_rng(list(shape)).integers(-40, 40, shape)
    return (drawn if "f" in dtype else np.abs(drawn)).astype(DTYPES[dtype].numpy)


def best(x: np.ndarray[Any, Any], k: int, axis: int = -1, largest: bool = True) -> list[Built]:
    p = problem(lambda b, v: list(b.top_k(v, k=k, axis=axis, largest=largest)), Given(x), error_class="exact")
    return kernels(p, EMULATED, "block sort", bounds=False)


def test_lines_that_a_block_holds(tmp_path: Path) -> None:
    special = lines(3, 70)
    special[1, [3, 9, 60]], special[2, :4] = np.nan, [np.inf, -np.inf, 0.0, -0.0]
    made = [
        *best(lines(2, 64), 64),
        *best(special, 70),
        *best(special, 10, largest=False),
        *best(lines(40, 2, 3), 7, axis=0),
        *best(lines(300), 300),
        *(k for dtype in ("f16", "i8", "i64") for k in best(lines(2, 65, dtype=dtype), 33)),
    ]
    check_emulated(made, tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    (built,) = best(lines(2, 37), 20)
    assert built.interpret() is None


def test_short_lines_are_left_to_threads() -> None:
    p = problem(lambda b, v: list(b.top_k(v, k=2)), Given(lines(9, 12)))
    assert "12 elements" in rejects(p, EMULATED)["block sort"]


def test_longer_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sorts, "SHARED_BYTES", 800)  # 64 elements
    wanted = [
        ((140,), 20, 0, 2),  # three pieces, of which twenty each go to one block
        ((130, 2), 75, 0, 3),  # three runs, two, one: merged and cut
    ]

    def build(b: Any, *x: Value) -> tuple[Value, ...]:
        return tuple(
            y for v, (_, k, axis, _) in zip(x, wanted, strict=True) for y in b.top_k(v, k=k, axis=axis)
        )

    made = module(build, "f32 140", "i64 130 2")
    executable = aino.compile(made, EMULATED, threads=1, cache=False)
    assert len(executable.report.kernels) == sum(launches for *_, launches in wanted)
    given = [lines(140), lines(130, 2, dtype="i64")]
    given[0][[5, 49]] = np.nan
    for got, want in zip(executable.run(*given), aino.compile(made, "reference").run(*given), strict=True):
        np.testing.assert_array_equal(got, want)


def test_lengths_that_a_run_decides() -> None:
    made = module(lambda b, x: b.top_k(x, k=2), "f32 3 n")
    executable = aino.compile(made, EMULATED, threads=1)
    assert executable.report.kernels[0]["candidate"].startswith("block sort")
    for length in (2, 64, 65):
        x = lines(3, length)
        for got, want in zip(executable.run(x), aino.compile(made, "reference").run(x), strict=True):
            np.testing.assert_array_equal(got, want)

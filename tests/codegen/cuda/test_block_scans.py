"""Running sums and products by blocks: odd lengths, both directions, types, long lines by many blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda import block_scans
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import EMULATED, module, normal
from tests.codegen.cuda.test_tensor_cores import check_emulated
from tests.codegen.kernels.support import Built, Given, kernels, problem, rejects


def scans(x: np.ndarray[Any, Any], op: str = "cumsum", **attrs: Any) -> list[Built]:
    p = problem(lambda b, v: [getattr(b, op)(v, **attrs)], Given(x), terms=max(x.shape))
    return kernels(p, EMULATED, "block scan", bounds=False)


def test_lines_of_many_lengths(tmp_path: Path) -> None:
    special = normal(2, 200)
    special[0, 150], special[1, 3], special[1, 7] = np.nan, np.inf, -np.inf
    made = [
        *scans(normal(1, 64), axis=1),
        *scans(special, axis=1),
        *scans(special, axis=1, exclusive=True, reverse=True),
        *scans(normal(2, 1025, 2), axis=1, reverse=True),
        *scans(normal(2500), axis=0, exclusive=True),
        *scans(1 + normal(3, 129) / 64, "cumprod", axis=1),
    ]
    for dtype in ("i8", "f64", "f16"):
        made += scans(typed(dtype, 2, 65), axis=1)
    check_emulated(made, tmp_path)


def typed(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    return (np.abs(normal(*shape)) * 20).astype(DTYPES[dtype].numpy)


def test_the_loop_interpreter_agrees() -> None:
    (built,) = scans(normal(1, 70), axis=1, exclusive=True)
    assert built.interpret() is None


def test_what_is_left_to_threads() -> None:
    for shape, axis, why in (((3, 20), 1, "20 elements"), ((100, 2100), 0, "across")):
        p = problem(lambda b, v, axis=axis: [b.cumsum(v, axis=axis)], Given(normal(*shape)))
        assert why in rejects(p, EMULATED)["block scan"]


def test_long_lines_by_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_scans, "LONG", 1 << 10)
    monkeypatch.setattr(block_scans, "STRETCH", 1 << 7)

    def build(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
        return b.cumsum(x, axis=0, exclusive=True), b.cumsum(y, axis=1, reverse=True)

    made = module(build, "i32 1101", "f32 2 1024 2")
    executable = aino.compile(made, EMULATED, threads=1, cache=False)
    assert sum("scan" in str(r["ops"]) for r in executable.report.kernels) == 2 * 3
    given = (9 * normal(1101)).astype(np.int32), 9 * normal(2, 1024, 2)
    found, wanted = executable.run(*given), aino.compile(made, "reference").run(*given)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-2)


def test_lengths_that_a_run_decides() -> None:
    made = module(lambda b, x: b.cumsum(x, axis=1), "f32 3 n")
    executable = aino.compile(made, EMULATED, threads=1)
    assert executable.report.kernels[0]["candidate"].startswith("block scan")
    for length in (1, 65):
        x = normal(3, length)
        (got,), (want,) = executable.run(x), aino.compile(made, "reference").run(x)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

"""Scatter by many threads: equal places in order, every combination, in place, indices outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda import scatters
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import EMULATED, module, normal


def compare(build: Any, types: list[str], *inputs: Any) -> list[str]:
    """Run emulated and on the interpreter, which must agree in every bit; the kernels' names."""
    made = module(build, *types)
    executable = aino.compile(made, EMULATED, threads=1, cache=False)
    for got, want in zip(executable.run(*inputs), aino.compile(made, "reference").run(*inputs), strict=True):
        np.testing.assert_array_equal(got, want)
    return [row["kernel"] for row in executable.report.kernels]


def places(extent: int, *shape: int) -> np.ndarray[Any, Any]:
    """Indices of which many are equal, some of them counted from the end."""
    return np.random.default_rng(list(shape)).integers(-extent, extent, shape)


@pytest.mark.parametrize("few", [scatters.FEW, 2])
def test_updates_that_meet_come_in_order(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatters, "FEW", few)

    def build(b: Any, x: Value, i: Value, u: Value, y: Value, j: Value, v: Value) -> tuple[Value, ...]:
        return (
            b.scatter_nd(x, i, u),
            b.scatter_nd(x, i, u, reduction="add"),
            b.scatter_elements(y, j, v, axis=1, reduction="none" if few == 2 else "mul"),
        )

    x, u, y, v = normal(7, 3), normal(40, 3), normal(4, 9), normal(3, 35)
    names = compare(
        build,
        ["f32 7 3", "i64 40 1", "f32 40 3", "f32 4 9", "i32 3 35", "f32 3 35"],
        *(x, places(7, 40, 1), u, y, places(9, 3, 35).astype(np.int32), v),
    )
    assert sum("owner" in n for n in names) == (3 if few > 2 else 0)
    assert sum("apply" in n for n in names) == (3 if few == 2 else 0)


def test_the_other_combinations_and_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatters, "FEW", 2)

    def build(b: Any, x: Value, i: Value, u: Value, y: Value, j: Value, v: Value) -> tuple[Value, ...]:
        return b.scatter_nd(x, i, u, reduction="max"), b.scatter_elements(y, j, v, axis=0, reduction="min")

    x, u = normal(3, 4).astype(np.float16), normal(33).astype(np.float16)
    u[4] = np.nan
    y, v = (9 * normal(11)).astype(np.int8), (9 * normal(90)).astype(np.int8)
    where = np.stack([places(3, 33), places(4, 33)], 1)
    types = ["f16 3 4", "i64 33 2", "f16 33", "i8 11", "i64 90", "i8 90"]
    compare(build, types, x, where, u, y, places(11, 90), v)


@pytest.mark.parametrize("few", [scatters.FEW, 2])
def test_indices_outside_are_errors(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatters, "FEW", few)
    made = module(lambda b, x, i, u: b.scatter_elements(x, i, u, axis=0), "f32 5", "i64 4", "f32 4")
    executable = aino.compile(made, EMULATED, threads=1, cache=False)
    executable.run(normal(5), np.array([4, -5, 0, 0]), normal(4))
    with pytest.raises(IndexOutOfRange):
        executable.run(normal(5), np.array([0, 1, 5, 1]), normal(4))


def test_updates_over_the_operand() -> None:
    def build(b: Any, x: Value, i: Value, u: Value) -> Value:
        return b.neg(b.scatter_nd(b.neg(x), i, u))  # type: ignore[no-any-return]

    names = compare(build, ["f32 9 4", "i64 2 1", "f32 2 4"], normal(9, 4), places(9, 2, 1), normal(2, 4))
    assert [n.partition("_")[0] for n in names] == ["neg", "scatter", "neg"]  # no copy

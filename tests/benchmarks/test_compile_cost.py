"""The arithmetic of the compile-cost page; the figures themselves are measured, not tested."""

from __future__ import annotations

import pytest

from benchmarks import compile_cost


def row(nodes: int, own: float, cc: float) -> dict[str, object]:
    return {
        "nodes": nodes,
        "seconds": {"load": own, "cc": cc},
        "total": own + cc,
        "kernels": 3,
        "undone": 0,
        "peak_bytes": {"load": 10**9, "cc": 10**9},
    }


def test_growth_leaves_the_c_compiler_out() -> None:
    linear = [row(1000, 1.0, 5.0), row(10000, 10.0, 5.0)]
    square = [row(1000, 1.0, 0.0), row(10000, 100.0, 0.0)]
    assert compile_cost.growth(linear) == pytest.approx(1.0)
    assert compile_cost.growth(square) == pytest.approx(2.0)


def test_table_has_a_column_a_stage() -> None:
    table = compile_cost.render([row(1000, 1.0, 5.0), row(10000, 10.0, 5.0)])
    assert [c.header for c in table.columns] == [
        "nodes",
        "load",
        "cc",
        "all but cc",
        "total",
        "kernels",
        "undone",
        "peak GB by stage",
    ]


def test_stages_of_a_small_graph() -> None:
    row = compile_cost.measure(200, seed=0)
    assert list(row["seconds"]) == ["load", "passes", "lower", "emit"]
    assert list(row["peak_bytes"]) == list(row["seconds"])
    assert row["kernels"] > 0 and row["undone"] == 0

"""Which launches wait for which: edges of graphs from the bytes that kernels touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda import order, plan_data
from aino_ir.codegen.cuda.order import launch_order, scratch_stretches
from aino_ir.driver.api import compile_options
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.driver.pipeline import Compilation
from aino_ir.graph import Module
from aino_ir.plan import Plan, runs
from aino_ir.plan.touches import conflicting, launch_touches
from aino_ir.types import tensor


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def branching(rows: int | None = 4) -> Module:
    """Three products of one value, two of which meet: as the projections of an attention do."""
    b = Builder()
    x = b.input("x", tensor("f32", b.symbol("n", 1, 16) if rows is None else rows, 24))
    h = b.softmax(b.matmul(x, b.constant(normal(24, 24))))
    first, second, third = (b.softmax(b.matmul(h, b.constant(normal(24, 40 + n)))) for n in range(3))
    b.output("y", b.matmul(first, b.transpose(first, perm=(1, 0))))
    b.output("z", second)
    b.output("w", third)
    b.finish()
    return b.module


def chain() -> Module:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 24))
    for n in range(4):
        x = b.softmax(b.matmul(x, b.constant(normal(24, 24 + n)[:, :24])))
    b.output("y", x)
    b.finish()
    return b.module


def plan_of(module: Module) -> Plan:
    (plan,) = Compilation(compile_options("cuda:sm_80", level=0)).plans(module).values()
    return plan


def before(edges: list[list[int]]) -> list[set[int]]:
    """All launches that come before each."""
    found: list[set[int]] = []
    for mine in edges:
        found.append(set(mine).union(*(found[n] for n in mine)))
    return found


@pytest.mark.parametrize("make", [branching, lambda: branching(None), chain])
def test_launches_that_touch_the_same_bytes_are_ordered(make: Callable[[], Module]) -> None:
    plan = plan_of(make())
    edges = launch_order(plan)
    assert edges is not None
    launches, reached = list(runs(plan)), before(edges)
    assert len(edges) == len(launches)
    stretches = scratch_stretches(plan) or [0] * len(launches)
    touched = [launch_touches(plan, run, n) for run, n in zip(launches, stretches, strict=True)]
    for late, mine in enumerate(touched):
        for early, other in enumerate(touched[:late]):
            if conflicting(mine, other):
                assert early in reached[late]
    for mine in edges:  # nothing that follows from the others
        assert all(a not in reached[b] for a in mine for b in mine)


def test_branches_are_parallel_and_a_chain_is_one() -> None:
    edges, line = launch_order(plan_of(branching())), launch_order(plan_of(chain()))
    assert edges is not None and max(sum(n in mine for mine in edges) for n in range(len(edges))) >= 3
    assert line == [[n - 1] if n else [] for n in range(len(line or ()))]


def test_scratch_does_not_order_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(branching())
    launches = list(runs(plan))
    rows = [n for n, run in enumerate(launches) if plan.kernels[run.kernel].function.scratch_bytes]
    together, stretches = rows[-3:], scratch_stretches(plan)  # the three softmaxes of the branches
    assert len({stretches[n] for n in together}) == 3
    edges = launch_order(plan)
    assert edges is not None and all(a not in before(edges)[b] for a in together for b in together)
    monkeypatch.setattr(order, "MOST_STRETCHES", 1)
    ordered = launch_order(plan)
    assert ordered is not None and together[0] in before(ordered)[together[2]]
    assert set(scratch_stretches(plan_of(chain()))) <= {0}


def test_long_plans_are_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_LAUNCHES", 2)
    assert launch_order(plan_of(chain())) is None


def results(module: Module, *inputs: Any) -> list[Any]:
    with emulated_gpu():
        return list(aino.compile(module, "cuda:sm_80", cache=False, level=0).run(*inputs))


@pytest.mark.parametrize("rows", [4, None])
def test_branches_compute_the_same_in_any_order(rows: int | None) -> None:
    module, x = branching(rows), normal(4, 24)
    for got, want in zip(results(module, x), aino.compile(module, "reference").run(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_missing_edge_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = branching(), normal(4, 24)
    (want, *_) = aino.compile(module, "reference").run(x)

    def unordered(plan: Plan) -> list[list[int]]:
        return [[] for _ in launch_order(plan) or ()]

    monkeypatch.setattr(plan_data, "launch_order", unordered)
    assert not np.allclose(results(module, x)[0], want, rtol=1e-4, atol=1e-5)

"""The fuzzer itself, a short run of it, and what it once found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.interp import run_module
from aino_ir.ops.core import Constant
from aino_ir.text import print_module
from aino_ir.types import tensor
from aino_ir.verify import verify
from tests.conformance.batch import in_child
from tests.fuzz.graphs import Graph, graph_of, graphs_of, sampled_ops
from tests.fuzz.judge import Oracle
from tests.fuzz.minimise import Shrinker, store, stored
from tests.fuzz.run import REGRESSIONS, exported_alone, findings, judged_alone, seeds_of

KEPT = sorted(REGRESSIONS.glob("*.air"))


@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_graphs_are_sound(seed: int) -> None:
    graph = graph_of(str(seed))
    verify(graph.module)
    results = run_module(graph.module, graph.arrays)
    assert Oracle(graph.module, graph.arrays).judge(results) is None
    text = print_module(graph.module)
    weights = {op.value.digest: op.value.array() for op in graph.module.walk() if isinstance(op, Constant)}
    assert print_module(aino.parse(text, weights)) == text


def test_one_seed_one_graph() -> None:
    assert print_module(graph_of("s").module) == print_module(graph_of("s").module)


def test_graphs_side_by_side_are_the_graphs() -> None:
    seeds = seeds_of(3, 5)
    module, inputs, counts = graphs_of(seeds)
    verify(module)
    results = run_module(module, [inputs[n] for n in module.main.input_names])
    alone = [y for seed in seeds for y in run_module(graph_of(seed).module, graph_of(seed).arrays)]
    assert sum(counts) == len(results) == len(alone)
    for a, b in zip(results, alone, strict=True):
        assert a.tobytes() == b.tobytes()


def test_most_ops_occur() -> None:
    met = {op.name for seed in seeds_of(0, 300) for op in graph_of(seed).module.walk()}
    assert len(set(sampled_ops()) - met) < 15


def test_engines_may_take_differences_of_near_numbers() -> None:
    """The least of a gelu's results, of which 1 + tanh leaves few digits in an engine."""
    b = Builder()
    b.output("y", b.reduce_min(b.abs(b.gelu(b.input("x", tensor("f32", 2)), approximate="tanh"))))
    x = np.array([-4.5, 3.0], np.float32)
    (y,) = run_module(b.module, [x])
    off = [np.asarray(y + np.float32(2e-7))]
    assert Oracle(b.module, [x]).judge(off) is not None
    assert Oracle(b.module, [x], engine=True).judge(off) is None
    assert Oracle(b.module, [x], engine=True).judge([np.asarray(y * 2)]) is not None


def test_judge_sees_a_wrong_result() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 8))
    b.output("y", b.sqrt(x))
    oracle = Oracle(b.module, [np.arange(8, dtype=np.float32) - 1])
    (right,) = oracle.native
    assert np.isnan(right[0]) and oracle.judge([right]) is None
    assert oracle.judge([np.where(np.arange(8) == 3, right * np.float32(1.01), right)])
    assert oracle.judge([np.nan_to_num(right)])
    assert oracle.judge([right.astype(np.float64)])


def test_shrinker_finds_the_guilty_op(tmp_path: Path) -> None:
    b = Builder()
    x, n = b.input("x", tensor("f32", b.symbol("n"), 3)), b.input("n", tensor("f32", 3))
    middle = b.tanh(b.mul(b.exp(x), n))
    b.output("a", b.reduce_sum(b.neg(middle), axes=(0,)))
    b.output("b", b.relu(n))
    b.output("c", b.sub(middle, x))
    graph = Graph("tanh", b.module, {"x": np.ones((2, 3), np.float32), "n": np.zeros(3, np.float32)})

    def fails(candidate: Graph) -> str:
        verify(candidate.module)
        run_module(candidate.module, candidate.arrays)
        return "wrong" if any(op.name == "math.tanh" for op in candidate.module.main.block) else "passed"

    small = Shrinker(graph, "wrong", fails).run()
    assert [op.name for op in small.module.main.block] == ["math.tanh", "core.return"]
    again = stored(store(small, tmp_path, "tanh"))
    for a, b in zip(
        run_module(again.module, again.arrays), run_module(small.module, small.arrays), strict=True
    ):
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow
def test_short_run_finds_nothing() -> None:
    found = list(findings(seeds_of(2026, 40), batch=40))
    assert not [f for f in found if f.bad]
    assert sum(f.status == "passed" and f.against == "c" for f in found) >= 30
    assert sum(f.status == "passed" and f.against == "onnxruntime" for f in found) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("place", KEPT, ids=lambda p: p.stem)
def test_what_was_found_stays_right(place: Path) -> None:
    judge = judged_alone if place.stem.startswith("c_") else exported_alone
    status, detail = in_child(judge, stored(place))
    assert status in ("passed", "skipped"), detail

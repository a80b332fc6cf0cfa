"""Native calls and torch's take turns: as few as can be, and in the order that matters."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.driver.dynamo.partition import native_parts
from aino_ir.driver.dynamo.phases import phases_of

aten = torch.ops.aten


def chain(*targets: Any) -> tuple[Graph, list[Node]]:
    """Calls one behind the other on one placeholder."""
    graph = Graph()
    node = graph.placeholder("x")
    calls = []
    for target in targets:
        node = graph.call_function(target, (node,))
        calls.append(node)
    graph.output(node)
    return graph, calls


def test_calls_stand_in_the_first_phase_that_operands_allow() -> None:
    graph, calls = chain(aten.relu, aten.tanh, aten.linalg_eigvals, aten.sin, aten.cos)
    found = phases_of(graph, {calls[2]})
    assert [found[c] for c in calls] == [1, 1, 2, 3, 3]


def test_independent_calls_share_a_phase() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    kept, native = [], []
    for _ in range(3):
        kept.append(graph.call_function(aten.linalg_eigvals.default, (x,)))
        native.append(graph.call_function(aten.sin.default, (kept[-1],)))
    graph.output(tuple(native))
    found = phases_of(graph, set(kept))
    assert {found[n] for n in kept} == {0} and {found[n] for n in native} == {1}


def test_changes_wait_for_earlier_readers() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    slow = graph.call_function(aten.linalg_eigvals.default, (graph.call_function(aten.sin.default, (x,)),))
    reader = graph.call_function(aten.mul.Tensor, (x, slow))
    change = graph.call_function(aten.copy_.default, (x, graph.call_function(aten.cos.default, (x,))))
    later = graph.call_function(aten.tan.default, (x,))
    graph.output((reader, change, later))
    found = phases_of(graph, {slow, change})
    assert found[change] > found[reader]
    assert found[later] > found[change]


def test_draws_keep_their_order() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    late = graph.call_function(aten.bernoulli.default, (graph.call_function(aten.sin.default, (x,)),))
    early = graph.call_function(aten.rand.default, ([3],))
    graph.output((late, early))
    found = phases_of(graph, {late, early})
    assert found[late] == found[early] == 2


def test_parts_get_the_symbols_that_they_read() -> None:
    """A part whose inputs do not tell an extent gets it as a number."""

    def f(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        value = torch.linalg.eigvals(y @ y.T).real.sum()
        return [value * torch.ones(x.shape[0] * 2, 3)]

    traced = make_fx(f, tracing_mode="symbolic")(torch.randn(5, 7), torch.randn(4, 4))
    split = native_parts(traced, (), DynamoOptions.of({"threads": 1, "cache": False}), aliases=False)
    assert isinstance(split, GraphModule)
    parts = [n for n in split.graph.nodes if n.op == "call_module"]
    assert len(parts) == 2
    for rows in (5, 6):
        x, y = torch.randn(rows, 7), torch.randn(4, 4)
        torch.testing.assert_close(split(x, y)[0], f(x, y)[0], rtol=1e-4, atol=1e-4)

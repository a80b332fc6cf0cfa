"""Splits a traced graph into parts that run natively and calls that stay with torch."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from aino_ir.driver.dynamo.draws import is_drawing, separate_draws
from aino_ir.driver.dynamo.graph import NativeGraph
from aino_ir.driver.dynamo.numbers import symbol_sources, symbols_of, values_of
from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.driver.dynamo.phases import phases_of
from aino_ir.driver.dynamo.places import calls_elsewhere
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import AtenUnsupported
from aino_ir.frontends.torch.locations import location_of
from aino_ir.frontends.torch.lower import is_number
from aino_ir.frontends.torch.subgraph import (
    NodeRefused,
    lower_subgraph,
    refused_calls,
    shared_views,
)

LOG = logging.getLogger("aino")

_reported: set[str] = set()
"""Operators that were reported already: each is, once a process."""


def native_parts(graph: GraphModule, static: Sequence[int], options: DynamoOptions, aliases: bool) -> Any:
    """The graph as a callable: all of it native, or torch's own with native parts.

    Args:
        graph: calls of ATen operators, with fake tensors; draws are taken apart in it.
        static: positions of placeholders whose tensors rarely change.
        options: of the backend.
        aliases: whether results that are views of one another must share memory (in training autograd
            sees to that for the user's results, and nobody changes what is saved for the gradient).

    Raises:
        AtenUnsupported: `options.strict` is set and something would stay with torch.
    """
    calls = [n for n in graph.graph.nodes if n.op == "call_function" and not is_number(n)]
    if not calls:
        return graph
    drawn = separate_draws(graph)
    try:
        refused = {**refused_calls(graph), **calls_elsewhere(graph)}
    except AinoError as error:  # an input of a kind that AINO does not have
        refused = dict.fromkeys((n for n in graph.graph.nodes if n.op == "call_function"), error.message)
    report({n: reason for n, reason in refused.items() if not _belongs_to_draw(n)}, options.strict)
    kept = {*refused, *drawn, *(shared_views(graph) if aliases else ())}
    if not kept:
        return NativeGraph(graph, static, options)
    return _Split(graph, kept, static, options).module()


def _belongs_to_draw(node: Node) -> bool:
    """Whether a call draws random numbers, which torch does by design, or takes them out of a tuple."""
    source = node.args[0] if node.target is operator.getitem else node
    return isinstance(source, Node) and is_drawing(source)


def report(refused: Mapping[Node, str], strict: bool) -> None:
    """Say once which operators stay with torch, or refuse them all."""
    if strict and refused:
        lines = dict.fromkeys(
            f"  {n.target} at {location_of(n) or 'a line of torch'}: {r}" for n, r in refused.items()
        )
        raise AtenUnsupported(count=len({str(n.target) for n in refused}), operators="\n".join(lines))
    for node, reason in refused.items():
        name = str(node.target)
        if node.target is not operator.getitem and name not in _reported:
            _reported.add(name)
            LOG.warning(
                "%s stays with torch: %s (at %s)", name, reason, location_of(node) or "torch's own code"
            )


class _Split:
    """A graph on its way into one of torch's calls and native parts, phase after phase."""

    def __init__(
        self, graph: GraphModule, kept: set[Node], static: Sequence[int], options: DynamoOptions
    ) -> None:
        self.source = graph
        self.options = options
        self.sources = symbol_sources(graph.graph.nodes)
        self.phases = phases_of(graph.graph, kept)
        placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        self.fixed = {placeholders[i] for i in static}
        self.outer = Graph()
        self.copies: dict[Node, Node] = {}
        self.parts: dict[str, torch.nn.Module] = {}

    def module(self) -> GraphModule:
        """The split graph."""
        nodes = list(self.source.graph.nodes)
        for node in nodes:
            if node.op in ("placeholder", "get_attr"):
                self._copy(node)
        calls: dict[int, list[Node]] = {}
        for node in nodes:
            if node.op == "call_function":
                calls.setdefault(self.phases[node], []).append(node)
        for phase in sorted(calls):
            if phase % 2 == 0 or not self._native(phase, calls[phase]):
                for node in calls[phase]:
                    self._copy(node)
        for node in nodes:
            if node.op == "output":
                self._copy(node)
        for name, part in self.parts.items():
            self.source.add_submodule(name, part)
        made = GraphModule(self.source, self.outer)
        made.graph.eliminate_dead_code()
        made.recompile()
        return made

    def _copy(self, node: Node) -> None:
        self.copies[node] = self.outer.node_copy(node, lambda n: self.copies[n])

    def _native(self, phase: int, calls: Sequence[Node]) -> bool:
        """Put a part that runs natively into the outer graph; False where its boundary cannot be said."""
        members = set(calls)
        outside = list(dict.fromkeys(n for c in calls for n in c.all_input_nodes if n not in members))
        held = [n for n in outside if n.op == "get_attr"]
        given = [n for n in outside if n.op != "get_attr"]
        results = [n for n in calls if any(user not in members for user in n.users)]
        if not results:
            return True
        symbols = self._symbols(phase, calls, given)
        part = self._part(given, symbols, held, calls, results)
        static = [i for i, n in enumerate(given) if n in self.fixed]
        name = f"native_{len(self.parts)}"
        native = _native_or_none(part, static, self.options, name)
        if native is None:
            return False
        self.parts[name] = _Module(native)
        arguments = [self.copies[n] for n in given] + [self._symbol(node, axis) for _, node, axis in symbols]
        made = self.outer.call_module(name, tuple(arguments))
        for number, node in enumerate(results):
            self.copies[node] = self.outer.call_function(operator.getitem, (made, number))
            self.copies[node].meta = dict(node.meta)
        return True

    def _symbols(
        self, phase: int, calls: Sequence[Node], given: Sequence[Node]
    ) -> list[tuple[str, Node, int | None]]:
        """Symbols that a part reads and none of its inputs tells: (name, node that does, axis)."""
        read = symbols_of(v for n in (*calls, *given) for v in values_of(n))
        found = []
        for name in sorted(read - set(symbol_sources(given))):
            source = self.sources.get(name)
            if source is not None and self.phases.get(source[0], 0) < phase:
                found.append((name, *source))
        return found

    def _symbol(self, node: Node, axis: int | None) -> Node:
        """The node of the outer graph that is a symbol's value."""
        if axis is None:
            return self.copies[node]
        return self.outer.call_function(torch.ops.aten.sym_size.int, (self.copies[node], axis))

    def _part(
        self,
        given: Sequence[Node],
        symbols: Sequence[tuple[str, Node, int | None]],
        held: Sequence[Node],
        calls: Sequence[Node],
        results: Sequence[Node],
    ) -> GraphModule:
        """Calls as a graph of their own, whose inputs are `given`, then `symbols`."""
        graph = Graph()
        inside: dict[Node, Node] = {}
        for node in given:
            inside[node] = graph.placeholder(node.name)
            inside[node].meta = dict(node.meta)
        for name, node, axis in symbols:
            value = node.meta["val"]
            graph.placeholder(f"symbol_{name}").meta["val"] = value if axis is None else value.shape[axis]
        for node in (*held, *calls):
            inside[node] = graph.node_copy(node, lambda n: inside[n])
        graph.output([inside[n] for n in results])
        return GraphModule(self.source, graph)


def _native_or_none(
    part: GraphModule, static: Sequence[int], options: DynamoOptions, name: str
) -> NativeGraph | None:
    """A part as native code; None when its boundary cannot be said (a number that no extent tells)."""
    try:
        lower_subgraph(part, {}, name)
    except (AinoError, NodeRefused) as error:
        LOG.warning("a part of the graph stays with torch: %s", error)
        return None
    return NativeGraph(part, static, options, name)


class _Module(torch.nn.Module):
    """A native part as the submodule that torch's graph calls."""

    def __init__(self, native: NativeGraph) -> None:
        super().__init__()
        self.native = native

    def forward(self, *args: Any) -> Any:
        return self.native(*args)

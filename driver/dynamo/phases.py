"""When the calls of a graph run: native ones and torch's take turns, in as few turns as they can.

Each call stands in the first phase of its kind that its operands allow, so there are as few native parts
as any path through the graph alternates.  Calls that change something, and draws from a generator, keep
the order that they have in the graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch.fx import Graph, Node

from aino_ir.driver.dynamo.draws import is_drawing
from aino_ir.driver.dynamo.numbers import symbol_sources, symbols_of, values_of
from aino_ir.frontends.torch.lower import is_number


def phases_of(graph: Graph, kept: Collection[Node]) -> dict[Node, int]:
    """The phase of every call: odd ones run natively, even ones in torch, all in order.

    Args:
        graph: a graph of calls.
        kept: calls that stay with torch; numbers over symbols do too.
    """
    return _Phases(graph, kept).found


class _Phases:
    def __init__(self, graph: Graph, kept: Collection[Node]) -> None:
        self.sources = symbol_sources(graph.nodes)
        self.found: dict[Node, int] = {}
        self.last_draw = 0
        self.last_change = 0
        self.latest = 0
        for node in graph.nodes:
            if node.op == "call_function":
                native = node not in kept and not is_number(node)
                self._place(node, native)

    def _place(self, node: Node, native: bool) -> None:
        first = max(self.last_change, self._ready(node, native))
        if is_drawing(node):
            first = max(first, self.last_draw)
        changes = is_change(node)
        if changes:
            first = max(first, self.latest)
        phase = first + (first % 2 != int(native))
        self.found[node] = phase
        self.latest = max(self.latest, phase)
        if changes:
            self.last_change = phase
        if is_drawing(node):
            self.last_draw = phase

    def _ready(self, node: Node, native: bool) -> int:
        """The phase after which all that a call reads is there."""
        read: Iterable[Node] = node.all_input_nodes
        if native:  # numbers are what symbols make them, wherever torch computes them
            names = symbols_of(v for n in node.all_input_nodes if is_number(n) for v in values_of(n))
            told = (self.sources[name][0] for name in names if name in self.sources)
            read = [*(n for n in read if not is_number(n)), *told]
        return max((self.found.get(n, 0) for n in read), default=0)


def is_change(node: Node) -> bool:
    """Whether a call changes one of its operands."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable

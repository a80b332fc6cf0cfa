"""Integers over symbols as nodes of a graph, and as functions of a graph's arguments.

torch knows extents as expressions over symbols.  At run time a symbol is an argument of the graph, an
extent of an argument, or something that a call finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node, Proxy, map_arg
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from aino_ir.frontends.torch.expressions import expression_of

Source = tuple[Node, int | None]
"""The node that tells a symbol's value: by itself (None), or by the extent of an axis."""


def values_of(node: Node) -> tuple[Any, ...]:
    """What torch knows about a node's results."""
    value = node.meta.get("val")
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def numbers_in(value: Any) -> tuple[Any, ...]:
    """The numbers over symbols that a value is, or that its extents are."""
    if isinstance(value, torch.Tensor):
        extents: Sequence[Any] = value.shape
        return tuple(e for e in extents if isinstance(e, torch.SymInt))
    return (value,) if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)) else ()


def symbols_of(values: Iterable[Any]) -> set[str]:
    """Names of the symbols that occur in numbers and extents."""
    return {
        symbol.name
        for value in values
        for number in numbers_in(value)
        for symbol in expression_of(number).free_symbols
    }


def symbol_sources(nodes: Iterable[Node]) -> dict[str, Source]:
    """Which node tells each symbol's value: the first that does."""
    found: dict[str, Source] = {}
    for node in nodes:
        value = node.meta.get("val")
        if isinstance(value, (torch.SymInt, torch.SymFloat)) and expression_of(value).is_Symbol:
            found.setdefault(expression_of(value).name, (node, None))
        elif isinstance(value, torch.Tensor):
            extents: Sequence[Any] = value.shape
            for axis, extent in enumerate(extents):
                if isinstance(extent, torch.SymInt) and expression_of(extent).is_Symbol:
                    found.setdefault(expression_of(extent).name, (node, axis))
    return found


class NumberNodes:
    """Makes nodes that compute integers over symbols where a graph needs them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sources = symbol_sources(graph.nodes)
        self._made: dict[str, Node] = {}

    def symbol(self, name: str) -> Node:
        """The node that is a symbol's value."""
        node, axis = self.sources[name]
        if axis is None:
            return node
        if name not in self._made:
            with self.graph.inserting_after(node):
                made = self.graph.call_function(torch.ops.aten.sym_size.int, (node, axis))
            made.meta["val"] = node.meta["val"].shape[axis]
            self._made[name] = made
        return self._made[name]

    def number(self, number: int | torch.SymInt, before: Node) -> int | Node:
        """An int, or a node that computes it, in front of another.

        Raises:
            KeyError: nothing tells one of its symbols.
        """
        if isinstance(number, int):
            return number
        expression = expression_of(number)
        symbols = {s: self.symbol(s.name) for s in expression.free_symbols}
        with self.graph.inserting_before(before):
            made = sympy_interp(
                PythonReferenceAnalysis, {s: Proxy(n) for s, n in symbols.items()}, expression
            )
        if not isinstance(made, Proxy):
            return int(made)
        _note_values(made.node)
        return made.node


def _note_values(node: Node) -> None:
    """What torch would know about a number that was just made, and about those before it."""
    for source in node.all_input_nodes:
        if "val" not in source.meta:
            _note_values(source)
    if "val" not in node.meta:
        assert callable(node.target)
        arguments = map_arg(node.args, lambda n: n.meta["val"])
        node.meta["val"] = node.target(*arguments, **node.kwargs)


def number_function(
    number: Any, sources: Mapping[str, Callable[[Sequence[Any]], Any]]
) -> Callable[[Sequence[Any]], Any]:
    """A number over symbols as a function of a graph's arguments.

    Args:
        number: of torch's.
        sources: how the arguments tell each symbol's value.
    """
    expression = expression_of(number)
    if expression.is_Symbol:
        return sources[expression.name]
    graph = Graph()
    symbols = sorted(expression.free_symbols, key=lambda s: s.name)
    nodes = [graph.placeholder(f"symbol_{i}") for i in range(len(symbols))]
    proxies = {s: Proxy(n) for s, n in zip(symbols, nodes, strict=True)}
    made = sympy_interp(PythonReferenceAnalysis, proxies, expression)
    graph.output(made.node if isinstance(made, Proxy) else made)
    function = GraphModule(torch.nn.Module(), graph).forward
    readers = [sources[s.name] for s in symbols]
    return lambda args: function(*[read(args) for read in readers])


def argument_sources(placeholders: Sequence[Node]) -> dict[str, Callable[[Sequence[Any]], Any]]:
    """How a graph's arguments tell the value of each symbol."""
    position = {node: i for i, node in enumerate(placeholders)}
    return {
        name: _reader(position[node], axis) for name, (node, axis) in symbol_sources(placeholders).items()
    }


def _reader(position: int, axis: int | None) -> Callable[[Sequence[Any]], Any]:
    if axis is None:
        return lambda args: args[position]
    return lambda args: args[position].shape[axis]

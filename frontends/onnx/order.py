"""Names and order in graphs: SSA form, topological order, captured values, visibility."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from aino_ir.errors.onnx import DuplicateName, GraphCycle, UndefinedValue
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxGraph, OnnxNode

_LONGEST_PATH = 8
"""Nodes of a cycle that a message lists."""


def sort_nodes(nodes: tuple[OnnxNode, ...], known: Mapping[str, str], scope: str) -> tuple[OnnxNode, ...]:
    """The nodes in topological order, which is the given order where that is one already.

    Args:
        known: names that exist before any node, with what they are.
        scope: where the graph stands.

    Raises:
        DuplicateName: two nodes, or a node and `known`, define one name.
        GraphCycle: no order exists.
    """
    producer = _producers(nodes, known)
    sources = [_sources(node, producer) for node in nodes]
    if all(source < index for index, found in enumerate(sources) for source in found):
        return nodes
    waiting = [len(found) for found in sources]
    users: list[list[int]] = [[] for _ in nodes]
    for index, found in enumerate(sources):
        for source in found:
            users[source].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        raise _cycle(nodes, sources, waiting, scope)
    return tuple(nodes[index] for index in order)


def _producers(nodes: Sequence[OnnxNode], known: Mapping[str, str]) -> dict[str, int]:
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if not name:
                continue
            if name in producer or name in known:
                first = f"an output of {nodes[producer[name]].location}" if name in producer else known[name]
                raise DuplicateName(loc=node.location, what="value", name=quote(name), first=first)
            producer[name] = index
    return producer


def _sources(node: OnnxNode, producer: Mapping[str, int]) -> set[int]:
    names = node.inputs + node.captures if node.attributes else node.inputs
    return {producer[name] for name in names if name in producer}


def _cycle(
    nodes: Sequence[OnnxNode], sources: Sequence[set[int]], waiting: Sequence[int], scope: str
) -> GraphCycle:
    """The error for a graph in which every node with a `waiting` count depends on another such node."""
    index = next(index for index, count in enumerate(waiting) if count)
    path: dict[int, None] = {}
    while index not in path:
        path[index] = None
        index = next(source for source in sorted(sources[index]) if waiting[source])
    trail = list(path)
    circle = [*trail[trail.index(index) :], index][::-1]
    shown = [nodes[step].location for step in circle]
    if len(shown) > _LONGEST_PATH:
        shown = [*shown[: _LONGEST_PATH - 2], f"{len(shown) - _LONGEST_PATH + 1} more", shown[-1]]
    return GraphCycle(loc=scope, nodes=" -> ".join(shown))


def free_names(
    nodes: Sequence[OnnxNode], known: Mapping[str, str], outputs: Iterable[str]
) -> tuple[str, ...]:
    """Names that a graph reads and neither `known` nor its nodes define, in order of first use."""
    defined = set(known)
    for node in nodes:
        defined.update(node.outputs)
    found: dict[str, None] = {}
    for node in nodes:
        for name in node.inputs + node.captures if node.attributes else node.inputs:
            if name and name not in defined:
                found[name] = None
    for name in outputs:
        if name not in defined:
            found[name] = None
    return tuple(found)


def check_names(graph: OnnxGraph) -> None:
    """Check that every value that a graph and its subgraphs use is visible there, and that none is hidden.

    Raises:
        UndefinedValue: a node reads or a graph returns a value that does not exist at that point.
        DuplicateName: an inner node hides an outer value.
    """
    _check_graph(graph, set())


def check_node_names(nodes: Sequence[OnnxNode], inputs: Iterable[str]) -> None:
    """The same for the body of a function, whose only outer names are its inputs."""
    _check_nodes(nodes, set(inputs))


def _check_graph(graph: OnnxGraph, visible: set[str], scope: str = "") -> None:
    added = {value.name for value in graph.inputs} | set(graph.initializers)
    added -= visible
    visible |= added
    inner = _check_nodes(graph.nodes, visible)
    for value in graph.outputs:
        if value.name not in visible:
            raise UndefinedValue(loc=scope or None, user="the graph's output list", name=quote(value.name))
    visible -= added
    visible.difference_update(inner)


def _check_nodes(nodes: Sequence[OnnxNode], visible: set[str]) -> list[str]:
    """Walk nodes in order, adding their outputs to `visible`; returns the names added."""
    added: list[str] = []
    for node in nodes:
        for index, name in enumerate(node.inputs):
            if name and name not in visible:
                raise UndefinedValue(loc=node.location, user=f"input {index}", name=quote(name))
        if node.attributes:
            for graph in node.subgraphs():
                _check_graph(graph, visible, f"subgraph of {node.location}")
        for name in node.outputs:
            if not name:
                continue
            if name in visible:
                first = "a value of this or an outer graph"
                raise DuplicateName(loc=node.location, what="value", name=quote(name), first=first)
            visible.add(name)
            added.append(name)
    return added

"""Splits a traced graph into parts that run natively and calls that stay with torch."""

from __future__ import annotations

import logging
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from aino_ir.driver.dynamo.graph import NativeGraph
from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import AtenUnsupported
from aino_ir.frontends.torch.locations import location_of
from aino_ir.frontends.torch.lower import is_number
from aino_ir.frontends.torch.subgraph import NodeRefused, lower_subgraph, refused_calls, shared_views

LOG = logging.getLogger("aino")

_reported: set[str] = set()
"""Operators that were reported already: each is, once a process."""


def native_parts(graph: GraphModule, static: Sequence[int], options: DynamoOptions, aliases: bool) -> Any:
    """The graph as a callable: all of it native, or torch's own with native parts.

    Args:
        graph: calls of ATen operators, with fake tensors.
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
    try:
        refused = refused_calls(graph)
    except AinoError as error:  # an input of a kind that AINO does not have
        refused = dict.fromkeys(calls, error.message)
    report(refused, options.strict)
    kept = {*refused, *(shared_views(graph) if aliases else ())}
    if not kept:
        return NativeGraph(graph, static, options)
    return _split(graph, kept, static, options)


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


class _Native(OperatorSupportBase):
    """Calls that AINO runs: all but those that stay with torch."""

    def __init__(self, kept: Collection[Node]) -> None:
        self.kept = kept

    def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: Node) -> bool:
        return node.op == "call_function" and node not in self.kept and not is_number(node)


def _split(
    graph: GraphModule, kept: Collection[Node], static: Sequence[int], options: DynamoOptions
) -> GraphModule:
    placeholders = [n.name for n in graph.graph.nodes if n.op == "placeholder"]
    fixed = {placeholders[i] for i in static}
    partitioner = CapabilityBasedPartitioner(graph, _Native(kept), allows_single_node_partition=True)
    fused = partitioner.fuse_partitions(partitioner.propose_partitions())
    for node in list(fused.graph.nodes):
        if node.op != "call_module":
            continue
        part = fused.get_submodule(node.target)
        assert isinstance(part, GraphModule)
        own = [i for i, a in enumerate(node.args) if isinstance(a, Node) and a.name in fixed]
        (output,) = [n for n in part.graph.nodes if n.op == "output"]
        given = output.args
        single = not isinstance(given[0], (tuple, list))
        if single:  # a part with one result gives it by itself, a whole graph gives a list
            output.args = ((given[0],),)
        native = _native_or_none(part, own, options, str(node.target))
        if native is not None:
            setattr(fused, node.target, _Module(native, single))
        else:
            output.args = given
    fused.recompile()
    return fused


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

    def __init__(self, native: NativeGraph, single: bool) -> None:
        super().__init__()
        self.native = native
        self.single = single

    def forward(self, *args: Any) -> Any:
        results = self.native(*args)
        return results[0] if self.single else tuple(results)

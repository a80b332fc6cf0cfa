"""A plain graph of ATen calls becomes a module: what torch.compile hands to a backend.

Tensors among the placeholders are inputs; symbolic integers among them are the extents of those tensors
and no inputs of the module.  Outputs that are no tensors are left to the caller.  Complex tensors are
inputs and outputs as `torch.view_as_real` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule

from aino_ir.builder import Builder
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.dim_specs import DimSpec
from aino_ir.frontends.torch.dimensions import TorchDimensions
from aino_ir.frontends.torch.lower import GraphLowering, Scope, require_supported
from aino_ir.graph import Module, Value


def lower_graph(
    module: GraphModule, ranges: Mapping[Any, Any] | None = None, dims: Mapping[str, DimSpec] | None = None
) -> Module:
    """The module of a functional graph; its outputs are the tensors that the graph returns, in order.

    Args:
        module: placeholders and calls carry torch's fake tensors as ``meta["val"]``.
        ranges: bounds of torch's symbols, as a `ShapeEnv` holds them in `var_to_range`.
        dims: bounds or extents of dimensions.

    Raises:
        AtenUnsupported: with every operator that has no lowering, before any work is done.
        TorchError: E0164 to E0170, with the Python line at fault.
    """
    require_supported([m.graph for m in module.modules() if isinstance(m, GraphModule)])
    b = Builder()
    add_graph(b, module, ranges, dims)
    b.finish()
    remove_dead(b.function.block)
    return b.function.module


def add_graph(
    b: Builder,
    module: GraphModule,
    ranges: Mapping[Any, Any] | None = None,
    dims: Mapping[str, DimSpec] | None = None,
    prefix: str = "",
) -> None:
    """Lower a graph behind what a function holds already; names of inputs and outputs get a prefix."""
    scope = Scope(ranges=ranges or {})
    lowering = GraphLowering(scope, b, module)
    tensors = [
        node
        for node in module.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
    ]
    dimensions = TorchDimensions(b.function.symbols, ranges or {}, None, dims)
    shapes = dimensions.declare([(prefix + n.name, n.meta["val"].shape) for n in tensors])
    scope.table = dimensions.table
    for node, shape in zip(tensors, shapes, strict=True):
        lowering.values[node] = lowering.input(prefix + node.name, node.meta["val"], shape)
    number = 0
    for result in map(lowering.result, lowering.run()):
        if isinstance(result, Value):
            b.output(f"{prefix}output_{number}", result)
            number += 1

"""What becomes of each node of a model, without giving up at the first that cannot be taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aino_ir.errors.base import AinoError
from aino_ir.frontends.dimensions import DimSpec
from aino_ir.frontends.onnx.coverage import supports
from aino_ir.frontends.onnx.functions import inline_functions
from aino_ir.frontends.onnx.lower import GraphLowering, ModelLowering, value_type
from aino_ir.frontends.onnx.nodes import OnnxGraph, OnnxModel, OnnxNode
from aino_ir.frontends.onnx.reader import read_model
from aino_ir.graph import Module
from aino_ir.op import Op
from aino_ir.types import Type


@dataclass(frozen=True)
class SurveyedNode:
    """One node and what was made of it.

    Attributes:
        node: as in the model; its location names it.
        types: of its outputs, as text; declared ones where it could not be lowered, ``?`` for unknown.
        values: types of its outputs, when it was lowered.
        ops: what it was lowered to, in a block with its inputs.
        problem: why it could not be lowered, or "".
        blocked: whether only the type of an input is missing, for want of an earlier node.
    """

    node: OnnxNode
    types: tuple[str, ...]
    values: tuple[Type, ...] = ()
    ops: tuple[Op, ...] = ()
    problem: str = ""
    blocked: bool = False


def survey_onnx(source: Any, dims: Mapping[str, DimSpec] | None = None) -> tuple[Module, list[SurveyedNode]]:
    """Every node of the main graph in order, and the (unfinished) module that its ops stand in.

    Args:
        source, dims: as for `load_onnx`.

    Raises:
        OnnxError: the model cannot be read at all.
    """
    survey = _Survey(inline_functions(read_model(source)), dims)
    return survey.lowering.b.function.module, [survey.visit(n) for n in survey.lowering.graph.nodes]


class _Survey:
    """Lowers nodes one by one; what a failed node would have given is replaced by what is declared."""

    def __init__(self, model: OnnxModel, dims: Mapping[str, DimSpec] | None) -> None:
        self.model = ModelLowering(model)
        self.lowering: GraphLowering = self.model.start(dims, {})

    def visit(self, node: OnnxNode) -> SurveyedNode:
        """Lower a node if that can be."""
        block, values = self.lowering.b.function.block, self.lowering.values
        missing = [n for n in (*node.inputs, *node.captures) if n and not self._known(n)]
        if missing and self._supported(node):
            self._declare(node)
            return SurveyedNode(
                node, self._types(node), problem=f"the type of {missing[0]!r} is unknown", blocked=True
            )
        before = block.last
        problem = "" if self._supported(node) else f"no lowering of {node.operator} version {node.opset}"
        if not problem:
            try:
                self.lowering.lower(node)
            except AinoError as error:
                problem = error.message
        if problem:
            self._declare(node)
            return SurveyedNode(node, self._types(node), problem=problem)
        made: list[Op] = []
        op = block.first if before is None else before._next
        while op is not None:
            made.append(op)
            op = op._next
        types = tuple(values[n].type for n in node.outputs if n)
        return SurveyedNode(node, tuple(map(str, types)), types, tuple(made))

    def _supported(self, node: OnnxNode) -> bool:
        return supports(node) and all(self._supported(n) for g in node.subgraphs() for n in g.nodes)

    def _known(self, name: str) -> bool:
        return name in self.lowering.values or name in self.lowering.graph.initializers

    def _declare(self, node: OnnxNode) -> None:
        """Stand-ins for the outputs of a node, where the model declares their types."""
        b, graph = self.lowering.b, self.lowering.graph
        for name in node.outputs:
            declared = declared_type(graph, name)
            if name and declared is not None:
                try:
                    type_ = value_type(declared, "value", name, self.model.dimensions)
                except AinoError:
                    continue  # declared too loosely to go on from
                self.lowering.values[name] = b.function.add_argument(type_, name)

    def _types(self, node: OnnxNode) -> tuple[str, ...]:
        known = self.lowering.values
        return tuple(str(known[n].type) if n in known else "?" for n in node.outputs if n)


def declared_type(graph: OnnxGraph, name: str) -> Any:
    """The type that a graph declares for a value, or None."""
    for value in graph.outputs:
        if value.name == name:
            return value.type
    return graph.value_info.get(name)

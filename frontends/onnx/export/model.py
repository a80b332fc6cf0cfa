"""From a module to an ONNX model: inputs, ops in order, outputs, names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import helper

from aino_ir.errors.export import OpNotExportable
from aino_ir.frontends.onnx.export.ops import RAW, TABLE
from aino_ir.frontends.onnx.export.types import type_proto
from aino_ir.frontends.onnx.export.writer import GraphWriter, ModelWriter, Ref, opset_of
from aino_ir.graph import Block, Module, Value
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType

IR_VERSION = 10
"""The oldest IR version that has every type of operator set 21."""


def model_of(module: Module) -> onnx.ModelProto:
    """The `main` of a module as a model; see `to_onnx`."""
    main = module.main
    shared = ModelWriter()
    shared.used.update(main.input_names, main.output_names)
    graph = GraphWriter(shared, main.symbols)
    inputs, defaults = [], []
    for name, value in zip(main.input_names, main.inputs, strict=True):
        inputs.append(helper.make_value_info(name, type_proto(value.type)))
        graph.bind(value, ref_of(name, value))
        if name in main.defaults:
            defaults.append(onnx.numpy_helper.from_array(main.defaults[name].array(), name))
    outputs = list(main.output_names)
    for state, value in zip(main.states, main.state_args, strict=True):
        name = shared.unique(state.name)
        outputs.append(shared.unique(f"{name}.next"))
        inputs.append(helper.make_value_info(name, type_proto(state.type)))
        graph.bind(value, ref_of(name, value))
        if state.init is not None:
            defaults.append(onnx.numpy_helper.from_array(state.init.array(), name))
    write_block(graph, main.block)
    infos = [
        helper.make_value_info(name, type_proto(value.type))
        for name, value in zip(outputs, main.results, strict=True)
    ]
    name_outputs(graph, outputs, main.results)
    rename(graph.nodes, shared.renamed)
    made = helper.make_graph(graph.nodes, module.name, inputs, infos, [*shared.initializers, *defaults])
    ports = (v.type for v in (*main.block.args, *main.results))
    port_dtypes = (t.dtype for t in ports if isinstance(t, TensorType))
    shared.opset = max(shared.opset, opset_of(*port_dtypes))
    imports = [helper.make_opsetid("", shared.opset)]
    imports += [helper.make_opsetid(*domain) for domain in sorted(shared.domains.items())]
    model = helper.make_model(
        made, opset_imports=imports, producer_name="aino", ir_version=ir_version(shared.opset)
    )
    helper.set_model_props(model, dict(sorted(module.metadata.items())))
    return model


def ir_version(opset: int) -> int:
    """The IR version that belongs to an operator set."""
    return max(IR_VERSION, helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), IR_VERSION))


def ref_of(name: str, value: Value) -> Ref:
    """A value of the module under a name."""
    return Ref(name, value.type.dtype if isinstance(value.type, TensorType) else None)


def write_block(graph: GraphWriter, block: Block) -> tuple[Ref, ...]:
    """Write the ops of a block; returns what it yields."""
    for op in block:
        if op.has(Trait.TERMINATOR):
            return tuple(graph.refs[v] for v in op.present_operands())
        write_op(graph, op)
    raise AssertionError("a block ends with a terminator")


def write_op(graph: GraphWriter, op: Op) -> None:
    """Write one op and bind its results."""
    row = TABLE.get(op.name)
    if row is None:
        raise OpNotExportable(
            loc=op.loc, op=f"'{op.name}'", format="ONNX", reason="no exporter knows this op"
        )
    outer = graph.op, graph.raw
    graph.op = op
    try:
        if isinstance(row, str):
            graph.raw = all(is_f16_or_computed(v) for v in op.present_operands())
            made = graph.node(row, *[graph.optional(v) for v in op.operands])
        else:
            graph.raw = op.name in RAW
            made = row(graph, op)  # type: ignore[assignment]
        refs = (made,) if isinstance(made, Ref) else tuple(made)
        for result, ref in zip(op.results, refs, strict=True):
            if isinstance(result.type, TensorType):
                ref = graph.cast(ref, result.type.dtype)
            graph.bind(result, ref)
    finally:
        graph.op, graph.raw = outer


def is_f16_or_computed(value: Value) -> bool:
    """Whether one operator of ONNX on it rounds as AINO does: f16 is stored, but every engine computes it."""
    type_ = value.type
    return not isinstance(type_, TensorType) or not type_.dtype.is_storage or type_.dtype.name == "f16"


def name_outputs(graph: GraphWriter, names: Iterable[str], values: Iterable[Value]) -> None:
    """Give the results of the graph their names; what is no result of a node of its own is copied."""
    renamed = graph.model.renamed
    taken: set[str] = set()
    for name, value in zip(names, values, strict=True):
        ref = graph.refs[value]
        if ref.name not in graph.made or ref.name in taken:
            ref = graph.node("Identity", ref)
        taken.add(ref.name)
        renamed[ref.name] = name


def rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Put names for people in place of those given on the way, inner graphs included."""
    for node in nodes:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                if name in names:
                    names_of[i] = names[name]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename(attribute.g.node, names)
                for info in (*attribute.g.input, *attribute.g.output):
                    info.name = names.get(info.name, info.name)


__all__ = ["model_of", "write_block"]

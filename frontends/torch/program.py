"""Exported programs become modules: inputs, parameters, states and outputs as the signature says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    InputSpec,
    OutputKind,
    SymIntArgument,
    TensorArgument,
)
from torch.fx import GraphModule, Node

from aino_ir.builder import Builder
from aino_ir.dims import Dim
from aino_ir.dtypes import i64
from aino_ir.errors.torch import SymbolUnsupported, TorchTypeUnsupported
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.dim_specs import DimSpec
from aino_ir.frontends.torch.capture import decomposed
from aino_ir.frontends.torch.dimensions import TorchDimensions
from aino_ir.frontends.torch.expressions import expression_of
from aino_ir.frontends.torch.interface import output_names, unique
from aino_ir.frontends.torch.lower import GraphLowering, Scope, require_supported, tensor_type
from aino_ir.frontends.torch.tensors import require_dense
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType

CONSTANTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
"""Inputs of the graph that hold tensors of the program."""

BUFFERS = "torch.buffers"
"""Key of a module's metadata: names of constants that are buffers and not parameters, as a JSON list."""

MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)
"""Outputs of the graph that are new values of something, before the user's own."""


def lower_program(
    program: ExportedProgram,
    dims: Mapping[str, DimSpec] | None = None,
    names: Sequence[Mapping[int, str]] = (),
) -> Module:
    """The module of an exported program.

    Buffers that the program changes become states; inputs that it changes are further outputs behind
    the user's own.

    Args:
        program: from `torch.export.export`.
        dims: bounds or extents of dimensions.
        names: of the axes of each flattened input of the user's.

    Raises:
        AtenUnsupported: with every operator that has no lowering, before any work is done.
        TorchError: E0164 to E0170, with the Python line at fault.
    """
    program = decomposed(program)
    require_supported([m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)])
    return ProgramLowering(program, dims, names).module()


class ProgramLowering:
    """One exported program on its way into a module."""

    def __init__(
        self,
        program: ExportedProgram,
        dims: Mapping[str, DimSpec] | None,
        names: Sequence[Mapping[int, str]],
    ) -> None:
        self.program = program
        self.dims = dims
        self.names = names
        self.builder = Builder(Module(_identifier(program)).add_function())
        self.scope = Scope(ranges=program.range_constraints)
        self.graph = GraphLowering(self.scope, self.builder, program.graph_module)
        signature = program.graph_signature
        placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
        self.inputs: list[tuple[Node, InputSpec]] = list(
            zip(placeholders, signature.input_specs, strict=True)
        )
        self.outputs = signature.output_specs
        mutated = {s.target for s in self.outputs if s.kind is OutputKind.BUFFER_MUTATION}
        self.states = [(n, s) for n, s in self.inputs if s.target in mutated and s.kind in CONSTANTS]

    def module(self) -> Module:
        """The whole module."""
        self._user_inputs()
        self._states()
        self._constants()
        self._finish(self.graph.run())
        self._name_buffers()
        remove_dead(self.builder.function.block)
        return self.builder.function.module

    # -- inputs -------------------------------------------------------------------------------------

    def _user_inputs(self) -> None:
        user = [(n, s) for n, s in self.inputs if s.kind is InputKind.USER_INPUT]
        tensors = []
        names: dict[tuple[str, int], str] = {}
        for position, (node, spec) in enumerate(user):
            if isinstance(spec.arg, TensorArgument):
                tensors.append(node)
                given = self.names[position] if position < len(self.names) else {}
                names.update({(node.name, axis): name for axis, name in given.items()})
        symbols = self.builder.function.symbols
        dimensions = TorchDimensions(symbols, self.program.range_constraints, names, self.dims)
        shapes = dimensions.declare([(n.name, n.meta["val"].shape) for n in tensors])
        self.scope.table = dimensions.table
        shaped = dict(zip(tensors, shapes, strict=True))
        for node, spec in user:
            if node in shaped:
                self.graph.values[node] = self.graph.input(node.name, node.meta["val"], shaped[node])
            elif isinstance(spec.arg, SymIntArgument):
                self._number(node)

    def _number(self, node: Node) -> None:
        """A dynamic integer as a 0-d input; the same as an extent where torch says so."""
        expression = expression_of(node.meta["val"])
        value = self.builder.input(node.name, TensorType(i64, ()))
        low, high = self.scope.bounds(node.meta["val"])
        what = f"the number {node.name}"
        bound = self.builder.bind(value, lower=(low,), upper=(high,), what=what)
        known = self.builder.known(bound)
        assert known is not None
        if not expression.is_Symbol or str(expression) in self.scope.table:  # it would have to be checked
            raise SymbolUnsupported(what=f"input {node.name}", got=f"{expression}, as other inputs say too")
        self.scope.table[str(expression)] = known[0]

    def _states(self) -> None:
        for node, spec in self.states:
            tensor = self._tensor(spec)
            require_dense(tensor, f"tensor '{spec.target}'")
            shape = tuple(int(d) for d in tensor.shape)
            init = self.scope.handles.of(tensor, str(spec.target))
            value = self.builder.state(str(spec.target), tensor_type(tensor, shape), init)
            self.graph.values[node] = value

    def _constants(self) -> None:
        held = {node for node, _ in self.states}
        for node, spec in self.inputs:
            if spec.kind in CONSTANTS and node not in held and node.users:
                self.graph.values[node] = self.graph.constant(self._tensor(spec), str(spec.target))
            elif spec.kind is InputKind.TOKEN:  # says in which order calls with effects stand: so they do
                self.graph.values[node] = self.builder.constant(np.zeros(0, np.float32))
            elif spec.kind is InputKind.CUSTOM_OBJ and node.users:
                raise TorchTypeUnsupported(what=f"input {node.name}", got=f"a {spec.kind.name.lower()}")

    def _tensor(self, spec: InputSpec) -> torch.Tensor:
        program, name = self.program, spec.target
        assert name is not None
        found = program.constants.get(name)
        if found is None:
            found = program.state_dict.get(name)
        if not isinstance(found, torch.Tensor):
            raise TorchTypeUnsupported(what=f"tensor '{name}'", got="absent from the program")
        return found

    def _name_buffers(self) -> None:
        """Remember which constants were no parameters, for those who train the module again."""
        kinds = (InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
        names = sorted(str(s.target) for n, s in self.inputs if s.kind in kinds and n.users)
        if names:
            self.builder.function.module.metadata[BUFFERS] = json.dumps(names)

    # -- outputs ------------------------------------------------------------------------------------

    def _finish(self, results: Sequence[Any]) -> None:
        b = self.builder
        pairs = list(zip(self.outputs, results, strict=True))
        pairs = [(s, self.graph.result(r)) for s, r in pairs if s.kind is not OutputKind.TOKEN]
        user = [(s, r) for s, r in pairs if s.kind is OutputKind.USER_OUTPUT]
        names = output_names(self.program.call_spec.out_spec, len(user))
        changed = [(s, r) for s, r in pairs if s.kind is OutputKind.USER_INPUT_MUTATION]
        other = next((s for s, _ in pairs if s.kind not in (*MUTATIONS, OutputKind.USER_OUTPUT)), None)
        if other is not None:
            raise TorchTypeUnsupported(what=f"output {other.arg.name}", got=f"a {other.kind.name.lower()}")
        kept = [
            (n, v) for n, (s, r) in zip(names, user, strict=True) if (v := self._output(s, r)) is not None
        ]
        kept += [(f"{s.target}_changed", r) for s, r in changed]
        for name, (_, value) in zip(unique([n for n, _ in kept]), kept, strict=True):
            b.output(name, value)
        new = {s.target: r for s, r in pairs if s.kind is OutputKind.BUFFER_MUTATION}
        b.finish([new[spec.target] for _, spec in self.states])

    def _output(self, spec: Any, result: Any) -> Value | None:
        """An output as a value: numbers become 0-d tensors, None and texts are left out."""
        if isinstance(result, Value):
            return result
        if isinstance(spec.arg, ConstantArgument) and not isinstance(result, (bool, int, float)):
            return None
        if isinstance(result, (int, Dim)) and not isinstance(result, bool):
            return self.builder.reshape(self.builder.dims_vector([result]), shape=())  # type: ignore[no-any-return]
        return self.builder.constant(result)


def _identifier(program: ExportedProgram) -> str:
    """A module name after the exported class: letters, digits and underscores."""
    stacks = (n.meta.get("nn_module_stack") or {} for n in program.graph.nodes)
    roots = (next(iter(stack.items())) for stack in stacks if stack)
    text = next((str(entry[1]) for key, entry in roots if key.startswith("L__")), "model")
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", text.rpartition(".")[2], flags=re.ASCII).strip("_")[:60]
    return stem if stem and not stem[0].isdigit() else "model"

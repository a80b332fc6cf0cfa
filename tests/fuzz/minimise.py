"""Making a graph that fails small: outputs go, ops are cut off from above and below, while it fails alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.errors.base import AinoError
from aino_ir.graph import Module, Value, add_block_argument, count_uses
from aino_ir.interp import Evaluation, bind_shape, run_op
from aino_ir.op import Op, Trait
from aino_ir.text import save
from aino_ir.text.files import load_module
from aino_ir.types import TensorType
from tests.conformance.batch import in_child
from tests.fuzz.graphs import Array, Graph, graph_of

TRIES = 120
"""Smaller graphs that are tried at most."""

Fails = Callable[[Graph], str]
"""The status of a graph."""


@dataclass
class Shrinker:
    """A graph on its way to a smaller one with the same status."""

    graph: Graph
    status: str
    fails: Fails
    left: int = TRIES

    def run(self) -> Graph:
        """The smallest graph found."""
        changed = True
        while changed and self.left > 0:
            changed = self.fewer_outputs() or self.shorter()
        return self.graph

    def accept(self, candidate: Graph | None) -> bool:
        """Take a graph with fewer ops or outputs if it fails alike."""
        if candidate is None or self.left <= 0 or size(candidate) >= size(self.graph):
            return False
        self.left -= 1
        if in_child(self.fails, candidate) != self.status:
            return False
        self.graph = candidate
        return True

    def fewer_outputs(self) -> bool:
        """Keep one output, or one less."""
        count = len(self.graph.module.main.output_names)
        if count == 1:
            return False
        for kept in range(count):
            if self.accept(with_outputs(self.graph, [kept])):
                return True
        return any(
            self.accept(with_outputs(self.graph, [n for n in range(count) if n != gone]))
            for gone in range(count)
        )

    def shorter(self) -> bool:
        """Make the result of an op an input, or an operand of the last op the output."""
        block = self.graph.module.main.block
        ops = [op for op in block if not op.has(Trait.TERMINATOR) and op.name != "core.constant"]
        if any(self.accept(with_outputs_before(self.graph, op)) for op in reversed(ops[-3:])):
            return True
        return any(self.accept(with_input_for(self.graph, op)) for op in reversed(ops[:-1]))


def size(graph: Graph) -> tuple[int, int]:
    """Ops and outputs of a graph."""
    return len(graph.module.main.block), len(graph.module.main.output_names)


def rebuilt(graph: Graph, change: Callable[[Module, dict[str, Array]], None]) -> Graph | None:
    """A copy of a graph with a change, dead ops and unused inputs removed; None when that is no program."""
    module, inputs = graph.module.clone(), dict(graph.inputs)
    try:
        change(module, inputs)
    except AinoError:
        return None
    main = module.main
    for op in reversed(list(main.block)):
        if op.has(Trait.TERMINATOR) or any(r.users for r in op.results):
            continue
        count_uses(op, op.operands, -1)
        main.block.remove(op)
    needed = {name for name in main.symbols if main.symbols.declared(name).origin.kind == "input"}
    for argument in list(main.block.args):
        tells = isinstance(argument.type, TensorType) and any(str(d) in needed for d in argument.type.shape)
        if argument.users or tells:
            continue
        place = main.block.args.index(argument)
        main.block.args.pop(place)
        inputs.pop(main.input_names.pop(place), None)
    for place, argument in enumerate(main.block.args):
        argument.index = place
    return Graph(graph.seed, module, inputs)


def with_outputs(graph: Graph, kept: list[int]) -> Graph | None:
    """Only some of the outputs."""

    def change(module: Module, inputs: dict[str, Array]) -> None:
        main = module.main
        end = main.block.terminator
        set_operands(end, tuple(end.operands[n] for n in kept))
        main.output_names[:] = [main.output_names[n] for n in kept]

    return rebuilt(graph, change)


def with_outputs_before(graph: Graph, op: Op) -> Graph | None:
    """The operands of an op as outputs, in place of its results."""

    def change(module: Module, inputs: dict[str, Array]) -> None:
        main = module.main
        (same,) = (o for o in main.block if o.id == op.id)
        end = main.block.terminator
        values = [v for v in end.operands if v is not None and v.op is not same]
        values += [v for v in same.present_operands() if v not in values]
        set_operands(end, tuple(values))
        main.output_names[:] = [f"y{n}" for n in range(len(values))]

    return rebuilt(graph, change)


def with_input_for(graph: Graph, op: Op) -> Graph | None:
    """The results of an op as inputs, with the values that they have."""
    arrays = values_of(graph, op)
    if arrays is None:
        return None

    def change(module: Module, inputs: dict[str, Array]) -> None:
        main = module.main
        (same,) = (o for o in main.block if o.id == op.id)
        for result, array in zip(same.results, arrays, strict=True):
            if not result.users:
                continue
            name = f"v{result.id}"
            argument = add_block_argument(main.block, result.type, module, name)
            main.input_names.append(name)
            inputs[name] = array
            for user in list(result.users):
                set_operands(user, tuple(argument if v is result else v for v in user.operands))

    return rebuilt(graph, change)


def values_of(graph: Graph, op: Op) -> list[Array] | None:
    """What the interpreter makes of an op's results; None when its types cannot be an input's."""
    symbols = graph.module.main.symbols
    for result in op.results:
        if not isinstance(result.type, TensorType):
            return None
        names = frozenset().union(*(d.free_symbols() for d in result.type.shape if not isinstance(d, int)))
        if any(symbols.declared(n).origin.kind not in ("input", "local") for n in names):
            return None
    block, ev = graph.module.main.block, Evaluation(symbols=symbols)
    env: dict[Value, Any] = dict(zip(block.args, graph.arrays, strict=True))
    for argument in block.args:
        bind_shape(argument.type, env[argument], ev, argument.name)
    for other in block:
        run_op(other, env, ev)
        if other is op:
            return [np.asarray(env[r]) for r in op.results]
    return None


def set_operands(op: Op, operands: tuple[Value | None, ...]) -> None:
    """Give an op other operands."""
    count_uses(op, op.operands, -1)
    op.operands = operands
    op._segments = None
    count_uses(op, operands)


def keep(finding: Any, folder: Path) -> Path:
    """Store the smallest graph that fails as a finding does, with its inputs; returns the .air file."""
    from tests.fuzz.run import exported_alone, judged_alone

    judge = judged_alone if finding.against == "c" else exported_alone

    def fails(graph: Graph) -> str:
        return judge(graph)[0]

    small = Shrinker(graph_of(finding.seed), finding.status, fails).run()
    return store(small, folder, f"{finding.against}_{re.sub(r'[^0-9A-Za-z]+', '_', finding.seed)}")


def store(graph: Graph, folder: Path, name: str) -> Path:
    """Write a graph as text, its inputs beside it (narrow types as the bytes they are)."""
    place = folder / f"{name}.air"
    save(graph.module, place)
    arrays = {}
    for n, array in graph.inputs.items():
        arrays[n] = array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
    np.savez(folder / f"{name}.npz", **arrays)
    return place


def stored(place: Path) -> Graph:
    """A graph that was kept."""
    module = load_module(place)
    inputs = {}
    with np.load(place.with_suffix(".npz"), allow_pickle=False) as arrays:
        for name, value in zip(module.main.input_names, module.main.inputs, strict=True):
            inputs[name] = (
                arrays[name].view(value.dtype.numpy)
                if arrays[name].dtype != value.dtype.numpy
                else arrays[name]
            )
    return Graph(place.stem, module, inputs)

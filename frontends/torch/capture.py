"""Modules become exported programs, and programs are decomposed to the operators that have rows."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.export import ExportedProgram, default_decompositions
from torch.fx import Graph, Node, Tracer
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from aino_ir.errors.torch import DataDependentExport, ExampleInputsMissing, ExportFailed
from aino_ir.frontends.torch.context import argument_types
from aino_ir.frontends.torch.decompositions import EXPORT, GRAPH
from aino_ir.frontends.torch.locations import location_of_problem
from aino_ir.frontends.torch.missing_shapes import shapes_given
from aino_ir.frontends.torch.ops import row_of
from aino_ir.frontends.torch.recurrence_shapes import untouched_recurrences

_ADVICE = re.compile(
    r"For (more|extended|C\+\+)|If you suspect|The error above|consider using|Caused by: \(_"
)

NUMBERS_OF_DATA = frozenset(
    {"aten.item.default", "aten._local_scalar_dense.default", "aten.equal.default", "aten.is_nonzero.default"}
)
"""Operators that give what a tensor holds as a number of Python."""

REASON_LENGTH = 1000
"""Characters of torch's own message that an error shows."""


def export_module(module: torch.nn.Module, example_inputs: Any, dynamic_shapes: Any) -> ExportedProgram:
    """The program of a module, traced with example inputs.

    Args:
        module: exported in the mode (training or evaluation) that it is in.
        example_inputs: the positional arguments; or keyword arguments as a dict.
        dynamic_shapes: as `torch.export.export` takes them.

    Raises:
        ExampleInputsMissing: they are no tuple, list or dict.
        ExportFailed: torch.export refuses, with its reason.
    """
    name = type(module).__name__
    if not isinstance(example_inputs, (tuple, list, dict)):
        raise ExampleInputsMissing(module=name, got=_kind(example_inputs))
    args = () if isinstance(example_inputs, dict) else tuple(example_inputs)
    kwargs = dict(example_inputs) if isinstance(example_inputs, dict) else None
    try:
        with quiet(), untouched_recurrences(), shapes_given():
            return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as problem:  # torch raises whatever the module's own code raises
        where = location_of_problem(problem)
        read = data_read(problem)
        if read is not None:
            reason = _reason(problem)
            facts = {"operator": str(read.target), "types": argument_types(read)}
            raise DataDependentExport(
                loc=where, module=name, reason=reason[:1].lower() + reason[1:], **facts
            ) from problem
        raise ExportFailed(loc=where, module=name, reason=_reason(problem)) from problem


def data_read(problem: BaseException) -> Node | None:
    """The call whose data Python needed when torch gave up tracing, where that was the problem."""
    if not isinstance(problem, (DataDependentOutputException, GuardOnDataDependentSymNode)):
        return None
    found = None
    for frame, _ in traceback.walk_tb(problem.__traceback__):
        tracer = frame.f_locals.get("tracer")
        if isinstance(tracer, Tracer) and isinstance(getattr(tracer, "graph", None), Graph):
            reads = [n for n in tracer.graph.nodes if str(n.target) in NUMBERS_OF_DATA]
            found = reads[-1] if reads else found
    return found


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The functional form of a program, with operators that have a row and those that nothing takes apart.

    Raises:
        ExportFailed: torch cannot trace the program again.
    """
    try:
        with quiet(), untouched_recurrences(), shapes_given():
            return program.run_decompositions(dict(export_decompositions()))  # type: ignore[no-any-return]
    except Exception as problem:  # torch raises whatever a decomposition raises
        raise ExportFailed(module="the program", reason=_reason(problem)) from problem


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that torch's own code causes in torch's own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\).*", FutureWarning)
        warnings.filterwarnings("ignore", r".*_flat_weights\[.*were assigned during export.*", UserWarning)
        yield


def _reason(problem: Exception) -> str:
    """What torch says, without its advice on how to debug torch, cut to a length that an error can hold."""
    lines = [line for line in str(problem).splitlines() if line.strip() and not _ADVICE.match(line)]
    return "\n".join(lines).strip()[:REASON_LENGTH] or type(problem).__name__


@lru_cache(maxsize=1)
def export_decompositions() -> Mapping[Any, Callable[..., Any]]:
    """What is taken apart when a program is exported: every operator that has no row, and our own forms."""
    return {**graph_decompositions(), **_without_rows(default_decompositions()), **EXPORT}


@lru_cache(maxsize=1)
def graph_decompositions() -> Mapping[Any, Callable[..., Any]]:
    """What is taken apart in any graph: what torch has a rule for and that has no row, and our own forms."""
    return {**_without_rows(decomposition_table), **GRAPH}


def _without_rows(table: Mapping[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    return {target: rule for target, rule in table.items() if row_of(target) is None}

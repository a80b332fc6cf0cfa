"""Operators through what users call: torch.compile with graph breaks allowed, and calls that must fail."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.fx import GraphModule, Node
from torch.testing._internal import common_methods_invocations as invocations
from torch.utils import _pytree as pytree

import aino_ir as aino
from aino_ir.driver.dynamo import backend, draws, partition
from aino_ir.driver.dynamo import graph as native
from aino_ir.errors.base import AinoError
from aino_ir.frontends.torch.lower import is_number
from tests.conformance.opinfo_cases import (
    AMBIGUOUS,
    BY_RULE,
    CALL_SEED,
    SEED,
    UNDEFINED,
    arrays,
    operators,
    samples,
)
from tests.conformance.opinfo_runs import Array, Outcome, differs, failure, said, time_limit

BACKEND = importlib.import_module("aino_ir.driver.dynamo.backend")
"""The module, whose name its function has taken."""

COMPILED = "torch.compile"
LOADED = "aino.load"
ERRORS = (f"errors {COMPILED}", f"errors {LOADED}")
"""Targets of the calls that must fail."""

SECONDS = 120
"""How long a sample may take to be traced, compiled and run."""

OPTIONS = {"threads": 1}


@dataclass
class Seen:
    """What reached AINO.

    Attributes:
        modules: what was compiled.
        graphs: how many graphs Dynamo handed over.
        calls: what they call, numbers aside.
    """

    modules: list[Any] = field(default_factory=list)
    graphs: int = 0
    calls: list[Node] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why nothing was compiled."""
        if not self.graphs:
            return "Dynamo hands no graph over"
        if all(getattr(n.target, "is_view", False) for n in self.calls):
            return "views alone"
        drawn = all(draws.is_drawing(n) or "empty" in str(n.target) for n in self.calls)
        return "draws alone" if drawn else "no part of it is native"


@contextmanager
def fresh() -> Iterator[Seen]:
    """Dynamo has traced nothing, nothing was reported; gives what reaches AINO meanwhile."""
    torch._dynamo.reset()
    partition._reported.clear()
    found = Seen()
    compile_, split = native.compile, BACKEND.native_parts

    def counted(module: Any, **options: Any) -> Any:
        found.modules.append(module)
        return compile_(module, **options)

    def looked_at(graph: GraphModule, *arguments: Any, **options: Any) -> Any:
        found.graphs += 1
        found.calls += [n for n in graph.graph.nodes if n.op == "call_function" and not is_number(n)]
        return split(graph, *arguments, **options)

    with (
        warnings.catch_warnings(),
        mock.patch.object(native, "compile", counted),
        mock.patch.object(BACKEND, "native_parts", looked_at),
        mock.patch.object(invocations, "wrapper_set_seed", with_the_seed_that_is_set),
    ):
        warnings.simplefilter("ignore")
        yield found


def with_the_seed_that_is_set(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What OpInfo does around operators that draw, less what Dynamo cannot trace: the seed is set before."""
    return operator(*args, **kwargs)


def run_compiled(names: Sequence[str], dtype: str = "float32") -> list[Outcome]:
    """The first sample of each operator by ``torch.compile(backend="aino")``, beside eager."""
    out = []
    for operator in names:
        found = samples(operator, dtype)
        number = 0 if found else -1
        status, detail = compiled(operator, found[0]) if found else ("skipped", "no samples")
        rule = BY_RULE.get((operator, dtype))
        if status == "wrong" and rule is not None:
            status, detail = "by rule", rule
        out.append(Outcome(operator, dtype, number, COMPILED, status, detail))
    return out


def compiled(operator: str, sample: Any) -> tuple[str, str]:
    """Status and detail of one sample."""
    function = operators()[operator].op
    try:
        expected = _results(operator, sample, function)
    except Exception as problem:  # whatever eager raises
        return "skipped", f"eager: {said(problem)}"
    with fresh() as seen:
        try:
            with time_limit(SECONDS):
                made = _results(
                    operator, sample, torch.compile(function_of(function), backend=backend, options=OPTIONS)
                )
        except Exception as problem:
            cause = cause_of(problem)
            return failure(cause), said(cause)
        why = differs(made, expected, operator in UNDEFINED)
        if why is not None:
            return "wrong", why
        if seen.modules and not partition._reported:
            return "native", ""
        return "fallback", ", ".join(sorted(partition._reported)) or seen.reason


def function_of(operator: Callable[..., Any]) -> Callable[..., Any]:
    """An operator as a Python function, which Dynamo can trace whatever the operator is made of."""

    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        return operator(first, *args, **kwargs)

    return call


def _results(operator: str, sample: Any, function: Callable[..., Any]) -> list[Array]:
    """Results of a function on copies of a sample's tensors, then those tensors, which it may have changed."""
    given = copied((sample.input, sample.args, sample.kwargs))
    first, args, kwargs = given
    torch.manual_seed(CALL_SEED)
    results = function(first, *args, **kwargs)
    if operator in AMBIGUOUS:
        results = sample.output_process_fn_grad(results)
    tensors = [t for t in pytree.tree_leaves((results, given)) if isinstance(t, torch.Tensor)]
    return arrays([t.detach() if t.layout == torch.strided else t.detach().to_dense() for t in tensors])


def copied(tree: Any) -> Any:
    """The same with copies of the tensors, as they lie in memory."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), tree)


def cause_of(problem: BaseException) -> BaseException:
    """AINO's own error where torch wraps it, else the error itself."""
    found: BaseException | None = problem
    while found is not None:
        if isinstance(found, AinoError):
            return found
        found = found.__cause__ or getattr(found, "inner_exception", None)
    return problem


# -- calls that must fail -----------------------------------------------------------------------------


class _Call(torch.nn.Module):
    """An operator on given arguments, as a module of the tensors among them."""

    def __init__(self, operator: Callable[..., Any], sample: Any) -> None:
        super().__init__()
        self.operator = operator
        self.flat, self.tree = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        self.places = [i for i, leaf in enumerate(self.flat) if isinstance(leaf, torch.Tensor)]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.flat[i] for i in self.places)

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.flat)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        first, args, kwargs = pytree.tree_unflatten(leaves, self.tree)
        return self.operator(first, *args, **kwargs)


def run_errors(names: Sequence[str], dtype: str = "float32") -> list[Outcome]:
    """The calls of each operator that eager PyTorch refuses: AINO must refuse them too."""
    out = []
    for operator in names:
        found = error_samples(operator)
        if not found:
            out += [Outcome(operator, dtype, -1, target, "skipped", "no samples") for target in ERRORS]
        for number, sample in enumerate(found):
            for target, run in zip(ERRORS, (_run_compiled, _run_loaded), strict=True):
                status, detail = refused(operator, sample, run)
                out.append(Outcome(operator, dtype, number, target, status, detail))
    return out


def error_samples(operator: str) -> list[Any]:
    """Arguments of an operator that are wrong."""
    info = operators()[operator]
    if info.error_inputs_func is None:
        return []
    torch.manual_seed(SEED)
    return [e.sample_input for e in info.error_inputs("cpu")]


def refused(operator: str, sample: Any, run: Callable[[Callable[..., Any], Any], Any]) -> tuple[str, str]:
    """Status and detail of one call."""
    function = operators()[operator].op
    with fresh():
        try:
            first, args, kwargs = copied((sample.input, sample.args, sample.kwargs))
            function(first, *args, **kwargs)
            return "skipped", "eager takes it"
        except Exception as problem:  # as it should be
            eager = said(problem)
        try:
            with time_limit(SECONDS):
                run(function, sample)
        except Exception as problem:
            cause = cause_of(problem)
            fault = isinstance(cause, AinoError) and cause.exit_status == 3
            return "crashed" if fault else "raises", said(cause)
    return "accepted", f"eager: {eager}"


def _run_compiled(function: Callable[..., Any], sample: Any) -> None:
    first, args, kwargs = copied((sample.input, sample.args, sample.kwargs))
    torch.compile(function_of(function), backend=backend, options=OPTIONS)(first, *args, **kwargs)


def _run_loaded(function: Callable[..., Any], sample: Any) -> None:
    module = _Call(function, sample)
    aino.compile(aino.load(module, example_inputs=module.tensors), "reference").run(*module.tensors)

"""The whole module once at the end: as it was loaded and as the passes left it, on the same inputs.

Sites are judged one by one and believe each other; what no site saw (a change that was not logged, two
sites that vouch for each other) shows here.  Both modules run on the interpreter, symbols at small
values; a module that would cost too much even so is not run, and the report says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import UnknownSymbol
from aino_ir.graph import Function, Module
from aino_ir.interp import Evaluation, Precision, run_function
from aino_ir.op import Op
from aino_ir.passes.trials import Unrunnable, index_domains, longest_sum, random_array, sample_bindings
from aino_ir.sampling import seeded
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

WORK_LIMIT = 5e10
"""Modules with more modelled work (operations of one run) are not run: some seconds on a few cores."""

OPERATIONS_PER_ELEMENT = 20.0
"""Work of producing one element in numpy, whatever the op computes, in operations of a matrix product."""

OPERATIONS_PER_OP = 5e5
"""Work of interpreting one op, however small."""


@dataclass(frozen=True)
class Verdict:
    """What became of the comparison.

    Attributes:
        kind: ``agrees``, ``differs`` or ``not run``.
        error_class: how closely the modules had to agree.
        reason: what differs, or why nothing was run.
    """

    kind: str
    error_class: str = "exact"
    reason: str = ""

    def facts(self) -> dict[str, str]:
        """For reports."""
        return {"verdict": self.kind, "class": self.error_class, "reason": self.reason}


def compare_modules(
    before: Module, after: Module, error_class: str, work_limit: float = WORK_LIMIT
) -> Verdict:
    """Run the main functions of two modules with one interface on made-up inputs.

    Args:
        before: what the outputs should be.
        after: the module to judge.
        error_class: how far they may differ; modules that differ natively in a looser class than ``exact``
            are judged in double precision.
        work_limit: most modelled operations of one run.
    """
    try:
        bindings = _bindings(before.main)
        work = max(modelled_work(f, bindings) for f in (before.main, after.main))
        if work > work_limit:
            reason = f"a run takes about {work:.1g} operations, more than {work_limit:.1g}"
            return Verdict("not run", error_class, reason)
        reason = _compare(before.main, after.main, error_class, bindings, "native")
        if reason and error_class != "exact":  # roundings that add up: double precision decides
            reason = _compare(before.main, after.main, error_class, bindings, "wide")
    except Unrunnable as error:
        return Verdict("not run", error_class, str(error))
    except Exception as error:  # what an op does with inputs that nobody would give it is its own affair
        text = error.message if isinstance(error, AinoError) else f"{type(error).__name__}: {error}"
        return Verdict("not run", error_class, text)
    return Verdict("differs" if reason else "agrees", error_class, reason)


def _compare(
    before: Function, after: Function, error_class: str, bindings: Mapping[str, int], precision: Precision
) -> str:
    """What differs in one precision, or ""; inputs that give nothing but NaN are exchanged for positive ones.

    Raises:
        AinoError: the module from before cannot be run.
    """
    arrays = made_up_inputs(before, bindings, precision)
    expected = _run(before, arrays, precision, bindings)
    if _mostly_undefined(expected):
        arrays = made_up_inputs(before, bindings, precision, "positive")
        expected = _run(before, arrays, precision, bindings)
    try:
        actual = _run(after, arrays, precision, bindings)
    except Exception as error:  # the module from before could be run on the same inputs
        return f"it fails: {error.message if isinstance(error, AinoError) else error}"
    return _difference(before, after, expected, actual, error_class, bindings)


def _bindings(function: Function) -> dict[str, int]:
    for value in (*function.inputs, *function.state_args):
        if not isinstance(value.type, TensorType):
            raise Unrunnable(f"input '{value.name}' is a {value.type}")
    return sample_bindings(function.symbols, (*function.inputs, *function.state_args))


def modelled_work(function: Function, bindings: Mapping[str, int]) -> float:
    """Operations that one run on the interpreter is worth; a loop's body counts once."""
    ev = Evaluation("native", dict(bindings))
    return sum(OPERATIONS_PER_OP + work_of(op, ev) for op in function.walk())


def work_of(op: Op, ev: Evaluation) -> float:
    """Operations that interpreting one op is worth, those in its regions apart."""
    try:
        made = sum(ev.size(r.type.size) for r in op.results if isinstance(r.type, TensorType))
        return float(ev.size(op.cost())) + OPERATIONS_PER_ELEMENT * made
    except UnknownSymbol:  # an extent that data decides
        return 0.0


def made_up_inputs(
    function: Function, bindings: Mapping[str, int], precision: Precision, kind: str = "plain"
) -> list[Array | None]:
    """One array an input, None where there is a default: normal floats, integers within their use."""
    ev = Evaluation(precision, dict(bindings))
    domains = index_domains(function.walk())
    out: list[Array | None] = []
    for number, (name, value) in enumerate(zip(function.input_names, function.inputs, strict=True)):
        assert isinstance(value.type, TensorType)
        if name in function.defaults:
            out.append(None)
            continue
        rng = seeded(f"{number} {value.type}")
        low, high = domains.get(value, (0, 1))
        domain = (max(ev.size(low), 0), max(min(ev.size(high), 9), 0))
        out.append(random_array(value.type, ev, rng, kind, domain))
    return out


def _run(
    function: Function, arrays: Sequence[Array | None], precision: Precision, bindings: Mapping[str, int]
) -> tuple[Any, ...]:
    with np.errstate(all="ignore"):
        return run_function(function, arrays, precision, bindings=bindings)


def _mostly_undefined(arrays: Sequence[Any]) -> bool:
    floats = [a for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size]
    return bool(floats) and all(float(np.mean(np.isnan(a))) > 0.5 for a in floats)


def _difference(
    before: Function,
    after: Function,
    expected: Sequence[Any],
    actual: Sequence[Any],
    error_class: str,
    bindings: Mapping[str, int],
) -> str:
    """What differs first, or ""."""
    ev = Evaluation("native", dict(bindings))
    terms = max(longest_sum(f.walk(), ev) for f in (before, after))
    names = [*before.output_names, *(f"state {s.name}" for s in before.states)]
    types = [v.type for v in (*before.outputs, *before.state_args)]
    for name, type, want, got in zip(names, types, expected, actual, strict=True):
        if not isinstance(type, TensorType):
            continue
        reason = disagreement(got, want, error_class, dtype=type.dtype, terms=terms)
        if reason is not None:
            return f"output '{name}': {reason}"
    return ""

"""Every op, lowered to kernels that the loop interpreter runs, against what the op says it means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.lowering import Lowering
from aino_ir.interp import run_module
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Status
from aino_ir.op import OPS, Sample
from aino_ir.plan import BufferKind, Plan, Run
from aino_ir.sampling import inputs_of, sample_module, samples_for
from aino_ir.target import ISAS, Host, parse_target
from aino_ir.tolerance import disagreement

FAMILIES = ("math", "logic", "reduce", "normalize", "scan")
NAMES = sorted(name for name in OPS if name.split(".")[0] in FAMILIES)
HOST = Host("x86_64", "any", frozenset(ISAS["avx2"].features), 2, 32768, 524288, 1 << 23)
TARGET = parse_target("c:avx2", HOST)
CATALOGUE = KernelCatalogue(TARGET)
CASES_PER_OP = 4
LARGEST = 70


def cases(name: str) -> list[Sample]:
    """A few small samples, spread over all of them."""
    small = [s for s in samples_for(OPS[name]) if sum(a.size for a in inputs_of(s)) <= LARGEST]
    return small[:: max(1, len(small) // CASES_PER_OP)]


def run_plan(plan: Plan, inputs: list[Any], results: tuple[Any, ...]) -> list[Any]:
    """Outputs of a plan whose steps are kernels on inputs and outputs alone."""
    memory: dict[int, Any] = {}
    outputs = [np.zeros(r.size, r.dtype) for r in results]
    for buffer in plan.buffers:
        if buffer.kind is BufferKind.INPUT:
            memory[buffer.id] = np.ascontiguousarray(inputs[buffer.slot]).reshape(-1)
        else:
            assert buffer.kind is BufferKind.OUTPUT
            memory[buffer.id] = outputs[buffer.slot]
    for step in plan.steps:
        assert isinstance(step, Run)
        views = [memory[v.buffer] for v in step.views]
        assert run_kernel(plan.kernels[step.kernel].function, views).status is Status.OK
    return [y.reshape(r.shape) for y, r in zip(outputs, results, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_op_as_kernels_agrees_with_evaluate(name: str) -> None:
    chosen = cases(name)
    assert chosen
    for sample in chosen:
        module = sample_module(OPS[name], sample)
        inputs = inputs_of(sample)
        expected = run_module(module, inputs)
        plan = Lowering(module.main, CATALOGUE, TARGET).run()
        for y, r in zip(run_plan(plan, inputs, expected), expected, strict=True):
            why = disagreement(y, r, "reordered", terms=LARGEST)
            assert why is None, f"{sample.note} {sample.attrs}: {why}"

"""Every op's definition (its scalar expression, loops) against its `evaluate`, on every sample."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.compute import Compute, Nest, RowProgram
from aino_ir.constants import round_array
from aino_ir.definition_interp import evaluate_op_definition
from aino_ir.elementwise import Elementwise
from aino_ir.interp import load_array, run_module
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import Call
from aino_ir.loops.expr_tree import walk
from aino_ir.op import OPS, Op, Sample
from aino_ir.sampling import inputs_of, sample_module, samples_for
from aino_ir.tolerance import disagreement, tiny, ulps

FAMILIES = ("math", "logic", "reduce", "normalize", "scan", "quant")
NAMES = sorted(name for name in OPS if name.split(".")[0] in FAMILIES)
ELEMENTWISE = [name for name in NAMES if issubclass(OPS[name], Elementwise)]

ULPS = {"math.rsqrt": 1.5, "math.mish": 6.0, "math.silu": 4.0, "math.selu": 4.0, "math.gelu": 4.0}
"""Bounds for expressions that round more often than `evaluate`; others: 0 without calls, 3 with them."""

UNDERFLOWING = frozenset({"math.silu", "math.mish"})
"""A factor may underflow before the product does: off by |x| of the smallest denormals."""


@functools.cache
def sampled(name: str) -> list[tuple[Sample, Op, tuple[Any, ...]]]:
    """Samples with the op in a module and what the interpreter makes of it."""
    out = []
    for sample in samples_for(OPS[name]):
        module = sample_module(OPS[name], sample)
        op = module.main.block.first
        assert op is not None
        out.append((sample, op, run_module(module, inputs_of(sample))))
    return out


def ulp_bound(op: Elementwise, expr: Any) -> float:
    if op.name in ULPS:
        return ULPS[op.name]
    return 3.0 if any(isinstance(e, Call) for e in walk(expr)) else 0.0


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_scalar_expression_agrees_with_evaluate(name: str) -> None:
    seen = 0
    for sample, op, (expected,) in sampled(name):
        assert isinstance(op, Elementwise)
        expr = op.scalar()
        given = zip(inputs_of(sample), op.present_operands(), strict=True)
        args = [load_array(a, v.dtype, "native") for a, v in given]
        got = np.broadcast_to(round_array(evaluate(expr, args=args), op.result.dtype), expected.shape)
        bound = ulp_bound(op, expr)
        if bound and op.result.dtype.is_float:
            distance = ulps(got, expected)
            if name in UNDERFLOWING:
                near = np.abs(expected.astype(np.float64)) <= 256 * tiny(op.result.dtype)
                distance = np.where(near & (got == 0), 0.0, distance)
            worst = np.argmax(distance) if distance.size else 0
            assert distance.max(initial=0.0) <= bound, (
                f"{sample.note} {sample.attrs}: {distance.reshape(-1)[worst]} ulps: "
                f"{got.reshape(-1)[worst]} instead of {expected.reshape(-1)[worst]}"
            )
        else:
            why = disagreement(got, expected)
            assert why is None, f"{sample.note} {sample.attrs}: {why}"
        seen += 1
    assert seen > 0


def terms(op: Op) -> int:
    """An upper bound of the length of the op's sums."""
    first = next(op.present_operands())
    return max(1, int(np.prod([int(e) for e in first.shape], dtype=np.int64)))


@pytest.mark.parametrize("name", NAMES)
def test_definition_agrees_with_evaluate(name: str) -> None:
    cases = sampled(name)
    if issubclass(OPS[name], Elementwise):  # their expression is compared above: here broadcasting and checks
        cases = [case for case in cases if "edges" not in case[0].note][:20]
    for sample, op, expected in cases:
        definition = op.define()
        assert isinstance(definition, (Compute, RowProgram, Nest)), f"{name} has no definition"
        got = evaluate_op_definition(op, sample.operands)
        for y, r in zip(got, expected, strict=True):
            assert y.dtype == r.dtype
            why = disagreement(y, r, "reordered", terms=terms(op))
            assert why is None, f"{sample.note} {sample.attrs}: {why}"


@pytest.mark.parametrize("name", NAMES)
def test_wide_precision_agrees_with_native(name: str) -> None:
    for sample, op, native in sampled(name):
        if "edges" in sample.note or not op.results[0].dtype.is_float or name in STEPS:
            continue
        wide = run_module(sample_module(OPS[name], sample), inputs_of(sample), "wide")
        for y, r in zip(native, wide, strict=True):
            assert r.dtype == np.float64
            why = disagreement(y, r, "reordered", terms=terms(op))
            assert why is None, f"{sample.note} {sample.attrs}: {why}"


STEPS = frozenset({"math.floordiv", "math.mod"})
"""Functions with jumps: another precision may land on the other side."""

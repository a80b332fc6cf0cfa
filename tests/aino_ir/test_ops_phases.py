"""Ops that decide extents: their loops, run by the loop interpreter, against what they say they mean."""

from __future__ import annotations

import numpy as np
import pytest

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.compute import Phases
from aino_ir.definition_interp import evaluate_op_definition
from aino_ir.interp import run_module
from aino_ir.op import OPS
from aino_ir.sampling import inputs_of, sample_module, samples_for

NAMES = ("index.compress", "index.non_max_suppression", "index.nonzero", "index.unique")


@pytest.mark.parametrize("name", NAMES)
def test_phases_agree_with_evaluate(name: str) -> None:
    seen = 0
    for sample in samples_for(OPS[name]):
        if sum(a.size for a in inputs_of(sample)) > 200:
            continue
        module = sample_module(OPS[name], sample)
        op = module.main.block.first
        assert op is not None and isinstance(op.define(), Phases)
        expected = run_module(module, inputs_of(sample))
        for got, wanted in zip(evaluate_op_definition(op, sample.operands), expected, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted, f"{sample.note} {sample.attrs}")
        seen += 1
    assert seen >= 10

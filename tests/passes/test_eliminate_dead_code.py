"""Dead code: chains go in one sweep, what is read stays, regions are swept too."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.interp import run_module
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.manager import PassManager
from aino_ir.types import SequenceType, tensor
from tests.passes.helpers import assert_fuses, op_names


def test_dead_chain_goes() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    b.exp(b.neg(b.exp(x)))
    b.output("y", b.tanh(x))
    assert_fuses(b.module, EliminateDeadCode(), ["math.tanh"])


def test_long_chains_take_one_step_an_op() -> None:
    b = Builder()
    y = x = b.input("x", tensor("f32", 3))
    for _ in range(2000):
        y = b.neg(y)
    b.output("y", x)
    report = PassManager([EliminateDeadCode()]).run(b.module)
    assert report.records[0].counters == {"EliminateDeadCode": 2000}
    assert op_names(b.module) == []


def test_what_decides_an_extent_stays() -> None:
    b = Builder()
    items = b.input("items", SequenceType(tensor("f32", b.symbol("n"))))
    first = b.sequence_at(items, b.constant(np.int64(0)))
    b.sequence_length(items)
    b.output("shape", b.dims_vector(first.shape))
    PassManager([EliminateDeadCode()]).run(b.module)
    assert "sequence.at" in op_names(b.module) and "sequence.length" not in op_names(b.module)
    (shape,) = run_module(b.module, [[np.ones(7, np.float32)]])
    assert shape.tolist() == [7]

"""Regions: captured constants become their own, known conditions choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.simplify_regions import SimplifyRegions
from aino_ir.pattern import constant_of, held_constant
from aino_ir.types import tensor
from tests.passes.helpers import op_names, run_pass

FLAG, COUNT, F = tensor("bool"), tensor("i64"), tensor("f32", 4)


def scan_with_weights() -> Module:
    """A state times a slice of captured weights, step after step."""
    b = Builder()
    s, xs = b.input("s", F), b.input("xs", tensor("f32", 5, 4))
    w = b.constant(np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32))

    def body(b: Any, s: Any, x: Any, w: Any) -> Any:
        part = b.slice(w, starts=(4, 0), sizes=(4, 4), steps=(1, 1))
        new = b.tanh(b.add(x, b.reshape(b.matmul(b.reshape(s, shape=(1, 4)), part), shape=(4,))))
        return [new, new]

    region = b.region([F, F, w.type], body)
    for i, y in enumerate(b.op(op_class("control.scan"), s, xs, w, states=1, regions=[region]).results):
        b.output(f"y{i}", y)
    return b.module


def choice(known: bool, extents: int = 4) -> Module:
    b = Builder()
    x = b.input("x", F)
    then = b.region([F], lambda b, x: [b.slice(b.exp(x), starts=(0,), sizes=(extents,), steps=(1,))])
    otherwise = b.region([F], lambda b, x: [b.neg(x)])
    condition = b.constant(np.array(known))
    b.output("y", b.op(op_class("control.if"), condition, x, regions=[then, otherwise]).result)
    return b.module


def test_captured_constants_are_seen_and_fold() -> None:
    module = scan_with_weights()
    inputs = [np.ones(4, np.float32), np.ones((5, 4), np.float32)]
    before = run_module(module, inputs)
    (scan,) = (op for op in module.main.block if op.name == "control.scan")
    argument = scan.regions[0].args[2]
    assert constant_of(argument) is None and held_constant(argument) is not None
    assert held_constant(scan.regions[0].args[0]) is None
    report = run_pass(SimplifyRegions(), module)
    assert report.changed and not report.undone and report.sites.deduplicated == 1
    assert not argument.users
    assert run_pass(FoldConstants(), module).changed
    assert "tensor.slice" not in [op.name for op in module.walk()]
    for a, b in zip(run_module(module, inputs), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not run_pass(SimplifyRegions(), module).changed


@pytest.mark.parametrize("known", [True, False])
def test_a_known_condition_leaves_one_region(known: bool) -> None:
    module = choice(known)
    report = run_pass(SimplifyRegions(), module)
    assert not report.undone and report.sites.total == report.sites.run + report.sites.deduplicated
    assert op_names(module) == (["math.exp", "tensor.slice"] if known else ["math.neg"])


def test_a_choice_of_extents_stays() -> None:
    """The result's extent has a name of its own, which no region's result has."""
    module = choice(True, 3)
    assert not run_pass(SimplifyRegions(), module).changed
    assert "control.if" in op_names(module)


def test_a_region_that_decides_extents_stays() -> None:
    b = Builder()
    x = b.input("x", F)

    def body(b: Any, x: Any) -> Any:
        return [b.reduce_sum(b.compress(x, b.gt(x, b.constant(np.float32(0))), axis=0))]

    regions = [b.region([F], body), b.region([F], lambda b, x: [b.reduce_sum(x)])]
    b.output("y", b.op(op_class("control.if"), b.constant(np.array(True)), x, regions=regions).result)
    assert not run_pass(SimplifyRegions(), b.module).changed


def test_regions_inside_a_chosen_region_come_along() -> None:
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", F)

    def inner(b: Any, c: Any, x: Any) -> Any:
        regions = [b.region([F], lambda b, x: [b.exp(x)]), b.region([F], lambda b, x: [x])]
        return [b.neg(b.op(op_class("control.if"), c, x, regions=regions).result)]

    regions = [b.region([FLAG, F], inner), b.region([FLAG, F], lambda b, c, x: [x])]
    b.output("y", b.op(op_class("control.if"), b.constant(np.array(True)), c, x, regions=regions).result)
    x0 = np.arange(4, dtype=np.float32)
    before = [run_module(b.module, [np.bool_(v), x0])[0].tolist() for v in (True, False)]
    report = run_pass(SimplifyRegions(), b.module)
    assert report.changed and not report.undone
    assert op_names(b.module) == ["control.if", "math.neg"]
    assert before == [run_module(b.module, [np.bool_(v), x0])[0].tolist() for v in (True, False)]

"""Decision trees and coupled probabilities: the ops themselves, and the loops of trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.definition_interp import evaluate_op_definition
from aino_ir.errors.ir import BadAttribute, DTypeMismatch
from aino_ir.interp import run_module
from aino_ir.op import Sample
from aino_ir.ops.trees import TreeLeaves
from aino_ir.sampling import inputs_of, sample_module
from aino_ir.types import tensor

SAMPLES = list(TreeLeaves.samples())


@pytest.mark.parametrize("sample", SAMPLES, ids=[s.note for s in SAMPLES])
def test_loops_find_the_same_leaves(sample: Sample) -> None:
    module = sample_module(TreeLeaves, sample)
    op = module.main.block.first
    assert op is not None
    arrays = inputs_of(sample)
    want = run_module(module, arrays)[0]
    assert np.array_equal(evaluate_op_definition(op, arrays)[0], want)
    assert np.array_equal(aino.compile(module, "c:portable").run(*arrays)[0], want)


def test_leaves_by_hand() -> None:
    found = run_module(sample_module(TreeLeaves, SAMPLES[0]), inputs_of(SAMPLES[0]))[0]
    assert found.tolist() == [[5, 7], [3, 7], [4, 7], [4, 7], [5, 7]]


TABLES: dict[str, Any] = {
    "roots": tensor("i64", 1), "features": tensor("i64", 3), "thresholds": tensor("f32", 3),
    "modes": tensor("i64", 3), "missing": tensor("bool", 3), "yes": tensor("i64", 3), "no": tensor("i64", 3),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "depth", "error"),
    [
        ({"yes": tensor("i32", 3)}, 1, DTypeMismatch),
        ({"missing": tensor("i64", 3)}, 1, DTypeMismatch),
        ({"thresholds": tensor("f64", 3)}, 1, DTypeMismatch),
        ({}, -1, BadAttribute),
    ],
)
def test_ill_formed_trees_are_refused(changed: dict[str, Any], depth: int, error: type[Exception]) -> None:
    b = Builder()
    tables = [b.input(name, type_) for name, type_ in {**TABLES, **changed}.items()]
    with pytest.raises(error):
        b.trees_leaves(b.input("x", tensor("f32", 2, 3)), *tables, depth=depth)


def test_coupling_needs_two_classes() -> None:
    b = Builder()
    with pytest.raises(BadAttribute, match="classes"):
        b.svm_pairwise_coupling(b.input("p", tensor("f32", 2, 3)), classes=1)
    with pytest.raises(DTypeMismatch):
        b.svm_pairwise_coupling(b.input("q", tensor("i64", 2, 3)), classes=3)


def test_texts_are_looked_up_and_chosen() -> None:
    b = Builder()
    x = b.string_constant(values=["b", "?", "a"], shape=(3,))
    place = b.text_lookup(x, keys=["a", "b", "a"])
    b.output("place", place)
    b.output("text", b.text_choose(place, texts=["A", "B"], other="none"))
    place, text = run_module(b.module, [])
    assert place.tolist() == [1, -1, 0]
    assert text.tolist() == ["B", "none", "A"]
    with pytest.raises(DTypeMismatch):
        b.text_choose(b.constant(np.float32([1])), texts=["A"])

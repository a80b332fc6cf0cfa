"""The work on a graph grows with its size and no faster, and needs no stack as deep as the graph."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.rewriter import Rewriter
from aino_ir.structural import block_hash
from aino_ir.text import parse, print_module
from aino_ir.types import tensor
from aino_ir.verify import verify, verify_ops

SMALL, LARGE = 300, 1200
RATIO = LARGE / SMALL * 1.1
"""Most calls that the large graph may cost over the small one (caches and prologues are in it too)."""


def build(count: int, seed: int = 0) -> Module:
    """A seeded random graph: fan-out, constants, ops of one and two operands."""
    rng = random.Random(seed)
    b = Builder()
    values = [b.input("x", tensor("f32", 4, 2))]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.1:
            made = b.constant(np.full((4, 2), round(rng.random(), 3), np.float32))
        elif kind < 0.5:
            made = getattr(b, rng.choice(["relu", "neg", "abs", "tanh"]))(
                values[-rng.randint(1, min(len(values), 40))]
            )
        else:
            made = getattr(b, rng.choice(["add", "mul", "max"]))(
                values[-1], values[-rng.randint(1, min(len(values), 40))]
            )
        values.append(made)
    b.output("y", values[-1])
    return b.module


def calls(action: Callable[[], Any]) -> int:
    """Python functions called while something is done."""
    count = 0

    def tracer(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(tracer)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def rewrite_all(module: Module) -> None:
    rw = Rewriter(module.main)
    for op in module.main.block:
        if op.name == "math.neg":
            rw.replace(op, rw.builder(op).abs(op.operands[0]), "NegIsAbs")
        elif op.name == "math.relu":
            rw.replace(op, op.operands[0], "DropRelu")
    assert len(rw.log) > 10
    verify_ops(module, {i for entry in rw.log for i in entry.touched} & {op.id for op in module.walk()})


X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)

WORK: dict[str, Callable[[Module], Any]] = {
    "verify": verify,
    "clone": Module.clone,
    "print": print_module,
    "hash": lambda m: block_hash(m.main.block),
    "parse": lambda m: parse(TEXTS[len(m.main.block)]),
    "rewrite": lambda m: rewrite_all(m.clone()),
    "interpret": lambda m: run_module(m, [X]),
}
TEXTS: dict[int, str] = {}


@pytest.mark.parametrize("what", list(WORK))
def test_calls_grow_with_the_ops(what: str) -> None:
    modules = [build(SMALL), build(LARGE)]
    for m in modules:
        TEXTS[len(m.main.block)] = print_module(m)
        WORK[what](m)  # caches that live as long as the process are filled now
    small, large = (calls(lambda m=m: WORK[what](m)) for m in modules)
    assert 0 < small < large < small * RATIO


def test_building_calls_grow_with_the_ops() -> None:
    build(SMALL)
    assert calls(lambda: build(LARGE)) < calls(lambda: build(SMALL)) * RATIO


def test_wide_fan_in_and_fan_out_stay_linear() -> None:
    def wide(count: int) -> Module:
        b = Builder()
        x = b.input("x", tensor("f32", 1))
        parts = [b.neg(x) for _ in range(count)]
        b.output("y", b.concat(*parts, axis=0))
        for i, part in enumerate(parts):
            b.output(f"part{i}", part)
        return b.module

    small, large = wide(SMALL), wide(LARGE)
    for action in (verify, Module.clone, print_module):
        assert calls(lambda a=action: a(large)) < calls(lambda a=action: a(small)) * RATIO


def test_a_deep_graph_needs_no_deep_stack() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    for _ in range(5000):
        x = b.neg(x)
    b.output("y", x)
    module = b.module
    verify(module)
    copy = module.clone()
    assert block_hash(copy.main.block) == block_hash(module.main.block)
    assert print_module(copy) == print_module(module)
    assert run_module(module, [np.ones(1, np.float32)])[0].tolist() == [1]
    rw = Rewriter(copy.main)
    first, last = copy.main.inputs[0], copy.main.block.terminator
    rw.set_operand(last, 0, first, "Shortcut")
    for op in reversed(copy.main.block):
        if not op.results or op.result.users:
            continue
        assert rw.erase(op, "Dead")
    assert len(copy.main.block) == 1
    verify(copy)


def test_deep_shape_arithmetic_is_known() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    vector = b.dims_vector([s])
    one = b.constant(np.array([1]))
    for _ in range(3000):
        vector = b.add(vector, one)
    assert b.known(vector) == (s + 3000,)

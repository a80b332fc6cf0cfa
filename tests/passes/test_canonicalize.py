"""Rules of canonicalization: each fires, keeps the meaning, and declines where its law does not hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.base import PassContext
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, assert_not_fused, assert_same_meaning, op_names, run_pass

Body = Callable[[Builder, Value], Value]


def module_of(body: Body, *shape: int, dtype: str = "f32") -> Module:
    b = Builder()
    x = b.input("x", tensor(dtype, *(shape or (4, 6))))
    b.output("y", body(b, x))
    return b.module


def c(b: Builder, value: object, dtype: type = np.float32) -> Value:
    return b.constant(np.asarray(value, dtype))


REWRITTEN: dict[str, tuple[Body, list[str]]] = {
    "x + 0": (lambda b, x: b.add(x, c(b, 0)), []),
    "0 + x": (lambda b, x: b.add(c(b, 0), x), []),
    "x + zeros": (lambda b, x: b.add(x, c(b, np.zeros((4, 6)))), []),
    "x * 1": (lambda b, x: b.mul(x, c(b, [1.0])), []),
    "x - 0": (lambda b, x: b.sub(x, c(b, 0)), []),
    "x / 1": (lambda b, x: b.div(x, c(b, 1)), []),
    "x ** 1": (lambda b, x: b.pow(x, c(b, 1)), []),
    "x ** 2": (lambda b, x: b.pow(x, c(b, 2)), ["math.mul"]),
    "x / 8": (lambda b, x: b.div(x, c(b, 8)), ["math.mul"]),
    "-(-x)": (lambda b, x: b.neg(b.neg(x)), []),
    "0 - x": (lambda b, x: b.sub(c(b, 0), x), ["math.neg"]),
    "x + -e^x": (lambda b, x: b.add(x, b.neg(b.exp(x))), ["math.exp", "math.sub"]),
    "x - -e^x": (lambda b, x: b.sub(x, b.neg(b.exp(x))), ["math.exp", "math.add"]),
    "relu relu": (lambda b, x: b.relu(b.relu(x)), ["math.relu"]),
    "relu clip": (lambda b, x: b.relu(b.clip(x, min=-1.0, max=0.5)), ["math.clip"]),
    "clip relu": (lambda b, x: b.clip(b.relu(x), min=-1.0, max=0.5), ["math.clip"]),
    "clip 0": (lambda b, x: b.clip(x, min=0.0), ["math.relu"]),
    "self cast": (lambda b, x: b.cast(x, to="f32"), []),
    "cast detour": (lambda b, x: b.cast(b.cast(x, to="f64"), to="f32"), []),
    "select true": (lambda b, x: b.select(c(b, True, np.bool_), x, b.neg(x)), []),
    "select equal": (lambda b, x: b.select(b.is_nan(x), x, x), []),
    "reshape twice": (lambda b, x: b.reshape(b.reshape(x, shape=(24,)), shape=(2, 12)), ["tensor.reshape"]),
    "reshape back": (lambda b, x: b.reshape(b.reshape(x, shape=(24,)), shape=(4, 6)), []),
    "transpose back": (lambda b, x: b.transpose(b.transpose(x, perm=(1, 0)), perm=(1, 0)), []),
    "slice all": (lambda b, x: b.slice(x, starts=(0, 0), sizes=(4, 6), steps=(1, 1)), []),
    "slice twice": (
        lambda b, x: b.slice(
            b.slice(x, starts=(1, 0), sizes=(3, 6), steps=(1, 1)), starts=(1, 2), sizes=(1, 3), steps=(1, 1)
        ),
        ["tensor.slice"],
    ),
    "pad nothing": (lambda b, x: b.pad(x, before=(0, 0), after=(0, 0)), []),
    "expand to itself": (lambda b, x: b.expand(x, shape=(4, 6)), []),
    "expand by ones": (lambda b, x: b.expand(x, shape=(1, 1, 4, 6)), ["tensor.reshape"]),
    "expand before add": (
        lambda b, x: b.add(x, b.expand(c(b, [1.0, 2, 3, 4, 5, 6]), shape=(4, 6))),
        ["math.add"],
    ),
    "concat of one": (lambda b, x: b.concat(x, axis=1), []),
    "concat of concat": (
        lambda b, x: b.concat(x, b.concat(b.neg(x), x, axis=1), axis=1),
        ["math.neg", "tensor.concat"],
    ),
    "gather one": (
        lambda b, x: b.gather(x, c(b, -1, np.int64), axis=1),
        ["tensor.slice", "tensor.reshape"],
    ),
    "gather run": (lambda b, x: b.gather(x, c(b, [2, 3, 4], np.int64), axis=1), ["tensor.slice"]),
    "transposes through sum": (
        lambda b, x: b.transpose(
            b.add(b.transpose(x, perm=(1, 0)), b.transpose(b.exp(x), perm=(1, 0))), perm=(1, 0)
        ),
        ["math.exp", "math.add"],
    ),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_law_is_applied(case: str) -> None:
    body, left = REWRITTEN[case]
    assert_fuses(module_of(body), Canonicalize(), left)


DECLINED: dict[str, Body] = {
    "x + 1": lambda b, x: b.add(x, c(b, 1)),
    "broadcast x + 0": lambda b, x: b.add(c(b, np.zeros((3, 4, 6))), x),
    "x / 3": lambda b, x: b.div(x, c(b, 3)),
    "f16 detour": lambda b, x: b.cast(b.cast(x, to="f16"), to="f32"),
    "one transposed operand": lambda b, x: b.add(b.transpose(x, perm=(1, 0)), c(b, np.ones((6, 4)))),
    "gather apart": lambda b, x: b.gather(x, c(b, [0, 2], np.int64), axis=1),
    "concat along another axis": lambda b, x: b.concat(
        b.concat(x, b.neg(x), axis=0), c(b, np.ones((8, 1))), axis=1
    ),
    "clip to negative": lambda b, x: b.clip(b.relu(x), max=-1.0),
}


@pytest.mark.parametrize("case", DECLINED)
def test_law_does_not_hold(case: str) -> None:
    module = module_of(DECLINED[case])
    before = op_names(module)
    assert not run_pass(Canonicalize(), module).changed
    assert op_names(module) == before


def test_refusal_says_why() -> None:
    assert_not_fused(module_of(DECLINED["x / 3"]), Canonicalize(), "1 / 3.0 is not exact")
    assert_not_fused(module_of(DECLINED["f16 detour"]), Canonicalize(), "f16 does not hold every f32")


def test_permutations_are_composed_in_order() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.transpose(b.transpose(x, perm=(1, 2, 0)), perm=(0, 2, 1))

    module = module_of(body, 2, 3, 4)
    assert_fuses(module, Canonicalize(), ["tensor.transpose"])
    assert next(o for o in module.main.block if o.name == "tensor.transpose").perm == (1, 0, 2)


def test_transpose_of_unit_axes_is_a_reshape() -> None:
    module = module_of(lambda b, x: b.transpose(x, perm=(1, 0, 2)), 1, 4, 6)
    assert_fuses(module, Canonicalize(), ["tensor.reshape"])


def test_strict_numerics_leave_reordered_rules_out() -> None:
    module = module_of(REWRITTEN["x ** 2"][0])
    run_pass(Canonicalize(), module, PassContext(numerics="strict"))
    assert op_names(module) == ["math.pow"]


def test_logic() -> None:
    module = module_of(
        lambda b, x: b.logical_not(b.logical_not(b.logical_and(x, c(b, True, np.bool_)))), dtype="bool"
    )
    assert_fuses(module, Canonicalize(), [])


def rule_dense(seed: int, count: int) -> Module:
    """A random graph in which rules meet everywhere: most ops match one, and rewrites feed rewrites."""
    rng = np.random.default_rng(seed)
    b = Builder()
    values = [b.input("x", tensor("f32", 4, 4)), b.input("z", tensor("f32", 4, 4))]
    zero, one = c(b, 0), c(b, 1)
    makers: tuple[Callable[[Value, Value], Value], ...] = (
        lambda x, y: b.neg(x),
        lambda x, y: b.relu(x),
        lambda x, y: b.transpose(x, perm=(1, 0)),
        lambda x, y: b.add(x, y),
        lambda x, y: b.sub(x, y),
        lambda x, y: b.clip(x, min=0.0),
        lambda x, y: b.sub(zero, x),
        lambda x, y: b.mul(x, one),
        lambda x, y: b.tanh(x),
    )
    for _ in range(count):
        x, y = (values[-1 - int(rng.integers(min(6, len(values))))] for _ in range(2))
        values.append(makers[int(rng.integers(len(makers)))](x, y))
    for i, value in enumerate(values[-4:]):
        b.output(f"y{i}", value)
    return b.module


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_undone_where_rewrites_meet(seed: int) -> None:
    module = rule_dense(seed, 60)
    before = module.clone()
    report = run_pass(Canonicalize(), module)
    assert report.sites.unvalidated == 0
    assert_same_meaning(before, module, "exact")

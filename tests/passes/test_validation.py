"""The validator itself: wrong rewrites of every kind are found, right ones are proved, run, or found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.graph import Function, Module, Value
from aino_ir.location import UNKNOWN
from aino_ir.op import Op
from aino_ir.ops.core import Bind
from aino_ir.ops.math import Add, Mul, Neg
from aino_ir.ops.tensor import Reshape
from aino_ir.passes.base import Pass, PassContext
from aino_ir.passes.lazy_constants import lazy
from aino_ir.passes.manager import PassManager, PassUndone
from aino_ir.passes.sites import Substitution
from aino_ir.passes.validation import Sites
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewrite
from aino_ir.types import TensorType, tensor

Change = Callable[[Op, Builder], "Value | None"]


@dataclass(frozen=True)
class Rewrites(Pass):
    """Replaces every op of a class by what a function says."""

    name = "rewrites"
    cls: Any = Add
    change: Any = None
    reads: Any = ()

    def run_function(self, function: Function, ctx: PassContext) -> None:
        rewriter = ctx.rewriter(function)
        for op in list(function.block):
            if isinstance(op, self.cls):
                value = self.change(op, rewriter.builder(op))
                if value is None:
                    rewriter.rollback()
                    continue
                matched = [op.operands[i].op for i in self.reads]
                rewriter.replace(op, value, "Change", matched)

    def __str__(self) -> str:
        return self.name


def module_of(body: Callable[[Builder, Value], Value], *shape: int, dtype: str = "f32") -> Module:
    b = Builder()
    b.output("y", body(b, b.input("x", tensor(dtype, *(shape or (3, 4))))))
    return b.module


def sites(module: Module, item: Pass) -> Sites:
    return PassManager([item]).run(module).sites


def wrong(module: Module, item: Pass, reason: str) -> None:
    text = str(module)
    with pytest.warns(PassUndone, match=reason):
        PassManager([item]).run(module)
    assert str(module) == text


def c(b: Builder, value: Any) -> Value:
    return b.constant(np.asarray(value, np.float32))


def test_operand_in_place_of_its_reader_is_found_wrong() -> None:
    module = module_of(lambda b, x: b.add(x, c(b, 1)))
    wrong(module, Rewrites(Add, lambda op, b: op.lhs, (1,)), "elements differ")


def test_constant_that_was_not_declared_as_read_counts_as_any_constant() -> None:
    drop = Rewrites(Add, lambda op, b: op.lhs)
    wrong(module_of(lambda b, x: b.add(x, c(b, np.zeros(4)))), drop, "elements differ")
    module = module_of(lambda b, x: b.add(x, c(b, np.zeros(4))))
    assert sites(module, Rewrites(Add, lambda op, b: op.lhs, (1,))) == Sites(1, 1, 0, 0)


def test_swapped_operands_of_a_difference() -> None:
    from aino_ir.ops.math import Sub

    module = module_of(lambda b, x: b.sub(x, b.exp(x)))
    wrong(module, Rewrites(Sub, lambda op, b: b.sub(op.rhs, op.lhs)), "elements differ")


def test_edges_are_tried() -> None:
    from aino_ir.ops.activation import Relu

    def relu_by_select(op: Op, b: Builder) -> Value:
        return b.select(b.gt(op.x, c(b, 0)), op.x, c(b, 0))  # loses NaN

    wrong(module_of(lambda b, x: b.relu(x)), Rewrites(Relu, relu_by_select), "elements differ")


def test_wrong_integers_and_overflow() -> None:
    def halved(op: Op, b: Builder) -> Value:
        return b.mul(op.lhs, b.constant(np.asarray(2, np.int32)))

    module = module_of(lambda b, x: b.add(x, b.neg(x)), dtype="i32")
    wrong(module, Rewrites(Add, halved), "elements differ")


def test_commuted_operands_need_no_run() -> None:
    module = module_of(lambda b, x: b.add(x, b.exp(x)))
    swap = Rewrites(Add, lambda op, b: b.add(op.rhs, op.lhs))
    assert sites(module, swap) == Sites(1, 0, 1, 0)


def twice(op: Op, b: Builder) -> Value | None:
    return b.mul(op.lhs, b.constant(np.float32(2))) if op.lhs is op.rhs else None


def test_equal_questions_are_asked_once() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.exp(b.add(x, x))
        return b.tanh(b.add(y, y))

    assert sites(module_of(body), Rewrites(Add, twice)) == Sites(2, 1, 1, 0)


def test_failure_is_not_remembered() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.exp(b.mul(x, x))
        return b.tanh(b.mul(y, y))

    module = module_of(body)
    with pytest.warns(PassUndone) as caught:
        PassManager([Rewrites(Mul, lambda op, b: b.add(op.lhs, op.rhs))]).run(module)
    assert len(caught) == 2, "both places are wrong, though they are the same question"


def test_lazy_constants_are_judged_by_what_computes_them() -> None:
    weights = np.random.default_rng(0).standard_normal((200, 100)).astype(np.float32)

    def moved(op: Op, b: Builder, right: bool) -> Value:
        handle = constant_of(op.rhs)
        assert handle is not None

        def body(inner: Builder, args: list[Value]) -> Value:
            doubled = inner.add(args[0], args[0]) if right else args[0]
            return inner.mul(doubled, doubled) if right else inner.add(doubled, doubled)

        return b.sub(op.lhs, b.constant(lazy(b.function, [handle], body)))

    def body(b: Builder, x: Value) -> Value:
        return b.add(x, b.constant(weights))

    wrong(module_of(body, 200, 100), Rewrites(Add, lambda op, b: moved(op, b, True)), "elements differ")
    module = module_of(lambda b, x: b.sub(x, b.add(b.constant(weights), b.constant(weights))), 200, 100)
    from aino_ir.passes.fold_constants import FoldConstants

    assert sites(module, FoldConstants(max_growth=9)).total >= 1


def test_large_regions_shrink() -> None:
    from aino_ir.ops.nn import MatMul

    b = Builder()
    x, w = b.input("x", tensor("f32", 4096, 4096)), b.input("w", tensor("f32", 4096, 4096))
    b.output("y", b.matmul(x, w))
    module = b.module

    def by_transposes(op: Op, b: Builder) -> Value | None:
        if op.transpose_lhs:
            return None
        return b.transpose(b.matmul(op.rhs, op.lhs, transpose_lhs=True, transpose_rhs=True), perm=(1, 0))

    report = PassManager([Rewrites(MatMul, by_transposes)], cleanup=False).run(module)
    assert report.sites == Sites(1, 1, 0, 0)
    assert report.records[0].checking_seconds < 20


def test_symbols_are_bound() -> None:
    b = Builder()
    n = b.symbol("n", 1, 999, step=8)
    x = b.input("x", tensor("f32", n, 4))
    y = b.reshape(x, shape=(n // 8, 32))
    b.output("y", b.add(y, y))
    assert sites(b.module, Rewrites(Add, twice)) == Sites(1, 1, 0, 0)


def test_index_operands_stay_within_their_domain() -> None:
    from aino_ir.ops.tensor import Gather

    b = Builder()
    x, i = b.input("x", tensor("f32", 3, 4)), b.input("i", tensor("i64", 5))
    b.output("y", b.gather(x, i, axis=0))

    def by_transposes(op: Op, b: Builder) -> Value | None:
        if op.axis == 1:
            return None
        return b.transpose(b.gather(b.transpose(op.x, perm=(1, 0)), op.indices, axis=1), perm=(1, 0))

    assert sites(b.module, Rewrites(Gather, by_transposes)) == Sites(1, 1, 0, 0)


def test_what_cannot_be_run_is_counted() -> None:
    from aino_ir.ops.tensor import Gather

    b = Builder()
    x, i = b.input("x", tensor("f32", 3, 4)), b.input("i", tensor("i64", 5))
    far = b.add(b.mul(i, b.constant(np.int64(0))), b.constant(np.int64(99)))
    b.output("y", b.gather(x, far, axis=0))

    def same(op: Op, b: Builder) -> Value | None:
        if op.operands[1].op.name == "math.sub":
            return None
        return b.gather(op.x, b.sub(far, b.constant(np.int64(0))), axis=0)

    class Item(Rewrites):
        pass

    module = b.module
    report = PassManager([Item(Gather, same, (1,))]).run(module)
    assert report.sites.complete
    assert report.sites.unvalidated + report.sites.run == 1


def test_reordered_sums_pass_and_wrong_ones_do_not() -> None:
    @dataclass(frozen=True)
    class Reordered(Rewrites):
        error_class = "reordered"

    def distributed(op: Op, b: Builder) -> Value | None:
        inner = op.lhs.op
        if not isinstance(inner, Add):
            return None
        return b.add(b.mul(inner.lhs, op.rhs), b.mul(inner.rhs, op.rhs))

    def body(b: Builder, x: Value) -> Value:
        return b.mul(b.add(x, b.exp(x)), b.tanh(x))

    class WithInner(Reordered):
        def run_function(self, function: Function, ctx: PassContext) -> None:
            rewriter = ctx.rewriter(function)
            for op in list(function.block):
                if isinstance(op, Mul) and isinstance(op.lhs.op, Add):
                    value = self.change(op, rewriter.builder(op))
                    rewriter.replace(op, value, "Change", [op.lhs.op])

    assert sites(module_of(body), WithInner(Mul, distributed)) == Sites(1, 1, 0, 0)
    off = WithInner(Mul, lambda op, b: b.mul(distributed(op, b), c(b, 1.00001)))
    wrong(module_of(body), off, "error .* is over")
    exact = Rewrites(Neg, lambda op, b: b.mul(op.x, c(b, -1.0000001)))
    wrong(module_of(lambda b, x: b.neg(x)), exact, "elements differ")


def test_rules_may_see_through_what_another_site_replaced() -> None:
    from aino_ir.passes.canonicalize import Canonicalize
    from tests.passes.helpers import assert_fuses

    module = module_of(lambda b, x: b.relu(b.neg(b.neg(b.relu(x)))))
    assert_fuses(module, Canonicalize(), ["math.relu"])
    module = module_of(lambda b, x: b.sub(b.exp(x), b.mul(b.neg(b.tanh(x)), c(b, 1))))
    assert_fuses(module, Canonicalize(), ["math.exp", "math.tanh", "math.add"])


def test_wrong_rewrite_behind_another_site_is_still_found() -> None:
    @dataclass(frozen=True)
    class Two(Rewrites):
        def run_function(self, function: Function, ctx: PassContext) -> None:
            from aino_ir.ops.activation import Relu

            rewriter = ctx.rewriter(function)
            for op in list(function.block):
                if isinstance(op, Neg) and isinstance(op.x.op, Neg):
                    rewriter.replace(op, op.x.op.x, "Right", [op.x.op])
                elif isinstance(op, Relu) and not isinstance(op.x.op, Neg):
                    rewriter.replace(op, op.x, "Wrong", [op.x.op])

    module = module_of(lambda b, x: b.relu(b.neg(b.neg(b.tanh(x)))))
    with pytest.warns(PassUndone, match="Wrong: .*elements differ"):
        PassManager([Two()]).run(module)


def test_site_that_relies_on_its_own_result_is_judged_with_the_other() -> None:
    """Alone, the site of the clip would take its relu for known: the product ends as that relu too."""
    from aino_ir.passes.canonicalize import Canonicalize

    b = Builder()
    x = b.input("x", tensor("f32", 4, 4))
    clipped = b.clip(x, min=0.0)
    scaled = b.mul(clipped, c(b, 1))
    for i, value in enumerate((clipped, scaled, b.relu(scaled))):
        b.output(f"y{i}", value)
    assert sites(b.module, Canonicalize()) == Sites(1, 1, 0, 0)
    assert [op.name for op in b.module.main.block if op.results] == ["math.relu"]


def test_what_another_site_made_a_constant_may_be_read() -> None:
    """One site finds that 1 * 1 is the 1 that is there; another that x times this is x."""
    from aino_ir.passes.canonicalize import Canonicalize

    b = Builder()
    x = b.input("x", tensor("f32", 4))
    b.output("y", b.mul(x, b.mul(c(b, 1), c(b, 1))))
    assert sites(b.module, Canonicalize()).unvalidated == 0
    assert not [op for op in b.module.main.block if op.name == "math.mul"]


def test_substitution_ends_where_values_replaced_each_other() -> None:
    entry = Rewrite(0, "Rule", (), (), (), ((1, 2),), (), UNKNOWN)
    back = Rewrite(1, "Rule", (), (), (), ((2, 1),), (), UNKNOWN)
    assert [Substitution([entry]).final(i) for i in (1, 2)] == [2, 2]
    assert [Substitution([entry, back]).final(i) for i in (1, 2)] == [1, 1]


def test_constant_identity_never_reads_data() -> None:
    def fail() -> np.ndarray:
        raise AssertionError("read")

    from aino_ir.dtypes import f32

    handle = Const.deferred(f32, (3,), fail)
    assert handle.identity == ("handle", id(handle))
    plain = Const(TensorType(f32, (3,)), np.ones(3, np.float32))
    assert plain.key == plain.identity


def test_extents_that_only_the_run_relates_are_no_fault() -> None:
    """No fact says that the extents' product is 22, so drawn ones do not fit: the site stays unvalidated."""
    b = Builder()
    x, numbers = b.input("x", tensor("f32", 22)), b.input("n", tensor("i64", 2))
    bound = b.op(Bind, numbers, lower=[0, 0], upper=[100, 100], what="shape").result
    b.output("y", b.neg(b.reshape(x, shape=b.known(bound))))
    again = Rewrites(Reshape, lambda op, b: b.reshape(b.reshape(op.x, shape=(2, 11)), shape=op.shape))
    assert sites(b.module, again).unvalidated == 1

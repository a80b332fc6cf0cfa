"""The final check: lies that no site gives away are found on the whole module, and undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.passes import RequiredPassFailed
from aino_ir.graph import Function, Module, Value, count_uses
from aino_ir.ops.math import Add, Mul, Neg
from aino_ir.passes.base import Pass, PassContext, PassResult
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from aino_ir.passes.final_check import FinalCheck, Outcome
from aino_ir.passes.fuse_patterns import FusePatterns
from aino_ir.passes.manager import PassUndone
from aino_ir.passes.whole_module import compare_modules
from aino_ir.text import print_module
from aino_ir.types import tensor


def module_of(body: Callable[[Builder, Value], Value], *shape: object) -> Module:
    b = Builder()
    b.output("y", body(b, b.input("x", tensor("f32", *(shape or (4, 4))))))
    return b.module


def sums(b: Builder, x: Value) -> Value:
    """-(-x) + tanh(x), times x: something for every pass here."""
    return b.mul(b.add(b.neg(b.neg(x)), b.tanh(x)), x)


@dataclass(frozen=True)
class Unlogged(Pass):
    """Swaps in another operand behind the rewriter's back, and says that it changed something."""

    name = "unlogged"

    def run(self, module: Module, ctx: PassContext) -> PassResult:
        for op in module.main.block:
            if isinstance(op, Mul):
                count_uses(op, op.operands, -1)
                op.operands = (op.lhs, op.lhs)
                count_uses(op, op.operands)
        return PassResult(True, {"Unlogged": 1})


@dataclass(frozen=True)
class Circular(Pass):
    """Replaces a sum by something else, and logs that this in turn became the sum: nothing seems changed."""

    name = "circular"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        rewriter = ctx.rewriter(function)
        add = next(op for op in function.block if isinstance(op, Add))
        wrong = rewriter.builder(add).mul(add.rhs, add.rhs)
        rewriter.replace_value(add.result, wrong, "There")
        there = rewriter.log[-1]
        rewriter.log.append(replace(there, seq=1, rule="Back", replaced=((wrong.id, add.result.id),)))


@dataclass(frozen=True)
class RequiredLie(Unlogged):
    """The same, as a pass that cannot be left out."""

    name = "required-lie"
    required: ClassVar[bool] = True


def run(passes: list[Pass], module: Module) -> Outcome:
    return FinalCheck(passes, PassContext).run(module)


@pytest.mark.parametrize("lie", [Unlogged(), Circular()], ids=str)
def test_lie_that_no_site_gives_away_is_undone_alone(lie: Pass) -> None:
    module = module_of(sums)
    text = print_module(module)
    with pytest.warns(
        PassUndone, match=rf"pass {lie.name} was undone: .*output 'y'.*--passes 'canonicalize,"
    ):
        outcome = run([Canonicalize(), lie, EliminateCommonSubexpressions()], module)
    assert print_module(module) == text, "the module that was given stays as it is"
    assert outcome.verdict.kind == "agrees"
    assert [u["pass"] for u in outcome.report.undone] == [lie.name]
    assert [r.name for r in outcome.report.records] == [
        "canonicalize",
        lie.name,
        "eliminate-common-subexpressions",
    ]
    assert not any(isinstance(op, Neg) for op in outcome.module.main.block), "canonicalize stays"


def test_many_liars_leave_no_optional_pass() -> None:
    module = module_of(lambda b, x: b.mul(b.tanh(x), x))
    lies: list[Pass] = [Unlogged(), Canonicalize(), Unlogged(), Unlogged()]
    with pytest.warns(PassUndone):
        outcome = run(lies, module)
    assert print_module(outcome.module) == print_module(module)
    assert len(outcome.report.undone) == 4


def test_required_pass_that_lies_is_an_error() -> None:
    with pytest.raises(RequiredPassFailed, match="required-lie failed on rule whole module"):
        run([RequiredLie()], module_of(sums))


def test_class_is_the_loosest_of_what_changed_something() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.neg(b.neg(b.tanh(x)))

    assert run([Canonicalize(), FusePatterns()], module_of(body)).verdict.error_class == "exact"
    square = module_of(lambda b, x: b.pow(x, b.constant(np.float32(2))))
    verdict = run([Canonicalize()], square).verdict
    assert (verdict.kind, verdict.error_class) == ("agrees", "reordered")
    assert run([Canonicalize()], module_of(lambda b, x: b.tanh(x))).verdict.reason == "nothing was changed"


def test_what_costs_too_much_is_not_run_and_says_so() -> None:
    module = module_of(lambda b, x: b.matmul(x, x), 64, 64)
    verdict = compare_modules(module, module.clone(), "exact", work_limit=1e5)
    assert verdict.kind == "not run" and "operations, more than 1e+05" in verdict.reason
    assert compare_modules(module, module.clone(), "exact").kind == "agrees"


def test_symbols_are_bound_to_small_values() -> None:
    b = Builder()
    n = b.symbol("n", 1, 1 << 30)
    x = b.input("x", tensor("f32", n, 1024))
    b.output("y", b.matmul(x, b.transpose(x, perm=(1, 0))))
    verdict = compare_modules(b.module, b.module.clone(), "reordered")
    assert (verdict.kind, verdict.error_class) == ("agrees", "reordered")


def test_inputs_are_legal_where_they_are_used() -> None:
    b = Builder()
    table, rows = b.input("table", tensor("f32", 3, 4)), b.input("rows", tensor("i64", 50))
    b.output("y", b.log(b.gather(table, rows, axis=0)))
    assert compare_modules(b.module, b.module.clone(), "exact").kind == "agrees"


def test_module_that_fails_afterwards_differs() -> None:
    def picks(last: int) -> Module:
        b = Builder()
        x, at = b.input("x", tensor("f32", 3)), b.input("at", tensor("i64", 2))
        b.output("y", b.gather(x, b.add(at, b.constant(np.int64(last))), axis=0))
        return b.module

    verdict = compare_modules(picks(0), picks(9), "exact")
    assert verdict.kind == "differs" and "it fails: " in verdict.reason
    assert compare_modules(picks(9), picks(9), "exact").kind == "not run"

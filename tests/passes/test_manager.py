"""The pass manager: reports, dumps, fuel, and what happens when a pass is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.ir import InvariantBroken
from aino_ir.errors.passes import RequiredPassFailed
from aino_ir.graph import Function, Module, Value
from aino_ir.ops.math import Add, Mul, Neg
from aino_ir.passes.base import Pass, PassContext
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.passes.manager import PassManager, PassUndone
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, anything
from aino_ir.rewriter import Fuel
from aino_ir.text import print_module
from aino_ir.types import tensor
from tests.passes.helpers import op_names


def chain(negations: int = 4) -> Module:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    y = b.add(x, b.constant(np.ones(3, np.float32)))
    for _ in range(negations):
        y = b.neg(y)
    b.output("y", y)
    return b.module


class AddIsMul(Rule):
    """a + b ==> a * b   (wrong)"""

    pattern = P(Add, "a", "b")

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.mul(m["a"], m["b"])


class NegTwice(Rule):
    """-(-x) ==> x"""

    pattern = P(Neg, P(Neg, "x"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


@dataclass(frozen=True)
class WrongPass(RulePass):
    """One rule is wrong, the other right."""

    name = "wrong-pass"
    rules = (AddIsMul(), NegTwice())


@dataclass(frozen=True)
class WrongAndRequired(WrongPass):
    """Cannot be left out."""

    name = "wrong-and-required"
    required: ClassVar[bool] = True


@dataclass(frozen=True)
class WrongEverywhere(RulePass):
    """Finds another place when one is forbidden."""

    name = "wrong-everywhere"
    calls: ClassVar[list[int]] = []

    def run_function(self, function: Function, ctx: PassContext) -> None:
        rewriter = ctx.rewriter(function)
        self.calls.append(1)
        op = next(o for o in function.block if isinstance(o, Add))
        rewriter.replace(op, rewriter.builder(op).mul(op.lhs, op.rhs), f"Rule{len(self.calls)}")


@dataclass(frozen=True)
class BreaksInvariants(Pass):
    """Leaves the users of a value wrong."""

    name = "breaks-invariants"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        rewriter = ctx.rewriter(function)
        op = next(o for o in function.block if isinstance(o, Add))
        value = rewriter.builder(op).add(op.lhs, op.rhs)
        rewriter.replace(op, value, "Break")
        value.op.operands[0].users.clear()


def test_report_tells_what_changed() -> None:
    report = PassManager([Canonicalize(), Canonicalize()]).run(chain())
    first, second = report.records
    assert first.changed and first.removed == {"math.neg": 4} and first.counters == {"UndoNegation": 2}
    assert not second.changed and not second.counters
    assert report.sites.total == 2 and report.sites.complete
    assert "canonicalize" in str(report) and "-4 math.neg" in str(report) and "no change" in str(report)
    assert [row["pass"] for row in report.facts()["passes"]] == ["canonicalize", "canonicalize"]


@pytest.mark.parametrize(("after", "titles"), [("all", 2), ("changed", 1), ("canonicalize", 2), ("", 0)])
def test_dumps(after: str, titles: int) -> None:
    dumped: list[tuple[str, str]] = []
    module = chain()
    PassManager(
        "canonicalize,canonicalize", dump_after=after, dump=lambda title, text: dumped.append((title, text))
    ).run(module)
    assert len(dumped) == titles
    assert all(title == "after canonicalize" and text == str(module) for title, text in dumped)


def test_changed_says_whether_the_text_differs() -> None:
    for negations in (0, 2):
        module = chain(negations)
        before = print_module(module)
        report = PassManager("canonicalize").run(module)
        assert report.changed == (print_module(module) != before)


def test_fuel_stops_after_so_many_rewrites() -> None:
    for fuel in range(4):
        module = chain(6)
        PassManager("canonicalize", cleanup=False).run(module, PassContext(fuel=Fuel(fuel)))
        assert op_names(module).count("math.neg") == 6 - 2 * min(fuel, 3)


def test_wrong_site_is_left_out_and_the_rest_done() -> None:
    module = chain(2)
    with pytest.warns(PassUndone, match="wrong-pass was not done at one place: AddIsMul: .*elements differ"):
        report = PassManager([WrongPass()]).run(module)
    assert op_names(module) == ["math.add"]
    assert report.undone[0]["rule"] == "AddIsMul"


def test_pass_that_fails_twice_is_undone() -> None:
    module = chain(2)
    text = print_module(module)
    with pytest.warns(PassUndone, match="wrong-everywhere was undone: Rule2"):
        report = PassManager([WrongEverywhere()]).run(module)
    assert print_module(module) == text
    assert report.undone == [{"pass": "wrong-everywhere", "reason": report.records[0].undone}]
    assert not report.changed


def test_required_pass_is_an_error_when_it_cannot_do_its_work() -> None:
    class Everywhere(WrongEverywhere):
        """Required."""

        required = True

    with pytest.raises(RequiredPassFailed, match="failed on rule Rule"):
        PassManager([Everywhere()]).run(chain())


def test_broken_invariant_undoes_the_pass() -> None:
    module = chain(2)
    text = print_module(module)
    with pytest.warns(PassUndone, match="breaks-invariants was undone"):
        PassManager([BreaksInvariants()]).run(module)
    assert print_module(module) == text


def test_without_validation_errors_pass_through() -> None:
    with pytest.raises(InvariantBroken):
        PassManager([BreaksInvariants()], validate=False).run(chain())


def test_refusals_are_kept_with_their_pass() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    b.output("y", b.div(x, b.constant(np.float32(3))))
    ctx = PassContext()
    PassManager("canonicalize").run(b.module, ctx)
    assert [(name, r.rule) for name, r in ctx.refusals] == [("canonicalize", "MultiplyByReciprocal")]
    silent = PassContext(explain=False)
    PassManager("canonicalize").run(b.module, silent)
    assert not silent.refusals


def test_skipped_class_of_numerics() -> None:
    report = PassManager("fold-constants").run(chain(), PassContext(numerics="strict"))
    assert not report.records


def test_patterns_may_leave_operands_open() -> None:
    module = chain(1)
    add = next(o for o in module.main.block if isinstance(o, Add))
    assert [m.root for m in P(Add, anything).matches(add)] == [add]
    assert not list(P(Mul).matches(add))

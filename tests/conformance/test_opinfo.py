"""A share of PyTorch's operator samples; `make opinfo` runs all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("expecttest", reason="PyTorch's operator samples need expecttest")

from torch.testing._internal.opinfo.core import SampleInput

from tests.conformance import opinfo, opinfo_runs
from tests.conformance.cases import share
from tests.conformance.guard import Death
from tests.conformance.opinfo_cases import (
    Captured,
    Eager,
    base_name,
    capturing,
    core_operators,
    is_core,
    operators,
    samples,
)
from tests.conformance.opinfo_compile import compiled, refused, run_compiled, run_errors
from tests.conformance.opinfo_page import native_shares, page
from tests.conformance.opinfo_runs import Outcome, differs, judge, run_operators, run_together

STATUSES = {"native", "fallback", "by rule", "skipped", "raises"}


def listed(outcomes: Iterable[Outcome]) -> str:
    """Outcomes, one a line."""
    return "\n".join(f"{o.target} {o.operator} #{o.sample}: {o.status} {o.detail}" for o in outcomes)


def graph_of(eager: Eager) -> Captured:
    with capturing() as capture:
        return capture(eager)


@pytest.mark.slow
def test_no_sample_is_wrong() -> None:
    """A tenth of the operators on the interpreter, a third of these, captured once for both, on target c too."""
    names = [n for n in sorted(operators()) if share(n, 10)]
    outcomes = []
    for targets in (("reference", "c"), ("reference",)):
        mine = [n for n in names if share(n, 30) == ("c" in targets)]
        chosen = lambda name, n: share(f"{name}#{n}", 2)  # noqa: E731
        outcomes += run_operators(mine, "float32", targets, limit=9, chosen=chosen)
    bad = [o for o in outcomes if o.status not in STATUSES]
    assert not bad, listed(bad)
    for target, least in (("reference", 300), ("c", 60)):
        found = [o for o in outcomes if o.target == target]
        assert sum(o.detail != "no samples" for o in found) >= least
        missed = [o for o in found if o.status == "fallback"]
        (native,) = native_shares([asdict(o) for o in found]).values()
        assert native >= opinfo.floors()[f"sample {target}"], listed(missed)


@pytest.mark.slow
def test_first_samples_through_torch_compile() -> None:
    names = [n for n in sorted(operators()) if share(n, 50)]
    outcomes = run_compiled(names)
    bad = [o for o in outcomes if o.status not in STATUSES]
    assert not bad, listed(bad)
    assert sum(o.status == "native" for o in outcomes) > len(names) // 2


@pytest.mark.slow
def test_calls_that_must_fail() -> None:
    outcomes = run_errors([n for n in sorted(operators()) if is_core(n) and share(n, 6)])
    bad = [o for o in outcomes if o.status not in STATUSES]
    assert not bad, listed(bad)
    assert sum(o.status == "raises" for o in outcomes) > 20


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", "bool", "float64"])
def test_arithmetic_in_every_dtype(dtype: str) -> None:
    outcomes = run_operators(["eq"], dtype, ("reference",), limit=4)
    assert len(outcomes) == 4 and {o.status for o in outcomes} == {"native"}


def test_a_wrong_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from aino_ir.frontends.torch.ops import TABLE

    monkeypatch.setitem(TABLE, "aten.tanh", lambda c, x: c.emit("sigmoid", x))
    outcomes = run_operators(["tanh"], "float32", ("reference", "c"), limit=2)
    assert len(outcomes) == 2 and {o.status for o in outcomes} == {"wrong"}
    assert compiled("tanh", samples("tanh", "float32")[0])[0] == "wrong"


def test_what_stays_with_torch_is_no_native_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from aino_ir.frontends.torch.ops import TABLE

    sample = samples("tanh", "float32")[0]
    assert compiled("tanh", sample) == ("native", "")
    monkeypatch.delitem(TABLE, "aten.tanh")
    assert compiled("tanh", sample) == ("fallback", "aten.tanh.default")
    monkeypatch.undo()
    assert compiled("tanh", sample) == ("native", "")


@pytest.mark.parametrize(
    ("operator", "why"),
    [("nonzero", "Dynamo hands no graph over"), ("mT", "views alone"), ("randn", "draws alone")],
)
def test_why_nothing_of_a_sample_is_native(operator: str, why: str) -> None:
    assert compiled(operator, samples(operator, "float32")[0]) == ("fallback", why)


def test_a_call_that_does_not_fail_is_found() -> None:
    name = "nn.functional.hardtanh"
    sample = samples(name, "float32")[0]
    wrong = SampleInput(sample.input, kwargs={"min_val": 1.0, "max_val": -1.0})
    assert refused(name, wrong, lambda function, sample: None)[0] == "accepted"
    assert refused(name, sample, lambda function, sample: None) == ("skipped", "eager takes it")


def test_results_are_compared_whole() -> None:
    captured = graph_of(Eager.of_sample("add", samples("add", "float32")[0]))
    right = [t.numpy() for t in captured.expected]
    assert judge(right, captured) is None
    assert "results instead of" in (judge([], captured) or "")
    assert "not float32" in (judge([r.astype(np.float64) for r in right], captured) or "")
    assert "error" in (judge([r * 1.01 for r in right], captured) or "")
    assert differs([right[0] * 2], right, undefined=True) is None


def test_python_may_decide_by_data() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x * 3

    captured = graph_of(Eager.of(f, [torch.ones(3)]))
    assert judge([np.full(3, 2, np.float32)], captured) is None
    assert judge(run_together([captured], "c")[0], captured) is None


def test_draws_are_inputs_of_what_is_computed_with_them() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5) + torch.randn(4)

    captured = graph_of(Eager.of(f, [torch.ones(4)]))
    assert len(captured.inputs) == 3 and set(captured.inputs[1].tolist()) <= {0, 1}
    assert judge(run_together([captured], "c")[0], captured) is None
    alone = graph_of(Eager.of(lambda x: torch.randn_like(x), [torch.ones(4)]))
    assert len(alone.inputs) == 1, "a draw alone is no work of ours"


def test_core_operators_are_known() -> None:
    assert {"add", "convolution", "native_layer_norm", "topk"} <= core_operators()
    assert base_name("nn.functional.gelu") == "gelu"
    assert base_name("var.unbiased") == "var"
    assert is_core("nn.functional.conv2d") and is_core("add") and not is_core("svd")


def test_page_counts_native_and_fallback_apart() -> None:
    facts = {"dtype": "float32", "target": "c", "commit": "abc", "date": "2000-01-01"}
    rows = [
        {**facts, "operator": "svd", "status": s, "detail": "no | row", "sample": n}
        for n, s in enumerate(("native", "fallback", "fallback", "skipped"))
    ]
    rows.append({**rows[0], "operator": "add", "status": "by rule", "detail": "a rule"})
    rows.append({**rows[0], "operator": "add", "target": "torch.compile", "status": "native"})
    rows.append({**rows[0], "operator": "add", "target": "errors aino.load", "status": "raises"})
    text = page(rows)
    assert "Commit abc of 2000-01-01;" in text
    assert "| c | float32 | 5 | 1 | 2 | 1 | 0 | 0 | 0 | 1 | 20.0 % |" in text
    assert "| c | float32 | 1 | 1 | 100.0 % |" in text, "operators of core ATen"
    assert "| add | float32 | c | 1 | a rule |" in text
    assert "| svd | c | float32 | 1 | 2 | 0 | 0 | 0 | 0 | no / row |" in text
    assert "| 1 | 1 | 0 | 0 | 0 | 0 | 0 | 0 |" in text, "through torch.compile"
    assert "| aino.load | 1 | 1 | 1 | 0 | 0 | 0 |" in text
    assert "should fail and do not" not in text
    worse = page([*rows, {**rows[-1], "status": "accepted", "detail": "eager: no", "sample": 3}])
    assert "| add | aino.load | 3 | accepted | eager: no |" in worse
    later = page([*rows, {**rows[-1], "commit": "def", "date": "2000-01-02"}])
    assert "Commits abc, def (2000-01-01 to 2000-01-02);" in later


def test_differences_by_rule_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opinfo_runs.BY_RULE, ("neg", "int64"), "a rule")
    monkeypatch.setattr(opinfo_runs, "judge", lambda results, captured: "differs")
    outcomes = run_operators(["neg"], "int64", ("reference",), limit=1)
    assert [(o.status, o.detail) for o in outcomes] == [("by rule", "a rule")]


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["--part", "dtypes", "--dtype", "int64", "--limit", "1", "--jsonl", str(rows)]
    assert opinfo.main([*arguments, "--match", "^neg$", "--target", "reference"]) == 0
    assert len(rows.read_text().splitlines()) == 1
    assert opinfo.main([*arguments, "--match", "^(neg|eq)$", "--target", "reference"]) == 0
    assert len(rows.read_text().splitlines()) == 2
    assert "reference int64: {'native': 2}" in capsys.readouterr().out


def test_a_dead_process_costs_its_own_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def died(todo: Sequence[opinfo.Item], *_: object) -> Iterator[tuple[opinfo.Item, object]]:
        for item in todo:
            asked.append(item.operators)
            good = [Outcome(n, item.dtype, 0, "c", "native") for n in item.operators]
            yield item, Death("SIGSEGV") if "eq" in item.operators else good

    monkeypatch.setattr(opinfo, "guarded", died)
    item = opinfo.Item("samples", ("abs", "eq"), "float32", ("c",))
    found = list(opinfo.outcomes_of([item], opinfo.parse([])))
    assert asked == [("abs", "eq"), ("abs",), ("eq",)]
    assert [(o.operator, o.status) for o in found] == [("abs", "native"), ("eq", "crashed")]


def test_less_native_than_before_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"operator": "add", "dtype": "float32", "target": "c", "status": s, "detail": ""}
        for s in ("native", "fallback")
    ]
    monkeypatch.setattr(opinfo, "floors", lambda: {"c float32": 50.0})
    assert opinfo.below_floors(rows) == []
    monkeypatch.setattr(opinfo, "floors", lambda: {"c float32": 50.01})
    assert opinfo.below_floors(rows) == ["c float32: 50.00 % native, was 50.01 %"]

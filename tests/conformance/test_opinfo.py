"""A share of PyTorch's operator samples; `make opinfo` runs all of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("expecttest", reason="PyTorch's operator samples need expecttest")

from tests.conformance import opinfo
from tests.conformance.cases import share
from tests.conformance.opinfo_cases import base_name, capturing, core_operators, is_core, operators, samples
from tests.conformance.opinfo_page import page

STATUSES = {"native", "fallback", "by rule", "skipped"}


def chosen(one_in: int) -> list[str]:
    """A share of the operators, by a hash of their names."""
    return [n for n in sorted(operators()) if share(n, one_in)]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["reference", "c"])
def test_no_sample_is_wrong(target: str) -> None:
    outcomes = [
        outcome
        for name in chosen({"reference": 12, "c": 40}[target])
        for outcome in opinfo.run_operator(name, "float32", target, limit=6)
    ]
    bad = [o for o in outcomes if o.status not in STATUSES]
    assert len(outcomes) > 30
    assert not bad, "\n".join(f"{o.operator} #{o.sample}: {o.status} {o.detail}" for o in bad)


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", "bool", "float64"])
def test_arithmetic_in_every_dtype(dtype: str) -> None:
    outcomes = opinfo.run_operator("eq", dtype, "reference", limit=4)
    assert {o.status for o in outcomes} == {"native"}


def test_a_wrong_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from aino_ir.frontends.torch.ops import TABLE

    monkeypatch.setitem(TABLE, "aten.tanh", lambda c, x: c.emit("sigmoid", x))
    outcomes = opinfo.run_operator("tanh", "float32", "reference", limit=2)
    assert outcomes and {o.status for o in outcomes} == {"wrong"}


def test_results_are_compared_whole() -> None:
    with capturing() as capture:
        captured = capture("add", samples("add", "float32")[0])
    right = [t.numpy() for t in captured.expected]
    assert opinfo.judge(right, captured) is None
    assert "results instead of" in (opinfo.judge([], captured) or "")
    assert "not float32" in (opinfo.judge([r.astype(np.float64) for r in right], captured) or "")
    assert "error" in (opinfo.judge([r * 1.01 for r in right], captured) or "")


def test_core_operators_are_known() -> None:
    assert {"add", "convolution", "native_layer_norm", "topk"} <= core_operators()
    assert base_name("nn.functional.gelu") == "gelu"
    assert base_name("var.unbiased") == "var"
    assert is_core("nn.functional.conv2d") and is_core("add") and not is_core("svd")


def test_page_counts_native_and_fallback_apart() -> None:
    rows = [
        {"operator": "svd", "dtype": "float32", "target": "c", "status": s, "detail": "no | row"}
        for s in ("native", "fallback", "fallback", "skipped")
    ]
    rows.append({**rows[0], "operator": "add", "status": "by rule", "detail": "a rule"})
    text = page(rows, "abc of a day")
    assert "| c | float32 | 5 | 1 | 2 | 1 | 0 | 0 | 0 | 1 | 20.0 % |" in text
    assert "| c | float32 | 1 | 1 | 100.0 % |" in text, "operators of core ATen"
    assert "| add | float32 | c | 1 | a rule |" in text
    assert "| svd | c | float32 | 1 | 2 | 0 | 0 | 0 | 0 | no / row |" in text


def test_differences_by_rule_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opinfo.BY_RULE, ("neg", "int64"), "a rule")
    monkeypatch.setattr(opinfo, "judge", lambda results, captured: "differs")
    outcomes = opinfo.run_operator("neg", "int64", "reference", limit=1)
    assert [(o.status, o.detail) for o in outcomes] == [("by rule", "a rule")]

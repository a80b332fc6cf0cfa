"""A sample of the ONNX backend suite on every target; `make conformance` runs all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.conformance import onnx_suite
from tests.conformance.cases import share
from tests.conformance.onnx_cases import KINDS, LEFT_OUT, Case, cases
from tests.conformance.onnx_page import page
from tests.conformance.onnx_suite import compare, did_pass, failing, run_case, run_cases

ONE_IN = {"reference": 12, "c": 18, "stablehlo": 40, "tvm:llvm": 300, "cuda-emu": 80, "cuda:sm_80": 90}
"""One case of the suite in so many is run here."""


@pytest.mark.slow
@pytest.mark.parametrize("target", ONE_IN)
def test_a_sample_of_the_backend_suite(target: str) -> None:
    todo = [c for c in cases(KINDS, lambda name: share(name, ONE_IN[target])) if c.kind != "real"]
    assert len(todo) > 1200 // ONE_IN[target]
    outcomes = list(run_cases(todo, target))
    assert sorted(o.case for o in outcomes) == sorted(c.name for c in todo)
    new = [o for o in outcomes if not did_pass(o.status) and o.case not in failing(target)]
    assert not new, "\n".join(f"{o.status} {o.case}: {o.detail}" for o in new)


@pytest.mark.slow
def test_the_suite_is_whole() -> None:
    found = list(cases())
    assert len({c.name for c in found}) == len(found) >= 2033
    assert {c.kind for c in found} == set(KINDS)
    assert sum(c.is_core for c in found) == 1403
    names = {c.name for c in found}
    assert set(LEFT_OUT) <= names
    assert all(failing(target) <= names for target in onnx_suite.TARGETS)


def adding(expected: float, name: str = "test_own") -> Case:
    """A case whose model adds two numbers."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    one, sum_ = np.ones(1, np.float32), np.full(1, expected, np.float32)
    return Case(name, "node", model, lambda: (([one, one], [sum_]),), 1e-3, 1e-7)


def test_outcomes() -> None:
    right, wrong = run_case(adding(2)), run_case(adding(3))
    assert (right.status, right.operator, right.core, right.detail) == ("passed", "Add", True, "")
    assert (wrong.status, wrong.detail) == ("wrong", "1 of 1 differ: 2.0 instead of 3.0")
    assert run_case(adding(3, next(iter(LEFT_OUT)))).status == "left out"
    broken = adding(2)
    broken.model.graph.node[0].op_type = "Unknown"
    assert run_case(broken).status == "refused"
    broken.model.CopyFrom(onnx.ModelProto())
    assert run_case(broken).status == "refused"


def test_comparison() -> None:
    one = np.ones(3, np.float32)
    assert compare([one], [one], 0, 0) == ""
    assert compare([one, one], [one], 0, 0)
    assert "shape" in compare([one[:2]], [one], 0, 0)
    assert "dtype" in compare([one.astype(np.float64)], [one], 0, 0)
    assert "3 of 3 differ" in compare([one * 2], [one], 1e-3, 0)
    assert compare([one * 2], [one], 1e-3, 0, values=False) == ""
    assert compare([None], [None], 0, 0) == ""
    assert compare([None], [one], 0, 0)
    assert compare([np.array(["a"], object)], [np.array(["a"])], 0, 0) == ""
    assert compare([np.array(["a"], object)], [np.array(["b"])], 0, 0)
    assert compare([[one, one]], [[one, one]], 0, 0) == ""
    assert compare([[one, one]], [[one, one * 2]], 0, 0)
    assert compare([np.array([np.nan])], [np.array([np.nan])], 0, 0) == ""


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["--kind", "simple", "--match", "^test_sign_model$|^test_shrink$", "--jsonl", str(rows)]
    assert onnx_suite.main([*arguments, "--match", "^test_sign_model$"]) == 0
    (first,) = map(json.loads, rows.read_text().splitlines())
    assert first["case"] == "test_sign_model" and first["status"] == "passed"
    assert {"commit", "source", "date", "versions", "target", "operator"} <= first.keys()
    assert onnx_suite.main(arguments) == 0
    assert "passed 2 of 2" in capsys.readouterr().out.splitlines()[-1]
    assert [json.loads(line)["case"] for line in rows.read_text().splitlines()] == [
        "test_sign_model",
        "test_shrink",
    ]
    with pytest.raises(SystemExit, match="shard"):
        onnx_suite.main([*arguments, "--shard", "2/2"])


def test_the_page_says_what_the_rows_say() -> None:
    facts = {"date": "2000-01-01", "commit": "abc", "versions": "onnx 1", "fixed": []}
    good = {"case": "test_a", "operator": "A", "core": True, "status": "passed", "host_steps": 0, **facts}
    runs = {
        "reference": [{**good, "host_steps": 1}],
        "c": [
            good,
            {**good, "case": "test_a_expanded_ver1", "operator": "X", "host_steps": 2},
            {**good, "case": "test_b", "operator": "B", "status": "wrong", "detail": "1 | /tmp/x/y differ"},
            {**good, "case": "test_bernoulli", "operator": "Bernoulli", "status": "left out"},
        ],
    }
    text = page(runs)
    assert "| `c` | 3 | 1 | 1 | 0 | 1 | 0 | 66.66 % | 2 of 3 | 33.33 % |" in text
    assert "| `test_b` | wrong | 1 \\| ... differ |" in text
    assert "| A | 2 | 1 |  |  |  | 1 | 1 |  |  |  |" in text

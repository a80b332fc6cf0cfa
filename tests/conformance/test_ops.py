"""A share of the conformance cases, by a hash of the case's name; `python -m tests.conformance.run` runs all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.codegen.native import runnable
from tests.conformance import run
from tests.conformance.batch import in_child, run_cases
from tests.conformance.cases import Case, all_cases, judge, share

ONE_IN = 24
"""Each target sees one case in so many, another share on each target."""


@pytest.mark.parametrize(("target", "number"), [("c:avx2", 0), ("c:portable", 1)])
def test_a_share_of_the_cases(target: str, number: int) -> None:
    if not runnable(target):
        pytest.skip("not on this machine")
    cases = [c for c in all_cases() if share(c.name, ONE_IN, number)]
    assert len(cases) > 50
    outcomes = list(run_cases(cases, target, size=len(cases)))
    assert [o.case for o in outcomes] == [c.name for c in cases]
    assert not [o for o in outcomes if o.status != "passed"]


def test_names_are_unique() -> None:
    names = [c.name for c in all_cases()]
    assert len(names) == len(set(names))
    assert sum(share(n, 3, 0) + share(n, 3, 1) + share(n, 3, 2) for n in names) == len(names)


def find(match: str) -> Case:
    return next(all_cases(match))


def test_the_judge_tells_right_from_wrong() -> None:
    add = find("^math.add/0 ")
    (right,) = add.expected()
    assert judge(add, [right], [right]) is None
    wrong = right.copy()
    wrong.flat[30] = np.nextafter(wrong.flat[30], np.float32(9))
    assert "differ" in str(judge(add, [wrong], [right]))
    assert "not float32" in str(judge(add, [right.astype(np.float64)], [right]))
    exp = find("^math.exp/1 ")
    (right,) = exp.expected()
    near, far = np.nextafter(right, np.float32(9)), right * np.float32(1.00001)
    assert judge(exp, [near], [right]) is None
    assert "ulps" in str(judge(exp, [far], [right]))


def dies() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_process_that_dies_is_told() -> None:
    assert in_child(dies) == ("crashed", "SIGSEGV")


def test_the_command_writes_one_line_a_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["--match", "^core.dims/[02]", "--target", "c:portable", "--jsonl", str(rows)]
    assert run.main(arguments) == 0
    assert "{'passed': 2}" in capsys.readouterr().out
    lines = rows.read_text().splitlines()
    assert len(lines) == 2
    assert '"status": "passed"' in lines[0]
    assert run.main([*arguments, "--resume"]) == 0
    assert rows.read_text().splitlines() == lines

"""Cases of ONNX's suite with strings, sequences and optional values on target c: in Python where they must be."""

from __future__ import annotations

import re

import pytest

from tests.conformance.onnx_cases import Case, cases
from tests.conformance.onnx_suite import run_case

WANTED = re.compile(
    r"^test_(string|regex|strnorm|sequence_(map|insert_at|model)|optional_(get|has)|split_to_sequence|loop13_seq"
    r"|if_seq|if_opt|identity_opt|concat_from)"
)

PYTHON = re.compile(r"^test_(string|regex|strnorm|sequence_map|split_to_sequence)")
"""Cases that nothing but Python serves."""


def wanted() -> list[Case]:
    """A fixed choice: every third by name, so that a run takes seconds."""
    found = sorted(cases(("node", "simple"), WANTED.match), key=lambda case: case.name)
    return found[::3]


@pytest.mark.parametrize("case", wanted(), ids=lambda case: case.name)
def test_cases_pass_and_count_their_python_steps(case: Case) -> None:
    outcome = run_case(case, "c")
    assert outcome.status == "passed", outcome.detail
    if PYTHON.match(case.name):
        assert outcome.host_steps > 0

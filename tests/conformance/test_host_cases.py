"""Cases of ONNX's suite with strings, sequences and optional values on target c: in Python where they must be."""

from __future__ import annotations

import re

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


def test_cases_pass_and_count_their_python_steps() -> None:
    outcomes = [run_case(case, "c") for case in wanted()]
    assert len(outcomes) > 20
    bad = [o for o in outcomes if o.status != "passed" or (PYTHON.match(o.case) and not o.host_steps)]
    assert not bad, "\n".join(
        f"{o.case}: {o.status}, {o.host_steps} steps in Python: {o.detail}" for o in bad
    )

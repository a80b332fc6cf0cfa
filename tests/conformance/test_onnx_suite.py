"""A sample of the ONNX backend suite on the interpreter; `python -m tests.conformance.onnx_suite` runs all."""

from __future__ import annotations

import zlib

import pytest

from tests.conformance.onnx_suite import cases, run_case

SHARE = 12
"""One case of the suite in this many is run here."""


@pytest.mark.slow
def test_a_sample_of_the_backend_suite() -> None:
    outcomes = [run_case(c) for c in cases(["node"], lambda name: zlib.crc32(name.encode()) % SHARE == 0)]
    assert len(outcomes) > 120
    bad = [f"{o.name}: {o.detail}" for o in outcomes if o.status in ("wrong", "crashed")]
    assert not bad, "\n".join(bad)
    passed = sum(o.status == "passed" for o in outcomes)
    assert passed >= 0.8 * len(outcomes), [f"{o.name}: {o.detail}" for o in outcomes if o.status != "passed"]

"""A reference network whose kernels are emulated; `python -m tests.codegen.cuda.networks` runs all eight."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.codegen.cuda.networks import emulated


@pytest.mark.slow
def test_a_network_runs_emulated() -> None:
    found = emulated("bert_base_small")
    assert found.right, found
    assert found.generators["tile"] and found.generators["block rows"]

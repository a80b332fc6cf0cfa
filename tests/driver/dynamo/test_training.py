"""Whole networks train as in eager: 30 steps of BERT with dropout and of ResNet-18."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.torch_training import TASKS, compare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("name", list(TASKS))
def test_thirty_steps(name: str, compiled: list[Any]) -> None:
    found = compare(name, steps=30, batch=8, options={"threads": 1, "verify": "off", "strict": True})
    assert found.first <= 1e-4
    assert found.last <= 0.02
    assert len(compiled) == 2, "one graph forward, one backward"

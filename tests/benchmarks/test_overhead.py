"""The script that measures what a call costs."""

from __future__ import annotations

import numpy as np
import pytest

import aino_ir as aino
from benchmarks.overhead import SIZES, main, measure, mlp


def test_calls_from_python_and_from_c_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(calls=20)
    assert min(found.python, found.python_out, found.c) > 0 <= found.kernels
    assert main(["--calls", "5", "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "MLP 784-64-10, batch 2" in said
    assert said.count("us a call") == 4


def test_the_mlp_computes_something() -> None:
    x = np.random.default_rng(3).standard_normal((2, SIZES[0])).astype(np.float32)
    (y,), (expected,) = aino.compile(mlp(2), threads=1).run(x), aino.compile(mlp(2), "reference").run(x)
    assert np.abs(expected).max() > 0.1
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()

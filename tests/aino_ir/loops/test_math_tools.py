"""The tools behind the vector math library: coefficients can be derived again, C is measured right."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from aino_ir.loops.math import coefficients
from tools.math_reference import fingerprint, ulp_errors


@pytest.mark.parametrize(("name", "dtype"), [("cos", "f32"), ("sinh", "f32"), ("exp", "f32"), ("cos", "f64")])
def test_coefficients_are_what_the_generator_derives(name: str, dtype: str) -> None:
    pytest.importorskip("mpmath")
    from tools import minimax

    derived, error = minimax.generate(name, ("f32", "f64").index(dtype))
    assert tuple(derived) == getattr(coefficients, name.upper())[dtype]
    assert error < {"f32": -25, "f64": -54}[dtype]


def test_remez_finds_the_known_minimax_line() -> None:
    """sqrt(x) on [1/4, 1] is nearest to 2/3 x + 17/48, with error 1/48: parallel to the chord."""
    mp = pytest.importorskip("mpmath")
    from tools import minimax

    line = minimax.Polynomial(mp.sqrt, lambda x: mp.mpf(1), (0, 0.25), (0, 1), (0, 1), "sqrt by a line")
    (constant, slope), level = minimax.fit(line, 1)
    assert constant == pytest.approx(17 / 48, abs=1e-4)
    assert slope == pytest.approx(2 / 3, abs=1e-4)
    assert float(level) == pytest.approx(1 / 48, abs=1e-4)


def test_errors_are_counted_in_units_of_the_wanted_number() -> None:
    got = np.float32([1 + 2.0**-23, 2.0**-149, math.inf, math.inf, -0.0, math.nan, 1.0])
    want = np.float64([1, 0, 1e39, 1, 0, 1, math.nan])
    assert ulp_errors("f32", got, want).tolist() == [1, 1, 0, math.inf, math.inf, math.inf, math.inf]
    assert ulp_errors("f64", np.float64([1.0]), np.float64([1.0]), np.float64([2.0**-54])).tolist() == [0.25]


def test_a_fingerprint_is_that_of_the_body() -> None:
    assert fingerprint("exp") == fingerprint("exp") != fingerprint("exp2")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_compiled_functions_meet_their_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tools import certify_math

    rows = tmp_path / "rows.jsonl"
    command = ["--stride", "40009", "--isa", "portable", "--json", str(rows), "exp", "gelu", "sin"]
    monkeypatch.setattr(sys, "argv", ["certify_math.py", *command])
    assert certify_math.main() == 0
    assert capsys.readouterr().out.count("special 0") == 3
    assert fingerprint("gelu") in rows.read_text()

"""Literals have exactly the value of the constant."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.codegen.cstyle.literals import integer, literal
from aino_ir.dtypes import boolean, f32, f64, i32, i64, u32, u64


@given(st.integers(0, 2**32 - 1))
def test_f32_literals_round_trip(bits: int) -> None:
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    text = literal(value, f32).text
    if math.isnan(value):
        assert text == '__builtin_nanf("")'
    elif math.isinf(value):
        assert text.removeprefix("-") == "__builtin_inff()"
    else:
        assert text.endswith("f")
        assert "." in text or "e" in text
        assert np.float32(text[:-1]).tobytes() == struct.pack("<f", value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_f64_literals_round_trip(value: float) -> None:
    text = literal(value, f64).text
    assert struct.pack("<d", float(text)) == struct.pack("<d", value)
    assert "." in text or "e" in text


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (1.0, f32, "1.0f"),
        (-0.0, f32, "-0.0f"),
        (1e-5, f32, "1e-05f"),
        (2147483648.0, f32, "2147483648.0f"),
        (0.1, f64, "0.1"),
        (1e300, f32, "__builtin_inff()"),
        (True, boolean, "true"),
        (-(2**31), i32, "INT32_MIN"),
        (2**31 - 1, i32, "2147483647"),
        (-(2**63), i64, "INT64_MIN"),
        (-(2**40), i64, "-INT64_C(1099511627776)"),
        (3, i64, "3"),
        (2**32 - 1, u32, "4294967295u"),
        (2**64 - 1, u64, "UINT64_C(18446744073709551615)"),
    ],
)
def test_known_literals(value, dtype, text) -> None:
    assert literal(value, dtype).text == text


def test_integers_beyond_int() -> None:
    assert integer(2**31).text == "INT64_C(2147483648)"
    assert integer(-7).text == "-7"

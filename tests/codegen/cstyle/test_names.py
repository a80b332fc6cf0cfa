"""Whatever a name is, its identifier and its comment are safe."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.codegen.cstyle.names import RESERVED, Names, comment, identifier, string_lines, string_literal


@given(st.text(max_size=60))
def test_identifiers_are_c_identifiers(text: str) -> None:
    name = identifier(text)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    assert name not in RESERVED
    assert len(name) <= max(60, len(text) + 2)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("acc_0_1", "acc_0_1"),
        ("for", "for_"),
        ("views", "views_"),
        ("load_f32x8", "load_f32x8_"),
        ("f32x8", "f32x8_"),
        ("max_i64", "max_i64_"),
        ("2x", "v2x"),
        ("_t", "v_t"),
        ("INT32_MIN", "INT32_MIN_"),
    ],
)
def test_known_identifiers(text: str, name: str) -> None:
    assert identifier(text) == name


def test_changed_names_stay_apart() -> None:
    assert identifier("a.b") != identifier("a-b")
    names = Names(("t",))
    assert names["t"] == "t_2"
    assert names["t_2"] == "t_2_2"
    assert names["t"] == "t_2"
    assert names["for"] != names["for_"]
    assert (names["n.0"], names["n-0"], names["n_0"]) == ("n_0", "n_0_2", "n_0_3")


@given(st.text(max_size=80))
def test_comments_stay_comments(text: str) -> None:
    line = comment(text)
    assert all(" " <= c <= "~" for c in line)
    assert "*/" not in line
    assert "/*" not in line
    assert "??" not in line


def unescaped(literal: str) -> bytes:
    """What C makes of one string literal."""
    assert re.fullmatch(r'"([^"\\]|\\["\\]|\\[0-7]{3})*"', literal)
    inner = literal[1:-1].encode("ascii")
    return re.sub(rb'\\([0-7]{3}|["\\])', lambda m: m[1] if len(m[1]) == 1 else bytes([int(m[1], 8)]), inner)


@given(st.text(max_size=40))
def test_string_literals_hold_the_bytes(text: str) -> None:
    assert unescaped(string_literal(text)) == text.encode("utf-8", "surrogatepass")


@given(st.text(max_size=80), st.integers(4, 30))
def test_broken_literals_hold_the_bytes(text: str, width: int) -> None:
    lines = string_lines(text, width)
    assert all(len(line) <= width + 2 for line in lines)
    assert b"".join(map(unescaped, lines)) == text.encode("utf-8", "surrogatepass")

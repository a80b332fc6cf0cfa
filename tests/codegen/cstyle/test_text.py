"""Expression text: few parentheses, none missing."""

from __future__ import annotations

import itertools

import pytest

from aino_ir.codegen.cstyle.text import (
    LEVELS,
    LINE_LENGTH,
    Code,
    binary,
    call,
    cast,
    conditional,
    element,
    prefix,
    wrap,
)

A, B, C = Code("a"), Code("b"), Code("c")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (binary("+", binary("*", A, B), C), "a * b + c"),
        (binary("*", binary("+", A, B), C), "(a + b) * c"),
        (binary("-", A, binary("-", B, C)), "a - (b - c)"),
        (binary("+", A, binary("+", B, C)), "a + (b + c)"),
        (binary("-", binary("-", A, B), C), "a - b - c"),
        (binary("&", binary("&", A, B), C), "a & b & c"),
        (binary("|", binary("&", A, B), C), "(a & b) | c"),
        (binary("<<", binary("+", A, B), C), "(a + b) << c"),
        (binary("||", binary("&&", A, B), C), "(a && b) || c"),
        (binary("&&", binary("<", A, B), C), "a < b && c"),
        (binary("==", binary("<", A, B), C), "(a < b) == c"),
        (prefix("-", prefix("-", A)), "-(-a)"),
        (prefix("-", binary("*", A, B)), "-(a * b)"),
        (cast("float", binary("+", A, B)), "(float)(a + b)"),
        (cast("float", A), "(float)a"),
        (element(binary("+", A, B), "0"), "(a + b)[0]"),
        (conditional(binary("<", A, B), A, conditional(B, C, A)), "a < b ? a : b ? c : a"),
        (conditional(conditional(A, B, C), A, B), "(a ? b : c) ? a : b"),
        (binary("+", conditional(A, B, C), C), "(a ? b : c) + c"),
        (call("f", A, binary("+", A, B)), "f(a, a + b)"),
    ],
)
def test_parentheses(code: Code, text: str) -> None:
    assert code.text == text


def test_every_nesting_of_two_operators_keeps_its_meaning() -> None:
    """Python's own parser judges the arithmetic ones, whose precedence it shares with C."""
    shared = ["+", "-", "*", "%", "<<", ">>", "&", "^", "|"]
    for outer, inner in itertools.product(shared, shared):
        a, b, c = 13, 5, 3
        env = {"a": a, "b": b, "c": c}
        grouped = eval(f"a {outer} (b {inner} c)", {}, env) if outer not in "%" or _nonzero(inner) else None
        if grouped is not None:
            assert eval(binary(outer, A, binary(inner, B, C)).text, {}, env) == grouped
        assert eval(binary(outer, binary(inner, A, B), C).text, {}, env) == eval(
            f"(a {inner} b) {outer} c", {}, env
        )


def _nonzero(inner: str) -> bool:
    return bool(eval(f"5 {inner} 3"))


def test_all_operators_have_a_level() -> None:
    assert set("+-*/%&|^<>") | {"<<", ">>", "<=", ">=", "==", "!=", "&&", "||"} == set(LEVELS)


def test_long_lines_are_broken_and_keep_their_words() -> None:
    line = "    f(" + ", ".join(f"argument_{i}" for i in range(30)) + ");"
    parts = wrap(line)
    assert len(parts) > 1
    assert all(len(p) <= LINE_LENGTH for p in parts)
    assert "".join(p.strip() for p in parts).replace(" ", "") == line.replace(" ", "")
    assert wrap("#define " + "x" * 200) == ["#define " + "x" * 200]
    assert wrap("y" * 200) == ["y" * 200]

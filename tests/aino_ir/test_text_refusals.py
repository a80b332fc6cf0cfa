"""Text that cannot be is refused, with the place and what was expected there."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.constants import Const
from aino_ir.errors.text import TextMismatch, TextSyntaxError, UnknownWeight
from aino_ir.text import parse

HEAD = 'module "m" {\n  func main(%1: f32[s, 4] "x") -> ("y")\n  symbols {\n    s in 1 .. 64 step 1 local\n  }\n  {\n'


TAIL = "    core.return %2 #9\n  }\n}\n"


def refused(line: str, head: str = HEAD, tail: str = TAIL) -> TextMismatch | TextSyntaxError:
    with pytest.raises((TextMismatch, TextSyntaxError)) as raised:
        parse(f"{head}    {line}\n{tail}")
    return raised.value


def pointed_at(error: TextMismatch | TextSyntaxError) -> str:
    """The text from the caret on."""
    fields = error.fields
    assert str(error).count(fields["shown"]) == 1
    return str(fields["shown"][len(fields["caret"]) - 1 :])


@pytest.mark.parametrize(
    ("line", "problem", "at"),
    [
        ("%2 = math.rely %1 : f32[s, 4] #2", "no op is called 'math.rely'", "math.rely"),
        ("%2 = math.relu %7 : f32[s, 4] #2", "%7 is used before it is made", "%7 :"),
        ("%1 = math.relu %1 : f32[s, 4] #2", "%1 is made twice", "%1 = "),
        ("core.return #5 %2 = math.relu %1 : f32[4] #5", "two ops have the id #5", "#5"),
        ("%2 = math.relu %1 #2", "1 results but 0 types", "%2 = math"),
        ("%2 = math.relu %1 : f33[4] #2", "no dtype is called 'f33'", "f33["),
        ("%2 = math.relu %1 <x = 1> : f32[4] #2", "math.relu has no attribute 'x'; it has: none", "1>"),
        (
            '%2 = math.leaky_relu %1 <alpha = "a"> : f32[4] #2',
            "attribute 'alpha' of math.leaky_relu must be float",
            '"a"',
        ),
        ("%2 = math.leaky_relu %1 <alpha = none> : f32[4] #2", "must be float", "none"),
        ("%2 = math.leaky_relu %1 <alpha = 1, alpha = 2> : f32[4] #2", "'alpha' is given twice", "%2 ="),
        ("%2 = math.leaky_relu %1 <alpha = 0x1p99999> : f32[4] #2", "is too large for a float", "0x1p"),
        ("%2 = tensor.transpose %1 : f32[4, s] #2", "tensor.transpose needs attribute 'perm'", "%2 ="),
        ("%2 = tensor.transpose %1 <perm = [1, s]> : f32[4, s] #2", "must be ints", "[1, s]"),
        ('%2 = math.cast %1 <to = "f33"> : f32[4] #2', "no dtype is called 'f33'", '"f33"'),
        ("%2 = core.constant <value = const f32[2] [1]> : f32[2] #2", "1 elements for f32[2]", "[1]"),
        ("%2 = core.constant <value = const i8[1] [300]> : i8[1] #2", "'300' is no i8", "[300]"),
        ("%2 = core.constant <value = const i8[1] [x]> : i8[1] #2", "'x' is no i8", "[x]"),
        ("%2 = core.constant <value = const bool[1] [1]> : bool[1] #2", "neither true nor false", "[1]"),
        ("%2 = core.constant <value = const f32[1] [0x1]> : f32[1] #2", "'0x1' is no float", "[0x1]"),
        (
            "%2 = core.constant <value = const f32[s] [1]> : f32[1] #2",
            "a constant cannot be of type f32[s]",
            "const",
        ),
        (
            "%2 = core.constant <value = const seq<f32[1]> [1]> : f32[1] #2",
            "cannot be of type seq<f32[1]>",
            "const",
        ),
        (
            "%2 = core.constant <value = lazy f32[1] (const f32[1] [1]) () { core.return #1 }> : f32[1] #2",
            "1 constants for 0",
            "core.return",
        ),
        ("%2 = math.relu %1 : f32[s//0] #2", "divided by 0", "f32["),
        ("%2 = math.relu %1 : f32[4] #2 !3", "the table of locations has no !3", "!3"),
        ('%2 = math.relu %1 : f32[4] #2 } } names { %5 "a" } // ', "", ""),
    ],
)
def test_what_cannot_be_is_pointed_at(line: str, problem: str, at: str) -> None:
    error = refused(line)
    if problem:
        assert isinstance(error, TextMismatch), error
        assert problem in error.message and error.fields["line"] == 7
    assert pointed_at(error).startswith(at), str(error)


@pytest.mark.parametrize(
    ("line", "at", "expected"),
    [
        ("%2 = math", "math", "an op such as math.add"),
        ("%2 = math.relu %1 : f32[4]", "core.return", "an op's id such as #1"),
        ("%2 = math.relu %1 : f32[4 #2", "#2", "']'"),
        ("%2 = math.relu %1 <alpha = > : f32[4] #2", "> :", "a float"),
        ('%2 = math.relu "a\nb" #2', '"a', "'<'"),
        ("%2 = math.relu %99999999999999999999 : f32[4] #2", "99 :", ""),
        (f"%2 = math.relu %1 : f32[{'9' * 101}] #2", "f32[" + "9" * 10, ""),
        ("é", "?", "a value such as %1"),
    ],
)
def test_what_is_no_text_is_pointed_at(line: str, at: str, expected: str) -> None:
    error = refused(line)
    assert isinstance(error, TextSyntaxError)
    assert expected in error.fields["expected"]
    if not line.startswith("%2 = math.relu %1 : f32[9"):
        assert pointed_at(error).startswith(at), str(error)


def test_the_whole_message() -> None:
    error = refused("%2 = math.rely %1 : f32[s, 4] #2")
    assert str(error) == (
        "AINO-E0242: line 7, column 10: no op is called 'math.rely'\n"
        "        %2 = math.rely %1 : f32[s, 4] #2\n"
        "             ^\n"
        "  help: fix this line; docs/ir.md lists every op with its attributes\n"
        "  see docs/errors.md#aino-e0242"
    )


def test_tabs_and_long_lines_keep_the_caret_in_place() -> None:
    error = refused("\t\t%2 = math.rely %1 : f32[s, 4] #2")
    assert error.fields["caret"] == "    \t\t     ^"
    wide = refused(f"%2 = math.relu %1 <{'x' * 400} = 1> : f32[4] #2 ;")
    assert len(wide.fields["shown"]) <= 120 and pointed_at(wide).startswith(";")


def test_unfinished_text_points_at_its_end() -> None:
    with pytest.raises(TextSyntaxError) as raised:
        parse(HEAD)
    assert (raised.value.fields["line"], raised.value.fields["column"]) == (6, 4)
    with pytest.raises(TextSyntaxError, match="line 1, column 1"):
        parse("")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("s in 1 .. 64 step 1 local s in 1 .. 2 step 1 local", "already declared"),
        ("s in 9 .. 8 step 1 local", "no value left"),
        ("s in 1 .. 8 step 0 local", "must be at least 1"),
        ('s in 1 .. 8 step 1 input "\\q" 0', "no string literal"),
    ],
)
def test_symbol_tables_that_cannot_be(table: str, problem: str) -> None:
    head = HEAD.replace("s in 1 .. 64 step 1 local", table)
    assert problem in refused("%2 = math.relu %1 : f32[s, 4] #2", head).message


def test_checks_that_cannot_hold() -> None:
    head = HEAD.replace("  }\n  {\n", '  }\n  checks { s >= 65 "more" }\n  {\n')
    assert "can never hold" in refused("%2 = math.relu %1 : f32[s, 4] #2", head).message


def test_two_functions_of_one_name_and_inputs_after_states() -> None:
    again = TAIL.removesuffix("}\n") + "func main() -> () { core.return #10 }\n}\n"
    assert "two functions called 'main'" in refused("%2 = math.relu %1 : f32[s, 4] #2", tail=again).message
    late = HEAD.replace('"x")', '"x" state, %5: f32[1] "z")')
    assert "stands after a state slot" in refused("%2 = math.relu %1 : f32[s, 4] #2", late).message


@pytest.mark.parametrize(("opening", "closing"), [("- ", ""), ("min(1, ", ")"), ("seq<", ">")])
def test_deep_nesting_is_refused(opening: str, closing: str) -> None:
    whole = "f32[1]" if closing == ">" else "1"
    nested = f"{opening * 1500}{whole}{closing * 1500}"
    error = refused(f"%2 = math.relu %1 : {nested if closing == '>' else f'f32[{nested}]'} #2")
    assert "nested too deeply" in error.message


def test_weights_must_be_at_hand_and_of_the_right_size() -> None:
    line = '%2 = core.constant <value = weight f32[2] "abc"> : f32[2] #2'
    text = f"{HEAD}    {line}\n{TAIL}"
    with pytest.raises(UnknownWeight, match="no weight abc of type"):
        parse(text)
    with pytest.raises(TextMismatch, match="has 3 bytes"):
        parse(text, {"abc": np.zeros(3, np.uint8)})
    module = parse(text, {"abc": np.array([1, 2], np.float32)})
    assert module.main.block.first.value.array().tolist() == [1, 2]
    found = Const.of(np.zeros(2, np.float32))
    assert parse(text, lambda digest, type: found).main.block.first.value is found

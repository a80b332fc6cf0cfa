"""Quotients of kernels with symbols: computed once, outside of the loops, as the machine divides."""

from __future__ import annotations

import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.tvm.sharing import SharedQuotients, SharingIndexText, divided
from aino_ir.codegen.tvm.text import PythonNames, Text
from aino_ir.dims import DimLike, symbol
from aino_ir.dtypes import f32
from aino_ir.graph import Module
from aino_ir.loops.stmt import UNIT
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType
from tests.codegen.tvm.support import agrees, emitted, weights


def padded() -> Module:
    """A pad of two axes by numbers that a run decides."""
    b = Builder()
    n, m = (b.function.symbols.new(name, 1, 64) for name in "nm")
    x = b.input("x", TensorType(f32, (n, m)))
    y = b.transpose(x, perm=(1, 0))
    b.output("out", b.exp(b.concat(y, y, axis=1)))
    return b.module


def test_what_depends_on_symbols_and_units_has_variables() -> None:
    names, ranges = PythonNames(), Ranges({"n": (1, None), "m": (0, None), UNIT: (0, None)})
    quotients = SharedQuotients(["n", "m"], names, ranges)
    text = SharingIndexText(lambda n: Text(names[n]), lambda v: Text(f"T.int64({v})"), quotients)
    n, unit, i = symbol("n"), symbol(UNIT), symbol("i")
    whole = (unit // n) * 4 + unit // n + n // 2 + i // n
    assert text.text(whole).text == text.text(whole).text
    for lines, value in (
        (quotients.before, "T.truncdiv(n, T.int64(2))"),
        (quotients.inside, "T.truncdiv(unit, n)"),
    ):
        declared, assigned = lines
        assert "T.alloc_scalar(" in declared and value in assigned
    assert "i // n" in text.text(whole).text  # of a loop's variable: stays in its loop


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (symbol("n"), 4, "T.truncdiv(n, T.int64(4))"),
        (symbol("n") - 5, 4, "(n - 5) // T.int64(4)"),
        (-symbol("n"), -symbol("m"), "-n // T.Select(T.EQ(-m, T.int64(0)), T.int64(1), -m)"),
        (symbol("n"), symbol("m"), "T.truncdiv(n, T.Select(T.EQ(m, T.int64(0)), T.int64(1), m))"),
    ],
)
def test_the_machine_divides_what_is_not_negative(a: DimLike, b: DimLike, wanted: str) -> None:
    text = SharingIndexText(
        lambda n: Text(n),
        lambda v: Text(f"T.int64({v})"),
        SharedQuotients((), PythonNames(), Ranges()),
    )
    ranges = Ranges({"n": (0, None), "m": (0, None)})
    assert divided("//", a, b, ranges, text.text).text == wanted


def test_no_extent_of_memory_is_a_polynomial() -> None:
    _, emission = emitted(padded())
    declared = [line for line in emission.script.splitlines() if "= T.match_buffer(" in line]
    assert declared and all("_size,)" in line for line in declared)
    loops = [line for line in emission.script.splitlines() if "T.parallel(" in line]
    assert loops and all("T.parallel(units)" in line for line in loops)


def test_shared_quotients_are_right() -> None:
    executable = agrees(padded(), weights(3, 17))
    reference = aino.compile(padded(), "reference")
    for n, m in ((1, 1), (13, 8)):
        x = weights(n, m)
        (got,), (want,) = executable.run(x), reference.run(x)
        assert disagreement(got, want, "reordered") is None

"""`core.call`: functions that call functions, symbols renamed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dims import symbol
from aino_ir.errors.base import AinoError
from aino_ir.errors.ir import BadAttribute, BadOperand, InvariantBroken
from aino_ir.graph import Function, Module
from aino_ir.interp import run_module
from aino_ir.ops.call import Call
from aino_ir.text import parse, print_module
from aino_ir.types import StringType, tensor
from aino_ir.verify import verify


def twice(module: Module) -> Function:
    """y = x + x of f32[n, 3]."""
    b = Builder(module.add_function("twice"))
    x = b.input("x", tensor("f32", b.symbol("n", 1), 3))
    b.output("y", b.add(x, x))
    return b.finish()


def calling(rows: Any, columns: int = 3, **attributes: Any) -> Module:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    twice(module)
    if isinstance(rows, str):
        rows = b.symbol(rows, 1)
    x = b.input("x", tensor("f32", rows * 2, columns))
    wanted = {"callee": "twice", "symbols": ["n"], "dims": [rows * 2], **attributes}
    b.output("y", b.relu(b.op(Call, x, **wanted).results[0]))
    return b.module


@pytest.mark.parametrize("rows", ["m", 2])
def test_types_and_values_come_from_the_function(rows: Any) -> None:
    module = calling(rows)
    verify(module)
    (y,) = module.main.outputs
    assert y.shape == (2 * symbol("m") if rows == "m" else 4, 3)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    (got,) = run_module(module, [x])
    assert np.array_equal(got, np.maximum(x + x, 0))


def test_text_keeps_calls_and_symbols_that_callers_give() -> None:
    from aino_ir.symbols import Origin

    module = calling("m")
    module.functions["twice"].symbols.new("k", 0, 9, origin=Origin.given())
    text = print_module(module)
    again = parse(text)
    assert print_module(again) == text
    assert again.functions["twice"].symbols.declared("k").origin == Origin.given()
    verify(again)


@pytest.mark.parametrize(
    ("attributes", "error", "what"),
    [
        ({"callee": "thrice"}, BadAttribute, "a function of the module"),
        ({"dims": []}, BadAttribute, "1 extents"),
        ({"dims": [7]}, AinoError, "input 'x'"),
        ({"symbols": [], "dims": []}, BadAttribute, "to name 'n'"),
        ({"decided": ["z"]}, BadAttribute, "symbols of the caller"),
        ({"decided": ["m"]}, BadAttribute, "as many as the last result"),
    ],
)
def test_calls_that_do_not_fit_are_refused(
    attributes: dict[str, Any], error: type[AinoError], what: str
) -> None:
    with pytest.raises(error, match=what):
        calling("m", **attributes)


def test_operands_are_checked() -> None:
    with pytest.raises(AinoError, match="input 'x'"):
        calling("m", columns=4)
    module = Module("calls")
    b = Builder(module.add_function("main"))
    twice(module)
    with pytest.raises(BadOperand, match="operands for 'twice'"):
        b.op(Call, callee="twice", symbols=["n"], dims=[3])


def test_results_may_not_name_symbols_of_the_function() -> None:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("f"))
    inner.output("y", inner.expand(inner.input("x", tensor("f32", 1)), shape=[inner.symbol("q", 1)]))
    inner.finish()
    with pytest.raises(BadAttribute, match="to name 'q'"):
        b.op(Call, b.input("x", tensor("f32", 1)), callee="f")


def test_functions_with_state_are_not_called() -> None:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("f"))
    inner.finish([inner.state("s", tensor("f32"))])
    with pytest.raises(BadAttribute, match="without state"):
        b.op(Call, callee="f")


def test_strings_pass_through() -> None:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("f"))
    inner.output("y", inner.input("x", StringType((inner.symbol("n", 1),))))
    inner.finish()
    b.output("y", b.op(Call, b.input("x", StringType((2,))), callee="f", symbols=["n"], dims=[2]).results[0])
    verify(b.module)
    assert run_module(b.module, [np.asarray(["a", "b"], object)])[0].tolist() == ["a", "b"]


def test_decided_symbols_are_bound_by_the_last_result() -> None:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("f"))
    inner.output("k", inner.input("x", tensor("i64", 1)))
    inner.finish()
    k = b.symbol("k", 0, 9)
    x = b.input("x", tensor("i64", 1))
    b.op(Call, x, callee="f", decided=["k"])
    b.output("y", b.expand(b.constant(np.float32([[1, 2]])), shape=[k, 2]))
    verify(b.module)
    assert run_module(b.module, [np.asarray([3])])[0].shape == (3, 2)


def test_functions_do_not_call_themselves() -> None:
    module = Module("calls")
    for name in ("main", "f", "g"):
        Builder(module.add_function(name)).finish()
    for name, callee in (("main", "f"), ("f", "g")):
        before = module.functions[name].block.last
        Builder(module.functions[name], before=before).op(Call, callee=callee)
    verify(module)
    Builder(module.functions["g"], before=module.functions["g"].block.last).op(Call, callee="f")
    with pytest.raises(InvariantBroken, match="function g calls f"):
        verify(module)

"""Which products become calls of cuBLAS, and what the calls say."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda.launch import kernel_facts
from aino_ir.codegen.cuda.library_products import LibraryProductGenerator, beside_library
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.dtypes import i32
from aino_ir.kernels import Candidate, Kernel, Reject
from aino_ir.library_calls import Matrix, ProductCall
from aino_ir.ops.quant_products import QuantMatMul
from aino_ir.runtime.cuda.plan import KernelFacts
from aino_ir.types import tensor

ROWS, TERMS, COLUMNS = 48, 64, 96
NUMPY: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64}


def layer(
    dtype: str = "bf16",
    bias: bool = False,
    activation: str = "",
    target: str = "cuda:sm_80",
    numerics: str = "default",
    constant: bool = True,
    sides: tuple[str, str] = ("", ""),
) -> Kernel:
    """The kernel of a layer."""
    b = aino.Builder()

    def matrix(name: str, shape: tuple[int, int], turned: bool) -> Any:
        x = b.input(name, tensor(dtype, *(shape[::-1] if turned else shape)))
        return b.transpose(x, perm=(1, 0)) if turned else x

    x = matrix("x", (ROWS, TERMS), bool(sides[0]))
    if constant:
        w = b.constant(np.ones((TERMS, COLUMNS), NUMPY[dtype]))
    else:
        w = matrix("w", (TERMS, COLUMNS), bool(sides[1]))
    y = b.matmul(x, w)
    if bias:
        y = b.add(y, b.input("b", tensor(dtype, COLUMNS)))
    if activation == "relu":
        y = b.relu(y)
    elif activation:
        y = b.gelu(y, approximate=activation)
    b.output("y", y)
    return kernel_of(b.module, target, numerics)


def kernel_of(module: aino.Module, target: str = "cuda:sm_80", numerics: str = "default") -> Kernel:
    """The kernel that multiplies."""
    compilation = Compilation(compile_options(target, verify="off", numerics=numerics))
    ((plan,),) = [list(f.values()) for f in compilation.program(module).plans.values()]
    (found,) = [k for k in plan.kernels.values() if "matmul" in k.function.name]
    return found


def answer(kernel: Kernel, target: str = "cuda:sm_80") -> Candidate | Reject | None:
    """What the library says to a kernel's spec."""
    goal = compile_options(target).target
    (found, *_) = [*LibraryProductGenerator().candidates(kernel.spec, goal.variant("sm_80")), None]
    return found


def call_of(kernel: Kernel, target: str = "cuda:sm_80") -> ProductCall:
    """The call that stands for a kernel."""
    found = answer(kernel, target)
    assert isinstance(found, Candidate) and found.library is not None, found
    return found.library


def test_rows_that_are_contiguous_are_the_columns_of_the_transpose() -> None:
    call = call_of(layer(constant=False))
    assert (call.rows, call.columns, call.terms, call.stack) == (COLUMNS, ROWS, TERMS, 1)
    assert call.first == Matrix(1, "bf16", COLUMNS, 0, turned=False)
    assert call.second == Matrix(0, "bf16", TERMS, 0, turned=False)
    assert call.result == Matrix(2, "bf16", COLUMNS, 0)
    assert (call.compute, call.bias, call.activation) == ("f32", None, "")


def test_constants_lie_as_the_own_kernel_wants_them() -> None:
    kernel = layer()
    found = answer(kernel)
    assert isinstance(found, Candidate) and found.library is not None
    assert found.packings == kernel.candidate.packings != ()
    assert found.library.first == Matrix(1, "bf16", TERMS, 0, turned=True)
    assert beside_library(found) == kernel.candidate and found.cost > kernel.candidate.cost


@pytest.mark.parametrize("sides", [("turned", ""), ("", "turned"), ("turned", "turned")])
def test_factors_may_lie_either_way(sides: tuple[str, str]) -> None:
    call = call_of(layer(constant=False, sides=sides))
    assert (call.second.turned, call.first.turned) == (bool(sides[0]), bool(sides[1]))
    assert call.second.leading == (ROWS if sides[0] else TERMS)


@pytest.mark.parametrize(
    ("dtype", "target", "compute"),
    [
        ("f16", "cuda:sm_80", "f32"),
        ("f32", "cuda:sm_80", "f32"),
        ("f32", "cuda:sm_80,tf32", "tf32"),
        ("f64", "cuda:sm_80", "f64"),
    ],
)
def test_sums_are_what_the_target_says(dtype: str, target: str, compute: str) -> None:
    assert call_of(layer(dtype, target=target), target).compute == compute


def test_a_stack_of_products() -> None:
    b = aino.Builder()
    x, y = b.input("x", tensor("f16", 3, ROWS, TERMS)), b.input("y", tensor("f16", 3, TERMS, COLUMNS))
    b.output("z", b.matmul(x, y))
    call = call_of(kernel_of(b.module))
    assert call.stack == 3
    assert [m.stride for m in call.matrices] == [TERMS * COLUMNS, ROWS * TERMS, ROWS * COLUMNS]


def test_bytes_are_summed_in_32_bits() -> None:
    """Partial products, which blocks share: whole ones are scaled, which cuBLAS does not do to sums of i32."""
    b, terms = aino.Builder(), 4096
    x, w = b.input("x", tensor("i8", ROWS, terms)), b.constant(np.ones((terms, COLUMNS), np.int8))
    b.output("y", b.op(QuantMatMul, x, w, b.constant(np.full(COLUMNS, 0.5, np.float32))).result)
    compilation = Compilation(compile_options("cuda:sm_80", verify="off"))
    ((plan,),) = [list(f.values()) for f in compilation.program(b.module).plans.values()]
    call, *_ = (call_of(k) for k in plan.kernels.values() if k.spec.results[0].dtype is i32)
    assert (call.compute, call.result.dtype) == ("i32", "i32")
    assert (call.first.turned, call.second.turned) == (True, False)  # terms are contiguous, as IMMA wants


def test_what_follows_the_product() -> None:
    call = call_of(layer(bias=True, activation="tanh"))
    assert (call.bias, call.activation) == (2, "gelu")
    assert call_of(layer(activation="relu")).activation == "relu"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"activation": "none"}, "something else follows"),  # GELU by the error function
        ({"bias": True, "numerics": "strict"}, "rounds once"),
        ({"bias": True, "dtype": "f64"}, "adds nothing"),
    ],
)
def test_what_the_library_cannot_do_is_said(options: dict[str, Any], reason: str) -> None:
    found = answer(layer(**options))
    assert isinstance(found, Reject) and reason in found.reason


def test_what_is_added_besides() -> None:
    b = aino.Builder()
    x, w = b.input("x", tensor("bf16", ROWS, TERMS)), b.input("w", tensor("bf16", TERMS, COLUMNS))
    residual, bias = b.input("r", tensor("bf16", ROWS, COLUMNS)), b.input("b", tensor("bf16", COLUMNS))
    b.output("y", b.relu(b.add(residual, b.add(b.matmul(x, w), bias))))
    kernel = kernel_of(b.module)
    call = call_of(kernel)
    views = {o.name: n for n, o in enumerate(kernel.spec.operands)}
    assert call.residual is not None and (call.residual.leading, call.activation) == (COLUMNS, "relu")
    assert {call.residual.view, call.bias} == set(views.values()) - {call.first.view, call.second.view}
    strict = answer(kernel_of(b.module, numerics="strict"))
    assert isinstance(strict, Reject) and "rounds once" in strict.reason


@pytest.mark.parametrize("shape", [(ROWS, 1), (1,), (2, ROWS, COLUMNS)])
def test_what_is_neither_bias_nor_residual(shape: tuple[int, ...]) -> None:
    b = aino.Builder()
    stack = shape[:-2]
    x, w = b.input("x", tensor("f32", *stack, ROWS, TERMS)), b.input("w", tensor("f32", TERMS, COLUMNS))
    more = [b.input(f"m{n}", tensor("f32", *shape)) for n in range(2)]
    b.output("y", b.add(b.add(b.matmul(x, w), more[0]), more[1]))
    found = answer(kernel_of(b.module))
    assert isinstance(found, Reject) and re.search("does not lie along|more is added", found.reason)


def test_strict_numerics_forbid_only_what_leaves_out_roundings() -> None:
    assert call_of(layer(numerics="strict")).compute == "f32"
    assert call_of(layer("f32", bias=True, numerics="strict")).bias == 2


def test_what_is_no_product_is_not_answered() -> None:
    b = aino.Builder()
    b.output("y", b.softmax(b.input("x", tensor("f32", 32, 64))))
    compilation = Compilation(compile_options("cuda:sm_80", verify="off"))
    ((plan,),) = [list(f.values()) for f in compilation.program(b.module).plans.values()]
    assert [answer(k) for k in plan.kernels.values()] == [None]


def test_only_what_was_measured_is_offered_later() -> None:
    kernel, goal = layer(), compile_options("cuda:sm_80").target.variant("sm_80")
    assert list(LibraryProductGenerator({"another"}).candidates(kernel.spec, goal)) == []
    assert len(list(LibraryProductGenerator({kernel.spec.key}).candidates(kernel.spec, goal))) == 1


def test_a_call_survives_the_artifact() -> None:
    b = aino.Builder()
    rows = b.symbol("n", 16, 64)
    x = b.input("x", tensor("f32", rows, TERMS))
    b.output("y", b.matmul(x, b.input("w", tensor("f32", TERMS, COLUMNS))))
    b.finish()
    kernel = kernel_of(b.module)
    found = answer(kernel)
    assert isinstance(found, Candidate) and found.library is not None
    facts = kernel_facts(Kernel(kernel.spec, found, kernel.function))
    assert KernelFacts.of(facts).library == found.library
    assert found.library.extents({"n": 20}) == (COLUMNS, 20, TERMS, 1)

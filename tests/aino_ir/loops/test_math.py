"""The vector math library meets its bounds, is right at every special value and is pure."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.dtypes import DTYPES, f32, f64
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import (
    Arg,
    Binary,
    Bitcast,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Select,
    Unary,
    Var,
    VecType,
    call,
)
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.math import FUNCTIONS, expand
from tools.math_reference import double_reference, edges, exact_reference, sample, ulp_errors

ROOT = Path(__file__).resolve().parents[3]
UNARY = [f.name for f in FUNCTIONS.values() if f.arity == 1]
GOALS = {
    "exp": 1.0,
    "log": 1.0,
    "tanh": 2.0,
    "sigmoid": 2.5,
    "erf": 2.0,
    "gelu": 4.0,
    "sin": 2.0,
    "cos": 2.0,
    "softplus": 2.5,
    "pow": 2.0,
}
F64_GOAL = 4.0


@cache
def body(name: str, dtype: str, lanes: int = 1) -> Expr:
    type_ = VecType(DTYPES[dtype], lanes)
    return expand(name, *(Arg(i, type_) for i in range(FUNCTIONS[name].arity)))


def compute(name: str, *xs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    dtype = "f32" if xs[0].dtype == np.float32 else "f64"
    return evaluate(body(name, dtype), args=xs)


def check(name: str, dtype: str, xs: tuple[np.ndarray[Any, Any], ...], errors: np.ndarray[Any, Any]) -> None:
    worst = int(np.argmax(errors))
    at = tuple(x[worst] for x in xs)
    assert errors[worst] <= FUNCTIONS[name].ulp[dtype], (name, at, compute(name, *(x[[worst]] for x in xs)))


@pytest.mark.parametrize("name", UNARY)
def test_f32_error_stays_below_the_promised_bound(name: str) -> None:
    x = sample("f32", 200_000, seed=1)
    errors = ulp_errors("f32", compute(name, x), double_reference(name, x.astype(np.float64)))
    check(name, "f32", (x,), errors)


def finite_domain(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The points where the function is finite (as f64) and not zero by underflow."""
    y = double_reference(name, x)
    keep = np.isfinite(x) & np.isfinite(y) & (np.abs(y) > 1e-300) & (np.abs(x) > 1e-300)
    return x[keep]


@pytest.mark.parametrize("name", UNARY)
def test_f64_error_stays_below_the_promised_bound(name: str) -> None:
    pytest.importorskip("mpmath")
    x = finite_domain(name, sample("f64", 500, seed=2))
    want = exact_reference(name, x)
    check(name, "f64", (x,), ulp_errors("f64", compute(name, x), want[:, 0], want[:, 1]))


@pytest.mark.parametrize("name", UNARY)
def test_f64_special_values_are_exact_in_kind(name: str) -> None:
    x = edges("f64")
    errors = ulp_errors("f64", compute(name, x), double_reference(name, x))
    assert np.all(errors < 100), (name, x[errors >= 100])


def pairs(dtype: str, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All pairs of edges, then random pairs, some of them with powers near 1."""
    rng = np.random.default_rng(3)
    special = edges(dtype)
    a, b = sample(dtype, count, 4), sample(dtype, count, 5)
    rng.shuffle(a)
    near_one = np.exp2(rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-6, 0, count)).astype(a.dtype)
    large = (rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-1, 8, count)).astype(a.dtype)
    x = np.concatenate([np.repeat(special, len(special)), a, near_one])
    y = np.concatenate([np.tile(special, len(special)), b, large])
    return x, y


@pytest.mark.parametrize("name", ["pow", "atan2", "fmod"])
def test_f32_functions_of_two_arguments_meet_their_bounds_and_c99(name: str) -> None:
    x, y = pairs("f32", 60_000)
    want = double_reference(name, x.astype(np.float64), y.astype(np.float64))
    check(name, "f32", (x, y), ulp_errors("f32", compute(name, x, y), want))


@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_f64_functions_of_two_arguments_meet_their_bounds(name: str) -> None:
    pytest.importorskip("mpmath")
    x, y = pairs("f64", 300)
    want = double_reference(name, x, y)
    errors = ulp_errors("f64", compute(name, x, y), want)
    assert np.all(errors < 1000), "wrong in kind"
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(want) & (np.abs(want) > 1e-300) & (x != 0)
    x, y = (x[keep], y[keep]) if name == "atan2" else (np.abs(x[keep]), y[keep])
    exact = exact_reference(name, x, y)
    check(name, "f64", (x, y), ulp_errors("f64", compute(name, x, y), exact[:, 0], exact[:, 1]))


def test_f64_fmod_is_exact() -> None:
    x, y = pairs("f64", 1000)
    assert np.all(ulp_errors("f64", compute("fmod", x, y), double_reference("fmod", x, y)) == 0)


def test_the_promised_bounds_meet_the_goals() -> None:
    for name, goal in GOALS.items():
        assert FUNCTIONS[name].ulp["f32"] <= goal, name
        assert FUNCTIONS[name].ulp["f64"] <= F64_GOAL, name
    assert all(max(f.ulp.values()) <= 4 for f in FUNCTIONS.values())
    assert {f.dtypes for f in FUNCTIONS.values()} == {(f32, f64)}


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_f64_angles_are_reduced_exactly(name: str) -> None:
    pytest.importorskip("mpmath")
    rng = np.random.default_rng(8)
    # The last lies closest of all f64 numbers to a multiple of pi/2 (J.-M. Muller et al., "Handbook of
    # Floating-Point Arithmetic").
    huge = [2.0**46.99, 2.0**47, 2.0**47 + 1, 1e22, 1e300, 6381956970095103.0 * 2.0**797]
    x = np.concatenate([huge, rng.uniform(1, 2, 200) * 2.0 ** rng.integers(40, 1023, 200)])
    want = exact_reference(name, x)
    check(name, "f64", (x,), ulp_errors("f64", compute(name, x), want[:, 0], want[:, 1]))


def test_denormal_results_are_rounded_once() -> None:
    x = np.linspace(-104.2, -87, 20_000).astype(np.float32)
    want = np.exp(x.astype(np.float64)).astype(np.float32)
    got = compute("exp", x)
    assert np.max(np.abs(got.view(np.int32) - want.view(np.int32))) <= 1
    assert got.min() == 0 and 0 < np.min(got[got > 0]) == np.finfo(np.float32).smallest_subnormal


def test_powers_of_two_are_exact() -> None:
    whole = np.arange(-149, 128, dtype=np.float32)
    powers = np.ldexp(np.float32(1), whole.astype(int)).astype(np.float32)
    assert np.array_equal(compute("exp2", whole), powers)
    assert np.array_equal(compute("log2", powers), whole)
    assert np.array_equal(compute("pow", np.full_like(whole, 2), whole), powers)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_vectors_give_the_same_bits_as_scalars(name: str, dtype: str) -> None:
    arity = FUNCTIONS[name].arity
    xs = tuple(sample(dtype, 59, seed=7 + i)[-56:].reshape(-1, 8) for i in range(arity))
    vectors = evaluate(body(name, dtype, 8), args=xs)
    scalars = compute(name, *(x.ravel() for x in xs)).reshape(-1, 8)
    assert np.array_equal(vectors.view(np.uint8), scalars.view(np.uint8))


class Recorder:
    """Pins that name every value, as a loop builder does."""

    def __init__(self) -> None:
        self.values: list[Expr] = []

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        if isinstance(expr, Const | Arg | Var):
            return expr
        self.values.append(expr)
        return Var(f"{hint}{len(self.values)}", expr.type)


PURE = (Arg, Binary, Bitcast, Cast, Compare, Const, Fma, Select, Unary, Var)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_bodies_are_pure_and_pin_what_they_share(name: str, dtype: str) -> None:
    recorder = Recorder()
    arguments = tuple(Arg(i, VecType(DTYPES[dtype], 4)) for i in range(FUNCTIONS[name].arity))
    result = FUNCTIONS[name].body(recorder, *arguments)
    assert result.type == arguments[0].type
    seen: set[int] = set()
    for value in [*recorder.values, result]:
        for node in walk(value):
            assert isinstance(node, PURE), node
            if node.children():
                assert id(node) not in seen, f"printed twice: {node}"
                seen.add(id(node))


def test_a_call_evaluates_the_body_of_its_function() -> None:
    x = np.linspace(-3, 3, 50).astype(np.float32)
    tree = call("exp", Arg(0, VecType(f32))) + 1.0
    assert np.array_equal(evaluate(tree, args=[x]), compute("exp", x) + np.float32(1))


def test_the_page_lists_every_function_with_its_bounds() -> None:
    page = (ROOT / "docs" / "math.md").read_text(encoding="ascii")
    rows = dict(re.findall(r"^\| `(\w+)` (\|.*)$", page, re.MULTILINE))
    assert set(rows) == set(FUNCTIONS)
    for name, entry in FUNCTIONS.items():
        cells = [cell.strip() for cell in rows[name].split("|")]
        assert (float(cells[2]), float(cells[6])) == (entry.ulp["f32"], entry.ulp["f64"]), name
        assert float(cells[3].split()[0]) <= entry.ulp["f32"], name


def test_float_constants_are_numbers_of_their_format() -> None:
    """A constant that is rounded when printed would mean different numbers to different targets."""
    for name, entry in FUNCTIONS.items():
        for node in walk(expand(name, *(Arg(i, VecType(f32)) for i in range(entry.arity)))):
            if isinstance(node, Const) and node.dtype is f32 and not np.isnan(node.value):
                assert float(np.float32(node.value)) == node.value, (name, node)

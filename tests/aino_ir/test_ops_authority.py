"""`evaluate` against outside authorities: torch eager and onnx.reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import op_class
from aino_ir.dtypes import DTYPES
from aino_ir.interp import run_module
from aino_ir.op import Sample
from aino_ir.sampling import edge_values, random_values, sample_module, seeded
from aino_ir.tolerance import disagreement

torch = pytest.importorskip("torch")
F = torch.nn.functional


def run(name: str, *operands: Any, **attrs: Any) -> Any:
    """The interpreter's result of one op."""
    module = sample_module(op_class(name), Sample(operands, attrs))
    results = run_module(module, [x for x in operands if x is not None])
    return results[0] if len(results) == 1 else results


def of_torch(function: Callable[..., Any], *operands: Any) -> Any:
    """A torch function on numpy arrays."""
    return function(*[None if x is None else torch.from_numpy(x) for x in operands]).numpy()


def agree(actual: Any, reference: Any, terms: int = 1) -> None:
    """Same dtype, and equal up to the order of sums."""
    assert actual.dtype == reference.dtype
    why = disagreement(actual, reference, "reordered", terms=terms)
    assert why is None, why


UNARY: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("math.exp", {}, torch.exp),
    ("math.exp2", {}, torch.exp2),
    ("math.expm1", {}, torch.expm1),
    ("math.log", {}, torch.log),
    ("math.log2", {}, torch.log2),
    ("math.log10", {}, torch.log10),
    ("math.log1p", {}, torch.log1p),
    ("math.sin", {}, torch.sin),
    ("math.cos", {}, torch.cos),
    ("math.tan", {}, torch.tan),
    ("math.asin", {}, torch.asin),
    ("math.acos", {}, torch.acos),
    ("math.atan", {}, torch.atan),
    ("math.sinh", {}, torch.sinh),
    ("math.cosh", {}, torch.cosh),
    ("math.tanh", {}, torch.tanh),
    ("math.asinh", {}, torch.asinh),
    ("math.acosh", {}, torch.acosh),
    ("math.atanh", {}, torch.atanh),
    ("math.erf", {}, torch.erf),
    ("math.erfc", {}, torch.erfc),
    ("math.sqrt", {}, torch.sqrt),
    ("math.rsqrt", {}, torch.rsqrt),
    ("math.reciprocal", {}, torch.reciprocal),
    ("math.abs", {}, torch.abs),
    ("math.neg", {}, torch.neg),
    ("math.floor", {}, torch.floor),
    ("math.ceil", {}, torch.ceil),
    ("math.round", {}, torch.round),
    ("math.trunc", {}, torch.trunc),
    ("math.is_nan", {}, torch.isnan),
    ("math.is_inf", {}, torch.isinf),
    ("math.is_inf", {"negative": False}, torch.isposinf),
    ("math.is_inf", {"positive": False}, torch.isneginf),
    ("math.clip", {"min": -1.0, "max": 2.0}, lambda x: torch.clamp(x, -1.0, 2.0)),
    ("math.clip", {"min": 3.0, "max": 1.0}, lambda x: torch.clamp(x, 3.0, 1.0)),
    ("math.relu", {}, F.relu),
    ("math.leaky_relu", {"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    ("math.thresholded_relu", {"alpha": 0.5, "value": -2.0}, lambda x: F.threshold(x, 0.5, -2.0)),
    ("math.shrink", {"lambd": 0.7, "bias": 0.7}, lambda x: F.softshrink(x, 0.7)),
    ("math.shrink", {"lambd": 0.7}, lambda x: F.hardshrink(x, 0.7)),
    ("math.elu", {"alpha": 1.5}, lambda x: F.elu(x, 1.5)),
    ("math.selu", {}, F.selu),
    ("math.celu", {"alpha": 2.0}, lambda x: F.celu(x, 2.0)),
    ("math.hard_sigmoid", {"alpha": 1 / 6}, F.hardsigmoid),
    ("math.hard_swish", {}, F.hardswish),
    ("math.sigmoid", {}, torch.sigmoid),
    ("math.log_sigmoid", {}, F.logsigmoid),
    ("math.silu", {}, F.silu),
    ("math.softplus", {}, F.softplus),
    ("math.softplus", {"beta": 2.0}, lambda x: F.softplus(x, 2.0)),
    ("math.softsign", {}, F.softsign),
    ("math.mish", {}, F.mish),
    ("math.gelu", {}, F.gelu),
    ("math.gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
]


@pytest.mark.parametrize(("name", "attrs", "function"), UNARY, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_unary_functions_agree_with_torch(
    name: str, attrs: dict[str, Any], function: Callable[..., Any], dtype: str
) -> None:
    x = random_values(DTYPES[dtype], (999,), seeded(name))
    agree(run(name, x, **attrs), of_torch(function, x))
    edges = edge_values(DTYPES[dtype])
    ours, theirs = run(name, edges, **attrs), of_torch(function, edges)
    if ours.dtype == bool:
        agree(ours, theirs)
    else:
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))


def test_sign_of_nan_is_nan_as_onnx_says() -> None:
    x = np.array([-np.inf, -2, -0.0, 0, 3, np.nan], np.float32)
    np.testing.assert_array_equal(run("math.sign", x), np.sign(x))


BINARY: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("math.add", {}, torch.add),
    ("math.sub", {}, torch.sub),
    ("math.mul", {}, torch.mul),
    ("math.min", {}, torch.minimum),
    ("math.max", {}, torch.maximum),
    ("math.floordiv", {}, torch.floor_divide),
    ("math.mod", {"mode": "floor"}, torch.remainder),
    ("math.mod", {"mode": "trunc"}, torch.fmod),
    ("logic.eq", {}, torch.eq),
    ("logic.ne", {}, torch.ne),
    ("logic.lt", {}, torch.lt),
    ("logic.le", {}, torch.le),
    ("logic.gt", {}, torch.gt),
    ("logic.ge", {}, torch.ge),
]
FLOAT_BINARY: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("math.div", {}, torch.div),
    ("math.pow", {}, torch.pow),
    ("math.atan2", {}, torch.atan2),
    ("math.prelu", {}, lambda x, a: torch.where(x >= 0, x, x * a)),
]
INTEGER_BINARY: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("math.div", {}, lambda a, b: torch.div(a, b, rounding_mode="trunc")),
    ("math.pow", {}, torch.pow),
    ("logic.bitwise_and", {}, torch.bitwise_and),
    ("logic.bitwise_or", {}, torch.bitwise_or),
    ("logic.bitwise_xor", {}, torch.bitwise_xor),
]


@pytest.mark.parametrize(("name", "attrs", "function"), BINARY + FLOAT_BINARY)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_binary_functions_agree_with_torch(
    name: str, attrs: dict[str, Any], function: Callable[..., Any], dtype: str
) -> None:
    rng = seeded(name)
    a, b = (random_values(DTYPES[dtype], s, rng) for s in ((3, 1, 50), (7, 50)))
    agree(run(name, a, b, **attrs), of_torch(function, a, b))
    edges = edge_values(DTYPES[dtype])
    column = edges.reshape(-1, 1)
    ours, theirs = run(name, column, edges, **attrs), of_torch(function, column, edges)
    known = np.ones(ours.shape, bool)
    if name == "math.mod":  # torch's vector fmod gives NaN for large quotients
        known = ~(np.abs(column.astype(np.float64)) > 1e18 * np.abs(edges.astype(np.float64)))
    assert disagreement(np.isnan(ours) & known, np.isnan(theirs) & known) is None


def without_overflowing_quotients(a: Any, b: Any) -> tuple[Any, Any]:
    """Operands where torch divides: no zero divisors, and no INT_MIN / -1 (a crash there)."""
    b = np.where(b == 0, np.array(3).astype(b.dtype), b)
    if a.dtype.kind == "i":
        a, b = np.broadcast_arrays(a, b)
        a = np.where((a == np.iinfo(a.dtype).min) & (b == -1), np.array(5).astype(a.dtype), a)
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


@pytest.mark.parametrize(("name", "attrs", "function"), BINARY + INTEGER_BINARY)
@pytest.mark.parametrize("dtype", ["i64", "i32", "i8", "u8"])
def test_integer_functions_agree_with_torch(
    name: str, attrs: dict[str, Any], function: Callable[..., Any], dtype: str
) -> None:
    edges = edge_values(DTYPES[dtype])
    a, b = without_overflowing_quotients(edges.reshape(-1, 1), edges)
    if name == "math.pow":
        b = np.clip(b, -3 if a.dtype.kind == "i" else 0, 70)
    agree(run(name, a, b, **attrs), of_torch(function, a, b))


@pytest.mark.parametrize("dtype", ["i64", "i32", "u8"])
def test_integer_unary_functions_agree_with_torch(dtype: str) -> None:
    x = edge_values(DTYPES[dtype])
    for name, function in (
        ("math.abs", torch.abs),
        ("math.neg", torch.neg),
        ("math.sign", torch.sign),
        ("logic.bitwise_not", torch.bitwise_not),
        ("math.relu", torch.relu),
    ):
        agree(run(name, x), of_torch(function, x))


REDUCTIONS: list[tuple[str, Callable[..., Any]]] = [
    ("reduce.sum", lambda x, a, k: torch.sum(x, a, k, dtype=x.dtype)),
    ("reduce.mean", torch.mean),
    ("reduce.max", torch.amax),
    ("reduce.min", torch.amin),
    ("reduce.l1", lambda x, a, k: torch.linalg.vector_norm(x, 1, a, k)),
    ("reduce.l2", lambda x, a, k: torch.linalg.vector_norm(x, 2, a, k)),
    ("reduce.sum_square", lambda x, a, k: torch.sum(x * x, a, k)),
    ("reduce.log_sum_exp", torch.logsumexp),
]


@pytest.mark.parametrize(("name", "function"), REDUCTIONS)
def test_reductions_agree_with_torch(name: str, function: Callable[..., Any]) -> None:
    rng = seeded(name)
    for dtype in ("f32", "f64"):
        for axes, keepdims in (((1,), False), ((-1, 0), True), ((0, 1, 2), False)):
            x = random_values(DTYPES[dtype], (3, 17, 4), rng)
            x[0, 0, 0], x[1, 5, 2] = np.inf, np.nan
            x[:, 2] = -np.inf
            expected = function(torch.from_numpy(x), axes, keepdims).numpy()
            agree(run(name, x, axes=axes, keepdims=keepdims), expected, terms=204)


@pytest.mark.parametrize("dtype", ["i32", "i64", "u8"])
def test_integer_reductions_agree_with_torch(dtype: str) -> None:
    x = np.tile(edge_values(DTYPES[dtype]), (3, 1))
    t = torch.from_numpy(x)
    agree(run("reduce.sum", x, axes=(1,)), t.sum(1, dtype=t.dtype).numpy())
    agree(run("reduce.prod", x, axes=(1,)), t.prod(1, dtype=t.dtype).numpy())
    agree(run("reduce.max", x, axes=(0,)), t.amax(0).numpy())
    agree(run("reduce.argmin", x, axis=1), t.argmin(1).numpy())


def test_arg_reductions_agree_with_torch() -> None:
    x = random_values(DTYPES["f32"], (5, 9, 3), seeded("arg"))
    x[0, 3], x[0, 7], x[1, 2] = np.nan, np.nan, np.inf
    for axis in (0, 1, -1):
        for name, function in (("reduce.argmax", torch.argmax), ("reduce.argmin", torch.argmin)):
            expected = function(torch.from_numpy(x), axis, True).numpy()
            agree(run(name, x, axis=axis, keepdims=True), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_agrees_with_torch(axis: int) -> None:
    x = random_values(DTYPES["f32"], (4, 6, 5), seeded("softmax"))
    x[0, 1], x[1, 2, 3], x[:, :, 0], x[2, 2, 2] = -np.inf, np.nan, -np.inf, 1e30
    agree(run("softmax", x, axis=axis), of_torch(lambda t: torch.softmax(t, axis), x), terms=6)
    agree(run("log_softmax", x, axis=axis), of_torch(lambda t: torch.log_softmax(t, axis), x), terms=6)


def test_normalisations_agree_with_torch() -> None:
    rng = seeded("norms")
    x, s, b = (random_values(DTYPES["f32"], n, rng) for n in ((3, 8, 10), (8,), (8,)))
    w, v = (random_values(DTYPES["f32"], (8, 10), rng) for _ in range(2))
    layer = of_torch(lambda *t: F.layer_norm(t[0], (8, 10), t[1], t[2], 1e-4), x, w, v)
    agree(run("layer_norm", x, w, v, axis=1, epsilon=1e-4), layer, 80)
    agree(run("layer_norm", x, None, v, axis=1), of_torch(lambda t: F.layer_norm(t, (8, 10)), x) + v, 80)
    agree(run("rms_norm", x, w, axis=1), of_torch(lambda *t: F.rms_norm(t[0], (8, 10), t[1], 1e-5), x, w), 80)
    agree(
        run("group_norm", x, s, b, groups=4), of_torch(lambda *t: F.group_norm(t[0], 4, *t[1:]), x, s, b), 80
    )
    instance = of_torch(lambda *t: F.instance_norm(t[0], None, None, *t[1:]), x, s, b)
    agree(run("instance_norm", x, s, b), instance, 10)
    var = np.abs(s)
    batch = of_torch(lambda *t: F.batch_norm(t[0], t[1], t[2], t[3], t[4]), x, b, var, s, b)
    agree(run("batch_norm", x, s, b, b, var), batch)
    agree(run("lp_norm", x, axis=1), of_torch(lambda t: F.normalize(t, 2.0, 1, 0.0), x), 8)
    agree(run("lp_norm", x, axis=1, p=1), of_torch(lambda t: F.normalize(t, 1.0, 1, 0.0), x), 8)
    attrs = {"size": 5, "alpha": 0.2, "beta": 0.6, "bias": 1.5}
    agree(
        run("local_response_norm", x, **attrs),
        of_torch(lambda t: F.local_response_norm(t, 5, 0.2, 0.6, 1.5), x),
        5,
    )


def test_layer_norm_statistics_agree_with_torch() -> None:
    x = random_values(DTYPES["f32"], (4, 9), seeded("statistics"))
    y, mean, inverse = run("layer_norm", x, statistics=True)
    expected = torch.native_layer_norm(torch.from_numpy(x), (9,), None, None, 1e-5)
    for ours, theirs in zip((y, mean, inverse), expected, strict=True):
        agree(ours, theirs.numpy(), 9)


def test_scans_agree_with_torch() -> None:
    x = random_values(DTYPES["f32"], (3, 11, 2), seeded("scan"))
    agree(run("cumsum", x, axis=1), of_torch(lambda t: t.cumsum(1), x), 11)
    agree(run("cumprod", x, axis=1), of_torch(lambda t: t.cumprod(1), x), 11)
    n = edge_values(DTYPES["i64"])
    agree(run("cumsum", n), of_torch(lambda t: t.cumsum(0), n))


INTEGER_TARGETS = ["i64", "i32", "i16", "i8", "u8"]


@pytest.mark.parametrize("to", INTEGER_TARGETS)
@pytest.mark.parametrize("source", ["f32", "f64"])
def test_x86_casts_agree_with_torch(source: str, to: str) -> None:
    x = edge_values(DTYPES[source])
    expected = torch.from_numpy(x).to(getattr(torch, DTYPES[to].numpy.name)).numpy()
    agree(run("cast", x, to=to, semantics="x86"), expected)


@pytest.mark.parametrize("to", ["f16", "bf16", "f64", "bool", *INTEGER_TARGETS])
@pytest.mark.parametrize("source", ["f32", "i64", "u8", "bool"])
def test_casts_in_range_agree_with_torch(source: str, to: str) -> None:
    x = edge_values(DTYPES[source])
    if source == "f32" and to in INTEGER_TARGETS:
        x = np.clip(random_values(DTYPES["f32"], (200,), seeded(to)) * 9, 0, 99)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16, "bool": torch.bool}.get(to)
    target = kind or getattr(torch, DTYPES[to].numpy.name)
    expected = torch.from_numpy(x).to(target)
    ours = run("cast", x, to=to)
    if to == "bf16":
        ours, expected = ours.astype(np.float32), expected.float()
    assert disagreement(ours, expected.numpy()) is None


def test_shifts_agree_with_onnx_and_the_table() -> None:
    one = np.array([1, 1, 3, 255], np.uint32)
    assert run("shift_left", one, np.array([31, 32, 1, 40], np.uint32)).tolist() == [2**31, 0, 6, 0]
    assert run("shift_right", one, np.array([0, 32, 1, 4], np.uint32)).tolist() == [1, 0, 1, 15]
    signed = np.array([-8, -1, 5], np.int32)
    assert run("shift_right", signed, np.array([1, 99, 99], np.int32)).tolist() == [-4, -1, 0]

"""Functions of JAX, lowered by `jax.jit`, give what JAX gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.errors.stablehlo import (
    MlirMissing,
    StableHloLoweringFault,
    StableHloTypeUnsupported,
    StableHloUnreadable,
    StableHloUnsupported,
    StableHloVariant,
)
from aino_ir.frontends.stablehlo import load_stablehlo, ops
from tests.frontends.stablehlo.arguments import IMAGE, Lazily, normal, whole

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


jax, jnp, lax = Lazily("jax"), Lazily("jax.numpy"), Lazily("jax.lax")


def convolution(x: Any, w: Any) -> Any:
    y = lax.conv_general_dilated(x, w, (2, 2), "SAME", rhs_dilation=(1, 2), dimension_numbers=IMAGE)
    return lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def windows(x: Any, i: Any) -> Any:
    return (
        lax.dynamic_update_slice(x, jnp.ones((2, 2)), (i, i)),
        lax.dynamic_slice(x, (i, 0), (2, 3)),
        lax.dynamic_index_in_dim(x, i, 1),
    )


def scattered(x: Any, i: Any) -> Any:
    return x.at[i].add(0.5), x.at[1:3, 0:2].add(1.0), x.at[:, i[0]].multiply(2.0), x.at[i[:1]].max(0.1)


def applied(x: Any, i: Any) -> Any:
    """Functions at positions, of which one is named twice and one is outside."""
    once = x.at[i[:2]].apply(jnp.exp, unique_indices=True)
    return x.at[i].apply(jnp.sin), once, x.at[1:3, i[:1]].apply(jnp.cos), (x > 0).at[i].apply(jnp.logical_not)


def sorted_in_ways(x: Any) -> Any:
    keys = jnp.sort(x, axis=0), jnp.argsort(x, axis=-1), jnp.argsort(x, axis=0, descending=True)
    return (*keys, *lax.top_k(x, 2), jnp.argmax(x, 1), jnp.argmin(x), jnp.median(x))


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "layer": (
        lambda x, w, b: jax.nn.softmax(jax.nn.gelu(x @ w + b)),
        (normal(2, 3), normal(3, 4), normal(4)),
    ),
    "norm": (
        lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True)),
        (normal(3, 5),),
    ),
    "convolution": (convolution, (normal(1, 9, 8, 3), normal(3, 3, 3, 4))),
    "transposed": (
        lambda x, w: lax.conv_transpose(x, w, (2, 3), "SAME", dimension_numbers=IMAGE),
        (normal(1, 5, 4, 3), normal(3, 3, 3, 2)),
    ),
    "grouped": (
        lambda x, w: lax.conv_general_dilated(
            x, w, (1, 1), ((1, 0), (-1, 2)), dimension_numbers=IMAGE, feature_group_count=2
        ),
        (normal(1, 5, 6, 4), normal(2, 2, 2, 6)),
    ),
    "mean pool": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 2, 1), "SAME"),
        (normal(2, 5, 4, 3),),
    ),
    "attention": (
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
        tuple(normal(1, 5, 2, 4) for _ in range(3)),
    ),
    "embedding": (lambda t, i: t[i] + t[:, 1][i][:, None], (normal(5, 4), whole(1, -2, 9))),
    "picked": (
        lambda x, i: (jnp.take_along_axis(x, i, axis=1), x[:, i[0]]),
        (normal(3, 4), whole([1], [2], [0])),
    ),
    "windows": (windows, (normal(4, 5), np.array(1, np.int32))),
    "windows that reach outside": (windows, (normal(4, 5), np.array(7, np.int32))),
    "scatter": (scattered, (normal(4, 3), whole(2, 0))),
    "scatter of a function": (applied, (normal(4, 3), whole(2, 0, 2, 9))),
    "scatter outside": (lambda x, i: x.at[i].set(9.0, mode="drop"), (normal(4), whole(2, 17, 4))),
    "order": (sorted_in_ways, (normal(4, 5),)),
    "sums": (
        lambda x: (jnp.cumsum(x, 1), lax.cumsum(x, 0, reverse=True), jnp.prod(x), x.any()),
        (normal(3, 4),),
    ),
    "loop": (lambda x: lax.fori_loop(0, 5, lambda i, c: c * 2 + i, x), (normal(3),)),
    "scan": (lambda x: lax.scan(lambda c, v: (c + v, c * v), jnp.float32(0), x), (normal(6),)),
    "choice, yes": (
        lambda p, x: lax.cond(p, lambda v: v + 1, lambda v: v * 2, x),
        (np.array(True), normal(2)),
    ),
    "choice, no": (
        lambda p, x: lax.cond(p, lambda v: v + 1, lambda v: v * 2, x),
        (np.array(False), normal(2)),
    ),
    "gradient": (lambda x, w: jax.grad(lambda w: jax.nn.relu(x @ w).sum())(w), (normal(2, 3), normal(3, 4))),
    "batched": (lambda x: (jax.vmap(jnp.vdot)(x, x), jnp.einsum("ij,kj->ik", x, x)), (normal(3, 4),)),
    "bits": (
        lambda x: jax.random.bits(jax.random.key(0), (5,)) ^ x.astype(jnp.uint32),
        (whole(1, 2, 3, 4, 5),),
    ),
    "whole numbers": (
        lambda x: (x // 3, x % 3, -x << 2, x >> 1, jnp.clip(x, -2, 2)),
        (whole(-7, -1, 0, 5, 8),),
    ),
    "narrow": (lambda x: jax.nn.silu(x.astype(jnp.bfloat16)).astype(jnp.float16), (normal(3, 4),)),
    "padded": (lambda x: lax.pad(x, 1.5, ((1, 2, 1), (-1, 0, 2))), (normal(3, 4),)),
}


def agree(name: str, target: str) -> None:
    function, arguments = FUNCTIONS[name]
    lowered = jax.jit(function).lower(*arguments)
    executable = aino.compile(lowered, target, threads=1)
    got = executable.run(*map(np.asarray, arguments))
    wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(np.float64(g), np.float64(np.asarray(w)), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_what_jax_gives(name: str) -> None:
    agree(name, "reference")


@pytest.mark.parametrize(
    "name", ["layer", "convolution", "transposed", "scatter", "scatter of a function", "scan"]
)
def test_a_function_gives_what_jax_gives_as_c(name: str) -> None:
    agree(name, "c")


def test_text_and_files_are_read(tmp_path: Path) -> None:
    text = jax.jit(lambda x: x * 2).lower(normal(3)).as_text()
    place = tmp_path / "double.mlir"
    place.write_text(text, encoding="ascii")
    for source in (place, str(place)):
        (y,) = aino.compile(source, "reference").run(np.ones(3, np.float32))
        assert y.tolist() == [2, 2, 2]
    assert load_stablehlo(text).main.input_names == ["arg0"]


def test_what_we_write_is_read_back() -> None:
    from aino_ir.driver.stablehlo import written
    from aino_ir.target import parse_target

    target = parse_target("stablehlo")
    function, arguments = FUNCTIONS["attention"]
    module = load_stablehlo(jax.jit(function).lower(*arguments))
    again = load_stablehlo(written(module.main, {}, target).text)
    given = [np.asarray(a) for a in arguments]
    (first,), (second,) = (aino.compile(m, "reference").run(*given) for m in (module, again))
    np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


def test_ops_carry_the_line_of_python() -> None:
    module = load_stablehlo(jax.jit(lambda x: jnp.sin(x) + 1).lower(normal(3)))
    assert all("test_jax.py:" in str(op.loc) for op in module.main.block if op.results and op.operands)


def test_operations_without_a_lowering_are_told_altogether() -> None:
    def function(x: Any) -> Any:
        return lax.approx_max_k(x, 2), lax.rng_uniform(0.0, 1.0, (5,))

    with pytest.raises(StableHloUnsupported, match="stablehlo.rng") as caught:
        load_stablehlo(jax.jit(function).lower(normal(4, 4)))
    assert 'stablehlo.custom_call to "ApproxTopK"' in str(caught.value)


def test_forms_that_are_not_covered_name_the_line() -> None:
    function = jax.jit(lambda x, i: x.at[i].multiply(1j))
    with pytest.raises(StableHloVariant, match="no assignment") as caught:
        load_stablehlo(function.lower(normal(4).astype(np.complex64), whole(0, 2)))
    assert "test_jax.py" in str(caught.value)


def test_types_that_are_none_of_ours_are_refused() -> None:
    wide = "module @m { func.func @main(%a: tensor<3xf80>) { return } }\n"
    with pytest.raises(StableHloTypeUnsupported, match="f80"):
        load_stablehlo(wide)
    unranked = "module @m { func.func @main(%a: tensor<*xf32>) { return } }\n"
    with pytest.raises(StableHloTypeUnsupported, match="argument 0"):
        load_stablehlo(unranked)


@pytest.mark.parametrize(
    "bad", ["module @m {\n nonsense }", "module @m {\n}", b"\x00\x01", "/nowhere/m.mlir"]
)
def test_what_is_no_module_is_refused(bad: Any) -> None:
    with pytest.raises(StableHloUnreadable):
        load_stablehlo(bad)


def test_a_function_that_calls_itself_is_refused() -> None:
    text = """module @m {
  func.func @main(%a: tensor<f32>) -> tensor<f32> {
    %0 = call @main(%a) : (tensor<f32>) -> tensor<f32>
    return %0 : tensor<f32>
  }
}
"""
    with pytest.raises(StableHloVariant, match="calls itself"):
        load_stablehlo(text)


def test_several_operands_are_scattered_together() -> None:
    """The pair with the smaller first number stays, wherever positions are named twice too."""
    text = """module @m {
  func.func @main(%x: tensor<4xf32>, %y: tensor<4xi32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %v: tensor<3xi32>)
      -> (tensor<4xf32>, tensor<4xi32>) {
    %0:2 = "stablehlo.scatter"(%x, %y, %i, %u, %v) <{
      indices_are_sorted = false, unique_indices = false,
      scatter_dimension_numbers = #stablehlo.scatter<
        inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({
    ^bb0(%a: tensor<f32>, %b: tensor<i32>, %c: tensor<f32>, %d: tensor<i32>):
      %less = stablehlo.compare LE, %a, %c, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %p = stablehlo.select %less, %a, %c : tensor<i1>, tensor<f32>
      %q = stablehlo.select %less, %b, %d : tensor<i1>, tensor<i32>
      stablehlo.return %p, %q : tensor<f32>, tensor<i32>
    }) : (tensor<4xf32>, tensor<4xi32>, tensor<3x1xi32>, tensor<3xf32>, tensor<3xi32>)
      -> (tensor<4xf32>, tensor<4xi32>)
    return %0#0, %0#1 : tensor<4xf32>, tensor<4xi32>
  }
}
"""
    x, y = np.array([5, 5, 5, 0], np.float32), whole(0, 1, 2, 3)
    updates = np.array([4, 3, 9], np.float32), whole(10, 11, 12)
    got = aino.compile(load_stablehlo(text), "reference").run(x, y, whole([1], [1], [3]), *updates)
    assert [g.tolist() for g in got] == [[5, 3, 5, 0], [0, 11, 2, 3]]


def test_a_missing_jax_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jax.interpreters", None)
    with pytest.raises(MlirMissing, match="pip install"):
        load_stablehlo("module {\n}")


def test_a_row_that_gives_something_else_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ops._ROWS, "stablehlo.sine", "math.is_nan")
    with pytest.raises(StableHloLoweringFault, match="it gives bool"):
        load_stablehlo(jax.jit(jnp.sin).lower(normal(3)))

"""Functions that `jax.export` lowered for symbolic shapes give what JAX gives, at several extents."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.errors import AinoError
from aino_ir.errors.onnx import DimensionUnknown
from aino_ir.errors.stablehlo import StableHloVariant
from aino_ir.frontends.stablehlo import load_stablehlo
from tests.frontends.stablehlo.arguments import IMAGE, Lazily, normal

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


jax, jnp, lax, nn = (Lazily(n) for n in ("jax", "jax.numpy", "jax.lax", "jax.nn"))
export = Lazily("jax.export")

Shape = tuple[int, ...]
Case = tuple[Callable[..., Any], tuple[str, ...], tuple[tuple[Shape, ...], ...]]
"""A function, the shapes that it is exported for, and the shapes of its arguments, one row a run."""


def exported(function: Callable[..., Any], shapes: tuple[str, ...], constraints: tuple[str, ...] = ()) -> Any:
    scope = export.SymbolicScope(constraints)
    specs = [jax.ShapeDtypeStruct(export.symbolic_shape(s, scope=scope), np.float32) for s in shapes]
    return export.export(jax.jit(function))(*specs)


def perceptron(x: Any, w: Any, v: Any) -> Any:
    return nn.log_softmax(nn.relu(x @ w) @ v)


def attention(x: Any, w: Any) -> Any:
    q, k, v = (t.reshape(*t.shape[:-1], 2, 4) for t in jnp.split(x @ w, 3, -1))
    h = x + nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)


def recurrent(x: Any, w: Any) -> Any:
    def step(carry: Any, now: Any) -> Any:
        h, s = carry
        i, f, g, o = jnp.split(jnp.concatenate([now, h], -1) @ w, 4, -1)
        s = nn.sigmoid(f) * s + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(s)
        return (h, s), h

    zero = jnp.zeros((x.shape[1], 4))
    return lax.scan(step, (zero, zero), x)[1]


def convolution(x: Any, w: Any) -> Any:
    y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=IMAGE)
    y = lax.reduce_window(nn.relu(y), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.reshape(y.shape[0], -1)


def training(w: Any, x: Any) -> Any:
    def loss(w: Any) -> Any:
        return jnp.mean(nn.relu(x @ w) ** 2)

    value, slope = jax.value_and_grad(loss)(w)
    return value, w - 0.1 * slope


def movement(x: Any) -> Any:
    x = jnp.asarray(x)
    return (
        *(x[1:], x[-1], x[::-1], jnp.arange(x.shape[0]), jnp.concatenate([x, x]), x.reshape(-1)),
        *(x.mean(0), jnp.sort(x, 0), jnp.argmax(x, 0), jnp.cumsum(x, 0)),
        *(x.at[1:3].add(1.0), lax.dynamic_slice(x, (1, 0), (2, 3)), jnp.pad(x, ((1, 2), (0, 0)))),
    )


def halves(x: Any) -> Any:
    return x.reshape(x.shape[0] // 2, 2, 3).sum(1)


CASES: dict[str, Case] = {
    "perceptron": (
        perceptron,
        ("n, 3", "3, 4", "4, 5"),
        (((7, 3), (3, 4), (4, 5)), ((1, 3), (3, 4), (4, 5))),
    ),
    "attention": (attention, ("b, s, 8", "8, 24"), (((2, 5, 8), (8, 24)), ((1, 1, 8), (8, 24)))),
    "recurrent": (recurrent, ("t, b, 3", "7, 16"), (((5, 2, 3), (7, 16)), ((1, 3, 3), (7, 16)))),
    "convolution": (convolution, ("b, 2*h, 8, 3", "3, 3, 3, 4"), (((2, 6, 8, 3), (3, 3, 3, 4)),)),
    "training": (training, ("3, 4", "n, 3"), (((3, 4), (6, 3)), ((3, 4), (1, 3)))),
    "movement": (movement, ("n, 3",), (((6, 3),), ((4, 3),))),
    "halves": (halves, ("2*n, 3",), (((6, 3),), ((2, 3),))),
}


def agree(name: str, target: str) -> None:
    function, specs, rows = CASES[name]
    constraints = ("n >= 4",) if name == "movement" else ()
    executable = aino.compile(exported(function, specs, constraints), target, threads=1)
    for shapes in rows:
        arguments = [normal(*shape) for shape in shapes]
        got = executable.run(*arguments)
        wanted = jax.tree.leaves(function(*arguments))
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted, strict=True):
            assert g.dtype == w.dtype
            np.testing.assert_allclose(np.float64(g), np.float64(np.asarray(w)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_exported_function_gives_what_jax_gives(name: str) -> None:
    agree(name, "reference")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"), [("attention", "c"), ("recurrent", "c"), ("movement", "stablehlo")]
)
def test_an_exported_function_gives_what_jax_gives_as_code(name: str, target: str) -> None:
    agree(name, target)


def test_extents_have_the_names_of_the_export_and_their_bounds() -> None:
    module = load_stablehlo(exported(perceptron, ("batch, 3", "3, 4", "4, 5")), {"batch": (1, 8)})
    info = module.main.symbols.info("batch")
    assert (info.lo, info.hi) == (1, 8)
    fixed = load_stablehlo(exported(perceptron, ("batch, 3", "3, 4", "4, 5")), {"batch": 2})
    assert [v.shape for v in fixed.main.inputs] == [(2, 3), (3, 4), (4, 5)]
    with pytest.raises(DimensionUnknown, match="sequence"):
        load_stablehlo(exported(perceptron, ("batch, 3", "3, 4", "4, 5")), {"sequence": 2})


def test_text_of_symbolic_shapes_is_read_from_a_file(tmp_path: Path) -> None:
    """Two extents that the export calls one have two names there, and the module's check makes them equal."""
    place = tmp_path / "m.mlir"
    place.write_text(exported(lambda x, y: x * y, ("n, 3", "n, 3")).mlir_module(), encoding="utf-8")
    executable = aino.compile(place, "reference")
    x = normal(5, 3)
    assert (executable.run(x, x)[0] == x * x).all()
    with pytest.raises(AinoError):
        executable.run(x, normal(1, 3))


def test_the_checks_of_an_export_are_made() -> None:
    """An odd extent is none of 2*n, and 3 is less than the constraint allows."""
    halved = aino.compile(exported(halves, ("2*n, 3",)), "reference")
    with pytest.raises(AinoError):
        halved.run(normal(5, 3))
    moved = aino.compile(exported(lambda x: x[2:], ("n, 3",), ("n >= 4",)), "reference")
    with pytest.raises(AinoError):
        moved.run(normal(3, 3))


def test_extents_that_data_decide_are_refused() -> None:
    text = """module @m {
  func.func @main(%x: tensor<6xf32>, %s: tensor<2xi32>) -> tensor<?x?xf32> {
    %0 = stablehlo.dynamic_reshape %x, %s : (tensor<6xf32>, tensor<2xi32>) -> tensor<?x?xf32>
    return %0 : tensor<?x?xf32>
  }
}
"""
    with pytest.raises(StableHloVariant, match="data decide"):
        load_stablehlo(text)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("%0 = stablehlo.slice %x [0:2] : (tensor<?xf32>) -> tensor<2xf32>", None),
        (
            "%b = stablehlo.reverse %x, dims = [0] : tensor<?xf32>\n"
            "%c = stablehlo.iota dim = 0 : tensor<3xf32>\n"
            "%0 = stablehlo.concatenate %b, %c, dim = 0 : (tensor<?xf32>, tensor<3xf32>) -> tensor<?xf32>",
            None,
        ),
        (
            "%z = stablehlo.constant dense<0.0> : tensor<f32>\n"
            "%0 = stablehlo.pad %x, %z, low = [0], high = [0], interior = [1] : "
            "(tensor<?xf32>, tensor<f32>) -> tensor<?xf32>",
            "symbolic extent",
        ),
    ],
)
def test_forms_with_symbolic_extents(line: str, why: str | None) -> None:
    result = line.rpartition("-> ")[2]
    text = f"module @m {{\n func.func @main(%x: tensor<?xf32>) -> {result} {{\n{line}\nreturn %0 : {result} }} }}\n"
    if why is None:
        assert len(load_stablehlo(text).main.outputs) == 1
    else:
        with pytest.raises(StableHloVariant, match=why):
            load_stablehlo(text)

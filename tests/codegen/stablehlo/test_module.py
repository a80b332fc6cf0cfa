"""StableHLO text: what ops become, looked at without XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.stablehlo.module import ModuleWriter, StableHloModule
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Function, Value
from aino_ir.location import loc
from aino_ir.types import TensorType

Build = Callable[..., Value | tuple[Value, ...]]


def function(build: Build, *types: str) -> Function:
    """A function of inputs such as ``f32 2 3``; `build` gets the builder and them."""
    b = Builder()
    inputs = []
    for number, text in enumerate(types):
        dtype, *shape = text.split()
        inputs.append(b.input(f"x{number}", TensorType(DTYPES[dtype], tuple(map(int, shape)))))
    made = build(b, *inputs)
    for number, value in enumerate(made if isinstance(made, tuple) else (made,)):
        b.output(f"y{number}", value)
    return b.finish()


def written(build: Build, *types: str) -> StableHloModule:
    writer = ModuleWriter(function(build, *types), {})
    module = writer.run("m")
    assert not writer.obstacles
    return module


def operations(module: StableHloModule) -> list[str]:
    """The operations of a module in order, constants and iotas apart."""
    rest = [
        line.split(" = ", 1)[1] for line in module.text.splitlines() if " = " in line and "//" not in line
    ]
    names = [r.strip('"').removeprefix("stablehlo.").split(" ")[0].split("(")[0].strip('"') for r in rest]
    return [n for n in names if n not in ("constant", "iota")]


def test_a_matrix_product_is_one_contraction() -> None:
    module = written(lambda b, x, w: b.matmul(x, w), "f32 3 4", "f32 4 5")
    assert operations(module) == ["dot_general"]
    assert "contracting_dims = [1] x [0]" in module.text


def test_movement_needs_no_gather() -> None:
    def build(b: Any, x: Value) -> Value:
        turned = b.transpose(x, perm=(2, 0, 1))
        return b.slice(turned, starts=(3, 0, 1), sizes=(2, 2, 2), steps=(-2, 1, 1))  # type: ignore[no-any-return]

    assert operations(written(build, "f32 2 3 4")) == ["transpose", "slice", "reverse"]


def test_a_padded_read_pads_once() -> None:
    assert operations(written(lambda b, x: b.pad(x, before=(2,), after=(1,)), "f32 5")) == ["pad"]


def test_an_embedding_gathers_rows_and_keeps_its_check() -> None:
    module = written(lambda b, table, ids: b.gather(table, ids), "f32 9 4", "i64 3")
    assert operations(module).count("gather") == 1
    assert "slice_sizes = array<i64: 1, 4>" in module.text
    assert module.has_status
    assert module.text.count("tensor<2xi64>") >= 2


def test_a_maximum_of_a_row_is_computed_once_for_all_its_readers() -> None:
    module = written(lambda b, x: b.softmax(x), "f32 3 5")
    assert operations(module).count("reduce") == 2
    assert operations(module).count("exponential") == 1


def test_large_constants_are_one_argument() -> None:
    weights = np.arange(256, dtype=np.float32).reshape(16, 16)

    def build(b: Any, x: Value) -> Value:
        return b.matmul(b.matmul(x, b.constant(weights)), b.constant(weights.copy()))  # type: ignore[no-any-return]

    module = written(build, "f32 8 16")
    assert [handle.size for _, handle in module.weights] == [256]
    assert "dense<" not in module.text


def test_small_constants_stand_in_the_text_by_their_bits() -> None:
    values = np.array([1.5, -0.0, np.inf, np.nan], np.float32)
    module = written(lambda b, x: b.add(x, b.constant(values)), "f32 4")
    assert not module.weights
    assert "dense<[1.5, -0.0, 0x7F800000, 0x7FC00000]>" in module.text


def test_the_same_module_gives_the_same_text() -> None:
    def build(b: Any, x: Value) -> Value:
        return b.layer_norm(x, None, None, axis=-1)  # type: ignore[no-any-return]

    def product(b: Any, x: Value, w: Value) -> Value:
        return b.relu(b.matmul(x, w))  # type: ignore[no-any-return]

    assert written(product, "f32 3 4", "f32 4 5").text == written(product, "f32 3 4", "f32 4 5").text


def test_names_of_a_model_stay_in_comments() -> None:
    def build(b: Any, x: Value) -> Value:
        b.loc = loc('x"\n}} module @evil {')
        return b.neg(x)  # type: ignore[no-any-return]

    lines = written(build, "f32 2").text.splitlines()
    assert [line.lstrip()[:2] for line in lines if "evil" in line] == ["//"]


def test_what_has_no_form_is_told_altogether() -> None:
    def build(b: Any, x: Value) -> tuple[Value, ...]:
        return b.nonzero(x), b.neg(x), b.unique(x)[0]

    writer = ModuleWriter(function(build, "f32 2 3"), {})
    writer.run("m")
    assert [o.what.split(":")[0] for o in writer.obstacles] == ["index.nonzero", "index.unique"]


def test_results_may_be_written_at_several_axes_in_a_row() -> None:
    module = written(lambda b, x, s, o: b.group_norm(x, s, o, groups=2), "f32 1 6 4", "f32 6", "f32 6")
    assert module.text.count("return") and operations(module)[-1] == "reshape"


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
def test_updates_at_positions_are_one_scatter(reduction: str) -> None:
    def rows(b: Any, x: Value, i: Value, u: Value) -> Value:
        return b.scatter_nd(x, i, u, reduction=reduction)  # type: ignore[no-any-return]

    def single(b: Any, x: Value, i: Value, u: Value) -> Value:
        return b.scatter_elements(x, i, u, axis=1, reduction=reduction)  # type: ignore[no-any-return]

    for build, types in (
        (rows, ("f32 5 4", "i64 3 1", "f32 3 4")),
        (single, ("bf16 5 4", "i32 2 3", "bf16 2 3")),
    ):
        module = written(build, *types)
        found = operations(module)
        assert found.count("scatter") == 1 and "while" not in found
        assert module.has_status


@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums_are_one_window_reduction(exclusive: bool) -> None:
    def build(b: Any, x: Value) -> Value:
        return b.cumsum(x, axis=1, exclusive=exclusive, reverse=True)  # type: ignore[no-any-return]

    found = operations(written(build, "f32 2 5"))
    assert [n for n in found if n != "add"] == ["reduce_window"] + ["pad"] * exclusive

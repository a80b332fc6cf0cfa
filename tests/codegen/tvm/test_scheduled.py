"""Schedules: no product or convolution leaves without tiles, vectors and threads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.tvm.build import load_script
from aino_ir.codegen.tvm.scheduled import NAME
from aino_ir.codegen.tvm.tiling import WORKSPACE, vector_width
from aino_ir.compute import Compute
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.dtypes import f32
from aino_ir.graph import Module
from aino_ir.loops.expr import Binary
from aino_ir.target import parse_target
from aino_ir.types import TensorType, tensor
from tests.codegen.tvm.support import conv, emitted, matmul, needs_tvm, weights

CONTRACTIONS = {
    "even": lambda: matmul(64, 96, 48),
    "odd": lambda: matmul(13, 40, 9),
    "prime": lambda: matmul(17, 101, 23),
    "thousand classes": lambda: matmul(1, 1000, 64),
    "batched": lambda: matmul(12, 32, 16, batch=(2, 3), constant=False),
    "pointwise": lambda: conv(64, 14, 64, 1),
    "padded": lambda: conv(16, 14, 32, 3, pad=1),
    "strided stem": lambda: conv(3, 30, 16, 7, stride=2, pad=3),
    "depthwise": lambda: conv(32, 15, 32, 3, pad=1, groups=32),
    "grouped": lambda: conv(32, 9, 32, 3, pad=1, groups=4),
    "few filters": lambda: conv(8, 9, 10, 3, stride=2, pad=1),
}


def steps_of(script: str, kernel: str) -> str:
    """The schedule of a kernel in an emitted file."""
    found = re.search(rf"^def schedule_{kernel}\(s\):\n((?:    .*\n)+)", script, re.MULTILINE)
    assert found is not None, f"{kernel} has no schedule"
    return found[1]


@pytest.mark.parametrize("name", list(CONTRACTIONS))
def test_contractions_have_tiles_vectors_and_threads(name: str) -> None:
    module: Module = CONTRACTIONS[name]()
    plan, emission = emitted(module)
    seen = 0
    for kernel in plan.kernels.values():
        program = kernel.spec.program
        if not isinstance(program, Compute) or not program.reduce or not isinstance(program.body, Binary):
            continue
        seen += 1
        assert kernel.candidate.generator == NAME
        steps = steps_of(emission.script, kernel.function.name)
        assert "s.split(" in steps and "s.vectorize(" in steps and "s.parallel(" in steps
        assert "s.reverse_compute_at(" in steps and "s.decompose_reduction(" in steps
        assert re.search(r"tile \d+x([2-9]|\d\d)", kernel.candidate.name), kernel.candidate.name
    assert seen == 1


def activated(columns: int, rows: int = 13) -> Module:
    """A product with a GELU behind it."""
    b = Builder()
    x = b.input("x", tensor("f32", rows, 40))
    b.output("y", b.gelu(b.add(b.matmul(x, b.constant(weights(40, columns))), b.constant(weights(columns)))))
    return b.module


def test_long_functions_behind_a_sum_are_blocks_at_each_vector() -> None:
    plan, emission = emitted(activated(48))
    assert [k.candidate.generator for k in plan.kernels.values()] == [NAME]
    (name,) = plan.kernels
    steps = steps_of(emission.script, name)
    blocks = re.findall(r'T\.sblock\("(\w+)"\)', emission.script)
    parts = [block for block in blocks if block not in ("total", "result")]
    assert len(parts) > 3 and blocks == ["total", *parts, "result"]
    assert re.findall(r"s\.compute_at\((\w+)_block, vector\)", steps) == parts[::-1]
    assert "def gelu" not in emission.script


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (1, 48), (13, 8), (5, 16)])
def test_schedules_of_long_functions_are_taken(rows: int, columns: int, tmp_path: Path) -> None:
    """A tile of one vector, one row, one vector a row, and several."""
    needs_tvm()
    plan, emission = emitted(activated(columns, rows))
    assert [k.candidate.generator for k in plan.kernels.values()] == [NAME]
    place = tmp_path / "kernels.py"
    place.write_text(emission.script, encoding="ascii")
    text = load_script(place).module().script()
    assert "T.vectorized(" in text and "T.parallel(" in text


def test_a_long_function_of_lanes_that_nothing_divides_is_finished_loops() -> None:
    """TVM would test each lane at each operation; the loops of contractions have tiles and masks."""
    plan, _ = emitted(activated(47))
    (candidate,) = [k.candidate for k in plan.kernels.values()]
    assert candidate.generator == "contract"
    assert re.match(r"tile ([2-9]|\d\d)x\d+", candidate.name), candidate.name


@pytest.mark.parametrize(("rows", "columns"), [(128, 50257), (197, 2304), (1, 1001), (17, 101)])
def test_sums_are_counted_in_whole_tiles(rows: int, columns: int) -> None:
    """Nothing is tested at a step of a sum, whatever the extents are."""
    plan, emission = emitted(matmul(rows, columns, 24))
    ((generator, name),) = [(k.candidate.generator, k.candidate.name) for k in plan.kernels.values()]
    tile = re.search(r"tile (\d+)x(\d+)", name)
    assert generator == NAME and tile is not None
    counted = re.findall(r"T\.grid\((.*)\):", emission.script)[0].split(", ")
    extents = [int(e) for e in counted if e != "24"]
    wanted = [rows, columns] if rows > 1 else [columns]
    factors = [int(f) for f in tile.groups()][-len(wanted) :]
    assert [-(-e // f) * f for e, f in zip(wanted, factors, strict=True)] == extents
    if extents[0] > wanted[0] and rows > 1:
        assert f"T.min(v_i0, {rows - 1})" in emission.script


def test_lanes_that_nothing_divides_are_whole_vectors_of_finished_loops() -> None:
    """A factor that a run gives has no zeros at its end."""
    plan, _ = emitted(matmul(12, 37, 16, batch=(2, 3), constant=False))
    (kernel,) = plan.kernels.values()
    assert kernel.candidate.generator == "contract"


def test_what_is_read_past_its_edges_gets_a_margin() -> None:
    _, emission = emitted(conv(16, 14, 32, 3, pad=1))
    assert "x_margin" in emission.script
    total = emission.script[emission.script.index('with T.sblock("total")') :]
    assert "if_then_else" not in total[: total.index('with T.sblock("result")')]


def test_constants_are_packed_in_panels_of_the_tile() -> None:
    plan, emission = emitted(matmul(64, 96, 48))
    (kernel,) = plan.kernels.values()
    width = int(kernel.candidate.name.rsplit("x", 1)[1])
    assert f"T.Buffer(({96 // width}, 48, {width})" in emission.script


def test_kernels_with_symbols_are_loops() -> None:
    """A symbol may be a value even where every extent is a number; either way it is an argument of the kernel."""
    b = Builder()
    n = b.function.symbols.new("n", 1, 64)
    x = b.input("x", TensorType(f32, (n, 9)))
    b.output("out", b.relu(b.matmul(x, b.constant(weights(9, 40)))))
    plan, emission = emitted(b.module)
    assert all(kernel.candidate.generator != NAME for kernel in plan.kernels.values())
    assert "n: T.int64" in emission.script


def test_what_follows_a_sum_keeps_its_vectors(tmp_path: Path) -> None:
    """Extremes, rounding and tests for NaN: TVM takes a vector loop apart where it lacks the operation's vectors."""
    needs_tvm()
    b = Builder()
    x = b.input("x", tensor("f32", 16, 24))
    y = b.matmul(x, b.constant(weights(24, 48)))
    y = b.round(b.min(b.max(y, b.constant(np.float32(0))), b.constant(np.float32(6))))
    b.output("out", b.max(y, b.input("z", tensor("f32", 16, 48))))
    plan, emission = emitted(b.module)
    assert [k.candidate.generator for k in plan.kernels.values()] == [NAME]
    place = tmp_path / "kernels.py"
    place.write_text(emission.script, encoding="ascii")
    code = load_script(place).build().mod.inspect_source("ll")
    assert re.search(r"store <\d+ x float>", code) and not re.search(r"store float ", code)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "vec128"])
def test_tiles_are_memory_that_llvm_keeps_in_registers(isa: str) -> None:
    target = parse_target("tvm:llvm").variant(isa)
    options = replace(compile_options("tvm:llvm", verify="off"), target=target)
    (plan,) = Compilation(options).plans(matmul(192, 768, 96)).values()
    (kernel,) = plan.kernels.values()
    rows, columns = re.findall(r"tile (\d+)x(\d+)", kernel.candidate.name)[0]
    assert 8 * target.vector_bytes <= 4 * int(rows) * int(columns) < WORKSPACE


def test_same_module_same_text() -> None:
    assert emitted(conv(16, 14, 32, 3, pad=1))[1].script == emitted(conv(16, 14, 32, 3, pad=1))[1].script


@pytest.mark.parametrize(
    ("extent", "lanes", "width"),
    [
        (64, 8, 8),
        (1000, 8, 8),
        (14, 8, 14),
        (7, 8, 7),
        (98, 8, 14),
        (101, 8, 8),
        (1, 8, 1),
        (28, 16, 28),
        (5, 1, 1),
    ],
)
def test_vectors_divide_their_axis_where_they_can(extent: int, lanes: int, width: int) -> None:
    assert vector_width(extent, lanes) == width

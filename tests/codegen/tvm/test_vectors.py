"""Finished loops keep their vectors: what rows, sums along the lanes, symbols and masks become."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.tvm.build import load_script
from aino_ir.codegen.tvm.helpers import Helpers
from aino_ir.codegen.tvm.kernel import PrintedKernel
from aino_ir.codegen.tvm.loops import print_loop_kernel
from aino_ir.codegen.tvm.wrapping import WRAPPED, wrapping_lines
from aino_ir.dims import symbol
from aino_ir.dtypes import DTYPES, f32
from aino_ir.graph import Module
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import PrefixMask, Ramp, VecType, binary, const
from aino_ir.loops.stmt import Access, Alloc
from aino_ir.types import TensorType, tensor
from tests.codegen.tvm.support import agrees, emitted, joined, needs_tvm, random_inputs, weights


def softmax(rows: int, columns: int, axis: int = -1, dtype: str = "f32") -> Module:
    """Softmax along an axis."""
    b = Builder()
    b.output("out", b.softmax(b.input("x", tensor(dtype, rows, columns)), axis=axis))
    return b.module


def layer_norm(rows: int, columns: int) -> Module:
    """Rows without mean and with a deviation of one, scaled and shifted."""
    b = Builder()
    x = b.input("x", tensor("f32", rows, columns))
    b.output(
        "out", b.layer_norm(x, b.constant(weights(columns)), b.constant(weights(columns, seed=1)), axis=-1)
    )
    return b.module


def product_with_symbol() -> Module:
    """A product whose rows are a symbol."""
    b = Builder()
    x = b.input("x", TensorType(f32, (b.function.symbols.new("n", 1, 64), 9)))
    b.output("out", b.relu(b.matmul(x, b.constant(weights(9, 40)))))
    return b.module


CASES: dict[str, Callable[[], Module]] = {
    "softmax": lambda: softmax(300, 131),
    "softmax across rows": lambda: softmax(37, 300, axis=0),
    "layer norm": lambda: layer_norm(130, 67),
    "symbolic rows": product_with_symbol,
}


@pytest.mark.parametrize("name", list(CASES))
def test_loops_have_vectors_and_threads(name: str) -> None:
    _, emission = emitted(CASES[name]())
    kernels = re.findall(
        r"^@T\.prim_func.*?(?=^@T\.prim_func|^KERNELS|^def schedule)", emission.script, re.M | re.S
    )
    assert kernels
    for text in kernels:
        assert "T.parallel(" in text
        assert re.search(r"(\w+) = T\.alloc_buffer\(\(\d+,\), \"float32\"\)\n +\1\[ALL\d+\] = ", text), text


def test_loops_agree() -> None:
    """Rows of storage types travel in vectors, too."""
    modules = {name: build() for name, build in CASES.items() if name != "symbolic rows"}
    module = joined(modules | {"f16": softmax(5, 67, dtype="f16")})
    agrees(module, *random_inputs(module), terms=300)


def test_loops_with_symbols_agree() -> None:
    agrees(product_with_symbol(), weights(13, 9, seed=2), terms=13)


def test_variables_are_registers(tmp_path: Path) -> None:
    """Of all that an attention declares, LLVM keeps nothing in memory but rows and tiles between two loops."""
    needs_tvm()
    b = Builder()
    q, k, v = (b.input(name, tensor("f32", 1, 1, 5, 4)) for name in "qkv")
    b.output("out", b.attention(q, k, v, scale=0.5))
    plan, emission = emitted(b.module)
    (kernel,) = plan.kernels.values()
    arrays = [s for s in kernel.function.prologue if isinstance(s, Alloc)]
    place = tmp_path / "kernels.py"
    place.write_text(emission.script, encoding="ascii")
    code = load_script(place).build().mod.inspect_source("ll")
    assert "load ptr, ptr @__TVMBackendAllocWorkspace" not in code
    memory = re.findall(r"= alloca \[\d+ x float\]|= alloca <\d+ x float>|= alloca float", code)
    assert 0 < len(memory) <= len(arrays), memory


def printed(build: Any) -> tuple[PrintedKernel, str]:
    """A kernel of one unit on x[32] and out[32], and the helpers that it calls."""
    b = LoopBuilder("kernel")
    x = b.param("x", f32, 32, Access.READ)
    out = b.param("out", f32, 32, Access.WRITE)
    with b.units(2):
        build(b, x, out)
    helpers = Helpers()
    return print_loop_kernel(b.finish(()), helpers), "\n".join(helpers.texts)


def test_masked_neighbours_go_by_llvms_own_loads_and_stores() -> None:
    def build(b: LoopBuilder, x: str, out: str) -> None:
        mask = PrefixMask(symbol("unit") + 3, VecType(DTYPES["bool"], 8))
        b.store(out, 0, b.load(x, 8, 8, mask=mask), mask=mask)

    text = printed(build)[0].text
    assert '"llvm.masked.load", T.address_of(x[8])' in text
    assert '"llvm.masked.store"' in text


def test_elements_that_lie_apart_are_not_touched_where_the_mask_is_false() -> None:
    def build(b: LoopBuilder, x: str, out: str) -> None:
        mask = PrefixMask(symbol("unit") + 1, VecType(DTYPES["bool"], 4))
        value = b.load(x, 1, 4, stride=3, mask=mask)
        places = Ramp(symbol("unit"), 2, VecType(DTYPES["i64"], 4))
        b.store(out, 0, binary("add", value, const(1.0, f32, 4)), mask=mask, scatter=places)

    text = printed(build)[0].text
    assert re.search(r"x\[T\.Select\(T\.NE\(|x\[T\.Select\(T\.Ramp\(", text)
    assert text.count("if T.Shuffle(") == 4


@pytest.mark.parametrize(("op", "dtype"), sorted(WRAPPED))
def test_wrapping_is_computed_on_more_bits(op: str, dtype: str) -> None:
    lines = wrapping_lines(op, VecType(DTYPES[dtype], 4))
    text = "\n".join(lines)
    assert "T.Broadcast(" in text or "int64x4" in text
    assert "{" not in text

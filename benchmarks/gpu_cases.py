"""What `benchmarks.gpu` runs on a GPU: small modules for correctness, large ones for speed, by section.

A case is a module and how its inputs are drawn; `peer` is the same in PyTorch.  Where cases come from a
bundle nothing here is imported.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType

Inputs = tuple[tuple[Any, ...], ...]
Arrays = Sequence[np.ndarray[Any, Any]]

SUITE_PART = 16
"""Of the ONNX suite's node tests one in so many is taken, by a hash of the name."""


@dataclass(frozen=True)
class Case:
    """One module to run.

    Attributes:
        name, section: of the case.
        module: makes the module.
        inputs: (dtype, shape) of each, or (dtype, shape, bound) for indices.
        moved: bytes that have to be moved at least, for GB/s; 0: not asked.
        flops: operations, for TFLOP/s; 0: not asked.
        peer: what is the same in `benchmarks.gpu_peers`, and its arguments; empty: nothing.
        needs: a word that the name of the kernel's candidate must have, or the figure means nothing.
        given, expected: inputs and outputs that are known; None: drawn, and what the interpreter gives.
        checked: whether results are compared, and kernels compared with the interpreter when compiled.
        library: whether cuBLAS does the products, which is an error where it is not installed.
    """

    name: str
    section: str
    module: Callable[[], Module]
    inputs: Inputs = ()
    moved: int = 0
    flops: int = 0
    peer: tuple[Any, ...] = ()
    needs: str = ""
    given: Callable[[], list[np.ndarray[Any, Any]]] | None = None
    expected: Callable[[], Arrays] | None = None
    checked: bool = False
    library: bool = False

    def facts(self) -> dict[str, Any]:
        """What a bundle keeps beside the artifact."""
        return {
            "section": self.section,
            "inputs": [[row[0], list(row[1]), *row[2:]] for row in self.inputs],
            "moved": self.moved,
            "flops": self.flops,
            "peer": list(self.peer),
            "needs": self.needs,
            "library": self.library,
        }


def built(build: Callable[..., Value | Sequence[Value]], inputs: Inputs) -> Module:
    """The module of what a function makes from a builder and inputs."""
    b = Builder()
    given = [b.input(f"x{n}", TensorType(DTYPES[row[0]], tuple(row[1]))) for n, row in enumerate(inputs)]
    made = build(b, *given)
    for number, value in enumerate(made if isinstance(made, (list, tuple)) else (made,)):
        b.output(f"y{number}", value)
    b.finish()
    return b.module


def cases(section: str, dry: bool = False) -> Iterable[Case]:
    """The cases of a section; for a dry run with small extents."""
    return _MAKERS[section](64 if dry else 1)


def _correctness(shrink: int) -> list[Case]:
    f32, rows = "f32", (20, 200)
    table: dict[str, tuple[Callable[..., Any], tuple[tuple[Any, ...], ...]]] = {
        "gelu of a product": (lambda b, x, w: b.gelu(b.matmul(x, w)), ((f32, (40, 33)), (f32, (33, 50)))),
        "product of bf16": (lambda b, x, w: b.matmul(x, w), (("bf16", (96, 64)), ("bf16", (64, 80)))),
        "product of f16": (lambda b, x, w: b.matmul(x, w), (("f16", (65, 70)), ("f16", (70, 33)))),
        "softmax of long rows": (lambda b, x: b.softmax(x), ((f32, rows),)),
        "softmax of short rows": (lambda b, x: b.softmax(x), ((f32, (40, 33)),)),
        "layer norm": (lambda b, x, s, o: b.layer_norm(x, s, o), ((f32, rows), (f32, (200,)), (f32, (200,)))),
        "rms norm": (lambda b, x, s: b.rms_norm(x, s), ((f32, rows), (f32, (200,)))),
        "argmax": (lambda b, x: b.argmax(x, axis=1), ((f32, rows),)),
        "top k": (lambda b, x: list(b.top_k(x, k=3)), ((f32, rows),)),
        "cumulative sum": (lambda b, x: b.cumsum(x, axis=1), ((f32, rows),)),
        "transposed tanh": (lambda b, x: b.tanh(b.transpose(x, perm=(1, 0))), ((f32, (40, 33)),)),
        "gather": (lambda b, x, i: b.gather(x, i, axis=0), ((f32, (50, 8)), ("i64", (17,), 50))),
        "casts": (lambda b, x: b.cast(b.cast(x, to="bf16"), to="i8"), ((f32, (40, 33)),)),
        "broadcast": (lambda b, x, y: b.relu(b.add(x, y)), ((f32, (40, 1, 33)), (f32, (7, 33)))),
        "attention": (
            lambda b, q, k, v: b.attention(q, k, v, scale=0.125, causal=True),
            ((f32, (1, 2, 40, 64)), (f32, (1, 2, 40, 64)), (f32, (1, 2, 40, 64))),
        ),
    }
    table |= _kinds_of_kernels()
    return [
        Case(name, "correctness", partial(built, build, inputs), inputs, checked=True)
        for name, (build, inputs) in table.items()
    ]


def _libraries(shrink: int) -> list[Case]:
    """What cuBLAS can do in a kernel's place."""

    def layer(b: Builder, x: Value, w: Value, bias: Value, residual: Value) -> Value:
        made: Value = b.gelu(b.add(b.add(b.matmul(x, w), bias), residual), approximate="tanh")
        return made

    def rectified(b: Builder, x: Value, w: Value, bias: Value) -> Value:
        made: Value = b.relu(b.add(b.matmul(x, w), bias))
        return made

    def shapes(dtype: str, *stack: int) -> tuple[tuple[Any, ...], ...]:
        return (dtype, (*stack, 200, 264)), (dtype, (*stack, 264, 328))

    def added(dtype: str) -> tuple[tuple[Any, ...], ...]:
        return (dtype, (328,)), (dtype, (200, 328))

    odd = (("f16", (65, 70)), ("f16", (70, 33)))
    table: dict[str, tuple[Callable[..., Any], Inputs]] = {
        "product of bf16": (_product, shapes("bf16")),
        "linear of bf16": (_linear, (("bf16", (200, 264)), ("bf16", (328, 264)))),
        "odd product of f16": (_product, odd),
        "stack of products of f32": (_product, shapes("f32", 3)),
        "product of f64": (_product, shapes("f64")),
        "bias and relu of f32": (rectified, (*shapes("f32"), added("f32")[0])),
        "bias, residual and gelu of bf16": (layer, (*shapes("bf16"), *added("bf16"))),
    }
    return [
        Case(name, "libraries", partial(built, build, inputs), inputs, checked=True, library=True)
        for name, (build, inputs) in table.items()
    ]


def _kinds_of_kernels() -> dict[str, tuple[Callable[..., Any], tuple[tuple[Any, ...], ...]]]:
    """What is done by several kernels, by tensor cores, or by blocks in other ways than above."""
    f32, bf16 = "f32", "bf16"
    heads = {width: ((bf16, (1, 2, 70, width)),) * 3 for width in (64, 128)}

    def attention(b: Builder, q: Value, k: Value, v: Value) -> Value:
        made: Value = b.attention(q, k, v, scale=0.125, causal=True)
        return made

    return {
        "linear of bf16": (_linear, ((bf16, (200, 264)), (bf16, (328, 264)))),
        "convolution of bf16": (
            lambda b, x, w: b.conv(
                x, w, None, strides=(1, 1), dilations=(1, 1), pads_before=(1, 1), pads_after=(1, 1), groups=1
            ),
            ((bf16, (2, 16, 12, 13)), (bf16, (40, 16, 3, 3))),
        ),
        "product of few tiles": (_product, ((bf16, (40, 4096)), (bf16, (4096, 48)))),
        "one row by a matrix": (_product, ((bf16, (1, 520)), (bf16, (520, 1030)))),
        "attention of bf16, 64": (attention, heads[64]),
        "attention of bf16, 128": (attention, heads[128]),
        "sum of all": (lambda b, x: b.sum(x, axes=(0, 1)), ((f32, (300, 1001)),)),
        "sum of columns": (lambda b, x: b.sum(x, axes=(0,)), ((f32, (3000, 70)),)),
        "one long softmax": (lambda b, x: b.softmax(x), ((f32, (1, 70001)),)),
        "long top k": (lambda b, x: list(b.top_k(x, k=5)), ((f32, (2, 10007)),)),
        "long cumulative sum": (lambda b, x: b.cumsum(x, axis=1), ((f32, (2, 40009)),)),
        "scatter": (
            lambda b, x, i, u: b.scatter_elements(x, i, u, axis=0, reduction="add"),
            ((f32, (70, 33)), ("i64", (500, 33), 70), (f32, (500, 33))),
        ),
    }


def _suite(shrink: int) -> Iterator[Case]:
    """Node tests of the ONNX suite, with its own inputs and outputs; in a dry run two simple models."""
    from tests.conformance.onnx_cases import LEFT_OUT
    from tests.conformance.onnx_cases import cases as suite

    def wanted(name: str) -> bool:
        return name not in LEFT_OUT and (shrink > 1 or zlib.crc32(name.encode("ascii")) % SUITE_PART == 0)

    made = 0
    for case in suite(("simple",) if shrink > 1 else ("node",), wanted):
        for inputs, outputs in case.data()[:1]:
            if all(isinstance(v, np.ndarray) and v.dtype.kind in "biufV" for v in (*inputs, *outputs)):
                yield Case(
                    case.name,
                    "suite",
                    partial(aino.load, case.model),
                    given=partial(list, inputs),
                    expected=partial(list, outputs),
                    checked=True,
                )
                made += 1
        if shrink > 1 and made == 2:
            return


def _timed(section: str) -> Callable[..., Case]:
    """What makes a case of a section that is timed."""

    def case(name: str, build: Any, inputs: Inputs, peer: str, **facts: Any) -> Case:
        return Case(name, section, partial(built, build, inputs), inputs, peer=(peer,), **facts)

    return case


def _bandwidth(shrink: int) -> list[Case]:
    n, side, wide = (32 << 20) // shrink**2, 4096 // shrink, 8192 // shrink
    row, whole, case = ("f32", (wide, side)), 4 * wide * side, _timed("bandwidth")
    two, pair = (("f32", (n,)),) * 2, (("bf16", (2 * n,)),)
    return [
        case("add, mul, relu", lambda b, x, y: b.relu(b.mul(b.add(x, y), y)), two, "chain", moved=12 * n),
        case("gelu of bf16", lambda b, x: b.gelu(x), pair, "gelu", moved=8 * n),
        case("transpose", lambda b, x: b.transpose(x, perm=(1, 0)), (row,), "transpose", moved=2 * whole),
        case("sum of rows", lambda b, x: b.sum(x, axes=(1,)), (row,), "sum", moved=whole),
        case("sum of columns", lambda b, x: b.sum(x, axes=(0,)), (row,), "sum of columns", moved=whole),
        case("sum of all", lambda b, x: b.sum(x, axes=(0, 1)), (row,), "sum of all", moved=whole),
    ]


def _norms(shrink: int) -> list[Case]:
    found, case = [], _timed("norms")
    for dtype, wide, side in (("f32", 8192, 4096), ("bf16", 16384, 4096), ("bf16", 65536, 768)):
        m, n = wide // shrink, side // min(shrink, 16)
        x, s, moved = (dtype, (m, n)), (dtype, (n,)), 2 * DTYPES[dtype].bytes * m * n
        label = f"{dtype} [{wide}, {side}]"
        found += [
            case(f"softmax {label}", lambda b, x: b.softmax(x), (x,), "softmax", moved=moved),
            case(
                f"layer norm {label}",
                lambda b, x, s, o: b.layer_norm(x, s, o),
                (x, s, s),
                "layer_norm",
                moved=moved,
            ),
            case(f"rms norm {label}", lambda b, x, s: b.rms_norm(x, s), (x, s), "rms_norm", moved=moved),
        ]
    return found


def _product(b: Builder, x: Value, w: Value) -> Value:
    made: Value = b.matmul(x, w)
    return made


def _linear(b: Builder, x: Value, w: Value) -> Value:
    """A product by a matrix as a linear layer holds it, with the terms of a column together."""
    made: Value = b.matmul(x, w, transpose_rhs=True)
    return made


def _products(section: str, needs: str) -> Callable[[int], list[Case]]:
    def made(shrink: int) -> list[Case]:
        found, case = [], _timed(section)
        for dtype, side in (("bf16", 4096), ("f16", 4096), ("bf16", 8192), ("f32", 2048)):
            if section == "wgmma" and dtype == "f32":
                continue
            m = side // shrink
            inputs = ((dtype, (m, m)),) * 2
            wanted = needs if dtype != "f32" else ""
            flops = 2 * m**3
            build, peer = (_linear, "linear") if section == "wgmma" else (_product, "matmul")
            found.append(case(f"{dtype} {side}^3", build, inputs, peer, flops=flops, needs=wanted))
        return found

    return made


def _gemv(shrink: int) -> list[Case]:
    found, case = [], _timed("gemv")
    for rows, k, n in ((1, 4096, 16384), (1, 16384, 4096), (4, 4096, 16384)):
        k, n = k // shrink, n // shrink
        inputs = (("bf16", (rows, k)), ("bf16", (k, n)))
        name = f"{rows} x {k * shrink} x {n * shrink}"
        found.append(case(name, _product, inputs, "matmul", moved=2 * (k * n + rows * (k + n))))
    return found


def _attention(shrink: int) -> list[Case]:
    found, case = [], _timed("attention")
    for width in (64, 128):
        for length in (1024, 2048, 4096, 8192):
            n, heads = length // shrink, 16 if shrink == 1 else 1
            inputs, flops = (("bf16", (1, heads, n, width)),) * 3, 4 * heads * n * n * width

            def build(b: Builder, q: Value, k: Value, v: Value, width: int = width) -> Value:
                made: Value = b.attention(q, k, v, scale=width**-0.5)
                return made

            found.append(case(f"{length} of {width}", build, inputs, "attention", flops=flops))
    return found


def _networks(shrink: int) -> Iterator[Case]:
    from benchmarks.gpu_models import NETWORKS, network_inputs

    small = shrink > 1
    for batch in (1, 2 if small else 32):
        for name in NETWORKS:
            yield Case(
                f"{name}, batch {batch}",
                "networks",
                partial(_network_module, name, batch, small),
                network_inputs(name, batch, small),
                peer=("network", name, batch, small),
            )


def _network_module(name: str, batch: int, small: bool) -> Module:
    from benchmarks.gpu_models import example_tensors, network

    module: Module = aino.load(
        network(name, batch, small), example_inputs=example_tensors(name, batch, small)
    )
    return module


_MAKERS: dict[str, Callable[[int], Iterable[Case]]] = {
    "correctness": _correctness,
    "libraries": _libraries,
    "suite": _suite,
    "bandwidth": _bandwidth,
    "norms": _norms,
    "mma": _products("mma", "tensor cores"),
    "wgmma": _products("wgmma", "TMA and wgmma"),
    "gemv": _gemv,
    "attention": _attention,
    "networks": _networks,
}
"""Section -> its cases, their extents divided."""

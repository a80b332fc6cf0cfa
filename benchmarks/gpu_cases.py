"""What `benchmarks.gpu` runs on a GPU: small modules for correctness, large ones for speed, by section.

A case is a module and how its inputs are drawn; `peer` is the same in PyTorch.  Nothing here is imported
where cases come from a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType


@dataclass(frozen=True)
class Case:
    """One module to run.

    Attributes:
        name, section: of the case.
        build: makes the results from a builder and the inputs.
        inputs: (dtype, shape) of each, or (dtype, shape, highest index) for indices.
        moved: bytes that have to be moved at least, for GB/s; 0: not asked.
        flops: operations, for TFLOP/s; 0: not asked.
        peer: name of the same in `benchmarks.gpu_peers`; empty: none.
        needs: a word that the name of the kernel's candidate must have, or the figure means nothing.
    """

    name: str
    section: str
    build: Callable[..., Value | Sequence[Value]]
    inputs: tuple[tuple[Any, ...], ...]
    moved: int = 0
    flops: int = 0
    peer: str = ""
    needs: str = ""

    def module(self) -> Module:
        """The module."""
        b = Builder()
        given = [
            b.input(f"x{n}", TensorType(DTYPES[row[0]], tuple(row[1]))) for n, row in enumerate(self.inputs)
        ]
        made = self.build(b, *given)
        for number, value in enumerate(made if isinstance(made, (list, tuple)) else (made,)):
            b.output(f"y{number}", value)
        b.finish()
        return b.module

    def facts(self) -> dict[str, Any]:
        """What a bundle keeps beside the artifact."""
        return {
            "section": self.section,
            "inputs": [[row[0], list(row[1]), *row[2:]] for row in self.inputs],
            "moved": self.moved,
            "flops": self.flops,
            "peer": self.peer,
            "needs": self.needs,
        }


def cases(section: str, dry: bool = False) -> list[Case]:
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
    return [Case(name, "correctness", build, inputs) for name, (build, inputs) in table.items()]


def _bandwidth(shrink: int) -> list[Case]:
    n, side, wide = (32 << 20) // shrink**2, 4096 // shrink, 8192 // shrink
    f32, bf16 = 4, 2
    row = ("f32", (wide, side))

    def case(name: str, build: Any, inputs: Any, moved: int, peer: str) -> Case:
        return Case(name, "bandwidth", build, inputs, moved=moved, peer=peer)

    whole = wide * side * f32
    return [
        case(
            "add, mul, relu",
            lambda b, x, y: b.relu(b.mul(b.add(x, y), y)),
            (("f32", (n,)),) * 2,
            3 * n * f32,
            "chain",
        ),
        case("gelu of bf16", lambda b, x: b.gelu(x), (("bf16", (2 * n,)),), 2 * 2 * n * bf16, "gelu"),
        case("transpose", lambda b, x: b.transpose(x, perm=(1, 0)), (row,), 2 * whole, "transpose"),
        case("sum of rows", lambda b, x: b.sum(x, axes=(1,)), (row,), whole, "sum"),
        case("softmax", lambda b, x: b.softmax(x), (row,), 2 * whole, "softmax"),
        case(
            "layer norm",
            lambda b, x, s, o: b.layer_norm(x, s, o),
            (row, ("f32", (side,)), ("f32", (side,))),
            2 * whole,
            "layer_norm",
        ),
        case("rms norm", lambda b, x, s: b.rms_norm(x, s), (row, ("f32", (side,))), 2 * whole, "rms_norm"),
        case(
            "product with a vector",
            lambda b, x, w: b.matmul(x, w),
            (("bf16", (1, side)), ("bf16", (side, 4 * side))),
            4 * side * side * bf16,
            "matmul",
        ),
    ]


def _products(section: str, needs: str) -> Callable[[int], list[Case]]:
    def made(shrink: int) -> list[Case]:
        found = []
        for dtype, side in (("bf16", 4096), ("f16", 4096), ("f32", 2048)):
            m = side // shrink
            shape = (dtype, (m, m))
            wanted = needs if dtype != "f32" else ""
            if section == "wgmma" and dtype == "f32":
                continue
            found.append(
                Case(
                    f"{dtype} {side}^3",
                    section,
                    lambda b, x, w: b.matmul(x, w),
                    (shape, shape),
                    flops=2 * m**3,
                    peer="matmul",
                    needs=wanted,
                )
            )
        return found

    return made


def _attention(shrink: int) -> list[Case]:
    found = []
    for width in (64, 128):
        for length in (1024, 2048, 4096, 8192):
            n, heads = length // shrink, 16 if shrink == 1 else 1
            shape = ("bf16", (1, heads, n, width))
            found.append(
                Case(
                    f"{length} of {width}",
                    "attention",
                    lambda b, q, k, v, width=width: b.attention(q, k, v, scale=width**-0.5),
                    (shape,) * 3,
                    flops=4 * heads * n * n * width,
                    peer="attention",
                )
            )
    return found


_MAKERS: dict[str, Callable[[int], list[Case]]] = {
    "correctness": _correctness,
    "bandwidth": _bandwidth,
    "mma": _products("mma", "mma"),
    "wgmma": _products("wgmma", "wgmma"),
    "attention": _attention,
}
"""Section -> its cases, their extents divided."""

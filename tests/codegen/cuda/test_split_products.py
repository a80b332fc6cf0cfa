"""Products of few tiles and many terms: by more blocks than tiles, in two kernels."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda.split_products import split_product
from aino_ir.dtypes import bf16, u8
from aino_ir.kernels import Division
from aino_ir.ops.quant_products import QuantMatMul
from aino_ir.types import TensorType
from tests.codegen.cuda.test_kernels import EMULATED
from tests.codegen.kernels.support import Given, normal, problem


def halves(m: int, n: int, k: int) -> Division | None:
    x, w = normal(m, k).astype(ml_dtypes.bfloat16), normal(k, n).astype(ml_dtypes.bfloat16)
    return split_product(problem(lambda b, x, w: [b.relu(b.matmul(x, w))], Given(x), Given(w)).spec)


def test_what_is_split() -> None:
    found = halves(64, 64, 1024)
    assert found is not None
    ((name, type_),) = found.temporaries
    assert (name, str(type_.dtype), type_.shape) == ("partial", "f32", (4, 64, 64))
    first, second = found.parts
    assert (first.writes, second.reads, second.writes) == (("partial",), ("partial",), (0,))
    assert split_product(first.spec) is None
    wide = halves(640, 640, 4096)  # a hundred tiles
    assert wide is None and halves(64, 64, 500) is None and halves(64, 64, 521) is None


def test_both_kernels_run(tmp_path: Any) -> None:
    rng = np.random.default_rng(5)
    b = Builder()
    x, h = b.input("x", TensorType(u8, (33, 640))), b.input("h", TensorType(bf16, (17, 640)))
    w = rng.integers(-128, 128, (640, 24)).astype(np.int8)
    scale, offset = (rng.random(24) * 0.01).astype(np.float32), rng.integers(-999, 999, 24).astype(np.int32)
    total = b.op(QuantMatMul, x, *map(b.constant, (w, scale, offset))).result
    b.output("y", b.relu(total))
    dying = b.sqrt(b.input("r", TensorType(bf16, (17, 32))))  # whose memory the sum could take
    weights = b.constant(normal(640, 32).astype(ml_dtypes.bfloat16))
    b.output("z", b.add(b.matmul(h, weights), dying))
    given = (
        rng.integers(0, 256, (33, 640)).astype(np.uint8),
        normal(17, 640).astype(ml_dtypes.bfloat16),
        np.abs(normal(17, 32)).astype(ml_dtypes.bfloat16),
    )
    executable = aino.compile(b.module, EMULATED, threads=1, cache=False)
    assert [row["candidate"].partition(":")[0] for row in executable.report.kernels].count(
        "tensor cores"
    ) == 2
    exact, close = executable.run(*given)
    expected = aino.compile(b.module, "reference").run(*given)
    assert exact.tolist() == expected[0].tolist()
    difference = np.abs(np.float32(close) - np.float32(expected[1]))
    assert float(difference.max()) <= 2.0**-6 * float(np.abs(np.float32(expected[1])).max())

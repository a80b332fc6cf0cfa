"""One compiled model serves every batch size: no second compilation, no padding."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import aino_ir as aino
from examples.models import mlp

with tempfile.TemporaryDirectory() as folder:
    path = mlp(Path(folder) / "mlp.onnx", batch="batch")

    exe = aino.compile(path, dims={"batch": (1, 64)})
    print("working memory of a run:", exe.report.arena_bytes, "bytes")
    print("operations of a run:", exe.report.flops)

    for batch in (1, 3, 64):
        (y,) = exe.run(np.ones((batch, 16), np.float32))
        print(f"batch {batch:2}: output {y.shape}")

    try:
        exe.run(np.ones((65, 16), np.float32))
    except aino.AinoError as error:
        print(error)

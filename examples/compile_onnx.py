"""Compile an ONNX file, run it, save it, and load it again without a compiler."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import aino_ir as aino
from examples.models import mlp

with tempfile.TemporaryDirectory() as folder:
    path = mlp(Path(folder) / "mlp.onnx")

    exe = aino.compile(path)  # for the CPU at hand
    print(exe)
    print(exe.report)

    x = np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)
    (y,) = exe.run(x)  # or exe.run({"x": x})

    (expected,) = aino.compile(path, "reference").run(x)  # the interpreter
    print("largest difference from the reference:", np.abs(y - expected).max())
    assert np.allclose(y, expected, atol=1e-5)

    saved = exe.save(Path(folder) / "mlp.aino")  # one file: libraries, weights, sources
    (again,) = aino.load_executable(saved).run(x)
    assert np.array_equal(again, y)

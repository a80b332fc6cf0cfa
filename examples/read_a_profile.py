"""Where does the time go?  A row a kernel, with the nodes of the model that it stands for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import aino_ir as aino
from examples.models import mlp

with tempfile.TemporaryDirectory() as folder:
    exe = aino.compile(mlp(Path(folder) / "mlp.onnx"), threads=1)
    profile = exe.profile(np.ones((4, 16), np.float32), runs=50)

    print(profile)  # a table, the slowest first
    slowest = max(profile.rows, key=lambda row: row.ms)
    print(f"the slowest is {slowest.kernel} ({slowest.ops}), from {slowest.loc}")

    trace = Path(folder) / "trace.json"  # for chrome://tracing or https://ui.perfetto.dev
    trace.write_text(profile.to_chrome())
    print(f"a trace of {trace.stat().st_size} bytes")

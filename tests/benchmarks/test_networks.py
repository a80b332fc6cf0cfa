"""Networks in int8 beside other engines: what becomes of results; measuring is the command's own affair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aino_ir.driver.bench import EngineResult
from benchmarks.compression.networks import kept_rows, row_of, verdict


def result(seconds: float, noise: float) -> EngineResult:
    want = np.ones(4, np.float32)
    return EngineResult("e", "1.0", minima=[seconds, seconds], outputs=[want + np.float32(noise)])


def test_rows_say_time_and_closeness(tmp_path: Path) -> None:
    want = [np.ones(4, np.float32)]
    rows = [
        row_of("net", "aino f32", 2, result(0.010, 0.0), want),
        row_of("net", "aino int8", 2, result(0.004, 0.1), want),
        row_of("net", "onnxruntime int8", 2, result(0.008, 0.1), want),
        row_of("net", "openvino int8", 2, result(0.005, 0.01), want),
        row_of("net", "other", 2, EngineResult("other", error="it did not start"), want),
    ]
    assert rows[1]["ms"] == 4.0 and abs(rows[1]["sqnr"] - 20.0) < 1e-3
    assert rows[4]["error"] == "it did not start" and "ms" not in rows[4]
    line = verdict("net", rows)
    assert "2.50 times as fast as our f32" in line
    assert "0.80 times as slow as openvino int8, -20.0 dB from it" in line
    assert verdict("another", rows) == "another: nothing ran"
    path = tmp_path / "rows.jsonl"
    assert kept_rows(path) == []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert kept_rows(path)[1]["engine"] == "aino int8"

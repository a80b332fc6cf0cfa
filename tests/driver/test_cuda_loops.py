"""Loops whose number of turns is known when a run begins: one graph of all their launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

import aino_ir as aino
from aino_ir.codegen.cuda import block_scans, block_sorts, scatters, split_reductions
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.runtime.cuda import session

RECURRENT = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[n, 4] x, float[4] h) => (float[4] last, float[n, 4] all) {
    last, all = Scan <num_scan_inputs = 1, body = b (float[4] before, float[4] step) => (float[4] after, float[4] out) {
        sum = Add (before, step)
        after = Tanh (sum)
        out = Neg (after)
    }> (h, x)
}
"""


def recurrent() -> Any:
    return aino.compile(parser.parse_model(RECURRENT), "cuda:sm_80", cache=False)


def run(executable: Any, steps: int) -> None:
    """Compare a run with what its loop means."""
    x = np.random.default_rng(steps).standard_normal((steps, 4)).astype(np.float32)
    state, rows = np.full(4, 0.5, np.float32), []
    for step in x:
        state = np.tanh(state + step)
        rows.append(-state)
    last, every = executable.run(x, np.full(4, 0.5, np.float32))
    np.testing.assert_allclose(last, state, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(every, rows, rtol=1e-5, atol=1e-6)


def test_turns_are_launches_of_one_graph(gpus: EmulatedGpus) -> None:
    executable = recurrent()
    for steps in (20, 20, 33):
        run(executable, steps)
    assert gpus.calls["cuGraphLaunch"] == 3 and gpus.calls["cuGraphInstantiateWithFlags"] == 2
    assert "cuLaunchKernel" not in gpus.calls
    assert len(gpus.launched) > 20 + 20 + 33


def test_too_many_launches_are_launched_one_by_one(
    gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MOST_NODES", 30)
    executable = recurrent()
    run(executable, 40)
    assert "cuGraphLaunch" not in gpus.calls and gpus.calls["cuLaunchKernel"] > 40


def test_what_is_timed_turns_on_the_host(gpus: EmulatedGpus) -> None:
    executable = recurrent()
    profile = executable.profile(np.zeros((20, 4), np.float32), np.zeros(4, np.float32), runs=1)
    assert gpus.calls["cuLaunchKernel"] >= 20 and profile.rows


DIVIDED = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[1200] x, int64 n, int64[100] i) => (float[1200] y, float[m, 150] best) {
    go = Constant <value_int = 1> ()
    c = Cast <to = 9> (go)
    y, best = Loop (n, c, x) <body = b (int64 k, bool on, float[1200] v) => (bool again, float[1200] w, float[150] top) {
        zero = Constant <value = int64 {0}> ()
        total = ReduceSum <keepdims = 1> (v)
        running = CumSum (v, zero)
        both = Add (total, running)
        small = Constant <value = float {0.001}> ()
        next = Mul (both, small)
        count = Constant <value_ints = [150]> ()
        top, places = TopK (next, count)
        first = Constant <value_ints = [0]> ()
        last = Constant <value_ints = [100]> ()
        some = Slice (top, first, last)
        w = ScatterElements <axis = 0, reduction = "add"> (next, i, some)
        again = Identity (on)
    }>
}
"""


def test_ops_of_several_kernels_in_loops(gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_reductions, "LONG", 1 << 10)
    monkeypatch.setattr(split_reductions, "STRETCH", 1 << 8)
    monkeypatch.setattr(block_scans, "LONG", 1 << 10)
    monkeypatch.setattr(block_scans, "STRETCH", 1 << 7)
    monkeypatch.setattr(block_sorts, "SHARED_BYTES", 800)
    monkeypatch.setattr(scatters, "FEW", 2)
    model = parser.parse_model(DIVIDED)
    executable = aino.compile(model, "cuda:sm_80", cache=False)
    assert len(executable.report.kernels) > 12
    x = np.random.default_rng(0).standard_normal(1200).astype(np.float32)
    given = x, np.array(3), np.arange(100) // 7 - 8
    for got, want in zip(executable.run(*given), aino.compile(model, "reference").run(*given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)

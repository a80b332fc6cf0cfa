"""How near products of single rows with weights of few bits come to what memory delivers.

    python -m benchmarks.compression.gemv [--threads 1,2] [--turns N] [--only TEXT] [--jsonl FILE]
    python -m benchmarks.compression.gemv --near [--only TEXT] [--jsonl FILE]

A decoder that makes one token multiplies one row with all its weights, each of which it reads once: the time
is that of reading them.  A case is several products of one shape with different weights, as many as make
`LEAST_BYTES`, four times what a third-level cache holds, so that each run reads all of them from memory (for
small shapes fewer, `MOST_COPIES`: their rows say how many bytes that were).  In every turn the bandwidth is
measured first, by threads that read arrays and do nothing else; then every engine runs the case twice, of
which the second run counts.  Figures are medians of the turns.  Bytes are those of weights and scales alone.

ONNX Runtime multiplies 4 and 8 bits by `MatMulNBits`, whose weights have a zero point of 8 or 128 that it
implies; with accuracy level 1 it computes in f32 as we do, with level 4 it makes bytes of the activation
first, which is another scheme, with other results.

With `--near` one product whose weights stay in the second cache is profiled on one thread instead: at most so
fast can decoding be, however fast memory is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

import aino_ir as aino
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.graph import Module
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.target import detect_host
from aino_ir.types import tensor
from benchmarks.peak import PeakMeter

Array = np.ndarray[Any, Any]
Run = Callable[[], object]

SHAPES = ((4096, 4096), (4096, 11008), (11008, 4096), (1024, 1024))
"""(inputs, outputs)."""

FEW_ROWS = ((2, 4096, 4096), (4, 4096, 4096), (8, 4096, 4096), (16, 4096, 4096))
"""(rows, inputs, outputs) of several sequences at once."""

NEAR = (1024, 512)
"""(inputs, outputs) of weights that stay in the second cache, but those of f32."""

NEAR_RUNS = 400

SCHEMES = ((4, 128), (4, 32), (8, 0), (32, 0))
"""(bits, neighbours that share a scale; 0: all inputs of an output)."""

LEAST_BYTES = 128 << 20
MOST_COPIES = 64
READ_BYTES = 64 << 20
"""What each thread reads when the bandwidth is measured."""

PAUSE = 0.1
"""Seconds after which the threads of another engine have stopped to wait for work."""

PEERS = (("onnxruntime", 1), ("onnxruntime, bytes", 4))
"""Name -> accuracy level of `MatMulNBits`."""


@dataclass(frozen=True)
class Case:
    """One shape in one precision.

    Attributes:
        group: neighbours along the inputs that share a scale; 0: all of them.
        bits: of a weight; 32: floats.
        once: a single product.
    """

    rows: int
    inputs: int
    outputs: int
    bits: int
    group: int = 0
    once: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        scheme = "f32" if self.bits == 32 else f"int{self.bits}" + (f"/{self.group}" if self.group else "")
        return f"{self.rows}x{self.inputs}x{self.outputs} {scheme}"

    @property
    def bytes(self) -> int:
        """Of the weights and scales of one product."""
        scales = (
            0 if self.bits == 32 else 4 * self.outputs * (-(-self.inputs // self.group) if self.group else 1)
        )
        return self.inputs * self.outputs * self.bits // 8 + scales

    @property
    def copies(self) -> int:
        """Products of a run."""
        return 1 if self.once else max(1, min(MOST_COPIES, -(-LEAST_BYTES // self.bytes)))


def weights(case: Case, number: int) -> tuple[Array, Array | None]:
    """([inputs, outputs] integers or floats, scales [groups, outputs] or [outputs])."""
    rng = np.random.default_rng([case.inputs, case.outputs, number])
    size, typical = (case.inputs, case.outputs), 1 / np.sqrt(case.inputs)
    if case.bits == 32:
        return rng.standard_normal(size, np.float32) * np.float32(typical), None
    half = 1 << (case.bits - 1)
    whole = rng.integers(-half, half, size, np.int8)
    shape = (-(-case.inputs // case.group), case.outputs) if case.group else (case.outputs,)
    scales = ((0.5 + rng.random(shape)) * typical / half).astype(np.float32)
    return whole.astype(ml_dtypes.int4) if case.bits == 4 else whole, scales


def module(case: Case) -> Module:
    """All products of a case; each has an input of its own, so that nothing can be merged."""
    b = aino.Builder()
    for number in range(case.copies):
        x = b.input(f"x{number}", tensor("f32", case.rows, case.inputs))
        values, scales = weights(case, number)
        w = b.constant(values)
        if scales is not None and case.group:
            w = b.dequantize_groups(w, b.constant(scales), axis=0, group=case.group)
        elif scales is not None:
            w = b.dequantize(w, b.constant(scales))
        b.output(f"y{number}", b.matmul(x, w))
    made: Module = b.module
    return made


def activations(case: Case) -> list[Array]:
    """What each product multiplies."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((case.rows, case.inputs), np.float32) for _ in range(case.copies)]


def peer_model(case: Case, level: int) -> onnx.ModelProto:
    """The same products for ONNX Runtime; a channel's scale stands for blocks of 128."""
    nodes, constants, inputs, outputs = [], [], [], []
    for number in range(case.copies):
        values, scales = weights(case, number)
        x, y = f"x{number}", f"y{number}"
        inputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, [case.rows, case.inputs]))
        outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [case.rows, case.outputs]))
        if scales is None:
            constants.append(onnx.numpy_helper.from_array(values, f"w{number}"))
            nodes.append(helper.make_node("MatMul", [x, f"w{number}"], [y]))
            continue
        block = case.group or 128
        packed, own = (
            blocks(values, case.bits, block),
            np.repeat(
                scales.reshape(-1, case.outputs), 1 if case.group else -(-case.inputs // block), axis=0
            ),
        )
        constants.append(onnx.numpy_helper.from_array(packed, f"w{number}"))
        constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(own.T).reshape(-1), f"s{number}"))
        sizes: dict[str, Any] = {"K": case.inputs, "N": case.outputs, "bits": case.bits, "block_size": block}
        names = [x, f"w{number}", f"s{number}"]
        nodes.append(
            helper.make_node("MatMulNBits", names, [y], domain="com.microsoft", accuracy_level=level, **sizes)
        )
    graph = helper.make_graph(nodes, "products", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def blocks(values: Array, bits: int, block: int) -> Array:
    """u8 [outputs, blocks, bytes of a block], as `MatMulNBits` wants it: unsigned, low halves first."""
    inputs, outputs = values.shape
    unsigned = (values.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8).T
    padded = np.full((outputs, -(-inputs // block) * block), 1 << (bits - 1), np.uint8)
    padded[:, :inputs] = unsigned
    if bits == 4:
        padded = padded[:, ::2] | (padded[:, 1::2] << 4)
    return padded.reshape(outputs, -(-inputs // block), -1)


def peer(case: Case, level: int, threads: int, given: list[Array]) -> tuple[Run, Array]:
    """(what runs it, the first result)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        peer_model(case, level).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {f"x{i}": x for i, x in enumerate(given)}
    return (lambda: session.run(None, feed)), np.asarray(session.run(["y0"], feed)[0])


def engines(case: Case, threads: int) -> tuple[dict[str, Run], dict[str, Array], str]:
    """What runs the case, the first result of each, and which kernel ours is."""
    given = activations(case)
    exe = aino.compile(module(case), threads=threads)
    runs: dict[str, Run] = {"aino": lambda: exe.run(*given)}
    first = {"aino": np.asarray(exe.run(*given)[0])}
    for name, level in PEERS:
        if case.bits == 32 and level != 1:
            continue
        runs[name], first[name] = peer(case, level, threads, given)
    kernels = {k["candidate"] for k in exe.report.kernels}
    return runs, first, "; ".join(sorted(kernels))


def measured(case: Case, threads: int, turns: int, meter: PeakMeter) -> list[dict[str, Any]]:
    """A row for each engine."""
    runs, first, kernel = engines(case, threads)
    arrays = [np.ones(READ_BYTES // 4, np.float32) for _ in range(threads)]
    read: list[float] = []
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        read.append(meter.read(arrays))
        for name, run in runs.items():
            time.sleep(PAUSE)
            run()
            start = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - start)
    bandwidth = statistics.median(read)
    want = first["aino"]
    rows = []
    for name, seconds in spent.items():
        delivered = case.bytes * case.copies / statistics.median(seconds) / 1e9
        rows.append(
            {
                "case": case.name,
                "threads": threads,
                "engine": name,
                "ms": 1e3 * statistics.median(seconds) / case.copies,
                "ms_least": 1e3 * min(seconds) / case.copies,
                "gbytes_per_second": delivered,
                "read_gbytes_per_second": bandwidth,
                "share_of_read": delivered / bandwidth,
                "bytes_of_a_run": case.bytes * case.copies,
                "difference": float(np.abs(first[name] - want).max() / np.abs(want).max()),
                "kernel": kernel if name == "aino" else "",
            }
        )
    return rows


def near(case: Case) -> dict[str, Any]:
    """How fast one core decodes weights that are at hand: the least of several medians."""
    exe = aino.compile(module(case), threads=1)
    (x, *_) = activations(case)
    profiles = [exe.profile(x, runs=NEAR_RUNS // 20) for _ in range(20)]
    seconds = 1e-3 * min(sum(r.ms for r in p.rows) for p in profiles)
    kernel = str(exe.report.kernels[0]["candidate"])
    return {
        "case": case.name,
        "near": True,
        "gbytes_per_second": case.bytes / seconds / 1e9,
        "kernel": kernel,
    }


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    if row.get("near"):
        return f"{row['case']}, one core from its cache: {row['gbytes_per_second']:.1f} GB/s, {row['kernel']}"
    share = f"{row['gbytes_per_second']:.1f} GB/s, {100 * row['share_of_read']:.0f} % of the bandwidth"
    return f"{row['case']}, {row['threads']} threads, {row['engine']}: {row['ms']:.3f} ms, {share}"


def cases() -> list[Case]:
    """All that is measured."""
    single = [Case(1, k, n, bits, group) for k, n in SHAPES for bits, group in SCHEMES]
    several = [
        Case(m, k, n, bits, group) for m, k, n in FEW_ROWS for bits, group in ((4, 128), (8, 0), (32, 0))
    ]
    return single + several


def told(row: dict[str, Any], file: Path | None) -> None:
    """A row printed, and kept where there is a file for it."""
    if file is not None:
        with file.open("a") as rows:
            rows.write(json.dumps(row) + "\n")
    print(line(row), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and print one line an engine."""
    parser = argparse.ArgumentParser(description="Single rows of weights of few bits, beside the bandwidth.")
    parser.add_argument("--threads", default="1,2", help="how many, one run each")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    parser.add_argument("--near", action="store_true", help="one product from the second cache")
    options = parser.parse_args(arguments)
    if options.near:
        found = [Case(1, *NEAR, bits, group, once=True) for bits, group in SCHEMES]
        for case in (c for c in found if options.only in c.name):
            told(near(case), options.jsonl)
        return 0
    with opened_or_temporary() as store:
        meter = PeakMeter(detect_host().isa().name, find_toolchain(store), store)
    for case in (c for c in cases() if options.only in c.name):
        for threads in map(int, options.threads.split(",")):
            for row in measured(case, threads, options.turns, meter):
                told(row, options.jsonl)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One engine in a process of its own: ``python -m aino_ir.driver.bench_worker ENGINE MODEL INPUTS THREADS``.

Reads one JSON object a line from standard input and answers each with one on standard output: ``{"do":
"run", "seconds": s}`` gives ``{"minimum", "median", "runs"}`` in seconds, ``{"do": "outputs", "path": p}``
writes the outputs as npz.  The first line, sent unasked, is ``{"ready": true, "version", "setup"}`` or
``{"error": text}``.  What an engine itself prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]
Run = Callable[[], list[np.ndarray[Any, Any]]]

WARM_UP_RUNS = 3
WARM_UP_SECONDS = 2.0
"""A slow engine warms up for about so long, by one run at the least."""


def _open_aino(model: str, inputs: Arrays, threads: int) -> Run:
    import aino_ir as aino

    executable = aino.compile(model, target="c", threads=threads)
    ordered = [inputs[name] for name, _ in executable.inputs]
    return lambda: list(executable.run(*ordered))


def _open_aino_tvm(model: str, inputs: Arrays, threads: int) -> Run:
    import aino_ir as aino

    executable = aino.compile(model, target="tvm:llvm", threads=threads)
    ordered = [inputs[name] for name, _ in executable.inputs]
    return lambda: list(executable.run(*ordered))


def _open_tvm(model: str, inputs: Arrays, threads: int) -> Run:
    """TVM by itself: its ONNX frontend, its pipeline `zero`, no tuning records."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    loaded = onnx.load(model)
    cpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    target = tvm.target.Target({"kind": "llvm", "mcpu": str(cpu), "num-cores": threads})
    module = from_onnx(loaded)
    with target:
        module = relax.get_pipeline("zero")(module)
        machine = relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
    weights = {t.name for t in loaded.graph.initializer}
    given = [tvm.runtime.tensor(inputs[i.name]) for i in loaded.graph.input if i.name not in weights]

    def run() -> list[np.ndarray[Any, Any]]:
        results = machine["main"](*given)
        return [r.numpy() for r in ([results] if hasattr(results, "numpy") else results)]

    return run


def _open_onnxruntime(model: str, inputs: Arrays, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: list(session.run(None, inputs))


def _open_openvino(model: str, inputs: Arrays, threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    ports = list(compiled.outputs)

    def run() -> list[np.ndarray[Any, Any]]:
        results = request.infer(inputs, share_inputs=True, share_outputs=True)
        return [results[port] for port in ports]

    return run


ENGINES: dict[str, tuple[str, Callable[[str, Arrays, int], Run]]] = {
    "aino": ("aino-ir", _open_aino),
    "aino-tvm": ("aino-ir", _open_aino_tvm),
    "tvm": ("apache-tvm", _open_tvm),
    "onnxruntime": ("onnxruntime", _open_onnxruntime),
    "openvino": ("openvino", _open_openvino),
}
"""Engine -> the distribution that it comes from, and how to open a model with it."""


def save_inputs(path: Path, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write arrays by input name as npz; names stand in an array of their own, for they may be anything."""
    arrays = {f"input{i:04}": x for i, x in enumerate(inputs.values())}
    np.savez(path, names=np.array(list(inputs), np.str_), **arrays)  # type: ignore[arg-type]


def load_inputs(path: Path) -> Arrays:
    """Read what `save_inputs` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return {str(name): stored[f"input{i:04}"] for i, name in enumerate(stored["names"])}


def measure(run: Run, seconds: float) -> dict[str, float]:
    """Call `run` again and again for about `seconds`; return the minimum and median call and their number."""
    laps: list[float] = []
    end = time.perf_counter() + seconds
    while not laps or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        laps.append(time.perf_counter() - start)
    return {"minimum": min(laps), "median": statistics.median(laps), "runs": len(laps)}


def _warm_up(run: Run) -> int:
    """Call `run` a few times, fewer where that takes long; returns how often."""
    end = time.perf_counter() + WARM_UP_SECONDS
    calls = 0
    while not calls or (calls < WARM_UP_RUNS and time.perf_counter() < end):
        run()
        calls += 1
    return calls


def _serve(run: Run, reply: Callable[[dict[str, Any]], None]) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "run":
            reply(measure(run, asked["seconds"]))
        else:
            start = time.perf_counter()
            results = run()
            took = time.perf_counter() - start
            np.savez(asked["path"], **{f"{i:04}": y for i, y in enumerate(results)})  # type: ignore[arg-type]
            reply({"written": asked["path"], "seconds": took})


def main(arguments: list[str]) -> int:
    """Open the model, say so, and serve requests until standard input ends."""
    engine, model, inputs_path, threads = arguments
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # an engine that prints must not garble the answers

    def reply(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    distribution, opener = ENGINES[engine]
    try:
        inputs = load_inputs(Path(inputs_path))
        start = time.perf_counter()
        run = opener(model, inputs, int(threads))
        _warm_up(run)
        setup = time.perf_counter() - start
        reply({"ready": True, "version": version(distribution), "setup": setup})
        _serve(run, reply)
    except Exception as error:  # whatever an engine raises is its result
        reply({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

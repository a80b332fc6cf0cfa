"""Networks in int8 side by side: ours in f32 and int8, ONNX Runtime's and OpenVINO's int8.

    python -m benchmarks.compression.networks [NAME ...] [--nncf PYTHON] [--threads 2] [--jsonl FILE]

Every engine makes its int8 model with its own means from the same calibration data: AINO by
`aino.quantize`, ONNX Runtime by `quantize_static` (QDQ), OpenVINO by nncf, which is run by another Python
where it is not installed here (``--nncf``).  All of them then run in processes of their own, by turns, on
the same inputs.  A row says the time of an engine and how close its outputs are to PyTorch's in f32 (SQNR
in dB).  Models are kept in build/compression and rows are appended, so that a run that was cut off goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.driver.api import compile_options
from aino_ir.driver.bench import ROUNDS, SECONDS_PER_ROUND, EngineResult, interleave
from aino_ir.driver.bench_worker import save_inputs
from aino_ir.passes.compression.guard import sqnr
from benchmarks.workloads import Arrays, Workload, example_inputs, workload

NETWORKS = ("resnet50", "mobilenet_v2", "bert_base")
CALIBRATION_SEEDS = range(4)
FOLDER = Path(__file__).resolve().parents[2] / "build" / "compression"
ROWS = FOLDER / "networks.jsonl"
NNCF = Path(__file__).with_name("nncf_quantize.py")


def calibration(name: str) -> list[Arrays]:
    """The inputs that every engine looks at."""
    return [example_inputs(name, seed) for seed in CALIBRATION_SEEDS]


def by_aino(work: Workload, data: Sequence[Arrays], path: Path, nncf: str) -> None:
    """Our int8, written as QDQ ONNX; layers are refused for their time, not for the outputs' error."""
    small = aino.quantize(str(work.path), calibration=list(data), min_sqnr=-np.inf)
    (path.parent / f"{path.stem}.txt").write_text(f"{small.compression}\n", encoding="utf-8")
    path.write_bytes(aino.to_onnx(small).SerializeToString())


def by_onnxruntime(work: Workload, data: Sequence[Arrays], path: Path, nncf: str) -> None:
    """ONNX Runtime's int8: weights a scale a channel, of 7 bits, as it advises without VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives out the samples one by one."""

        def __init__(self) -> None:
            self.left = iter(data)

        def get_next(self) -> Arrays | None:
            """The next sample, None at the end."""
            return next(self.left, None)

    ready = path.with_name("prepared.onnx")
    quant_pre_process(str(work.path), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready),
        str(path),
        Reader(),
        per_channel=True,
        reduce_range=not multiplies_bytes(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def by_openvino(work: Workload, data: Sequence[Arrays], path: Path, nncf: str) -> None:
    """OpenVINO's int8, made by nncf in the Python that has it."""
    samples = [path.with_name(f"sample{i}.npz") for i in range(len(data))]
    for place, inputs in zip(samples, data, strict=True):
        save_inputs(place, inputs)
    command = [nncf, str(NNCF), str(work.path), str(path), *map(str, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no words")


def multiplies_bytes() -> bool:
    """Whether this processor adds products of bytes in 32 bits."""
    return bool(compile_options("c").target.multiplies_bytes)


ENGINES: dict[str, tuple[str, str, Any]] = {
    "aino f32": ("aino", "", None),
    "aino int8": ("aino", "aino.onnx", by_aino),
    "onnxruntime int8": ("onnxruntime", "onnxruntime.onnx", by_onnxruntime),
    "openvino int8": ("openvino", "openvino.xml", by_openvino),
}
"""Label -> (engine, file of its model, how that is made)."""


def made(name: str, work: Workload, nncf: str) -> tuple[dict[str, tuple[str, Path]], dict[str, str]]:
    """The models of all engines, made where they are not there; and why some could not be."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, tuple[str, Path]] = {}
    failed: dict[str, str] = {}
    for label, (engine, file, make) in ENGINES.items():
        path = folder / file if file else Path(work.path)
        if not path.exists():
            print(f"{name}: making {label}", flush=True)
            try:
                make(work, calibration(name), path, nncf)
            except Exception as error:  # whatever a peer's tools raise is their result
                failed[label] = f"{type(error).__name__}: {error}"
                continue
        entries[label] = (engine, path)
    return entries, failed


def row_of(
    name: str, label: str, threads: int, result: EngineResult, wanted: Sequence[Any]
) -> dict[str, Any]:
    """What is kept of an engine on a network."""
    row: dict[str, Any] = {"network": name, "engine": label, "threads": threads, "version": result.version}
    if result.error:
        return row | {"error": result.error[:300]}
    ratios = [sqnr(got, want) for got, want in zip(result.outputs, wanted, strict=True)]
    return row | {"ms": 1e3 * result.seconds, "minima": result.minima, "sqnr": min(ratios)}


def verdict(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """One line: times, how much faster than our f32, how much slower than the faster peer, and SQNR."""
    found = {r["engine"]: r for r in rows if r["network"] == name and "ms" in r}
    text = ", ".join(f"{k} {r['ms']:.2f} ms ({r['sqnr']:.1f} dB)" for k, r in found.items())
    ours = found.get("aino int8")
    if ours is None:
        return f"{name}: {text or 'nothing ran'}"
    parts = []
    if "aino f32" in found:
        parts.append(f"{found['aino f32']['ms'] / ours['ms']:.2f} times as fast as our f32")
    peers = [r for k, r in found.items() if not k.startswith("aino")]
    if peers:
        best = min(peers, key=lambda r: float(r["ms"]))
        parts.append(f"{ours['ms'] / best['ms']:.2f} times as slow as {best['engine']}")
        parts.append(f"{ours['sqnr'] - best['sqnr']:+.1f} dB from it")
    return f"{name}: {text}: {', '.join(parts)}"


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of earlier runs."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, measure what has no rows yet, print a line a network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_ROUND)
    parser.add_argument("--nncf", default=sys.executable, help="a Python that has nncf and openvino")
    parser.add_argument("--jsonl", type=Path, default=ROWS, help="where rows are appended")
    parser.add_argument("--make-only", action="store_true", help="make the models and measure nothing")
    options = parser.parse_args(arguments)
    rows = kept_rows(options.jsonl)
    for name in options.networks or NETWORKS:
        known = {(r["network"], r["threads"]) for r in rows}
        if (name, options.threads) not in known:
            work = workload(name)
            entries, failed = made(name, work, options.nncf)
            for label, reason in failed.items():
                print(f"{name}: no {label}: {reason[:300]}", flush=True)
            if options.make_only:
                continue
            found = interleave(
                entries, work.inputs, threads=options.threads, rounds=options.rounds, seconds=options.seconds
            )
            new = [row_of(name, k, options.threads, r, list(work.outputs.values())) for k, r in found.items()]
            options.jsonl.parent.mkdir(parents=True, exist_ok=True)
            with options.jsonl.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in new)
            rows += new
        print(verdict(name, [r for r in rows if r["threads"] == options.threads]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compiles every reference network and every light model of the onnx package, and checks the results.

``python -m benchmarks.zoo [NAME ...]`` (`make zoo`) compiles each model in a process of its own, compares its
outputs with eager PyTorch's (or those stored beside the light models), and writes one row a model to
build/zoo.jsonl.  With ``--standalone`` it also writes each model as C, builds that with CMake alone,
runs it, and compares again.  Names are ``resnet50.dynamo``, ``resnet50_small.torchscript``, ``light_vgg19``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.workloads import EXPORTERS, NAMES, Arrays, light_models, workload

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest magnitude of the reference output."""

SAME = 1e-6
"""Largest difference allowed between the artifact and the C built by another compiler's flags, likewise."""

TIMEOUT = 1800.0
ROWS = Path(__file__).resolve().parent.parent / "build" / "zoo.jsonl"


@dataclass
class Row:
    """What became of one model.

    Attributes:
        name: the model.
        difference: max|y - reference| / max|reference|, the worst output.
        compile_seconds: from file to executable.
        python_nodes: nodes that run in Python.
        undone: passes that failed validation.
        wrong_kernels: kernels that did not compute what their ops mean, and were replaced.
        standalone: max|y - y'| / max|y| of the written C, built alone and run; NaN when not asked for.
        error: why there is no result; empty when there is one.
    """

    name: str
    difference: float = float("nan")
    compile_seconds: float = float("nan")
    python_nodes: list[dict[str, str]] = field(default_factory=list)
    undone: list[dict[str, Any]] = field(default_factory=list)
    wrong_kernels: list[dict[str, str]] = field(default_factory=list)
    standalone: float = float("nan")
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether the model compiled to native code alone and gave the right numbers."""
        clean = not (self.error or self.python_nodes or self.undone or self.wrong_kernels)
        return clean and self.difference <= TOLERANCE and not self.standalone > SAME


def every_name() -> list[str]:
    """Return the eight networks by both exporters, and the light models."""
    return [f"{name}.{exporter}" for name in NAMES for exporter in EXPORTERS] + list(light_models())


def subject(name: str) -> tuple[Path, Arrays, list[np.ndarray[Any, Any]]]:
    """Return the file, the inputs and the reference outputs of the model called `name`."""
    if name in light_models():
        path = light_models()[name]
        return path, *_light_arrays(path)
    network, _, exporter = name.partition(".")
    made = workload(network, exporter or "dynamo")
    return made.path, made.inputs, list(made.outputs.values())


def _light_arrays(path: Path) -> tuple[Arrays, list[np.ndarray[Any, Any]]]:
    """Make a light model's inputs as onnx's own runner does, and read its stored output."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    stored = {t.name for t in graph.initializer}
    inputs: Arrays = {}
    for value in graph.input:
        if value.name not in stored:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs[value.name] = (np.arange(count).reshape(shape) / count).astype(np.float32)
    output = onnx.TensorProto.FromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
    return inputs, [numpy_helper.to_array(output)]


def difference(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    """Return max|got - want| / max|want|; inf where the shapes or NaNs differ."""
    if got.shape != want.shape or not np.array_equal(np.isnan(got), np.isnan(want)):
        return float("inf")
    gap = np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)), initial=0.0)
    return float(gap / (np.max(np.abs(want), initial=0.0) or 1.0))


def standalone_outputs(
    path: Path, inputs: Arrays, outputs: list[np.ndarray[Any, Any]], folder: Path
) -> list[Any]:
    """Write the model as C into `folder`, build it with CMake alone, and return what it computes."""
    from aino_ir.driver.emit import emit_files

    emit_files(path, "c", folder)
    for command in (
        ["-S", str(folder), "-B", str(folder / "build")],
        ["--build", str(folder / "build"), "-j2"],
    ):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    (program,) = (p for p in (folder / "build").glob("*_main") if p.is_file())
    (weights,) = folder.glob("*.weights")
    given = [folder / f"in{i}.bin" for i in range(len(inputs))]
    results = [folder / f"out{i}.bin" for i in range(len(outputs))]
    for place, x in zip(given, inputs.values(), strict=True):
        place.write_bytes(np.ascontiguousarray(x).tobytes())
    subprocess.run([str(program), str(weights), *map(str, (*given, *results))], check=True, timeout=TIMEOUT)
    return [np.fromfile(p, y.dtype).reshape(y.shape) for p, y in zip(results, outputs, strict=True)]


def check(name: str, threads: int = 2, target: str = "c", standalone: bool = False) -> Row:
    """Compile the model called `name`, run it, and judge it, in this process."""
    import aino_ir as aino

    path, inputs, wanted = subject(name)
    start = time.perf_counter()
    executable = aino.compile(path, target=target, threads=threads)
    row = Row(name, compile_seconds=time.perf_counter() - start)
    got = executable.run(inputs)
    row.difference = max(difference(np.asarray(y), want) for y, want in zip(got, wanted, strict=True))
    row.python_nodes = list(executable.report.python_nodes)
    row.wrong_kernels = executable.report.checks.get("kernels", {}).get("wrong", [])
    row.undone = list(executable.report.undone)
    if standalone:
        with tempfile.TemporaryDirectory(prefix="aino-zoo-") as folder:
            again = standalone_outputs(path, inputs, [np.asarray(y) for y in got], Path(folder))
        row.standalone = max(difference(y, np.asarray(ours)) for y, ours in zip(again, got, strict=True))
    return row


def check_in_child(name: str, threads: int, target: str, standalone: bool = False) -> Row:
    """Do what `check` does in a process of its own, so that nothing can take the others down."""
    command = [sys.executable, "-m", "benchmarks.zoo", "--child", name, "--threads", str(threads)]
    command += ["--target", target, *(["--standalone"] if standalone else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return Row(name, error=f"not done within {TIMEOUT:.0f} s")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if "AINO-E" in line] or lines[-1:]
        return Row(name, error=said[0] if said else f"the process ended with status {done.returncode}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def render(rows: list[Row]) -> Table:
    """Return the rows as a table for a terminal."""
    table = Table(title="models compiled and checked")
    headings = {
        "model": "left",
        "verdict": "left",
        "difference": "right",
        "compile s": "right",
        "alone": "right",
    }
    for heading, side in headings.items():
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("remarks", no_wrap=True, overflow="ellipsis")
    for row in rows:
        counted = {
            "python nodes": row.python_nodes,
            "undone": row.undone,
            "wrong kernels": row.wrong_kernels,
        }
        remarks = row.error or "; ".join(f"{len(v)} {k}" for k, v in counted.items() if v)
        alone = "" if np.isnan(row.standalone) else f"{row.standalone:.0e}"
        numbers = (
            ("", "", "") if row.error else (f"{row.difference:.1e}", f"{row.compile_seconds:.1f}", alone)
        )
        table.add_row(row.name, "good" if row.good else "BAD", *numbers, remarks[:200])
    return table


def main(argv: list[str] | None = None) -> int:
    """Check the chosen models; return 1 when one is not good."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", default="c")
    parser.add_argument("--standalone", action="store_true", help="also build and run the C alone")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(asdict(check(options.child, options.threads, options.target, options.standalone))))
        return 0
    if options.standalone and shutil.which("cmake") is None:
        parser.error("--standalone needs cmake")
    rows = []
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    with ROWS.open("w", encoding="utf-8") as file:
        for name in options.names or every_name():
            row = check_in_child(name, options.threads, options.target, options.standalone)
            rows.append(row)
            print(f"{name}: {'good' if row.good else 'BAD ' + row.error[:160]}", flush=True)
            file.write(json.dumps(asdict(row)) + "\n")
    Console().print(render(rows))
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())

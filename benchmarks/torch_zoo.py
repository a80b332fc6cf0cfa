"""Architectures of transformers from small configurations, exported in one graph and compared with eager.

    python -m benchmarks.torch_zoo [--target reference|c] [--shard i/n] [--match REGEX] [--jsonl FILE]
        [--fresh] [--keep] [--write-docs]

Weights are random (seed 0), the models are those of `benchmarks.torch_zoo_models`.  Outcomes are appended
to a file, by default build/torch_zoo-TARGET.jsonl, one JSON line a model; models that it already holds for
the present source of AINO are not run again, with `--keep` those that it holds for any source.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import aino_ir as aino
from aino_ir.driver.cache import source_hash
from benchmarks.torch_zoo_models import ZOO, build

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "torch_zoo.md"

BOUND = 1e-4
"""Largest error, as a share of the largest |eager result|, with which a model passes."""

SIGNAL = 1e-4
"""Least standard deviation of results that say something."""

MASK = 1e30
"""Results at least as large are marks of what is masked, not numbers."""


@dataclass(frozen=True)
class Outcome:
    """How a model went.

    Attributes:
        status: passed, wrong, or failed (with the error in `detail`).
        ops: operations of the graph as loaded.
        kernels: calls of kernels in a run of the compiled program.
        python_nodes: operations that run in Python, not natively.
        error: largest error as a share of the largest |eager result|.
        seconds: exporting, compiling (a cold cache included) and running.
        versions: of torch and transformers.
    """

    model: str
    target: str
    status: str
    detail: str = ""
    ops: int = 0
    kernels: int = 0
    python_nodes: int = 0
    error: float = 0.0
    seconds: float = 0.0
    versions: str = ""


def run_model(name: str, target: str) -> Outcome:
    """Export, compile, run and compare one model."""
    start = time.perf_counter()
    try:
        model, inputs = build(name)
        expected = eager(model, inputs)
        module = aino.load(model, inputs)
        executable = aino.compile(module, target, threads=1)
        results = executable.run(dict(inputs))
        error = largest_error(results, expected) if varies(expected) else float("inf")
        report = executable.report
    except Exception as problem:  # a model that fails is a row, and the others go on
        detail = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        return Outcome(name, target, "failed", detail, seconds=time.perf_counter() - start)
    return Outcome(
        name,
        target,
        "passed" if error <= BOUND else "wrong",
        ops=module.op_count(),
        kernels=len(report.kernels),
        python_nodes=len(report.python_nodes),
        error=error,
        seconds=time.perf_counter() - start,
        versions=versions(),
    )


def varies(results: Sequence[Any]) -> bool:
    """Whether a model gives any numbers that differ enough for an error to show."""
    floats = [r.double() for r in results if r.is_floating_point() and r.numel() > 1]
    return any(SIGNAL < float(r[r.abs() < MASK].std()) < float("inf") for r in floats)


def versions() -> str:
    """Of what the models are made with."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))


def eager(model: Any, inputs: dict[str, Any]) -> list[Any]:
    """The tensors that a model gives in PyTorch, flattened in order."""
    from torch.utils import _pytree as pytree

    with torch.no_grad():
        return [t for t in pytree.tree_leaves(model(**inputs)) if isinstance(t, torch.Tensor)]


def largest_error(results: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of any output, as a share of its largest |expected value|.

    What is not finite, or stands for it in masks (beyond `MASK`), must be the same and has no share in the
    largest value.
    """
    if len(results) != len(expected):
        return float("inf")
    worst = 0.0
    for got, want in zip(results, expected, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            return float("inf")
        got, want = got.double(), want.double()
        plain = want.abs() < MASK
        if not torch.equal(got[~plain].nan_to_num(0.5), want[~plain].nan_to_num(0.5)):
            return float("inf")
        got, want = got[plain], want[plain]
        if want.numel():
            error = float((got - want).abs().max()) / (float(want.abs().max()) or 1.0)
            worst = max(worst, error if error == error else float("inf"))
    return worst


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 1 when a model did not pass."""
    options = parse(arguments)
    path = Path(options.jsonl) if options.jsonl else ROOT / "build" / f"torch_zoo-{options.target}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(run(options, path))
    if options.write_docs:
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(any(row["status"] != "passed" for row in rows))


def run(options: argparse.Namespace, path: Path) -> Iterator[dict[str, Any]]:
    """Rows of the models that were asked for, those of the file first."""
    number, _, count = options.shard.partition("/")
    source = source_hash()
    held = {} if options.fresh or not path.exists() else _held(path, None if options.keep else source)
    with path.open("w" if options.fresh else "a", encoding="utf-8") as file:
        for name in sorted(ZOO):
            mine = zlib.crc32(name.encode()) % int(count) == int(number)
            if not mine or not re.search(options.match, name):
                continue
            row = held.get(name)
            if row is None:
                row = {**asdict(run_model(name, options.target)), "source": source}
                file.write(json.dumps(row) + "\n")
                file.flush()
            print(
                f"{row['status']:7} {name:14} {row['error']:.1e} {row['ops']:5d} ops  {row['detail']}",
                flush=True,
            )
            yield row


def _held(path: Path, source: str | None) -> dict[str, dict[str, Any]]:
    """The rows of a file by model: those of one source of AINO, or the last of each."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {row["model"]: row for row in rows if source in (None, row["source"])}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """docs/torch_zoo.md"""
    passed = sum(row["status"] == "passed" for row in rows)
    sources = Counter(row["source"][:12] for row in rows)
    ran = {row["model"] for row in rows}
    rest = sorted(set(ZOO) - ran)
    lines = [
        "# Architectures of transformers",
        "",
        "Written by `make zoo` (`python -m benchmarks.torch_zoo --write-docs`); do not edit. Each model is",
        "built from a small configuration with random weights (seed 0), exported by `torch.export` in one",
        "graph, compiled, run with one thread, and compared with eager PyTorch: the error is the largest",
        f"difference of any output, as a share of its largest absolute value, and may be {BOUND:g} at most.",
        "Seconds cover all of that, with a cold cache.",
        "",
        f"{passed} of {len(rows)} pass. " + "; ".join(sorted({row["versions"] for row in rows} - {""})) + ".",
        "Sources of AINO: " + ", ".join(f"{s} ({n} rows)" for s, n in sources.most_common()) + ".",
        *([f"Not run: {', '.join(rest)}."] if rest else []),
        "",
        "| model | class | target | result | ops | kernels | ops in Python | largest error | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        counts = (row["ops"], row["kernels"], row["python_nodes"], f"{row['error']:.1e}")
        cells = (row["model"], ZOO[row["model"]].model, row["target"], row["status"], *counts)
        lines.append("| " + " | ".join(map(str, (*cells, f"{row['seconds']:.1f}"))) + " |")
    problems = [f"- {row['model']}: {row['detail']}" for row in rows if row["detail"]]
    return "\n".join([*lines, *(["", "What is wrong:", "", *problems] if problems else [])]) + "\n"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_zoo")
    parser.add_argument("--target", default="c", choices=("reference", "c"))
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--match", default="")
    parser.add_argument("--jsonl")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

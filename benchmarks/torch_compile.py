"""The reference networks through torch.compile: eager, inductor where it works, and AINO, in turns.

``python -m benchmarks.torch_compile [--rounds 15] [--threads 2] [--only resnet50,bert_base] [--small]
[--engines eager,inductor,aino] [--output FILE] [--fresh]``

Every engine runs once a round, so that a machine that slows down slows all of them; the figures are medians
of the rounds, in milliseconds.  The results of each engine are compared with eager's.  Last comes what a call
of a graph of three operators costs, on eight numbers: the fastest of the rounds, in microseconds.

Each network runs in a process of its own, and its rows are appended to the file when it is done; rows that
the file has already, for the same sources, versions and options, are not measured again without ``--fresh``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from aino_ir.driver import api
from aino_ir.driver.cache import source_hash
from aino_ir.driver.dynamo import graph as native
from benchmarks.torch_zoo import versions
from benchmarks.workloads import build, example_inputs

NETWORKS = (
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b16",
    "bert_base",
    "gpt2",
    "whisper_tiny_encoder",
)
ENGINES = ("eager", "inductor", "aino")
CALLS = 2000
"""Calls of the small graph in a round."""

SMALLEST = "call_of_three_operators"
"""The name under which the cost of a call stands beside the networks."""

LIMIT = 3600
"""Seconds that a network may take, compilation included."""

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """One network on one engine.

    Attributes:
        ms: median of the rounds.
        ratio: eager's median over this one: above 1 is faster than eager.
        error: largest difference from eager's results, relative to their largest value.
        problem: why there are no figures, or "".
        compile_seconds: of the first call.
        kernels: for each native graph of AINO's, how many kernels it calls.
    """

    network: str
    engine: str
    ms: float = 0.0
    ratio: float = 0.0
    error: float = 0.0
    problem: str = ""
    compile_seconds: float = 0.0
    kernels: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        if self.problem:
            return f"{self.network:24} {self.engine:10} {self.problem}"
        return (
            f"{self.network:24} {self.engine:10} {self.ms:9.4f} ms {self.ratio:6.2f}x  error {self.error:.1e}"
            f"  first call {self.compile_seconds:.1f} s{f'  kernels {self.kernels}' if self.kernels else ''}"
        )


def compiled(function: Callable[..., Any], engine: str, threads: int) -> Callable[..., Any]:
    """A function as an engine runs it."""
    if engine == "eager":
        return function
    options: dict[str, Any] | None = {"threads": threads} if engine == "aino" else None
    made: Callable[..., Any] = torch.compile(function, backend=engine, options=options)
    return made


def rounds(calls: dict[str, Call], count: int) -> dict[str, float]:
    """Median milliseconds of each call, all in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(found) for name, found in seconds.items()}


def measure(network: str, engines: Sequence[str], threads: int, count: int) -> list[Timing]:
    """Time one network on every engine."""
    model = build(network)
    inputs = [torch.from_numpy(a) for a in example_inputs(network).values()]
    made: dict[str, Timing] = {}
    calls: dict[str, Call] = {}
    with torch.no_grad():
        wanted = model(*inputs)
        for engine in engines:
            torch._dynamo.reset()
            start = time.perf_counter()
            kernels: list[int] = []
            try:
                with counted_kernels(kernels):
                    function = compiled(model, engine, threads)
                    got = function(*inputs)
            except Exception as problem:  # an engine that cannot is a line of the table
                made[engine] = Timing(network, engine, problem=_first_line(problem))
                continue
            error = max(distance(a, b) for a, b in zip(got, wanted, strict=True))
            seconds = time.perf_counter() - start
            made[engine] = Timing(
                network,
                engine,
                error=error,
                compile_seconds=seconds,
                kernels=kernels if engine == "aino" else [],
            )
            calls[engine] = lambda function=function: function(*inputs)  # type: ignore[misc]
        for call in calls.values():
            call()
        medians = rounds(calls, count)
    eager = medians.get("eager", 0.0)
    for engine, ms in medians.items():
        made[engine] = replace(made[engine], ms=ms, ratio=eager / ms)
    return list(made.values())


@contextmanager
def counted_kernels(found: list[int]) -> Iterator[None]:
    """Append how many kernels each native graph calls that is compiled meanwhile."""
    original = api.compile

    def compiled(module: Any, **options: Any) -> Any:
        executable = original(module, **options)
        found.append(len(executable.report.kernels))
        return executable

    with mock.patch.object(native, "compile", compiled):
        yield


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest value of b."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def three_operators(x: torch.Tensor) -> torch.Tensor:
    """A graph so small that only the call costs anything."""
    return torch.relu(x * 2 + 1)


def overhead(engines: Sequence[str], threads: int, count: int, calls: int) -> list[Timing]:
    """What a call of `three_operators` costs on each engine: the fastest round."""
    x = torch.ones(8)
    found: list[Timing] = []
    for engine in engines:
        torch._dynamo.reset()
        with torch.no_grad():
            try:
                function = compiled(three_operators, engine, threads)
                function(x)
            except Exception as problem:
                found.append(Timing(SMALLEST, engine, problem=_first_line(problem)))
                continue
            best = min(_round(function, x, calls) for _ in range(count))
        found.append(Timing(SMALLEST, engine, ms=1e3 * best / calls))
    return found


def _first_line(problem: Exception) -> str:
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0][:80]


def _round(function: Callable[..., Any], x: torch.Tensor, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function(x)
    return time.perf_counter() - start


def rows_of(network: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one network in this process; its rows."""
    torch.set_num_threads(args.threads)
    engines = args.engines.split(",")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if network == SMALLEST:
            return [asdict(t) for t in overhead(engines, args.threads, args.rounds, args.calls)]
        return [asdict(t) for t in measure(network, engines, args.threads, args.rounds)]


def rows_of_child(network: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The same in a process of its own: one that crashes or hangs is a line of the table."""
    command = [sys.executable, "-m", "benchmarks.torch_compile", "--worker", network, *_options(args)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [asdict(Timing(network, "all", problem=f"not done in {LIMIT} s"))]
    if done.returncode:
        return [asdict(Timing(network, "all", problem=f"the process ended with {done.returncode}"))]
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _options(args: argparse.Namespace) -> list[str]:
    given = {"--rounds": args.rounds, "--threads": args.threads, "--engines": args.engines}
    return [str(part) for pair in given.items() for part in pair] + ["--calls", str(args.calls)]


def held(path: Path, facts: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of a file that were measured under the same conditions, by network."""
    found: dict[str, list[dict[str, Any]]] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for row in (json.loads(line) for line in lines if line):
        if all(row[key] == value for key, value in facts.items()):
            found.setdefault(row["network"], []).append(row)
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=CALLS, help="of three operators in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join((*NETWORKS, SMALLEST)))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--small", action="store_true", help="the small forms of the networks")
    parser.add_argument("--output", type=Path, default=Path("build/torch_compile.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a network and engine, and append the rows to the file."""
    args = parse(argv)
    if args.worker:
        print(json.dumps(rows_of(args.worker, args)))
        return 0
    facts = {
        "threads": args.threads,
        "engines": args.engines,
        "versions": versions(),
        "source": source_hash(),
    }
    known = {} if args.fresh else held(args.output, facts)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(","):
        network = f"{name}_small" if args.small and name != SMALLEST else name
        rows = known.get(network) or [{**row, **facts} for row in rows_of_child(network, args)]
        if network not in known:
            with args.output.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        fields = Timing.__dataclass_fields__
        print(*(Timing(**{k: row[k] for k in fields}) for row in rows), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

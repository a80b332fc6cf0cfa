"""The reference networks through torch.compile: eager, inductor where it works, and AINO, in turns.

``python -m benchmarks.torch_compile [--rounds 15] [--threads 2] [--only resnet50,bert_base] [--small]
[--engines eager,inductor,aino] [--output FILE]``

Every engine runs once a round, so that a machine that slows down slows all of them; the figures are medians
of the rounds, in milliseconds.  The results of each engine are compared with eager's.  Last comes what a call
of a graph of three operators costs, on eight numbers: the fastest of the rounds, in microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

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

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """One network on one engine.

    Attributes:
        ms: median of the rounds.
        ratio: eager's median over this one: above 1 is faster than eager.
        error: largest difference from eager's results, relative to their largest value.
        problem: why there are no figures, or "".
    """

    network: str
    engine: str
    ms: float = 0.0
    ratio: float = 0.0
    error: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.network:24} {self.engine:10} {self.problem}"
        return (
            f"{self.network:24} {self.engine:10} {self.ms:9.3f} ms {self.ratio:6.2f}x  error {self.error:.1e}"
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
    found: list[Timing] = []
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    with torch.no_grad():
        wanted = model(*inputs)
        for engine in engines:
            torch._dynamo.reset()
            try:
                function = compiled(model, engine, threads)
                got = function(*inputs)
            except Exception as problem:  # an engine that cannot is a line of the table
                text = str(problem).strip() or type(problem).__name__
                found.append(Timing(network, engine, problem=text.splitlines()[0][:80]))
                continue
            calls[engine] = lambda function=function: function(*inputs)  # type: ignore[misc]
            errors[engine] = max(distance(a, b) for a, b in zip(got, wanted, strict=True))
        for call in calls.values():
            call()
        medians = rounds(calls, count)
    eager = medians.get("eager", 0.0)
    return found + [Timing(network, e, ms, eager / ms, errors[e]) for e, ms in medians.items()]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest value of b."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def three_operators(x: torch.Tensor) -> torch.Tensor:
    """A graph so small that only the call costs anything."""
    return torch.relu(x * 2 + 1)


def overhead(engines: Sequence[str], threads: int, count: int, calls: int = CALLS) -> dict[str, float]:
    """Microseconds a call of `three_operators`: the fastest round of each engine."""
    x = torch.ones(8)
    found: dict[str, float] = {}
    for engine in engines:
        torch._dynamo.reset()
        function = compiled(three_operators, engine, threads)
        with torch.no_grad():
            function(x)
            best = min(_round(function, x, calls) for _ in range(count))
        found[engine] = 1e6 * best / calls
    return found


def _round(function: Callable[..., Any], x: torch.Tensor, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function(x)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a network and engine, and write the figures."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--small", action="store_true", help="the small forms of the networks")
    parser.add_argument("--output", type=Path, default=Path("build/torch_compile.json"))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    engines = args.engines.split(",")
    rows: list[Timing] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in args.only.split(","):
            rows += measure(f"{name}_small" if args.small else name, engines, args.threads, args.rounds)
            print(*rows[-len(engines) :], sep="\n", flush=True)
        calls = overhead(engines, args.threads, args.rounds)
    print(*(f"call of three operators  {e:10} {us:9.2f} us" for e, us in calls.items()), sep="\n")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figures = {"threads": args.threads, "networks": [asdict(r) for r in rows], "call_us": calls}
    args.output.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

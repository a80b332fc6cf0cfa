"""The differential fuzzer: random graphs through the whole compiler, and through ONNX Runtime.

    python -m tests.fuzz.run [--graphs N] [--seed S] [--shard i/n] [--batch B] [--jsonl FILE] [--keep]

Every graph is run by the interpreter, compiled for target c (many graphs in one module, so that a compiler
call serves them all), and written as ONNX for ONNX Runtime where that has the ops and types.  Compilation and
runs happen in processes of their own.  A batch that fails is halved until the guilty graph stands alone;
``--keep`` then makes it smaller and stores it in tests/fuzz/regressions, where the tests run it for ever.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.codegen.lower.legality import obstacles
from aino_ir.driver.api import compile
from aino_ir.dtypes import integer_range
from aino_ir.errors.base import AinoError
from aino_ir.frontends.onnx.export import to_onnx
from aino_ir.graph import Module
from aino_ir.interp import Evaluation, bind_shape, run_op
from aino_ir.op import Trait
from aino_ir.verify import verify
from tests.conformance.batch import in_child
from tests.conformance.onnxruntime_session import Session
from tests.conformance.rows import parse_shard
from tests.fuzz.graphs import Array, Graph, graph_of, graphs_of
from tests.fuzz.judge import Oracle

REGRESSIONS = Path(__file__).parent / "regressions"


@dataclass(frozen=True)
class Finding:
    """How a graph went.

    Attributes:
        against: c or onnxruntime.
        status: passed, wrong, undone (a pass did not survive validation), refused, crashed, or skipped (an
            op without native code; a model that ONNX Runtime does not take).
    """

    seed: str
    against: str
    status: str
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether this is a fault."""
        return self.status not in ("passed", "skipped")


def native(module: Module) -> bool:
    """Whether every op of a module runs on target c."""
    return not any(obstacles(module.main))


def compiled_results(module: Module, inputs: dict[str, Array]) -> list[Array] | tuple[str, str]:
    """What compiled code makes of a module, or a status and why it makes nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            executable = compile(module, "c", cache=False, threads=2, strict=True)
        if executable.report.undone:  # type: ignore[union-attr]
            return "undone", str(executable.report.undone)[:400]  # type: ignore[union-attr]
        return [np.asarray(y) for y in executable.run(inputs)]
    except AinoError as error:
        return "crashed" if error.exit_status == 3 else "refused", f"{error.code} {error.message}"[:400]
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {error}"[:400]


def judged_alone(graph: Graph) -> tuple[str, str]:
    """Status and detail of one graph on target c, in this process."""
    results = compiled_results(graph.module, graph.inputs)
    if isinstance(results, tuple):
        return results
    why = Oracle(graph.module, graph.arrays).judge(results)
    return ("wrong", why) if why else ("passed", "")


def compiled(seeds: Sequence[str]) -> Iterator[Finding]:
    """Findings on target c, many graphs in one module."""
    answer = in_child(_batch, seeds)
    if isinstance(answer, list) and len(answer) == len(seeds):
        for seed, (status, detail) in zip(seeds, answer, strict=True):
            yield Finding(seed, "c", status, detail)
    elif len(seeds) == 1:
        yield Finding(seeds[0], "c", *answer)
    else:
        half = len(seeds) // 2
        yield from compiled(seeds[:half])
        yield from compiled(seeds[half:])


def _batch(seeds: Sequence[str]) -> list[tuple[str, str]] | tuple[str, str]:
    if len(seeds) == 1:
        return [judged_alone(graph_of(seeds[0]))]
    module, inputs, counts = graphs_of(seeds)
    results = compiled_results(module, inputs)
    if isinstance(results, tuple):
        return results
    out, position = [], 0
    for seed, count in zip(seeds, counts, strict=True):
        graph = graph_of(seed)
        why = Oracle(graph.module, graph.arrays).judge(results[position : position + count])
        position += count
        out.append(("wrong", why) if why else ("passed", ""))
    return out


def exported(seeds: Sequence[str]) -> Iterator[Finding]:
    """Findings against ONNX Runtime, one process for all; where it dies, one for each."""
    answer = in_child(_exports, seeds)
    if isinstance(answer, list):
        for seed, (status, detail) in zip(seeds, answer, strict=True):
            yield Finding(seed, "onnxruntime", status, detail)
    elif len(seeds) == 1:  # whether the engine dies is its own affair
        yield Finding(seeds[0], "onnxruntime", "skipped", f"the engine: {answer}")
    else:
        for seed in seeds:
            yield from exported([seed])


def _exports(seeds: Sequence[str]) -> list[tuple[str, str]]:
    return [exported_alone(graph_of(seed)) for seed in seeds]


def exported_alone(graph: Graph) -> tuple[str, str]:
    """Status and detail of one graph in ONNX Runtime, in this process."""
    try:
        model = to_onnx(graph.module)
    except AinoError as error:
        return "skipped", f"{error.code} {error.message}"
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {error}"
    open_to_engines = undefined(graph)
    if open_to_engines:
        return "skipped", f"ONNX does not say what becomes of {open_to_engines}"
    try:
        results = Session(model).run(graph.arrays)
    except Exception as error:
        return "skipped", f"{type(error).__name__}: {str(error)[:200]}"
    why = Oracle(graph.module, graph.arrays, engine=True).judge(results)
    return ("wrong", why) if why else ("passed", "")


def undefined(graph: Graph) -> str:
    """What happens in a graph that ONNX has no definition of; empty when there is nothing."""
    block, ev = graph.module.main.block, Evaluation(symbols=graph.module.main.symbols)
    env: dict[Any, Any] = dict(zip(block.args, graph.arrays, strict=True))
    for argument in block.args:
        bind_shape(argument.type, env[argument], ev, argument.name)
    for op in block:
        if op.has(Trait.TERMINATOR):
            break
        run_op(op, env, ev)
        arrays = [env[v] for v in (*op.present_operands(), *op.results)]
        if any(a.dtype.kind not in "biu" and not np.isfinite(a.astype(np.float64)).all() for a in arrays):
            return "NaN and infinities"
        if op.name == "math.pow" and arrays[0].dtype.kind in "iu":
            return "integers to negative powers"
        if op.name == "math.cast" and arrays[1].dtype.kind in "iu" and arrays[0].dtype.kind not in "biu":
            low, high = integer_range(op.results[0].dtype)
            if not np.all((arrays[0].astype(np.float64) > low - 1) & (arrays[0].astype(np.float64) < high)):
                return "conversions out of range"
    return ""


def seeds_of(seed: int, count: int) -> list[str]:
    """The seeds of a run."""
    return [f"{seed}/{n}" for n in range(count)]


def findings(
    seeds: Sequence[str], batch: int = 25, engines: Sequence[str] = ("c", "onnxruntime")
) -> Iterator[Finding]:
    """Findings of seeds, batch after batch."""
    for start in range(0, len(seeds), batch):
        some = seeds[start : start + batch]
        usable = []
        for seed in some:
            graph = graph_of(seed)
            verify(graph.module)
            if "c" in engines and native(graph.module):
                usable.append(seed)
            elif "c" in engines:
                yield Finding(seed, "c", "skipped", "an op without native code")
        if usable:
            yield from compiled(usable)
        if "onnxruntime" in engines:
            yield from exported(some)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run graphs and print what is wrong; 1 when something is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares")
    parser.add_argument("--batch", type=int, default=25, help="graphs in one module")
    parser.add_argument("--engine", action="append", choices=("c", "onnxruntime"))
    parser.add_argument("--jsonl", type=Path, help="one line a finding; seeds in it are not run again")
    parser.add_argument("--keep", action="store_true", help="make what fails small, and keep it as a test")
    options = parser.parse_args(arguments)
    number, count = parse_shard(options.shard)
    rows: list[dict[str, Any]] = []
    if options.jsonl and options.jsonl.is_file():
        rows = [json.loads(line) for line in options.jsonl.read_text().splitlines()]
    done = {row["seed"] for row in rows}
    todo = [s for s in seeds_of(options.seed, options.graphs)[number::count] if s not in done]
    bad = []
    for finding in findings(todo, options.batch, options.engine or ("c", "onnxruntime")):
        rows.append(asdict(finding))
        if options.jsonl:
            with options.jsonl.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(finding)) + "\n")
        if finding.bad:
            bad.append(finding)
            print(f"{finding.status:8} {finding.against:11} {finding.seed}: {finding.detail}", flush=True)
    if options.keep:
        from tests.fuzz.minimise import keep

        for finding in bad:
            print(f"kept {keep(finding, REGRESSIONS)}")
    for against in ("c", "onnxruntime"):
        print(against, dict(collections.Counter(r["status"] for r in rows if r["against"] == against)))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

"""Libraries for other processors, run by emulators, against the interpreter: `make test-cross`.

    python -m tests.cross.run [--target c:aarch64] [--cases 300] [--shard i/n] [--jsonl FILE] [--fresh] [--no-models]

For each target a sample of the conformance cases, chosen by a hash of their names, and two networks.  One
JSON line a case; cases that the file holds for the present source of AINO are not run again.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aino_ir.driver.api import compile
from aino_ir.driver.cache import source_hash
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.tolerance import disagreement
from tests.conformance.batch import Outcome, apart, joined, run_cases
from tests.conformance.cases import Array, Case, all_cases, share
from tests.conformance.rows import Log, commit, parse_shard, read_rows
from tests.cross.emulator import MACHINES, emulated
from tests.cross.models import MODELS
from tests.source import ROOT

ROWS = ROOT / "build" / "cross" / "rows.jsonl"


def chosen_cases(count: int) -> list[Case]:
    """The `count` cases that a hash of the name puts first; the same in every run."""
    import zlib

    return sorted(all_cases(), key=lambda c: (zlib.crc32(c.name.encode()), c.name))[:count]


def run_together(cases: Sequence[Case], target: str) -> list[list[Array] | str]:
    """The results of cases that become one library for another machine."""
    module = joined(cases)
    given = [a for case in cases for a in case.operands]
    return apart(cases, run_elsewhere(module, given, target, level=0, verify="off"))


def run_elsewhere(
    module: Module, inputs: Sequence[Array], target: str, machine: str = "", **options: Any
) -> Sequence[Array]:
    """Compile a module for another machine and run it in the emulator: the target's own, or `machine`'s."""
    with opened_or_temporary() as store:
        exe = compile(module, target, threads=2, **options)
        assert isinstance(exe, Executable)
        exe, emulator = emulated(exe, machine or target, store)
        with emulator:
            outputs = exe.run(*inputs)
        assert exe.host_steps == 0, "all of it must be native code"
        return outputs


def run_model(name: str, target: str) -> Outcome:
    """A whole network, by the tolerance of reordered sums."""
    module, inputs = MODELS[name]()
    made = run_elsewhere(module, inputs, target)
    expected = run_module(module, inputs)
    for got, want in zip(made, expected, strict=True):
        why = disagreement(got, want, "approximate")
        if why is not None:
            return Outcome(name, target, "wrong", why)
    return Outcome(name, target, "passed")


def outcomes(cases: Sequence[Case], models: Sequence[str], target: str) -> Iterator[Outcome]:
    """Outcomes as they come."""
    yield from run_cases(cases, target, 50, run_together)
    for name in models:
        yield run_model(name, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 0 when all pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", choices=tuple(MACHINES), help="may be repeated")
    parser.add_argument("--cases", type=int, default=300, help="conformance cases on each target")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares of the cases")
    parser.add_argument("--jsonl", type=Path, default=ROWS, help="where rows are appended")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that the file holds")
    parser.add_argument("--no-models", action="store_true", help="the cases alone")
    options = parser.parse_args(arguments)
    number, count = parse_shard(options.shard)
    mine: Callable[[str], bool] = lambda name: share(name, count, number)  # noqa: E731
    cases = [c for c in chosen_cases(options.cases) if mine(c.name)]
    models = [] if options.no_models else [name for name in MODELS if mine(name)]
    facts = {"source": source_hash()[:12], "commit": commit()}
    held = [] if options.fresh else [r for r in read_rows(options.jsonl) if r["source"] == facts["source"]]
    done = {(r["case"], r["target"]): r["status"] for r in held}
    totals: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with Log(options.jsonl, options.fresh) as log:
        for target in options.target or MACHINES:
            lack = MACHINES[target].missing()
            if lack:
                print(f"{target}: not run, needs {lack}", flush=True)
                totals[target]["not run"] += 1
                continue
            wanted = [*(c.name for c in cases), *models]
            totals[target].update(done[n, target] for n in wanted if (n, target) in done)
            todo = [c for c in cases if (c.name, target) not in done]
            for outcome in outcomes(todo, [m for m in models if (m, target) not in done], target):
                log.write({**asdict(outcome), **facts})
                totals[target][outcome.status] += 1
                if outcome.status != "passed":
                    print(f"{outcome.status:8} {outcome.target} {outcome.case}: {outcome.detail}", flush=True)
            print(f"{target}: {dict(totals[target])}", flush=True)
    return 0 if all(set(c) == {"passed"} for c in totals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

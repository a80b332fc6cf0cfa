"""The ONNX backend test suite through `aino_ir.driver.onnx_backend`, every case in a guarded process.

    python -m tests.conformance.onnx_suite [--target reference|c] [--shard i/n] [--jobs N] [--match REGEX]
        [--kind node] [--failing] [--seconds S] [--verbose] [--jsonl FILE] [--fresh] [--write-docs] [--update-floors]

Outcomes are appended to a file, by default build/conformance/TARGET.jsonl, one JSON line a case; cases
that it already holds for the present source of AINO are not run again.  The command fails when a case
fails that did not before: those that may are listed in tests/floors.json.
"""

from __future__ import annotations

import argparse
import collections
import functools
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.driver.cache import source_hash
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.driver.onnx_backend import Backend
from aino_ir.errors.base import AinoError
from tests.conformance.cases import share
from tests.conformance.guard import Death, guarded
from tests.conformance.onnx_cases import KINDS, LEFT_OUT, Case, cases
from tests.conformance.rows import Log, Row, commit, parse_shard, read_rows, versions
from tests.source import ROOT

TARGETS = ("reference", "c", "stablehlo", "tvm:llvm", "cuda-emu", "cuda:sm_80")
"""The last one runs on an emulated GPU: the host side, and kernels as a driver would launch them."""

FOLDER = ROOT / "build" / "conformance"
FLOORS = ROOT / "tests" / "floors.json"
SECONDS = {"real": 900.0}
"""How long a case of a kind may take, when it is not `USUAL_SECONDS`."""
USUAL_SECONDS = 600.0


@dataclass(frozen=True)
class Outcome:
    """How a case went on a target.

    Attributes:
        status: passed, refused (an error of the catalogue), wrong, crashed (or hung), or left out.
        detail: what differs, or the error.
        core: whether the case belongs to the fair core.
        host_steps: operators that ran in Python.
        fixed: inputs for whose values the model had to be compiled.
    """

    case: str
    kind: str
    operator: str
    core: bool
    target: str
    status: str
    detail: str = ""
    host_steps: int = 0
    fixed: tuple[str, ...] = ()
    seconds: float = 0.0


def run_case(case: Case, target: str = "reference") -> Outcome:
    """Compile, run and compare one case; on an emulated GPU also see that nothing is left there."""
    if not target.startswith("cuda:"):
        return _run_case(case, target)
    with emulated_gpu() as gpus:
        outcome = _run_case(case, target)
        gc.collect()
        left = gpus.live()
    if outcome.status == "passed" and left:
        return replace(outcome, status="wrong", detail=f"left on the device: {left}")
    return outcome


def _run_case(case: Case, target: str) -> Outcome:
    start = time.perf_counter()
    host_steps, fixed = 0, ()
    try:
        rep = Backend.prepare(case.model, target=target)
        status, detail = "left out" if case.name in LEFT_OUT else "passed", ""
        for inputs, expected in case.data():
            results = list(rep.run(inputs))
            host_steps, fixed = max(host_steps, rep.host_steps), rep.fixed
            difference = compare(results, expected, case.rtol, case.atol, case.name not in LEFT_OUT)
            if difference:
                status, detail = "wrong", difference
                break
    except AinoError as error:
        status = "crashed" if error.exit_status == 3 else "refused"
        detail = f"{error.code} {error.message}"
    except Exception as error:
        status, detail = "crashed", f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - start, 3)
    facts = (case.name, case.kind, case.operator, case.is_core, target)
    return Outcome(*facts, status, detail[:500], host_steps, fixed, seconds)


def run_cases(
    todo: Sequence[Case], target: str, jobs: int = 1, limit: float = USUAL_SECONDS
) -> Iterator[Outcome]:
    """Outcomes as they come, each case in a process that may die; `limit` in seconds, of most kinds."""
    by_name = {case.name: case for case in todo}

    def work(name: str) -> Outcome:
        return run_case(by_name[name], target)

    def seconds(name: str) -> float:
        return SECONDS.get(by_name[name].kind, limit)

    for name, answer in guarded(list(by_name), work, seconds, jobs):
        if isinstance(answer, Death):
            case = by_name[name]
            yield Outcome(name, case.kind, case.operator, case.is_core, target, "crashed", answer.how)
        else:
            yield answer


# -- comparison ---------------------------------------------------------------------------------------


def compare(got: Any, expected: Any, rtol: float, atol: float, values: bool = True) -> str:
    """What differs, or an empty string; sequences are compared item by item.

    Args:
        got, expected: arrays, lists or None.
        rtol, atol: the suite's own tolerance of the case.
        values: whether contents count, beside types and shapes.
    """
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"{type(got).__name__} instead of {len(expected)} values"
        pairs = zip(got, expected, strict=True)
        return next(filter(None, (compare(g, e, rtol, atol, values) for g, e in pairs)), "")
    if expected is None or got is None:
        return "" if expected is got else f"{got!r} instead of {expected!r}"
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    if expected.dtype == object or expected.dtype.kind in "US":
        same = np.array_equal(got.astype(object), expected.astype(object))
        return "" if same else f"{got.tolist()!r} instead of {expected.tolist()!r}"[:200]
    if got.dtype != expected.dtype:
        return f"dtype {got.dtype} instead of {expected.dtype}"
    return _numbers(got, expected, rtol, atol) if values else ""


def _numbers(got: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)
    if expected.dtype.kind == "V" or expected.dtype.name not in np.sctypeDict:
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    close = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    worst = int(np.argmax(~close.reshape(-1)))
    values = f"{got.reshape(-1)[worst]} instead of {expected.reshape(-1)[worst]}"
    return f"{int((~close).sum())} of {close.size} differ: {values}"


# -- floors -------------------------------------------------------------------------------------------


@functools.cache
def failing(target: str) -> frozenset[str]:
    """Cases that are known not to pass on a target."""
    return frozenset(json.loads(FLOORS.read_text(encoding="utf-8"))["conformance"][target]["failing"])


def did_pass(status: str) -> bool:
    """Whether an outcome is as good as it can be."""
    return status in ("passed", "left out")


def update_floors(target: str, rows: Sequence[Row], whole: bool) -> None:
    """Note which cases fail on a target now, and after a whole run the shares that pass."""
    floors = json.loads(FLOORS.read_text(encoding="utf-8"))
    floor = floors["conformance"][target]
    if whole:
        counted = [r for r in rows if r["status"] != "left out"]
        floor["share"] = percent(counted, lambda r: r["status"] == "passed")
        floor["core"] = percent([r for r in counted if r["core"]], lambda r: r["status"] == "passed")
        floor["native"] = percent(counted, lambda r: r["status"] == "passed" and not r["host_steps"])
    kept = failing(target) - {r["case"] for r in rows}
    floor["failing"] = sorted({*kept, *(r["case"] for r in rows if not did_pass(r["status"]))})
    FLOORS.write_text(json.dumps(floors, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def percent(rows: Sequence[Row], good: Callable[[Row], bool]) -> float:
    """The share of rows that are good, in percent, rounded down to two digits."""
    return int(10000 * sum(map(good, rows)) / len(rows)) / 100 if rows else 0.0


# -- the command --------------------------------------------------------------------------------------


def rows_file(target: str) -> Path:
    """Where the rows of a target are kept."""
    return FOLDER / f"{target.replace(':', '-')}.jsonl"


def rows_of(target: str, path: Path | None = None, source: str | None = None) -> list[Row]:
    """The last row of every case that a file holds for a source of AINO, the present one by default."""
    source = source or source_hash()[:12]
    rows = read_rows(path or rows_file(target))
    return list({r["case"]: r for r in rows if r["source"] == source and r["target"] == target}.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and print what passes; 1 when a case fails that did not before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="reference", choices=TARGETS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--match", default="", help="a regular expression for the names of cases")
    parser.add_argument("--failing", action="store_true", help="only cases that are known to fail")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares of the cases")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="cases at a time")
    parser.add_argument("--seconds", type=float, default=USUAL_SECONDS, help="how long a case may take")
    parser.add_argument("--verbose", action="store_true", help="print every case that does not pass")
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that the file holds")
    parser.add_argument("--write-docs", action="store_true", help="write docs/conformance.md when all is run")
    parser.add_argument(
        "--update-floors", action="store_true", help="note what fails now in tests/floors.json"
    )
    options = parser.parse_args(arguments)
    number, count = parse_shard(options.shard)
    wanted = re.compile(options.match)
    known = failing(options.target)
    mine = [
        c
        for c in cases(options.kind or KINDS, wanted.search)
        if share(c.name, count, number) and (c.name in known or not options.failing)
    ]
    path = options.jsonl or rows_file(options.target)
    done = {} if options.fresh else {r["case"]: r for r in rows_of(options.target, path)}
    rows = [done[c.name] for c in mine if c.name in done]
    facts = {
        "source": source_hash()[:12],
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions("onnx", "numpy", "ml-dtypes"),
    }
    todo = [c for c in mine if c.name not in done]
    with Log(path, options.fresh) as log:
        for outcome in run_cases(todo, options.target, options.jobs, options.seconds):
            row = {**asdict(outcome), **facts}
            log.write(row)
            rows.append(row)
            if options.verbose and not did_pass(outcome.status):
                print(f"{outcome.status:8} {outcome.case}: {outcome.detail}", flush=True)
    report(rows)
    if options.update_floors:
        whole = not (options.kind or options.match or options.failing or count > 1)
        update_floors(options.target, rows, whole)
    if options.write_docs:
        from tests.conformance.onnx_page import write_page

        write_page()
    new = sorted(r["case"] for r in rows if not did_pass(r["status"]) and r["case"] not in known)
    if new:
        print(f"{len(new)} fail that did not before: {', '.join(new)}")
    return 1 if new else 0


def report(rows: Sequence[Row]) -> None:
    """Print counts by operator and by status."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows:
        table[row["operator"]][row["status"]] += 1
    for operator, counts in sorted(table.items()):
        bad = {status: n for status, n in sorted(counts.items()) if not did_pass(status)}
        if bad:
            others = ", ".join(f"{n} {status}" for status, n in bad.items())
            print(f"{operator:28} {counts['passed']:4} of {sum(counts.values()):4}  {others}")
    total = collections.Counter(r["status"] for r in rows)
    passed = [r for r in rows if r["status"] == "passed"]
    print(
        f"passed {len(passed)} of {len(rows)} ({sum(not r['host_steps'] for r in passed)} without Python, "
        f"{sum(bool(r['fixed']) for r in passed)} with inputs fixed at compile time); {dict(total)}"
    )


if __name__ == "__main__":
    sys.exit(main())

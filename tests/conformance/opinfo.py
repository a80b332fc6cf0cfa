"""PyTorch's operator samples (OpInfo) through the PyTorch frontend, operator after operator in guarded processes.

    python -m tests.conformance.opinfo [--target reference|c] [--dtype float32] [--shard i/n] [--jobs N]
        [--match REGEX] [--core] [--failing] [--verbose] [--jsonl FILE] [--fresh] [--write-docs]

Outcomes are appended to a file, by default build/conformance/opinfo-TARGET.jsonl, one JSON line a sample;
operators that it already holds for the present source of AINO are not run again.
"""

from __future__ import annotations

import argparse
import collections
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.driver.api import compile
from aino_ir.driver.cache import source_hash
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import TorchError
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.torch.graph import add_graph, lower_graph
from aino_ir.frontends.torch.lower import require_supported
from aino_ir.interp import run_module
from aino_ir.op import Trait
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.tolerance import disagreement
from tests.codegen.native import compile_module
from tests.conformance.cases import share
from tests.conformance.guard import Death, guarded
from tests.conformance.opinfo_cases import (
    BY_RULE,
    DTYPES,
    Captured,
    arrays,
    capturing,
    is_core,
    operators,
    samples,
)
from tests.conformance.opinfo_page import write_page
from tests.conformance.rows import Log, parse_shard, read_rows
from tests.source import ROOT

FOLDER = ROOT / "build" / "conformance"
SECONDS = 20
"""How long one sample may take to be captured, lowered and interpreted."""
ITEM_SECONDS = 900.0
"""How long all samples of an operator may take."""
BATCH = 40
"""Samples in one compiled module."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """How a sample went on a target.

    Attributes:
        status: native (right, by AINO), fallback (an operator or form has no lowering, eager PyTorch would
            run it), by rule (other than eager's, as docs/ir.md says), wrong, refused (another error of the catalogue), crashed, or skipped (torch itself
            cannot capture the sample, or it gives no tensor).
        detail: what differs, or the error.
    """

    operator: str
    dtype: str
    sample: int
    target: str
    status: str
    detail: str = ""


class TookTooLong(Exception):
    """A sample was given up."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """TookTooLong in the block when it takes longer."""

    def ring(*_: object) -> None:
        raise TookTooLong(f"more than {seconds} s")

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def run_operator(operator: str, dtype: str, target: str, limit: int | None = None) -> list[Outcome]:
    """Outcomes of the samples of an operator, at most `limit` of them."""
    out: list[Outcome] = []
    ready: list[tuple[int, Captured]] = []
    found = samples(operator, dtype)[:limit]
    with capturing() as capture:
        for number, sample in enumerate(found):
            try:
                with time_limit(SECONDS):
                    captured = capture(operator, sample)
            except Exception as problem:
                out.append(Outcome(operator, dtype, number, target, "skipped", _said(problem)))
                continue
            if captured.expected:
                ready.append((number, captured))
            else:
                out.append(Outcome(operator, dtype, number, target, "skipped", "no tensor comes out"))
    run = run_interpreted if target == "reference" else run_native
    rule = BY_RULE.get((operator, dtype))
    for number, status, detail in run(ready, target):
        if status == "wrong" and rule is not None:
            status, detail = "by rule", rule
        out.append(Outcome(operator, dtype, number, target, status, detail))
    return sorted(out, key=lambda o: o.sample)


def run_interpreted(ready: Sequence[tuple[int, Captured]], target: str) -> Iterator[tuple[int, str, str]]:
    """Each sample by the interpreter."""
    for number, captured in ready:
        try:
            with time_limit(SECONDS):
                results = run_module(lower_graph(captured.graph), arrays(captured.inputs))
            why = judge(results, captured)
            yield number, "wrong" if why else "native", why or ""
        except TorchError as error:
            yield number, "fallback", _said(error)
        except Exception as problem:
            yield number, _failure(problem), _said(problem)


def run_native(ready: Sequence[tuple[int, Captured]], target: str) -> Iterator[tuple[int, str, str]]:
    """Samples compiled together, as many as fit a module; a batch that fails is halved."""
    fit = []
    for number, captured in ready:
        try:
            with time_limit(SECONDS):
                require_supported([captured.graph.graph])
                lower_graph(captured.graph)
            fit.append((number, captured))
        except TorchError as error:
            yield number, "fallback", _said(error)
        except Exception as problem:
            yield number, _failure(problem), _said(problem)
    for start in range(0, len(fit), BATCH):
        yield from _halving(fit[start : start + BATCH], target)


def _halving(batch: Sequence[tuple[int, Captured]], target: str) -> Iterator[tuple[int, str, str]]:
    try:
        results = run_together([captured for _, captured in batch], target)
    except Exception as problem:
        if len(batch) == 1:
            yield batch[0][0], _failure(problem), _said(problem)
            return
        middle = len(batch) // 2
        yield from _halving(batch[:middle], target)
        yield from _halving(batch[middle:], target)
        return
    for (number, captured), made in zip(batch, results, strict=True):
        why = judge(made, captured)
        yield number, "wrong" if why else "native", why or ""


def run_together(batch: Sequence[Captured], target: str) -> list[list[Array]]:
    """The results of each sample, from one compiled module with all of them."""
    b = Builder()
    for number, captured in enumerate(batch):
        add_graph(b, captured.graph, prefix=f"s{number}_")
    b.finish()
    remove_dead(b.function.block)
    given = [a for captured in batch for a in arrays(captured.inputs)]
    made: Sequence[Array]
    if any(
        op.has(Trait.DATA_DEPENDENT) for op in b.module.walk()
    ):  # the run decides extents: so it gives memory
        made = compile(b.module, target, threads=1, level=0, cache=False, strict=True).run(*given)
    else:
        with opened_or_temporary() as store:
            native = compile_module(b.module, store, "c:avx2" if target == "c" else target)
        made = native.run(given)
    out, position = [], 0
    for captured in batch:
        count = len(captured.expected)
        out.append(list(made[position : position + count]))
        position += count
    return out


def judge(results: Sequence[Array], captured: Captured) -> str | None:
    """Why results are not what eager PyTorch gives, or None."""
    expected = arrays(captured.expected)
    if len(results) != len(expected):
        return f"{len(results)} results instead of {len(expected)}"
    for number, (got, want) in enumerate(zip(results, expected, strict=True)):
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"result {number} is {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
        why = None if captured.undefined else disagreement(got, want, "approximate")
        if why is not None:
            return f"result {number}: {why}"
    return None


def _failure(problem: BaseException) -> str:
    return "refused" if isinstance(problem, AinoError) and problem.exit_status != 3 else "crashed"


def _said(problem: BaseException) -> str:
    if isinstance(problem, AinoError):
        return f"{problem.code} {' '.join(problem.message.split())}"[:300]
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 1 when a sample is wrong or crashes."""
    options = parse(arguments)
    path = Path(options.jsonl) if options.jsonl else FOLDER / f"opinfo-{options.target}.jsonl"
    rows = run(options, path)
    report(rows, options)
    if options.write_docs:
        write_page(FOLDER)
    return int(any(r["status"] in ("wrong", "crashed") for r in rows))


def run(options: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """Run what the file does not hold yet; returns all rows that were asked for."""
    number, count = parse_shard(options.shard)
    names = [
        n
        for n in sorted(operators())
        if re.search(options.match, n) and share(n, count, number) and (not options.core or is_core(n))
    ]
    wanted = [(n, d) for n in names for d in options.dtype]
    source = source_hash()
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in () if options.fresh else read_rows(path):
        if row["source"] == source:
            held.setdefault((row["operator"], row["dtype"]), []).append(row)
    rows = [row for item in wanted for row in held.get(item, ())]
    todo = [item for item in wanted if item not in held]
    with Log(path, options.fresh) as log:

        def work(item: tuple[str, str]) -> list[Outcome]:
            return run_operator(*item, options.target, options.limit)

        for item, answer in guarded(todo, work, lambda item: ITEM_SECONDS, options.jobs):
            found = answer
            if isinstance(answer, Death):
                found = [Outcome(item[0], item[1], -1, options.target, "crashed", answer.how)]
            for outcome in found or [Outcome(*item, -1, options.target, "skipped", "no samples")]:
                row = {**asdict(outcome), "source": source}
                log.write(row)
                rows.append(row)
    return rows


def report(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print counts, and the cases that are not native when asked."""
    if options.verbose or options.failing:
        for row in rows:
            bad = row["status"] in ("wrong", "crashed", "refused")
            if bad or (options.verbose and row["status"] == "fallback"):
                print(f"{row['status']:9} {row['operator']} {row['dtype']} #{row['sample']}: {row['detail']}")
    for dtype in options.dtype:
        counts = collections.Counter(r["status"] for r in rows if r["dtype"] == dtype)
        total = sum(n for s, n in counts.items() if s != "skipped")
        share_native = 100 * counts["native"] / total if total else 0.0
        print(f"{options.target} {dtype}: {dict(counts.most_common())}, native {share_native:.1f} %")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.opinfo")
    parser.add_argument("--target", default="reference", choices=("reference", "c"))
    parser.add_argument("--dtype", action="append", choices=DTYPES)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--match", default="")
    parser.add_argument("--limit", type=int, help="samples of each operator at most")
    parser.add_argument("--core", action="store_true", help="operators of core ATen only")
    parser.add_argument("--failing", action="store_true", help="list what is wrong, refused or crashed")
    parser.add_argument("--verbose", action="store_true", help="list fallbacks too")
    parser.add_argument("--jsonl")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ["float32"]
    return options


if __name__ == "__main__":
    start = time.monotonic()
    status = main(sys.argv[1:])
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(status)

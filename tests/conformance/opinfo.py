"""PyTorch's operator samples (OpInfo) through the PyTorch frontend, operator after operator in guarded processes.

    python -m tests.conformance.opinfo [--part samples|dtypes|compile|errors] [--target reference|c]
        [--dtype float32] [--shard i/n] [--jobs N] [--match REGEX] [--core] [--failing] [--verbose]
        [--jsonl FILE] [--fresh] [--write-docs] [--update-floors]

The parts are: every sample of every operator in float32; those of core ATen in the other dtypes; the first
sample of each operator by torch.compile; and the calls of core operators that must fail.  A sample is
captured once and run on both targets.  Outcomes are appended to a file, by default
build/conformance/opinfo.jsonl, one JSON line a sample; operators that it already holds for the present
source of AINO are not run again.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aino_ir.driver.cache import source_hash
from tests.conformance import opinfo_compile
from tests.conformance.cases import share
from tests.conformance.guard import Death, guarded
from tests.conformance.opinfo_cases import DTYPES, is_core, operators
from tests.conformance.opinfo_page import FAULTS, native_shares, write_page
from tests.conformance.opinfo_runs import Outcome, run_operators
from tests.conformance.rows import Log, commit, parse_shard, read_rows
from tests.source import ROOT

FOLDER = ROOT / "build" / "conformance"
FLOORS = ROOT / "tests" / "floors.json"
ITEM_SECONDS = 900.0
"""How long all samples of a few operators may take."""
TOGETHER = 6
"""Operators that one process runs together: they share compiled modules."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the suite.

    Attributes:
        dtypes: element types of its samples.
        targets: what its outcomes are told apart by.
        core: whether it is about operators of core ATen alone.
        run: outcomes of operators in a dtype on targets.
    """

    dtypes: tuple[str, ...]
    targets: tuple[str, ...]
    core: bool
    run: Callable[[Sequence[str], str, Sequence[str], int | None], list[Outcome]]


PARTS: Mapping[str, Part] = {
    "samples": Part(("float32",), ("reference", "c"), False, run_operators),
    "dtypes": Part(DTYPES[1:], ("reference", "c"), True, run_operators),
    "compile": Part(
        ("float32",),
        (opinfo_compile.COMPILED,),
        False,
        lambda names, dtype, targets, limit: opinfo_compile.run_compiled(names, dtype),
    ),
    "errors": Part(
        ("float32",),
        opinfo_compile.ERRORS,
        True,
        lambda names, dtype, targets, limit: opinfo_compile.run_errors(names, dtype),
    ),
}


@dataclass(frozen=True)
class Item:
    """Operators that are run together, with what is to be known about each."""

    part: str
    operators: tuple[str, ...]
    dtype: str
    targets: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 1 when there is a fault or less is native than was."""
    options = parse(arguments)
    path = Path(options.jsonl) if options.jsonl else FOLDER / "opinfo.jsonl"
    rows = run(options, path)
    report(rows, options)
    if options.write_docs:
        write_page(path)
    fallen = below_floors(rows) if options.whole else []
    for line in fallen:
        print(line)
    if options.update_floors and options.whole:
        update_floors(rows)
    return int(bool(fallen) or any(r["status"] in FAULTS for r in rows))


def run(options: argparse.Namespace, path: Path) -> list[Row]:
    """Run what the file does not hold yet; returns all rows that were asked for."""
    source = source_hash()
    held: dict[tuple[str, str, str], list[Row]] = {}
    for row in () if options.fresh else read_rows(path):
        if row["source"] == source:
            held.setdefault((row["operator"], row["dtype"], row["target"]), []).append(row)
    wanted = [w for part in options.part for w in wanted_of(PARTS[part], options)]
    rows = [row for key in dict.fromkeys(wanted) for row in held.get(key, ())]
    facts = {"source": source, "commit": commit(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    with Log(path, options.fresh) as log:
        for part in options.part:
            todo = list(items(part, [w for w in wanted_of(PARTS[part], options) if w not in held]))
            for outcome in outcomes_of(todo, options):
                row = {**asdict(outcome), **facts}
                log.write(row)
                rows.append(row)
    return rows


def wanted_of(part: Part, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """(operator, dtype, target) of a part, as far as the options ask for them."""
    number, count = parse_shard(options.shard)
    names = [
        n
        for n in sorted(operators())
        if re.search(options.match, n)
        and share(n, count, number)
        and (is_core(n) or not (part.core or options.core))
    ]
    targets = [t for t in part.targets if options.target in ("", t) or t not in ("reference", "c")]
    dtypes = [d for d in part.dtypes if d in options.dtype]
    return [(n, d, t) for d in dtypes for n in names for t in targets]


def items(part: str, wanted: Sequence[tuple[str, str, str]]) -> Iterator[Item]:
    """Operators of one dtype that miss the same targets, a few at a time."""
    missing: dict[tuple[str, str], list[str]] = {}
    for operator, dtype, target in wanted:
        missing.setdefault((operator, dtype), []).append(target)
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (operator, dtype), targets in missing.items():
        groups.setdefault((dtype, tuple(targets)), []).append(operator)
    for (dtype, group), names in groups.items():
        for start in range(0, len(names), TOGETHER):
            yield Item(part, tuple(names[start : start + TOGETHER]), dtype, group)


def outcomes_of(todo: Sequence[Item], options: argparse.Namespace) -> Iterator[Outcome]:
    """Outcomes of items; where a process dies its operators are run again, each in one of its own."""

    def work(item: Item) -> list[Outcome]:
        return PARTS[item.part].run(item.operators, item.dtype, item.targets, options.limit)

    again: list[Item] = []
    for item, answer in guarded(todo, work, lambda item: ITEM_SECONDS, options.jobs):
        if not isinstance(answer, Death):
            yield from answer
        elif len(item.operators) > 1:
            again += [Item(item.part, (name,), item.dtype, item.targets) for name in item.operators]
        else:
            for target in item.targets:
                yield Outcome(item.operators[0], item.dtype, -1, target, "crashed", answer.how)
    if again:
        yield from outcomes_of(again, options)


def report(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print counts, and the cases that are not native when asked."""
    if options.verbose or options.failing:
        for row in rows:
            if row["status"] in FAULTS or (options.verbose and row["status"] == "fallback"):
                print(
                    f"{row['status']:9} {row['target']} {row['operator']} {row['dtype']} "
                    f"#{row['sample']}: {row['detail']}"
                )
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for row in rows:
        if row["detail"] != "no samples":
            counts.setdefault((row["target"], row["dtype"]), collections.Counter())[row["status"]] += 1
    for (target, dtype), counted in counts.items():
        print(f"{target} {dtype}: {dict(counted.most_common())}")


# -- floors -------------------------------------------------------------------------------------------


@functools.cache
def floors() -> Mapping[str, float]:
    """Percent of all samples that were native, by target and dtype."""
    found: Mapping[str, float] = json.loads(FLOORS.read_text(encoding="utf-8"))["opinfo"]
    return found


def below_floors(rows: Sequence[Row]) -> list[str]:
    """What a whole run lost."""
    return [
        f"{key}: {share:.2f} % native, was {floors()[key]:.2f} %"
        for key, share in native_shares(rows).items()
        if share < floors().get(key, 0.0)
    ]


def update_floors(rows: Sequence[Row]) -> None:
    """Note the shares of a whole run."""
    every = json.loads(FLOORS.read_text(encoding="utf-8"))
    every.setdefault("opinfo", {}).update(native_shares(rows))
    FLOORS.write_text(json.dumps(every, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.opinfo")
    parser.add_argument("--part", action="append", choices=PARTS, help="all of them when none is named")
    parser.add_argument("--target", default="", choices=("", "reference", "c"))
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
    parser.add_argument("--update-floors", action="store_true", help="note shares in tests/floors.json")
    options = parser.parse_args(arguments)
    options.part = options.part or list(PARTS)
    options.dtype = options.dtype or list(DTYPES)
    options.whole = options.shard == "0/1" and not (options.match or options.core or options.limit)
    return options


if __name__ == "__main__":
    start = time.monotonic()
    status = main(sys.argv[1:])
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(status)

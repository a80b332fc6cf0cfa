"""Every op on every sample, on compiled targets against the interpreter: one JSON line a case.

    python -m tests.conformance.run [--target c:avx2] [--match REGEX] [--shard 0/4] [--jsonl FILE] [--resume]

Prints what does not pass, and a count per op family and target.  With --resume cases that the file
already holds are left out.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.conformance.batch import Outcome, run_cases
from tests.conformance.cases import all_cases, share

TARGETS = ("c", "c:portable")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 0 when all pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="c, c:portable, c:avx2 ...; may be repeated")
    parser.add_argument("--match", default="", help="a regular expression for the names of cases")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares of the cases")
    parser.add_argument("--batch", type=int, default=100, help="cases in one module")
    parser.add_argument("--jsonl", type=Path, help="write one line a case")
    parser.add_argument("--resume", action="store_true", help="leave out cases that the file holds")
    options = parser.parse_args(arguments)
    number, count = (int(part) for part in options.shard.split("/"))
    cases = [c for c in all_cases(options.match) if share(c.name, count, number)]
    totals: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with _Log(options.jsonl, options.resume) as log:
        for target in options.target or TARGETS:
            todo = [c for c in cases if (c.name, target) not in log.done]
            for outcome in run_cases(todo, target, options.batch):
                log.write(outcome)
                totals[target, outcome.case.split("/")[0].split(".")[0]][outcome.status] += 1
                if outcome.status != "passed":
                    print(f"{outcome.status:8} {outcome.target} {outcome.case}: {outcome.detail}", flush=True)
    for (target, family), counted in sorted(totals.items()):
        print(f"{target:12} {family:10} {dict(counted)}")
    return 0 if all(set(c) == {"passed"} for c in totals.values()) else 1


class _Log:
    """The file of outcomes, written as they come."""

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.done: set[tuple[str, str]] = set()
        if path is not None and resume and path.exists():
            self.done = {(row["case"], row["target"]) for row in _rows(path)}
        self._file = None if path is None else path.open("a" if resume else "w", encoding="utf-8")

    def write(self, outcome: Outcome) -> None:
        """Add one outcome."""
        if self._file is not None:
            self._file.write(json.dumps(asdict(outcome)) + "\n")
            self._file.flush()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _rows(path: Path) -> Iterator[dict[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main())

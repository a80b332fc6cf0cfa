"""Every op on every sample, on compiled targets against the interpreter: one JSON line a case.

    python -m tests.conformance.run [--target c:avx2] [--match REGEX] [--shard 0/4] [--jsonl FILE] [--resume]

Prints what does not pass, and a count per op family and target.  With --resume cases that the file
already holds are left out.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from aino_ir.target import detect_host, parse_target
from tests.conformance.batch import run_cases
from tests.conformance.cases import all_cases, share
from tests.conformance.rows import Log, parse_shard, read_rows

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
    number, count = parse_shard(options.shard)
    cases = [c for c in all_cases(options.match) if share(c.name, count, number)]
    totals: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    held = read_rows(options.jsonl) if options.jsonl and options.resume else ()
    done = {(row["case"], row["target"]) for row in held}
    with Log(options.jsonl, fresh=not options.resume) as log:
        for target in dict.fromkeys(str(parse_target(t, detect_host())) for t in options.target or TARGETS):
            todo = [c for c in cases if (c.name, target) not in done]
            for outcome in run_cases(todo, target, options.batch):
                log.write(asdict(outcome))
                totals[target, outcome.case.split("/")[0].split(".")[0]][outcome.status] += 1
                if outcome.status != "passed":
                    print(f"{outcome.status:8} {outcome.target} {outcome.case}: {outcome.detail}", flush=True)
    for (target, family), counted in sorted(totals.items()):
        print(f"{target:12} {family:10} {dict(counted)}")
    return 0 if all(set(c) == {"passed"} for c in totals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

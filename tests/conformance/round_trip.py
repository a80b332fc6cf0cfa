"""Round trips: an ONNX model read, written again by `to_onnx`, and run by ONNX Runtime, before and after passes.

    python -m tests.conformance.round_trip [--match REGEX] [--shard I/N] [--jsonl FILE] [--workloads | --samples]

A case of the ONNX backend suite counts when ONNX Runtime itself runs the original.  What is written must
pass `onnx.checker` and give the suite's expected results, as lowered and after all passes.  ``--samples``
writes every conformance sample of every op instead, and compares with the interpreter; ``--workloads``
takes the reference networks.  Every case runs in a process of its own; with ``--jsonl`` finished cases
are kept and skipped the next time.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors.base import AinoError
from aino_ir.errors.onnx import InputNotConstant
from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.export import to_onnx
from aino_ir.graph import Module
from aino_ir.tolerance import disagreement
from benchmarks.workloads import NAMES
from tests.conformance.batch import in_child
from tests.conformance.cases import Case as Sample
from tests.conformance.cases import all_cases, share
from tests.conformance.onnx_cases import Case, cases
from tests.conformance.onnx_suite import compare
from tests.conformance.onnxruntime_session import Session

UNDEFINED = re.compile(
    r"edges|nan|special|, 0\]|nonzero/\d+ \[\]|\binf|infinit|^math.cast/\d+ (f|bf)\d+ .*to=[iu]|^math.pow/\d+ [iu]\d",
    re.IGNORECASE,
)
"""Names of samples on values for which ONNX leaves results open: NaN, overflow, conversions out of range,
integers to negative powers."""

NOT_RUN = "onnxruntime does not run the original"


@dataclass(frozen=True)
class Trip:
    """How a round trip ended.

    Attributes:
        status: passed, skipped (ONNX Runtime does not run the original), refused (an error of the
            catalogue), wrong or crashed.
    """

    name: str
    operator: str
    status: str
    detail: str = ""


def optimised(module: Module) -> Module:
    """The module after all passes of level 2."""
    return Compilation(compile_options("c", level=2)).optimize(module)


def check(model: onnx.ModelProto) -> None:
    """Demand a model that the checker accepts, types and shapes included."""
    onnx.checker.check_model(model, full_check=True)


def roundings(expected: Sequence[Any]) -> float:
    """Two roundings of the coarsest type: f16 results of engines differ in which values between are f16."""
    return 2.0**-9 if any(getattr(e, "dtype", None) == np.float16 for e in expected) else 0.0


def lowered(model: onnx.ModelProto, given: Mapping[str, Any]) -> Module:
    """The module of a model; inputs that must be known at compile time are fixed to given values."""
    fixed: dict[str, Any] = {}
    while True:
        try:
            return load_onnx(model, values=fixed)
        except InputNotConstant as error:
            if not error.inputs or any(n in fixed or n not in given for n in error.inputs):
                raise
            fixed.update({name: given[name] for name in error.inputs})


def round_trip(case: Case) -> Trip:
    """One case, in this process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original = Session(case.model)
            for inputs, expected in case.data():
                reason = compare(original.run(inputs), expected, case.rtol, case.atol)
                if reason:
                    return Trip(case.name, case.operator, "skipped", f"{NOT_RUN} right: {reason}")
    except Exception as error:
        return Trip(case.name, case.operator, "skipped", f"{NOT_RUN}: {str(error)[:160]}")
    try:
        for inputs, expected in case.data():
            given = dict(zip(original.names, inputs, strict=False))
            module = lowered(case.model, given)
            for stage, written in (("lowered", module), ("optimised", optimised(module))):
                model = to_onnx(written)
                check(model)
                got = Session(model).run([given.get(name) for name in written.main.input_names])
                reason = compare(got, expected, max(case.rtol, roundings(expected)), case.atol)
                if reason:
                    return Trip(case.name, case.operator, "wrong", f"{stage}: {reason}")
    except AinoError as error:
        status = "crashed" if error.exit_status == 3 else "refused"
        return Trip(case.name, case.operator, status, f"{error.code} {error.message}")
    except Exception as error:
        return Trip(case.name, case.operator, "crashed", f"{type(error).__name__}: {str(error)[:400]}")
    return Trip(case.name, case.operator, "passed")


def workload_trip(name: str) -> Trip:
    """A reference network, in this process: what is written agrees with eager PyTorch as the original does."""
    from benchmarks.workloads import workload
    from benchmarks.zoo import TOLERANCE, difference

    made = workload(name)
    lowered = load_onnx(made.path)
    inputs = [made.inputs[n] for n in lowered.main.input_names]
    for stage, module in (("lowered", lowered), ("optimised", optimised(lowered))):
        model = to_onnx(module)
        check(model)
        for got, want in zip(Session(model).run(inputs), made.outputs.values(), strict=True):
            gap = difference(got, want)
            if not gap <= TOLERANCE:
                return Trip(name, "workload", "wrong", f"{stage}: {gap:.1e} of the largest value")
    return Trip(name, "workload", "passed")


def sample_trip(case: Sample) -> Trip:
    """One sample of an op, in this process: what is written agrees with the interpreter."""
    try:
        model = to_onnx(case.module())
        check(model)
    except AinoError as error:
        return Trip(case.name, case.op, "refused", f"{error.code} {error.message}")
    except Exception as error:
        return Trip(case.name, case.op, "crashed", f"{type(error).__name__}: {str(error)[:400]}")
    try:
        got = Session(model).run(case.operands)
    except Exception as error:
        return Trip(case.name, case.op, "skipped", f"onnxruntime: {str(error)[:200]}")
    for number, (actual, expected) in enumerate(zip(got, case.expected(), strict=True)):
        if actual.dtype != expected.dtype:
            return Trip(case.name, case.op, "wrong", f"result {number} is {actual.dtype}")
        reason = disagreement(actual, expected, "approximate")
        if reason:
            return Trip(case.name, case.op, "wrong", f"result {number}: {reason}")
    return Trip(case.name, case.op, "passed")


Kind = Case | Sample | str
"""A case of the suite, a sample of an op, or the name of a workload."""


def one_trip(case: Kind) -> Trip:
    """One round trip, in this process."""
    if isinstance(case, str):
        return workload_trip(case)
    return sample_trip(case) if isinstance(case, Sample) else round_trip(case)


def trips_of(cases: Sequence[Kind]) -> list[Trip]:
    """Round trips in a process of their own; where it dies, each is run alone."""
    answer = in_child(lambda: [one_trip(case) for case in cases])
    if isinstance(answer, list):
        return answer
    if len(cases) > 1:
        return [trip for case in cases for trip in trips_of([case])]
    (case,) = cases
    name = case if isinstance(case, str) else case.name
    operator = "workload" if isinstance(case, str) else case.op if isinstance(case, Sample) else case.operator
    return [Trip(name, operator, *answer)]


def defined_samples(wanted: Callable[[str], Any]) -> Iterator[Sample]:
    """Samples of ops for whose results ONNX has a definition."""
    return (case for case in all_cases() if wanted(case.name) and not UNDEFINED.search(case.name))


def in_batches(cases: Iterable[Kind], size: int) -> Iterator[list[Kind]]:
    """Cases, some at a time."""
    ahead = iter(cases)
    while batch := list(itertools.islice(ahead, size)):
        yield batch


def report(trips: Sequence[Trip], verbose: bool) -> None:
    """Print counts by operator and by status."""
    for trip in trips:
        if trip.status not in ("passed", "skipped") or (verbose and trip.status == "skipped"):
            print(f"{trip.status:8} {trip.name}: {trip.detail}")
    print(dict(collections.Counter(t.status for t in trips)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the round trips and print what does not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--match", default="", help="a regular expression for the names of cases")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="the I-th of N equal shares")
    parser.add_argument("--jsonl", type=Path, help="one line a finished case; those in it are not run again")
    parser.add_argument("--samples", action="store_true", help="the conformance samples of every op")
    parser.add_argument("--workloads", nargs="*", metavar="NAME", help="these networks (none: all eight)")
    parser.add_argument("--verbose", action="store_true", help="also print what is skipped")
    options = parser.parse_args(arguments)
    number, _, count = options.shard.partition("/")
    wanted = re.compile(options.match)
    trips: list[Trip] = []
    if options.jsonl and options.jsonl.is_file():
        trips = [Trip(**json.loads(line)) for line in options.jsonl.read_text().splitlines()]
    done = {t.name for t in trips}

    def chosen(name: str) -> bool:
        return name not in done and bool(wanted.search(name)) and share(name, int(count), int(number))

    networks = None if options.workloads is None else options.workloads or list(NAMES)
    found: Iterable[Kind] = cases(wanted=chosen)
    if options.samples:
        found = defined_samples(chosen)
    elif networks is not None:
        found = filter(chosen, networks)
    for batch in in_batches(found, 1 if networks is not None else 20):
        made = trips_of(batch)
        trips += made
        if options.jsonl:
            with options.jsonl.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(trip)) + "\n" for trip in made)
    report(trips, options.verbose)
    return int(any(t.status in ("wrong", "crashed") for t in trips))


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())

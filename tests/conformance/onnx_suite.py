"""The ONNX backend test suite on AINO: every case once, counted by operator and by reason.

    python -m tests.conformance.onnx_suite [--kind node] [--match REGEX] [--verbose] [--jsonl FILE]

`run_case` compiles a case with a `Runner` (`Reference`: the interpreter) and compares its
outputs with the stored ones at the suite's own tolerances.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from aino_ir.errors.base import AinoError
from aino_ir.errors.onnx import InputNotConstant
from aino_ir.frontends.onnx import load_onnx
from aino_ir.graph import Module
from aino_ir.interp import run_module

Runner: TypeAlias = Callable[[onnx.ModelProto], Callable[[Sequence[Any]], Sequence[Any]]]
"""Compiles a model; the result runs inputs in graph order."""

KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")


@dataclass(frozen=True)
class Case:
    """One case of the suite: a model and pairs of inputs and expected outputs."""

    name: str
    kind: str
    model: onnx.ModelProto
    data: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator under test: the first node's."""
        nodes = self.model.graph.node
        return str(nodes[0].op_type) if len(nodes) else "none"


@dataclass(frozen=True)
class Outcome:
    """How a case went: passed, refused (with an error code), wrong, or crashed."""

    name: str
    operator: str
    status: str
    detail: str = ""


def cases(kinds: Iterable[str] = KINDS, wanted: Callable[[str], Any] = bool) -> Iterator[Case]:
    """Every case of the given kinds whose name is wanted."""
    from onnx.backend.test.loader import load_model_tests

    for kind in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load_model_tests(kind=kind)
        for test in filter(lambda t: wanted(t.name), loaded):
            if test.model is not None:
                pairs = [([_array(v) for v in i], [_array(v) for v in o]) for i, o in test.data_sets or ()]
                yield Case(test.name, kind, test.model, tuple(pairs), test.rtol, test.atol)
            elif test.model_dir is not None:
                yield _stored(test, kind)


def _stored(test: Any, kind: str) -> Case:
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    pairs = []
    for data in sorted(folder.glob("test_data_set*")):
        sides = []
        for side, values in (("input", model.graph.input), ("output", model.graph.output)):
            files = sorted(data.glob(f"{side}_*.pb"), key=lambda p: int(p.stem.rpartition("_")[2]))
            sides.append([_load(f, values[i].type) for i, f in enumerate(files)])
        pairs.append((sides[0], sides[1]))
    return Case(test.name, kind, model, tuple(pairs), test.rtol, test.atol)


def _load(path: Path, declared: onnx.TypeProto) -> Any:
    kinds = {
        "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
        "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
        "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    }
    message, convert = kinds[declared.WhichOneof("value")]
    return convert(message.FromString(path.read_bytes()))  # type: ignore[operator]


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


class Reference:
    """The interpreter on the lowered model.

    Where an input must be known at compile time (the shape of a Reshape, the axes of a sum), the model is
    lowered for the value of that input which it is first run with; `fixed` names those inputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names = [v.name for v in model.graph.input]
        self.fixed: dict[str, Any] = {}
        try:
            self.module: Module | None = load_onnx(model)
        except InputNotConstant as error:
            if not error.inputs:
                raise
            self.module = None

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Run inputs in graph order; trailing ones may have defaults."""
        given = dict(zip(self.names, inputs, strict=False))
        while self.module is None:
            try:
                self.module = load_onnx(self.model, values=self.fixed)
            except InputNotConstant as error:
                if not error.inputs or any(n in self.fixed or n not in given for n in error.inputs):
                    raise
                self.fixed.update({name: given[name] for name in error.inputs})
        main = self.module.main
        arrays = [given[n] if n in given else main.defaults[n].array() for n in main.input_names]
        return run_module(self.module, arrays)


def run_case(case: Case, runner: Runner = Reference) -> Outcome:
    """Compile, run and compare one case."""
    try:
        run = runner(case.model)
        for inputs, expected in case.data:
            difference = compare(list(run(inputs)), expected, case.rtol, case.atol)
            if difference:
                return Outcome(case.name, case.operator, "wrong", difference)
    except AinoError as error:
        crashed = error.exit_status == 3
        text = f"{error.code} {error.message}"
        return Outcome(case.name, case.operator, "crashed" if crashed else "refused", text)
    except Exception as error:
        return Outcome(case.name, case.operator, "crashed", f"{type(error).__name__}: {error}")
    detail = "inputs fixed at compile time" if getattr(run, "fixed", None) else ""
    return Outcome(case.name, case.operator, "passed", detail)


def compare(got: Any, expected: Any, rtol: float, atol: float) -> str:
    """What differs, or an empty string; sequences are compared item by item."""
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"{type(got).__name__} instead of {len(expected)} values"
        return next(filter(None, (compare(g, e, rtol, atol) for g, e in zip(got, expected, strict=True))), "")
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
    return _numbers(got, expected, rtol, atol)


def _numbers(got: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)
    if expected.dtype.kind == "V" or expected.dtype.name not in np.sctypeDict:
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    close = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    worst = int(np.argmax(~close.reshape(-1)))
    return f"{int((~close).sum())} of {close.size} differ: {got.reshape(-1)[worst]} instead of {expected.reshape(-1)[worst]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and print what passes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--match", default="", help="a regular expression for the names of cases")
    parser.add_argument("--verbose", action="store_true", help="print every case that does not pass")
    parser.add_argument("--jsonl", type=Path, help="write one line a case")
    options = parser.parse_args(arguments)
    wanted = re.compile(options.match)
    outcomes = [run_case(c) for c in cases(options.kind or KINDS, wanted.search)]
    if options.jsonl:
        options.jsonl.write_text("".join(json.dumps(asdict(o)) + "\n" for o in outcomes))
    report(outcomes, options.verbose)
    return 0 if all(o.status == "passed" for o in outcomes) else 1


def report(outcomes: Sequence[Outcome], verbose: bool) -> None:
    """Print counts by operator and by status."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        table[outcome.operator][outcome.status] += 1
        if verbose and outcome.status != "passed":
            print(f"{outcome.status:8} {outcome.name}: {outcome.detail}")
    for operator, counts in sorted(table.items()):
        if counts.keys() != {"passed"}:
            others = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()) if status != "passed")
            print(f"{operator:28} {counts['passed']:4} of {sum(counts.values()):4}  {others}")
    total = collections.Counter(o.status for o in outcomes)
    fixed = sum(o.status == "passed" and bool(o.detail) for o in outcomes)
    print(
        f"passed {total['passed']} of {len(outcomes)} ({fixed} with inputs fixed at compile time); {dict(total)}"
    )


if __name__ == "__main__":
    sys.exit(main())

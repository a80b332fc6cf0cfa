"""Conformance cases: every sample of every op, by a name of its own, and the judgement of results.

A case is one op on one set of operands.  `expected` is what the interpreter makes of it, `judge` says
whether a target's results agree: integers, bools and exact expressions bit by bit, math functions
within their bound in units in the last place, sums by the tolerance of reordered sums.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.dtypes import DType
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.op import OPS, Op, Sample
from aino_ir.sampling import inputs_of, sample_module, samples_for
from aino_ir.tolerance import disagreement, tiny, ulps
from tests.aino_ir.test_ops_conformance import STEPS, UNDERFLOWING, ulp_bound
from tests.conformance.samples import MORE_SAMPLES

Array = np.ndarray[Any, Any]

EXACT_MOVEMENT = frozenset({"tensor", "index", "core"})
"""Families whose results are operands' elements, bit by bit."""


@dataclass(frozen=True)
class Case:
    """One op on one set of operands.

    Attributes:
        name: unique and the same in every run: ``math.add/3 f32 edges``.
    """

    name: str
    op: str
    sample: Sample

    @property
    def operands(self) -> list[Array]:
        """The arrays that the op takes."""
        return inputs_of(self.sample)

    def module(self) -> Module:
        """A module of the op alone."""
        return sample_module(OPS[self.op], self.sample)

    def expected(self) -> tuple[Array, ...]:
        """What the interpreter makes of it."""
        return run_module(self.module(), self.operands)


def all_cases(match: str = "") -> Iterator[Case]:
    """Every case whose name matches a regular expression."""
    wanted = re.compile(match)
    for op in sorted(OPS):
        samples = [*samples_for(OPS[op]), *MORE_SAMPLES.get(op, ())]
        for number, sample in enumerate(samples):
            text = " ".join([sample.note, *(f"{k}={v}" for k, v in sample.attrs.items())]).strip()
            case = Case(f"{op}/{number} {text}", op, sample)
            if wanted.search(case.name):
                yield case


def share(name: str, one_in: int, number: int = 0) -> bool:
    """Whether a case belongs to share `number` of `one_in` equal ones; depends on its name alone."""
    return zlib.crc32(name.encode()) % one_in == number


def judge(case: Case, results: Sequence[Array], expected: Sequence[Array]) -> str | None:
    """Why results do not agree with the interpreter's, or None."""
    op = case.module().main.block.first
    assert op is not None
    for number, (got, want, value) in enumerate(zip(results, expected, op.results, strict=True)):
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"result {number} is {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
        why = _disagreement(op, got, want, value.dtype)
        if why is not None:
            return f"result {number}: {why}"
    return None


def _disagreement(op: Op, got: Array, want: Array, dtype: DType) -> str | None:
    if not dtype.is_float or op.name.partition(".")[0] in EXACT_MOVEMENT:
        return disagreement(got, want)
    if not isinstance(op, Elementwise):
        return disagreement(got, want, "reordered", terms=terms(op))
    bound = ulp_bound(op, op.scalar())
    if not bound or op.name in STEPS:
        return disagreement(got, want)
    distance = ulps(got, want)
    if op.name in UNDERFLOWING:
        near = np.abs(want.astype(np.float64)) <= 256 * tiny(dtype)
        distance = np.where(near & (got == 0), 0.0, distance)
    if distance.max(initial=0.0) <= bound:
        return None
    worst = int(np.argmax(distance))
    values = f"{got.reshape(-1)[worst]} instead of {want.reshape(-1)[worst]}"
    return f"{distance.reshape(-1)[worst]:.1f} ulps at {worst}: {values}"


def terms(op: Op) -> int:
    """An upper bound of the length of the op's sums."""
    return max((int(np.prod(v.shape, dtype=np.int64)) for v in op.present_operands()), default=1) or 1

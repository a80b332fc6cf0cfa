"""Which kernels TVM gets: computations with a schedule of TVM's, everything else as loops of scalars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.codegen.kernels.map import MapGenerator
from aino_ir.codegen.kernels.nest import NestGenerator
from aino_ir.codegen.kernels.reduction import ReductionGenerator
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.codegen.kernels.scheduled import ScheduledGenerator
from aino_ir.codegen.tvm.scheduled import BlockGenerator
from aino_ir.compute import Compute
from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

SCALAR = 8.0
"""How much longer a computation takes without a schedule."""


class ScalarLoops:
    """Another generator's kernels with vectors of one lane: LLVM makes of their loops what it can."""

    def __init__(self, inner: Generator) -> None:
        self.inner = inner
        self.name = inner.name

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The inner generator's; computations take longer so than with vectors."""
        slower = SCALAR if isinstance(spec.program, Compute) else 1.0
        for answer in self.inner.candidates(spec, scalar_facts(target)):
            yield answer if isinstance(answer, Reject) else replace(answer, cost=answer.cost * slower)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        return self.inner.build(spec, candidate, scalar_facts(target))


def scalar_facts(target: Target) -> Target:
    """A target whose vectors hold one value of any type."""
    return replace(target, vector_bytes=1, has_masks=False)


def tvm_generators() -> list[Generator]:
    """Fresh instances of all generators for TVM."""
    inner = (
        ReductionGenerator(),
        RowGenerator(),
        AttentionGenerator(),
        MapGenerator(),
        NestGenerator(),
        ScheduledGenerator(),
    )
    return [BlockGenerator(), *(ScalarLoops(generator) for generator in inner)]

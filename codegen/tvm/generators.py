"""Which kernels TVM gets: computations with a schedule of TVM's, everything else as loops as they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.codegen.kernels.contract import ContractGenerator
from aino_ir.codegen.kernels.map import MapGenerator
from aino_ir.codegen.kernels.nest import NestGenerator
from aino_ir.codegen.kernels.reduction import ReductionGenerator
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.codegen.kernels.scheduled import ScheduledGenerator
from aino_ir.codegen.tvm.scheduled import BlockGenerator
from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

BEHIND = 1.01
"""What a computation with a schedule takes as finished loops, at the least: these cannot be tuned."""


class FinishedLoops:
    """Another generator's kernels, whose loops TVM takes as they are, vectors and all.

    Args:
        inner: the other generator.
        scheduled: whose candidates come first.
    """

    def __init__(self, inner: Generator, scheduled: Generator) -> None:
        self.inner = inner
        self.scheduled = scheduled
        self.name = inner.name

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The inner generator's, behind computations that have a schedule."""
        first = [a.cost for a in self.scheduled.candidates(spec, target) if isinstance(a, Candidate)]
        least = BEHIND * max(first, default=0.0)
        for answer in self.inner.candidates(spec, target):
            yield answer if isinstance(answer, Reject) else replace(answer, cost=max(answer.cost, least))

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        return self.inner.build(spec, candidate, target)


def tvm_generators() -> list[Generator]:
    """Fresh instances of all generators for TVM."""
    inner = (
        ContractGenerator(1),
        ReductionGenerator(),
        RowGenerator(),
        AttentionGenerator(),
        MapGenerator(),
        NestGenerator(),
        ScheduledGenerator(),
    )
    blocks = BlockGenerator()
    return [blocks, *(FinishedLoops(generator, blocks) for generator in inner)]

"""Generators that are planted among the right ones: their kernels look cheaper, and are wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.loops.expr import const
from aino_ir.loops.stmt import LoopFn, Store
from aino_ir.target import Target


class Planted:
    """Another generator's candidates at half their cost; each result is a thousandth off."""

    name = "planted"

    def __init__(self, right: Generator) -> None:
        self.right = right

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        for answer in self.right.candidates(spec, target):
            if isinstance(answer, Candidate):
                yield replace(answer, generator=self.name, cost=answer.cost / 2)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        (result,) = spec.results
        assert result.expr is not None
        off = replace(result, expr=result.expr * const(1.001, result.expr.dtype))
        return self.right.build(replace(spec, results=(off,)), candidate, target)


class Stray(Planted):
    """Right kernels that also write so many elements behind their result."""

    def __init__(self, right: Generator, distance: int) -> None:
        super().__init__(right)
        self.distance = distance

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        fn = self.right.build(spec, candidate, target)
        result = fn.params[-1]
        stray = Store(result.name, result.size + self.distance, const(1.0, result.dtype))
        return replace(fn, body=(*fn.body, stray), name=f"{fn.name}_stray")

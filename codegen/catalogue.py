"""The kernel catalogue of the C family: which generators exist, and what they answer to a spec."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.kernels import registry
from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target


class KernelCatalogue:
    """Answers for one target; candidates are remembered by the spec's key."""

    def __init__(self, target: Target, generators: Sequence[Generator] | None = None) -> None:
        self.target = target
        self.generators = list(generators if generators is not None else registry.generators())
        self._by_name = {g.name: g for g in self.generators}
        self._answers: dict[str, list[Candidate | Reject]] = {}

    def candidates(self, spec: KernelSpec) -> list[Candidate | Reject]:
        """All answers of all generators: candidates by modelled cost, then rejects."""
        known = self._answers.get(spec.key)
        if known is None:
            answers = [a for g in self.generators for a in g.candidates(spec, self.target)]
            found = sorted((a for a in answers if isinstance(a, Candidate)), key=lambda c: c.cost)
            known = [*found, *(a for a in answers if isinstance(a, Reject))]
            self._answers[spec.key] = known
        return known

    def build(self, spec: KernelSpec, candidate: Candidate) -> LoopFn:
        """The loops of a candidate."""
        return self._by_name[candidate.generator].build(spec, candidate, self.target)

    def accepts(self, kind: str, op_names: tuple[str, ...]) -> bool:
        """Whether some generator serves groups of a kind."""
        return kind in self._by_name

"""The kernel catalogue of the C family: which generators exist, and what they answer to a spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aino_ir.codegen.cuda.generators import cuda_dividers, cuda_generators
from aino_ir.codegen.kernels import registry
from aino_ir.codegen.kernels.tiled import BEST
from aino_ir.codegen.tvm.generators import tvm_generators
from aino_ir.isa import GPU
from aino_ir.kernels import Candidate, Divider, Division, Generator, KernelSpec, Reject
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target


@dataclass
class Experience:
    """What is known about candidates beyond their modelled cost, by the spec's key.

    Attributes:
        wrong: (generator, name) -> why the candidate must not be used again.
        best: (generator, name) of the candidate that was fastest when measured.
        schedules: traces, as calls of TVM's `Schedule` on ``sch``, that were faster than a kernel's own.
    """

    wrong: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    best: dict[str, tuple[str, str]] = field(default_factory=dict)
    schedules: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note_wrong(self, spec: KernelSpec, candidate: Candidate, reason: str) -> None:
        """Never offer a candidate for a spec again."""
        self.wrong.setdefault(spec.key, {})[identity(candidate)] = reason


def identity(candidate: Candidate) -> tuple[str, str]:
    """What tells the candidates for one spec apart."""
    return candidate.generator, candidate.name


def generators_for(target: Target, most: int = BEST) -> list[Generator]:
    """All generators for a target, special ones first; each offers at most `most` candidates."""
    if target.name == "tvm":
        return tvm_generators()
    return cuda_generators() if _is_gpu(target) else registry.generators(most)


def dividers_for(target: Target) -> Sequence[Divider]:
    """Who knows what a target does better by several kernels."""
    return cuda_dividers() if _is_gpu(target) else ()


def _is_gpu(target: Target) -> bool:
    """Whether kernels are blocks of threads, on a device or emulated."""
    return target.name != "tvm" and (target.arch == GPU or target.isa == "cuda-emu")


class KernelCatalogue:
    """Answers for one target; candidates are remembered by the spec's key.

    Args:
        target: what the kernels are for.
        generators: whom to ask; all that there are for the target by default.
        experience: candidates found wrong are rejected, the fastest measured comes first.
    """

    def __init__(
        self,
        target: Target,
        generators: Sequence[Generator] | None = None,
        experience: Experience | None = None,
    ) -> None:
        self.target = target
        self.generators = list(generators if generators is not None else generators_for(target))
        self.experience = experience if experience is not None else Experience()
        self._by_name = {g.name: g for g in self.generators}
        self._answers: dict[str, list[Candidate | Reject]] = {}
        self._dividers = dividers_for(target)

    def candidates(self, spec: KernelSpec) -> list[Candidate | Reject]:
        """All answers of all generators: the candidates, best first, then rejects."""
        known = self._answers.get(spec.key)
        if known is None:
            answers = [
                self._judged(spec, a) for g in self.generators for a in g.candidates(spec, self.target)
            ]
            best = self.experience.best.get(spec.key)
            found = [a for a in answers if isinstance(a, Candidate)]
            found.sort(key=lambda c: (identity(c) != best, c.cost))
            known = [*found, *(a for a in answers if isinstance(a, Reject))]
            self._answers[spec.key] = known
        return known

    def _judged(self, spec: KernelSpec, answer: Candidate | Reject) -> Candidate | Reject:
        """The answer, or a rejection where the candidate was found wrong."""
        if isinstance(answer, Reject):
            return answer
        reason = self.experience.wrong.get(spec.key, {}).get(identity(answer))
        return answer if reason is None else Reject(answer.generator, f"{answer.name} is wrong: {reason}")

    def build(self, spec: KernelSpec, candidate: Candidate) -> LoopFn:
        """The loops of a candidate."""
        return self._by_name[candidate.generator].build(spec, candidate, self.target)

    def divide(self, spec: KernelSpec) -> Division | None:
        """The kernels that should do a spec together, None where one does as well."""
        found = (divide(spec) for divide in self._dividers)
        return next((division for division in found if division is not None), None)

    def accepts(self, kind: str, op_names: tuple[str, ...]) -> bool:
        """Whether some generator serves groups of a kind."""
        return kind in self._by_name

"""What small modules would cost as compiled kernels, by the generators' own models."""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.compose import Group, compose
from aino_ir.codegen.lower.pricing import own_buffer
from aino_ir.driver.pipeline import Compilation, CompileOptions
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Function, Module
from aino_ir.kernels import Candidate, KernelSpec
from aino_ir.op import Op, Trait
from aino_ir.pattern import constant_of
from aino_ir.target import Target


class ModelledCosts:
    """Seconds and stored bytes of modules after the passes, each op as the best candidate for it.

    Args:
        target: what kernels are for.
    """

    kind = "modelled"

    def __init__(self, target: Target) -> None:
        self.target = target.variant(target.isa)
        self.catalogue = KernelCatalogue(self.target)
        self._known: dict[int, tuple[Module, float | None, int]] = {}

    def seconds(self, module: Module) -> float | None:
        """Modelled seconds of one run on one core, or None where an op has no kernel."""
        return self._of(module)[1]

    def stored_bytes(self, module: Module) -> int:
        """Bytes of the constants as the kernels want them stored."""
        return self._of(module)[2]

    def _of(self, module: Module) -> tuple[Module, float | None, int]:
        known = self._known.get(id(module))
        if known is None or known[0] is not module:
            known = self._known[id(module)] = (module, *self._found(module))
        return known

    def _found(self, module: Module) -> tuple[float | None, int]:
        options = CompileOptions(self.target, verify="off")
        main = Compilation(options).optimize(module).main
        seconds: float | None = 0.0
        stored = 0
        for op in main.block:
            if op.name == "core.constant" or op.has(Trait.TERMINATOR) or op.has(Trait.VIEW):
                continue
            priced = self._priced(op, main)
            if priced is None:
                seconds = None
                continue
            seconds = None if seconds is None else seconds + priced[0]
            stored += priced[1]
        return seconds, stored

    def _priced(self, op: Op, main: Function) -> tuple[float, int] | None:
        try:
            composed = compose(Group(op), own_buffer, main.symbols)
        except NotComposable:
            return None
        best = next((a for a in self.catalogue.candidates(composed.spec) if isinstance(a, Candidate)), None)
        if best is None:
            return None
        handles = [i for i, v in enumerate(composed.operands) if constant_of(v) is not None]
        return best.cost, stored_bytes(composed.spec, best, handles)


def stored_bytes(spec: KernelSpec, candidate: Candidate, handles: Iterable[int]) -> int:
    """Bytes of a spec's constant operands (by number) as a candidate stores them."""
    packings = dict(candidate.packings)
    total = 0
    for number, packing in [*((n, packings.get(n)) for n in handles), *candidate.companions]:
        operand = spec.operands[number]
        shape = tuple(int(d) for d in operand.shape)  # type: ignore[arg-type]
        if packing is None:
            size, dtype = operand.layout.bound(shape), operand.dtype
        else:
            size = packing.layout.bound(packing.stored_shape(shape))
            dtype = packing.stored_dtype(operand.dtype)
        total += int(size) * dtype.bytes  # type: ignore[arg-type]
    return total

"""Kernels whose loops an op writes by hand (`Nest`): scatter, sort, data-dependent loops."""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Nest, TensorRef
from aino_ir.dims import DimLike
from aino_ir.kernels import Candidate, KernelSpec, Operand, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target
from aino_ir.types import TensorType


class NestGenerator:
    """Runs an op's own loop builder."""

    name = "nest"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate."""
        if isinstance(spec.program, Nest):
            yield Candidate(self.name, "hand-written loops", cost=1e-5, error_class="exact")
        else:
            yield Reject(self.name, "not a nest")

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        program = spec.program
        assert isinstance(program, Nest)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        inputs, outputs = tensors(b, place)
        with b.units(program.units, program.threads) as unit:
            program.build(b, inputs, outputs, unit)
        return b.finish(header(spec, candidate))


def tensors(b: LoopBuilder, place: Placement) -> tuple[tuple[TensorRef, ...], tuple[TensorRef, ...]]:
    """Operands and results of a kernel by logical coordinates."""
    spec = place.spec
    return (
        tuple(_Ref(b, place.buffers[i], o) for i, o in enumerate(spec.operands)),
        tuple(_Ref(b, place.result_buffers[i], r) for i, r in enumerate(spec.results)),
    )


class _Ref(TensorRef):
    """A buffer addressed by logical coordinates."""

    def __init__(self, b: LoopBuilder, buffer: str, operand: Operand) -> None:
        self.b = b
        self.buffer = buffer
        self.operand = operand
        self.type = TensorType(operand.dtype, operand.shape, operand.layout)

    def load(self, index: tuple[DimLike, ...], lanes: int = 1) -> Expr:
        return self.b.load(self.buffer, self.operand.addr(index), lanes)

    def store(self, index: tuple[DimLike, ...], value: Expr) -> None:
        self.b.store(self.buffer, self.operand.addr(index), value)

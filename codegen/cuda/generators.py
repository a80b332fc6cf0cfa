"""Kernels for a GPU: every thread makes one element, one row or one unit of hand-written loops."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from aino_ir.codegen.cuda.block_rows import BlockRowGenerator
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.codegen.cuda.tile import TileGenerator
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.nest import NestGenerator
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.compute import Compute
from aino_ir.dims import DimLike, product
from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, VecType, binary, const, identity
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target


class ElementGenerator:
    """A `Compute` with a thread for each element; reductions are loops of the thread."""

    name = "element"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate for every computation."""
        if isinstance(spec.program, Compute):
            yield Candidate(self.name, "a thread for each element", cost=1e-5)
        else:
            yield Reject(self.name, "not index notation over axes")

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        canonical = merge_axes(drop_unit_axes(spec))
        program = canonical.program
        assert isinstance(program, Compute)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, canonical)
        emit_checks(place)
        with b.units(product(a.extent for a in program.axes)) as unit:
            at: dict[str, DimLike] = {}
            if program.axes:
                extents = {a.name: a.extent for a in program.axes}
                at = dict(zip(extents, b.split(unit, extents), strict=True))
            accumulators: dict[int, Expr] = {}
            if program.combiner is not None:  # sums of one term are sums still
                accumulators[0] = _reduced(b, place, program, at).read()
            point = Point(at)
            values = [
                place.expr(r.expr if r.expr is not None else program.result_expr, point, accumulators)
                for r in canonical.results
            ]
            for number, value in enumerate(values):
                place.store(number, point, value)
        return b.finish(header(spec, candidate))


def _reduced(b: LoopBuilder, place: Placement, program: Compute, at: dict[str, DimLike]) -> Reg:
    """The reduction of one element, term after term."""
    assert program.combiner is not None
    dtype = program.body.dtype
    first = const(program.combiner == "and" if dtype.is_bool else identity(program.combiner, dtype), dtype)
    total = b.reg("total", VecType(dtype), first)
    with ExitStack() as stack:
        here = dict(at)
        for axis in program.reduce:
            here[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
        point = Point(here)
        if program.where is not None:
            stack.enter_context(b.when(place.expr(program.where, point)))
        b.set(total, binary(program.combiner, total.read(), place.expr(program.body, point)))
    return total


def cuda_generators() -> list[Generator]:
    """Fresh instances of all generators for CUDA."""
    return [
        TensorCoreGenerator(),
        TileGenerator(),
        BlockRowGenerator(),
        RowGenerator(unit_elements=1),
        AttentionGenerator(),
        NestGenerator(),
        ElementGenerator(),
    ]

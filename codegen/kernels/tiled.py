"""What generators of register tiles share: a candidate's numbers, how its kernel begins, what is offered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.blocking import Blocking
from aino_ir.codegen.kernels.contract_loops import Shape
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import kernel_name
from aino_ir.codegen.kernels.tiles import Tile
from aino_ir.kernels import Candidate, KernelSpec, Operand
from aino_ir.loops.builder import LoopBuilder

BEST = 4
"""Candidates that are offered: the best by the model."""


def cheapest(candidates: Iterable[Candidate], most: int) -> list[Candidate]:
    """So many candidates at most, the best by the model first."""
    return sorted(candidates, key=lambda c: c.cost)[:most]


def tile_params(tile: Tile, lanes: int, blocking: Blocking) -> tuple[tuple[str, int], ...]:
    """The numbers of a candidate that `tile_shape` reads; its own generator may add some."""
    return (
        ("rows", tile.rows),
        ("vectors", tile.vectors),
        ("lanes", lanes),
        ("chunk", blocking.chunk),
        ("group", blocking.group),
    )


def tile_shape(candidate: Candidate, depth: int = 0) -> Shape:
    """The shape that a candidate's numbers say; `depth` is that of a reduction cut into blocks."""
    params = dict(candidate.params)
    blocking = Blocking(params["chunk"], params["group"], depth)
    return Shape(Tile(params["rows"], params["vectors"]), params["lanes"], blocking)


def begin_kernel(
    spec: KernelSpec, analysed: KernelSpec, candidate: Candidate, halved: Mapping[int, int] | None = None
) -> tuple[LoopBuilder, Placement]:
    """The builder of a candidate's kernel, its buffers declared, its checks made.

    Args:
        spec: what the kernel is named after.
        analysed: the same, as the generator's analysis has left it.
        halved: the axis of operands that are stored as two values a byte.
    """
    b = LoopBuilder(kernel_name(spec))
    place = Placement(b, analysed, packed_operands(analysed, candidate), halved)
    emit_checks(place)
    return b, place


def packed_operands(spec: KernelSpec, candidate: Candidate) -> dict[int, Operand]:
    """The constants that a candidate packs, as its kernel addresses them."""
    return {
        i: replace(
            spec.operands[i],
            layout=p.layout,
            allocated=None,
            shape=p.stored_shape(spec.operands[i].shape),  # type: ignore[arg-type]
            dtype=p.stored_dtype(spec.operands[i].dtype),
        )
        for i, p in candidate.packings
    }

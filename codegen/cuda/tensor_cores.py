"""Products on tensor cores: GEMM, convolution, einsum of 16-bit floats and of bytes, and of f32 as tf32.

A block makes a tile of the result, each of its warps a part of it, in `mma.sync` instructions of 16 x 8
results and 32 bytes of terms (`instructions.py` lists them), or by groups of four warps (`wgmma`).
`product_kernel.py` has the pipeline whose stages the warps fill themselves, `fetching_kernel.py` the one
whose stages are filled by copies of tiles (TMA), where factors lie so that there is a map of them.

Constants are stored so that their terms are contiguous.  Sums of bytes are
exact in 32 bits.  f32 factors are rounded only where the target says tf32; else `tile` multiplies them.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.cuda.fetching_kernel import FetchingKernel, tile_source
from aino_ir.codegen.cuda.launch import shared_bytes
from aino_ir.codegen.cuda.product import extent_of
from aino_ir.codegen.cuda.product_kernel import ProductKernel
from aino_ir.codegen.cuda.product_plan import Plan, planned
from aino_ir.codegen.cuda.tilings import TILINGS, Tiling
from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

GROUP_ARCHITECTURES = ("sm_90a", "cuda-emu")
"""Where groups of warps multiply."""

GROUP_SHARE = 0.6
"""Time of their products: one warp's instructions reach 0.63 of an H100's peak at best."""

FETCHED_SHARE = 0.5
"""Where, besides, none of the warps that multiply has to fill stages."""

FETCHING_TERMS = 128
"""Terms that could be multiplied while signals are made ready and a map of tiles is read: a guess."""

WAVES = 132
"""Tiles that keep a device busy: as many as it has multiprocessors."""

HIDDEN_BYTES = 16
"""Of a line on their way, with which a pipeline takes twice as long as one that never waits."""


class TensorCoreGenerator:
    """Products of 16-bit floats, of bytes and of f32 as tf32."""

    name = "tensor cores"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The tilings that fit, the best first."""
        plan = planned(spec, target)
        if isinstance(plan, str):
            yield Reject(self.name, plan)
            return
        extents = extent_of(plan.of.rows), extent_of(plan.of.columns), extent_of(plan.of.terms)
        for number, tiling in sorted(enumerate(TILINGS), key=lambda item: _rank(item[1], extents, item[0])):
            fits = tiling.shared_bytes <= shared_bytes(target) and _multiplies(plan, tiling, target)
            if fits and (tiling.rows < 2 * extents[0] or tiling.rows == 16):
                yield Candidate(
                    self.name,
                    f"{plan.instruction}, {tiling}",
                    (("tiling", number),),
                    plan.packings,
                    cost=5e-7 + 1e-14 * _rank(tiling, extents, number)[0],
                    error_class=plan.instruction.error_class,
                    precision=plan.instruction.precision,
                )

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        plan = planned(spec, target)
        assert isinstance(plan, Plan)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, plan.of.spec)
        emit_checks(place)
        tiling = TILINGS[dict(candidate.params)["tiling"]]
        (FetchingKernel if tiling.fetched else ProductKernel)(b, place, plan, tiling).emit()
        return b.finish(header(spec, candidate))


def _multiplies(plan: Plan, tiling: Tiling, target: Target) -> bool:
    """Whether a target has the tiling's instructions, and factors lie as these want them."""
    if not tiling.grouped:
        return True
    if target.isa not in GROUP_ARCHITECTURES or plan.instruction.group == "":
        return False
    if not tiling.fetched:
        return plan.instruction.rounding == ""  # what is shared comes to the instruction as it is
    return all(tile_source(plan, side) is not None for side in (0, 1))


def _rank(tiling: Tiling, extents: tuple[int, int, int], number: int) -> tuple[float, int]:
    """Modelled work: elements of whole tiles, times what a tile loads for each, over how many run at once."""
    tiles = -(-extents[0] // tiling.rows) * -(-extents[1] // tiling.columns)
    work = tiles * (tiling.rows * tiling.columns + 64 * (tiling.rows + tiling.columns))
    waves = -(-tiles // WAVES)
    latency = 1 + HIDDEN_BYTES / ((tiling.stages - 1) * tiling.line_bytes)
    share = GROUP_SHARE if tiling.grouped else 1
    if tiling.fetched:
        share = FETCHED_SHARE * (1 + FETCHING_TERMS / max(1, extents[2]))
    return work * waves / tiles * latency * share, number

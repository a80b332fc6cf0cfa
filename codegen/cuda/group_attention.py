"""Attention of 16-bit floats by groups of warps (`wgmma`, sm_90a): flash attention of 64 queries a group.

Queries, keys and values lie in shared memory as the instruction takes them; keys have their terms together,
values usually lie turned, as they come.  A group's weights stay in registers as the first factor of the
product with the values.  One or two groups of a block share keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aino_ir.codegen.cuda.attention_blocks import AttentionBlockGenerator
from aino_ir.codegen.cuda.flash_attention import QUERIES, STAGES, FlashKernel, Tile, of_halves
from aino_ir.codegen.cuda.tensor_cores import GROUP_ARCHITECTURES, WAVES
from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.dims import DimLike, align
from aino_ir.dtypes import f32
from aino_ir.kernels import Attention, Candidate, KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, const, index
from aino_ir.loops.groups import GROUP, LINE_BYTES, ROWS
from aino_ir.loops.registers import RegTile
from aino_ir.loops.warp import WARP
from aino_ir.target import Target

LINE = 64
"""Elements of a line of 128 bytes: widths are padded to whole lines."""

KEYS = 64
"""Of a stage."""

CUT = LINE_BYTES // 16
"""Chunks of a line."""

SYMBOLIC_QUERIES = 1024
"""How many queries a symbolic number is taken for."""


class _Kernel(FlashKernel):
    step = LINE
    keys = KEYS
    publish = True

    def __init__(self, b: LoopBuilder, place: Placement, params: Mapping[str, int]) -> None:
        super().__init__(b, place, params)
        self.groups = params["groups"]
        self.warps = self.groups * (GROUP // WARP)
        self.query_panel = self.panel("query_panel", 0, self.groups * ROWS, self.width, 1, CUT)
        self.key_panel = self.panel("key_panels", 1, KEYS, self.width, STAGES, CUT)
        self.value_panel = self.panel("value_panels", 2, self.value_width, KEYS, STAGES, CUT)
        self.operation = f"wgmma_{self.half}"

    def begin(self, first: DimLike) -> None:
        """Queries come with the first keys."""
        self.query_panel.fill(self.source(0), 0, first, 0)

    def products(self, stage: DimLike) -> list[Tile]:
        """Of all keys of a stage, by the whole group."""
        b = self.b
        group = b.index(index(b.thread // GROUP), 0, self.groups - 1, "group")
        zeros = [const(0, f32)] * (KEYS // 2)
        factors = self.query_panel.factor(0, group), self.key_panel.factor(stage)
        found = b.group_product(self.operation, *factors, zeros, self.width // LINE)
        return [list(found[n : n + 4]) for n in range(0, len(found), 4)]

    def add_values(self, stage: DimLike, weights: list[Expr], sums: RegTile) -> None:
        """All of a stage's keys at once."""
        b = self.b
        totals = [sums[n, i] for n in range(self.value_width // 8) for i in range(4)]
        given = [t.read() for t in totals]
        factor = self.value_panel.factor(stage)
        found = b.group_product(self.operation, weights, factor, given, KEYS // LINE)
        for register, value in zip(totals, found, strict=True):
            b.set(register, value)


class GroupAttentionGenerator(AttentionBlockGenerator):
    """Kernels of `Attention` programs of 16-bit floats where groups of warps multiply."""

    name = "group attention"
    kernel = _Kernel

    def suitable(self, spec: KernelSpec, target: Target) -> Attention | str:
        """Programs of one type of 16 bits whose heads fill lines, where there are groups."""
        program = of_halves(spec)
        if isinstance(program, str):
            return program
        if target.isa not in GROUP_ARCHITECTURES:
            return f"{target.isa} has no products of groups"
        widths = (program.width, program.value_width)
        if any(4 * int(w) <= 3 * int(align(w, LINE)) for w in widths):  # type: ignore[arg-type]
            return f"heads of {widths[0]} and {widths[1]} leave much of whole lines empty"
        return program

    def offered(self, program: Attention) -> Iterator[Candidate]:
        """Two groups a block where that leaves enough blocks, else one; and the other way."""
        best = 2 if _blocks(program, 2) >= WAVES else 1
        for groups in (best, 3 - best):
            name = f"wgmma, {groups * GROUP // WARP * QUERIES} queries, {KEYS} keys at a time"
            cost = 5e-8 if groups == best else 6e-8
            yield Candidate(self.name, name, (("groups", groups),), cost=cost, error_class="approximate")


def _blocks(program: Attention, groups: int) -> int:
    """How many blocks of so many groups there are."""
    heads = extent_or(program.batch, 1) * extent_or(program.heads, 1)
    return heads * -(-extent_or(program.queries, SYMBOLIC_QUERIES) // (groups * ROWS))

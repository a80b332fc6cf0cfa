"""Products of few tiles and many terms by more blocks: partial products first, then their sum.

A product of one tile would leave a device idle but for one block.  Here the terms are cut into stretches of
equal length, as many as make the device busy; their products, f32 or i32, are added up in order, together
with whatever follows the product, so that results are the same in every run.  Sums of bytes stay exact.
"""

from __future__ import annotations

from aino_ir.codegen.cuda.product import Product, analyse, extent_of
from aino_ir.codegen.cuda.split_reductions import division
from aino_ir.compute import Compute
from aino_ir.dims import is_static
from aino_ir.kernels import Division, KernelSpec

PROCESSORS = 132
"""Blocks that run at once at least: multiprocessors of an H100 (108 of an A100)."""

TILE = 64
"""Rows and columns of the tile by which blocks are counted."""

SHORTEST = 256
"""Terms of a stretch; the sum of the parts costs as much as some dozens of them."""

FINEST = 64
"""Stretches are a multiple of so many terms, which panels are copied by."""


def split_product(spec: KernelSpec) -> Division | None:
    """Partial products and their sum, where tiles are few and terms many."""
    found = analyse(spec)
    if not isinstance(found, Product):
        return None
    program = spec.program
    assert isinstance(program, Compute)
    if not all(is_static(a.extent) for a in (*program.axes, *program.reduce)):
        return None
    stack, rows, columns = map(extent_of, (found.stack, found.rows, found.columns))
    tiles = stack * -(-rows // TILE) * -(-columns // TILE)
    terms = extent_of(program.reduce)
    wished = min(PROCESSORS // max(1, tiles), terms // SHORTEST)
    if wished < 2 or any(a.name == "part" for a in program.axes):
        return None
    extents = [extent_of((axis,)) for axis in program.reduce]
    extent = max(extents)
    for count in range(wished, wished // 2, -1):
        if extent % (count * FINEST) == 0:
            return division(spec, extents.index(extent), count, extent // count, in_front=True)
    return None

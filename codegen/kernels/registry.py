"""Every kernel generator, in one list: a new one is a module and a line here."""

from __future__ import annotations

from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.codegen.kernels.contract import ContractGenerator
from aino_ir.codegen.kernels.decoding import DecodingGenerator
from aino_ir.codegen.kernels.dot import DotGenerator
from aino_ir.codegen.kernels.map import MapGenerator
from aino_ir.codegen.kernels.nest import NestGenerator
from aino_ir.codegen.kernels.reduction import ReductionGenerator
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.codegen.kernels.scheduled import ScheduledGenerator
from aino_ir.codegen.kernels.short_products import ShortProductsGenerator
from aino_ir.codegen.kernels.sparse import SparseGenerator
from aino_ir.codegen.kernels.tiled import BEST
from aino_ir.kernels import Generator


def generators(most: int = BEST) -> list[Generator]:
    """Fresh instances of all generators, special ones first; each offers at most so many candidates."""
    return [
        ContractGenerator(most),
        DecodingGenerator(most),
        SparseGenerator(most),
        DotGenerator(most),
        ShortProductsGenerator(most),
        ReductionGenerator(),
        RowGenerator(),
        AttentionGenerator(),
        MapGenerator(),
        NestGenerator(),
        ScheduledGenerator(),
    ]

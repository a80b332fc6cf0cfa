"""The kernel generators for GPUs, special ones first."""

from __future__ import annotations

from aino_ir.codegen.cuda.block_attention import BlockAttentionGenerator
from aino_ir.codegen.cuda.block_rows import BlockRowGenerator
from aino_ir.codegen.cuda.block_scans import BlockScanGenerator, split_scan
from aino_ir.codegen.cuda.block_sorts import BlockSortGenerator, split_sort
from aino_ir.codegen.cuda.elements import ElementGenerator
from aino_ir.codegen.cuda.flash_attention import FlashAttentionGenerator
from aino_ir.codegen.cuda.group_attention import GroupAttentionGenerator
from aino_ir.codegen.cuda.scatters import split_scatter
from aino_ir.codegen.cuda.split_products import split_product
from aino_ir.codegen.cuda.split_reductions import split_reduction
from aino_ir.codegen.cuda.split_rows import split_rows
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.codegen.cuda.tile import TileGenerator
from aino_ir.codegen.kernels.attention import AttentionGenerator
from aino_ir.codegen.kernels.nest import NestGenerator
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.kernels import Divider, Generator


def cuda_generators() -> list[Generator]:
    """Fresh instances of all generators for CUDA."""
    return [
        TensorCoreGenerator(),
        TileGenerator(),
        BlockRowGenerator(),
        RowGenerator(unit_elements=1),
        GroupAttentionGenerator(),
        FlashAttentionGenerator(),
        BlockAttentionGenerator(),
        AttentionGenerator(),
        BlockSortGenerator(),
        BlockScanGenerator(),
        NestGenerator(),
        ElementGenerator(),
    ]


def cuda_dividers() -> list[Divider]:
    """Who takes apart what one kernel of blocks cannot spread over a device."""
    return [split_product, split_reduction, split_rows, split_sort, split_scan, split_scatter]

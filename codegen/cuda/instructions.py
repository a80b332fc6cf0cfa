"""The multiplying instructions of tensor cores as data, and which of them a product can use.

Every row is an `mma.sync` of 16 x 8 results whose factors have 32 bytes of terms a line: 16 of 16-bit floats,
32 of bytes, 8 of f32, which are rounded to tf32 and used only where the target says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.product import Product
from aino_ir.dtypes import DType, bf16, f16, f32, i8, i32, u8
from aino_ir.loops.expr import Cast, Expr, Read, Round
from aino_ir.loops.groups import GROUP_OPERATIONS
from aino_ir.target import Target
from aino_ir.tolerance import PRODUCT_PRECISION

LINE_BYTES = 32
"""Terms of a line that an instruction takes, in bytes."""


@dataclass(frozen=True)
class Instruction:
    """One kind of product.

    Attributes:
        operation: its name among the operations of warps.
        storages: what the elements of both factors are kept as.
        total: of the sums.
        error_class: how exact products are: `exact` ones are integers.
        rounding: operation that fragments go through first; empty: none.
        precision: dtype whose precision counts where that is less than the results'.
    """

    operation: str
    storages: tuple[DType, DType]
    total: DType
    error_class: str = "reordered"
    rounding: str = ""
    precision: DType | None = None

    @property
    def group(self) -> str:
        """The same product by a group of warps, where there is one."""
        name = self.operation.replace("mma_", "wgmma_")
        return name if name in GROUP_OPERATIONS else ""

    @property
    def terms(self) -> int:
        """Terms of a line."""
        return LINE_BYTES // self.storages[0].bytes

    def __str__(self) -> str:
        return self.operation.removeprefix("mma_").replace("_", " by ")


INSTRUCTIONS = (
    Instruction("mma_bf16", (bf16, bf16), f32),
    Instruction("mma_f16", (f16, f16), f32),
    Instruction("mma_s8_s8", (i8, i8), i32, "exact"),
    Instruction("mma_s8_u8", (i8, u8), i32, "exact"),
    Instruction("mma_u8_s8", (u8, i8), i32, "exact"),
    Instruction("mma_u8_u8", (u8, u8), i32, "exact"),
    Instruction(
        "mma_tf32",
        (f32, f32),
        f32,
        "approximate",
        rounding="round_tf32",
        precision=PRODUCT_PRECISION["tf32"],
    ),
)


def on_tensor_cores(of: Product, target: Target) -> tuple[Instruction, Product] | str:
    """The instruction for a product, and the product with factors as panels hold them; or why none fits."""
    factors = [_stored(of, factor) for factor in of.factors]
    storages = tuple(storage for storage, _ in factors)
    total = of.factors[0].dtype
    for row in INSTRUCTIONS:
        if row.storages == storages and row.total is total and not row.rounding:
            return row, replace(of, factors=(factors[0][1], factors[1][1]))
    if total is not f32:
        return f"factors of {storages[0]} and {storages[1]}, summed in {total}"
    if not target.tf32:
        return "factors that are not 16-bit floats, and the target does not say tf32"
    return INSTRUCTIONS[-1], of


def _stored(of: Product, factor: Expr) -> tuple[DType, Expr]:
    """The narrowest type that holds a factor, and the factor as that."""
    if isinstance(factor, Read):
        return of.spec.operands[factor.operand].dtype, factor
    if isinstance(factor, Round):
        return factor.storage, factor
    if isinstance(factor, Cast) and factor.x.dtype in (i8, u8):
        return factor.x.dtype, factor.x
    return factor.dtype, factor

"""What a vendor's library can do in the place of a kernel, as data: a product of stacked matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aino_ir.dims import DimLike, value_of

CUBLAS = "cublas"
"""The library that multiplies."""

ACTIVATIONS = ("", "relu", "gelu")
"""What may follow a product; GELU is the one by tanh."""


@dataclass(frozen=True)
class Matrix:
    """A stack of matrices in memory, each column after column.

    Attributes:
        view: which parameter of the kernel it is.
        dtype: name of its element type.
        leading: elements from a column to the next one.
        stride: elements from a matrix to the next one of the stack; 0 where all are the same.
        turned: whether the columns in memory are the rows of the factor.
    """

    view: int
    dtype: str
    leading: DimLike
    stride: DimLike
    turned: bool = False


@dataclass(frozen=True)
class ProductCall:
    """``result = activation(first @ second + residual + bias)``, the same operands as those of the kernel.

    Matrices are told column after column, as libraries with a Fortran past do: a result whose rows are
    contiguous stands here as its transpose, with the factors exchanged.

    Attributes:
        rows, columns, terms, stack: extents.
        first, second, result: where the matrices lie.
        compute: what sums are computed in: f32, f64, i32, or tf32 (f32 of rounded factors).
        bias: parameter with a number for each row of the result, of the result's type; None: there is none.
        residual: matrices of the result's type that are added.
        activation: one of `ACTIVATIONS`.
    """

    rows: DimLike
    columns: DimLike
    terms: DimLike
    stack: DimLike
    first: Matrix
    second: Matrix
    result: Matrix
    compute: str
    bias: int | None = None
    residual: Matrix | None = None
    activation: str = ""

    @property
    def matrices(self) -> tuple[Matrix, Matrix, Matrix]:
        """Both factors and the result."""
        return self.first, self.second, self.result

    def extents(self, symbols: Mapping[str, int]) -> tuple[int, int, int, int]:
        """Rows, columns, terms and the height of the stack."""
        rows, columns, terms, stack = (
            value_of(d, symbols) for d in (self.rows, self.columns, self.terms, self.stack)
        )
        return rows, columns, terms, stack

"""Contractions: matrix products, linear layers, einsum, convolutions."""

from __future__ import annotations

import string
from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i32, i64
from aino_ir.frontends.torch.context import NodeContext, Operand, Row
from aino_ir.graph import Value


def matmul(c: NodeContext, x: Value, other: Value) -> Value:
    """numpy.matmul: a vector on the left is a row, one on the right a column, and their axis vanishes."""
    return c.reshape(product(c, x, other), c.shape)


def product(c: NodeContext, x: Value, other: Value) -> Value:
    """The product with vectors as matrices, their axis still there."""
    left = c.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    right = c.reshape(other, (*other.shape, 1)) if other.rank == 1 else other
    return c.emit("matmul", left, right)


def matrix_product(c: NodeContext, x: Value, mat2: Value) -> Value:
    """The product of matrices or of batches of them."""
    return c.emit("matmul", x, mat2)


def integer_product(c: NodeContext, x: Value, mat2: Value) -> Value:
    """The product of matrices of bytes in 32 bits."""
    return c.emit("matmul", c.cast(x, i32), c.cast(mat2, i32))


def product_with_bytes(c: NodeContext, x: Value, mat2: Value, scales: Value) -> Value:
    """x times the transposed weights, which are bytes [n, k], times a scale for each row of them."""
    y = c.emit("matmul", x, c.cast(mat2, x.dtype), transpose_rhs=True)
    return c.emit("mul", y, c.cast(scales, x.dtype))


def vector_product(c: NodeContext, x: Value, vec: Value) -> Value:
    """A matrix times a vector."""
    return c.reshape(product(c, x, vec), c.shape)


def dot(c: NodeContext, x: Value, tensor: Value | None = None, other: Value | None = None) -> Value:
    """The product of two vectors."""
    second = tensor if tensor is not None else other
    assert second is not None
    return c.reshape(product(c, x, second), ())


def added(c: NodeContext, y: Value, x: Value, beta: Operand, alpha: Operand) -> Value:
    """beta * x + alpha * y"""
    y = scaled(c, y, alpha)
    if not isinstance(beta, Value) and beta == 0:
        return y if y.shape == c.shape else c.emit("expand", y, shape=c.shape)
    return c.emit("add", y, scaled(c, c.cast(x, y.dtype), beta))


def scaled(c: NodeContext, x: Value, factor: Operand) -> Value:
    """x times a number (x itself for 1)."""
    if not isinstance(factor, Value) and factor == 1:
        return x
    return c.elementwise("mul", x, factor, dtype=x.dtype)


def addmm(c: NodeContext, x: Value, mat1: Value, mat2: Value, beta: Operand = 1, alpha: Operand = 1) -> Value:
    """beta * x + alpha * mat1 mat2"""
    return added(c, c.emit("matmul", mat1, mat2), x, beta, alpha)


def baddbmm(
    c: NodeContext, x: Value, batch1: Value, batch2: Value, beta: Operand = 1, alpha: Operand = 1
) -> Value:
    """beta * x + alpha * batch1 batch2"""
    return added(c, c.emit("matmul", batch1, batch2), x, beta, alpha)


def addmv(c: NodeContext, x: Value, mat: Value, vec: Value, beta: Operand = 1, alpha: Operand = 1) -> Value:
    """beta * x + alpha * mat vec"""
    y = product(c, mat, vec)
    return added(c, c.reshape(y, y.shape[:-1]), x, beta, alpha)


def linear(c: NodeContext, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x weight^T + bias; a weight that is a vector gives one number a row."""
    if weight.rank == 1:
        y = c.reshape(product(c, x, weight), c.shape)
    else:
        rows = c.reshape(x, (1, *x.shape)) if x.rank == 1 else x
        y = c.reshape(c.emit("matmul", rows, weight, transpose_rhs=True), c.shape)
    return y if bias is None else c.emit("add", y, bias)


def einsum(c: NodeContext, equation: str, tensors: Sequence[Value], path: object = None) -> Value:
    """Einstein's notation: the implicit result and the dots are written out."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    named = set(text) - set(".,->")
    spare = [letter for letter in reversed(string.ascii_letters) if letter not in named]
    widths = [v.rank - len(t.replace("...", "")) for t, v in zip(terms, tensors, strict=True) if "..." in t]
    dots = max(widths, default=0)
    letters = "".join(spare[:dots])
    for number, (term, value) in enumerate(zip(terms, tensors, strict=True)):
        width = value.rank - len(term.replace("...", ""))
        terms[number] = term.replace("...", letters[dots - width :] if width > 0 else "")
    if not arrow:
        counts = "".join(terms)
        right = ("..." if dots else "") + "".join(sorted(n for n in named if counts.count(n) == 1))
    return c.emit("einsum", *tensors, equation=f"{','.join(terms)}->{right.replace('...', letters)}")


def grouped_product(c: NodeContext, x: Value, weight: Value, offs: Value, bias: Value | None = None) -> Value:
    """Rows in groups that end at `offs`, each group times a matrix of its own.

    All rows meet all matrices, and the product of its own group is taken: what a run decides is then a
    position and no extent.
    """
    rows, groups = x.shape[0], weight.shape[0]
    ends = c.reshape(c.cast(offs, i64), (1, groups))
    passed = c.emit("le", ends, c.positions(rows, 2, 0))
    group = c.emit("reduce.sum", c.cast(passed, i64), axes=(1,))
    group = c.emit("min", group, c.operand(groups - 1, i64))
    products = c.emit("matmul", c.reshape(x, (1, *x.shape)), weight)
    width = products.shape[-1]
    places = c.emit("expand", c.reshape(group, (1, rows, 1)), shape=(1, rows, width))
    return c.reshape(c.emit("gather_elements", products, places, axis=0), (rows, width))


def numbers(c: NodeContext, given: Sequence[DimLike] | int, rank: int, what: str) -> tuple[int, ...]:
    """One number a spatial axis, given once or for each."""
    given = [given] if isinstance(given, int) else list(given)
    if not all(is_static(g) for g in given):
        c.unsupported(f"a symbolic {what}")
    return tuple(int(g) for g in (given * rank if len(given) == 1 else given))  # type: ignore[arg-type]


def convolution(
    c: NodeContext,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[DimLike],
    padding: Sequence[DimLike],
    dilation: Sequence[DimLike],
    transposed: bool,
    output_padding: Sequence[DimLike],
    groups: int,
) -> Value:
    """Any convolution, plain or transposed, with or without a batch axis."""
    rank = weight.rank - 2
    batched = x.rank == weight.rank
    if not batched:
        x = c.reshape(x, (1, *x.shape))
    strides, pads = numbers(c, stride, rank, "stride"), numbers(c, padding, rank, "padding")
    shared = {"strides": strides, "dilations": numbers(c, dilation, rank, "dilation"), "groups": groups}
    if transposed:
        extra = numbers(c, output_padding, rank, "output padding")
        y = c.emit(
            "conv_transpose",
            x,
            weight,
            bias,
            pads_before=pads,
            pads_after=pads,
            output_padding=extra,
            **shared,
        )
    else:
        y = c.emit("conv", x, weight, bias, pads_before=pads, pads_after=pads, **shared)
    return y if batched else c.reshape(y, y.shape[1:])


def plain_convolution(
    c: NodeContext,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[DimLike] = (1,),
    padding: Sequence[DimLike] | str = (0,),
    dilation: Sequence[DimLike] = (1,),
    groups: int = 1,
) -> Value:
    """A convolution with pads as numbers, "valid" or "same"."""
    rank = weight.rank - 2
    if isinstance(padding, str) and padding == "same":
        lead = weight.rank - rank if x.rank == weight.rank else 1
        reach = [
            (int(k) - 1) * d
            for k, d in zip(weight.shape[2:], numbers(c, dilation, rank, "dilation"), strict=True)
        ]
        before = [0] * lead + [r // 2 for r in reach]
        after = [0] * lead + [r - r // 2 for r in reach]
        if any(r % 2 for r in reach):
            x, padding = c.emit("pad", x, before=before, after=after), (0,)
        else:
            padding = before[lead:]
    elif isinstance(padding, str):
        padding = (0,)
    return convolution(c, x, weight, bias, stride, padding, dilation, False, (0,), groups)


def transposed_convolution(
    c: NodeContext,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[DimLike] = (1,),
    padding: Sequence[DimLike] = (0,),
    output_padding: Sequence[DimLike] = (0,),
    groups: int = 1,
    dilation: Sequence[DimLike] = (1,),
) -> Value:
    """The transpose of a convolution in its operand."""
    return convolution(c, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


TABLE: dict[str, Row] = {
    "aten._int_mm": integer_product,
    "aten._weight_int8pack_mm": product_with_bytes,
    "aten.addmm.default": addmm,
    "aten.addmv": addmv,
    "aten.baddbmm.default": baddbmm,
    "aten.bmm.default": matrix_product,
    "aten.conv1d": plain_convolution,
    "aten.conv2d": plain_convolution,
    "aten.conv3d": plain_convolution,
    "aten.conv_transpose1d": transposed_convolution,
    "aten.conv_transpose2d": transposed_convolution,
    "aten.conv_transpose3d": transposed_convolution,
    "aten.convolution": convolution,
    "aten.dot": dot,
    "aten.einsum": einsum,
    "aten.linear": linear,
    "aten.matmul": matmul,
    "aten.mm.default": matrix_product,
    "aten.mv": vector_product,
    "aten.vdot": dot,
    "transformers.grouped_mm_fallback": grouped_product,
}

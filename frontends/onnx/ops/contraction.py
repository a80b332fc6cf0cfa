"""Contractions: Conv, Gemm, MatMul and their integer forms."""

from __future__ import annotations

import string
from collections.abc import Sequence

from aino_ir.dims import DimLike, ceildiv, dmax, is_static
from aino_ir.dtypes import i32
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


class Window:
    """Geometry of a window that slides over the trailing axes.

    Attributes:
        kernel, strides, dilations: one number a spatial axis.
        before, after: pads, extents where SAME padding depends on symbolic ones.
    """

    def __init__(self, c: NodeContext, spatial: Sequence[DimLike], kernel: Sequence[int]) -> None:
        rank, node = len(spatial), c.node
        self.kernel = tuple(kernel)
        self.strides = node.ints("strides", (1,) * rank)
        self.dilations = node.ints("dilations", (1,) * rank)
        pads: Sequence[DimLike] = node.ints("pads", (0,) * (2 * rank))
        auto = node.str("auto_pad", "NOTSET")
        if auto not in AUTO_PADS:
            c.invalid("auto_pad", "one of " + ", ".join(AUTO_PADS), auto)
        for what, given, wanted in (
            ("kernel_shape", self.kernel, rank),
            ("strides", self.strides, rank),
            ("dilations", self.dilations, rank),
            ("pads", pads, 2 * rank),
        ):
            if len(given) != wanted:
                c.invalid(f"number of {what}", wanted, len(given))
        for what, given in (
            ("kernel_shape", self.kernel),
            ("strides", self.strides),
            ("dilations", self.dilations),
        ):
            if any(v < 1 for v in given):
                c.invalid(what, "positive", list(given))
        self.before: Sequence[DimLike] = pads[:rank] if auto == "NOTSET" else (0,) * rank
        self.after: Sequence[DimLike] = pads[rank:] if auto == "NOTSET" else (0,) * rank
        if auto.startswith("SAME"):
            self._same(c, spatial, auto == "SAME_LOWER")

    def _same(self, c: NodeContext, spatial: Sequence[DimLike], lower: bool) -> None:
        before, after = [], []
        for extent, k, s, d in zip(spatial, self.kernel, self.strides, self.dilations, strict=False):
            total = (ceildiv(extent, s) - 1) * s + (k - 1) * d + 1 - extent
            total = c.symbols.simplify(dmax(total, 0))
            small = c.symbols.simplify(total // 2)
            large = c.symbols.simplify(total - small)
            before.append(large if lower else small)
            after.append(small if lower else large)
        self.before, self.after = before, after

    @property
    def is_static(self) -> bool:
        """Whether all pads are numbers."""
        return all(is_static(p) for p in (*self.before, *self.after))


def padded(
    c: NodeContext, x: Value, window: Window, value: float = 0.0
) -> tuple[Value, tuple[int, ...], tuple[int, ...]]:
    """x with its pads as numbers; pads that depend on extents, and negative ones, are put around x."""
    plain = window.is_static and all(int(p) >= 0 for p in (*window.before, *window.after))  # type: ignore[arg-type]
    if plain:
        return x, tuple(map(int, window.before)), tuple(map(int, window.after))  # type: ignore[arg-type]
    zeros = (0,) * len(window.kernel)
    lead = (0,) * (x.rank - len(zeros))
    wide = c.emit("pad", x, before=(*lead, *window.before), after=(*lead, *window.after), value=value)
    return wide, zeros, zeros


def kernel_of(c: NodeContext, w: Value) -> tuple[int, ...]:
    """The kernel's extents: an attribute, or read off the weights."""
    extents = w.shape[2:]
    given = c.node.ints("kernel_shape", None)
    if given is None and not all(is_static(d) for d in extents):
        c.unsupported("weights of symbolic extents")
    found = tuple(int(d) for d in extents) if given is None else given
    if given is not None and any(is_static(d) and d != k for d, k in zip(extents, given, strict=False)):
        c.invalid("kernel_shape", list(extents), list(given))
    return found


def conv(c: NodeContext, node: OnnxNode) -> Value:
    """Convolution with pads given or found by auto_pad."""
    return convolution(c, c.x, c.tensor(1), c.input(2))


def convolution(c: NodeContext, x: Value, w: Value, bias: Value | None) -> Value:
    """x convolved with w by the node's attributes."""
    if x.rank < 3 or w.rank != x.rank:
        c.invalid("ranks of X and W", "equal, at least 3", (x.rank, w.rank))
    window = Window(c, x.shape[2:], kernel_of(c, w))
    x, before, after = padded(c, x, window)
    return c.emit(
        "conv",
        x,
        w,
        bias,
        strides=window.strides,
        dilations=window.dilations,
        pads_before=before,
        pads_after=after,
        groups=c.node.int("group", 1),
    )


def conv_integer(c: NodeContext, node: OnnxNode) -> Value:
    """Convolution of 8-bit integers in i32, zero points taken off first."""
    x = less_zero_point(c, c.x, c.input(2), c.x.rank)
    w = less_zero_point(c, c.tensor(1), c.input(3), c.x.rank)
    return convolution(c, x, w, None)


def less_zero_point(c: NodeContext, x: Value, zero: Value | None, rank: int, axis: int = 0) -> Value:
    """x as i32 less its zero point; a vector of them runs along `axis`."""
    x = c.cast(x, i32)
    if zero is None:
        return x
    zero = c.cast(zero, i32)
    if zero.rank == 1 and not (is_static(zero.shape[0]) and zero.shape[0] == 1):
        zero = c.reshape(zero, [zero.shape[0] if a == axis % rank else 1 for a in range(rank)])
    elif zero.rank == 1:
        zero = c.reshape(zero, ())
    return c.emit("sub", x, zero)


def matmul(c: NodeContext, node: OnnxNode) -> Value:
    """numpy.matmul, vectors included."""
    return product_of(c, c.x, c.tensor(1))


def product_of(c: NodeContext, a: Value, b: Value) -> Value:
    """numpy.matmul: a vector on the left is a row, one on the right a column, and their axis vanishes."""
    if a.rank == 0 or b.rank == 0:
        c.invalid("ranks", "at least 1", (a.rank, b.rank))
    left = c.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    right = c.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    y = c.emit("matmul", left, right)
    shape = list(y.shape)
    if b.rank == 1:
        del shape[-1]
    if a.rank == 1:
        del shape[-1 if b.rank == 1 else -2]
    return c.reshape(y, shape)


def matmul_integer(c: NodeContext, node: OnnxNode) -> Value:
    """Product of 8-bit integers in i32, zero points taken off first (one a row of A, one a column of B)."""
    a, b = c.x, c.tensor(1)
    za, zb = c.input(2), c.input(3)
    return product_of(
        c, less_zero_point(c, a, za, a.rank, axis=-2), less_zero_point(c, b, zb, b.rank, axis=-1)
    )


def gemm(c: NodeContext, node: OnnxNode) -> Value:
    """alpha * op(A) op(B) + beta * C"""
    a, b, addend = c.x, c.tensor(1), c.input(2)
    if a.rank != 2 or b.rank != 2:
        c.invalid("ranks of A and B", 2, (a.rank, b.rank))
    y = c.emit(
        "matmul", a, b, transpose_lhs=bool(node.int("transA", 0)), transpose_rhs=bool(node.int("transB", 0))
    )
    y = scaled(c, y, node.float("alpha", 1.0))
    if addend is None:
        return y
    return c.emit("add", y, scaled(c, addend, node.float("beta", 1.0)))


def scaled(c: NodeContext, x: Value, factor: float) -> Value:
    """x * factor (x itself for 1)."""
    if factor == 1.0:
        return x
    if x.dtype.is_integer and factor != int(factor):
        c.unsupported(f"integers and the factor {factor}")
    return c.emit("mul", x, c.scalar(factor, x.dtype))


def conv_transpose(c: NodeContext, node: OnnxNode) -> Value:
    """Transposed convolution; `output_shape` decides the pads when it is given."""
    x, w = c.x, c.tensor(1)
    if x.rank < 3 or w.rank != x.rank:
        c.invalid("ranks of X and W", "equal, at least 3", (x.rank, w.rank))
    rank = x.rank - 2
    kernel, strides = kernel_of(c, w), node.ints("strides", (1,) * rank)
    dilations, extra = node.ints("dilations", (1,) * rank), node.ints("output_padding", (0,) * rank)
    pads = node.ints("pads", (0,) * (2 * rank))
    before, after = list(pads[:rank]), list(pads[rank:])
    wanted: Sequence[DimLike] | None = node.ints("output_shape", None)
    auto = node.str("auto_pad", "NOTSET")
    if wanted is None and auto.startswith("SAME"):
        wanted = [d * s for d, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        for axis, size in enumerate(wanted[-rank:]):
            full = (
                strides[axis] * (x.shape[2 + axis] - 1)
                + extra[axis]
                + (kernel[axis] - 1) * dilations[axis]
                + 1
            )
            total = c.symbols.simplify(full - size)
            if not isinstance(total, int):
                c.unsupported("an output_shape that does not follow symbolic extents")
            if total < 0:  # more than the kernel reaches: zeros behind
                total, extra = 0, (*extra[:axis], extra[axis] - total, *extra[axis + 1 :])
            small = total // 2
            before[axis], after[axis] = (
                (small, total - small) if auto == "SAME_UPPER" else (total - small, small)
            )
    elif auto == "VALID":
        before, after = [0] * rank, [0] * rank
    return c.emit(
        "conv_transpose",
        x,
        w,
        c.input(2),
        strides=strides,
        dilations=dilations,
        pads_before=before,
        pads_after=after,
        output_padding=extra,
        groups=node.int("group", 1),
    )


def einsum(c: NodeContext, node: OnnxNode) -> Value:
    """Einstein's notation: the implicit result and the dots are written out."""
    text = node.str("equation").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    operands = [c.tensor(i) for i in range(len(c.inputs))]
    if len(terms) != len(operands):
        c.invalid("number of terms", len(operands), len(terms))
    named = set(text) - set(".,->")
    spare = [letter for letter in reversed(string.ascii_letters) if letter not in named]
    dots = max(
        (v.rank - len(t.replace("...", "")) for t, v in zip(terms, operands, strict=True) if "..." in t),
        default=0,
    )
    if dots > len(spare):
        c.invalid("rank behind the dots", f"at most {len(spare)}", dots)
    letters = "".join(spare[:dots])
    for number, (term, value) in enumerate(zip(terms, operands, strict=True)):
        width = value.rank - len(term.replace("...", ""))
        terms[number] = term.replace("...", letters[dots - width :] if width > 0 else "")
    if not arrow:
        counts = "".join(terms)
        right = ("..." if dots else "") + "".join(sorted(n for n in named if counts.count(n) == 1))
    equation = f"{','.join(terms)}->{right.replace('...', letters)}"
    return c.emit("einsum", *operands, equation=equation)


TABLE: dict[str, Row] = {
    "Conv": conv,
    "ConvInteger": conv_integer,
    "ConvTranspose": conv_transpose,
    "Det": "nn.determinant",
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
}

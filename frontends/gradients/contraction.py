"""Rules of products, convolutions and pools."""

from __future__ import annotations

import math
from typing import Any

from aino_ir.dims import DimLike, is_static
from aino_ir.frontends.gradients.engine import Gradients, Rule, Step, is_one
from aino_ir.frontends.gradients.movement import scattered_flat, transposed
from aino_ir.graph import Value


def _matmul(s: Step) -> Gradients:
    a, b, c = s.x(0), s.x(1), s.c
    ta, tb = s.attr("transpose_lhs"), s.attr("transpose_rhs")

    def product(lhs: Value, rhs: Value, t_lhs: bool, t_rhs: bool) -> Value:
        return s.emit("matmul", lhs, rhs, transpose_lhs=t_lhs, transpose_rhs=t_rhs)

    out: list[Value | None] = [None, None]
    if s.wanted[0]:
        of_a = product(b, c, tb, True) if ta else product(c, b, False, not tb)
        out[0] = s.reduced(of_a, a)
    if s.wanted[1]:
        of_b = product(c, a, True, ta) if tb else product(a, c, not ta, False)
        out[1] = s.reduced(of_b, b)
    return out


def _einsum(s: Step) -> Gradients:
    """The product of the gradient and the other operands, summed over what the operand does not name."""
    sources, _, target = s.attr("equation").partition("->")
    names = sources.split(",")
    out: list[Value | None] = []
    for index, own in enumerate(names):
        if not s.wanted[index]:
            out.append(None)
            continue
        if len(set(own)) != len(own):
            s.missing("with a diagonal")
        others = [(n, s.x(i)) for i, n in enumerate(names) if i != index]
        out.append(_of_operand(s, s.x(index), own, [(target, s.c), *others]))
    return out


def _of_operand(s: Step, x: Value, own: str, factors: list[tuple[str, Value]]) -> Value:
    known = "".join(n for n in own if any(n in letters for letters, _ in factors))
    equation = f"{','.join(letters for letters, _ in factors)}->{known}"
    made = s.emit("einsum", *(v for _, v in factors), equation=equation)
    places = iter(range(made.rank))
    shape = [made.shape[next(places)] if n in known else 1 for n in own]
    made = s.reshape(made, shape)
    axes = tuple(a for a, d in enumerate(x.shape) if is_one(d) and not is_one(made.shape[a]))
    if axes:
        made = s.emit("reduce.sum", made, axes=axes, keepdims=True)
    return made if made.shape == x.shape else s.emit("expand", made, shape=x.shape)


# -- convolutions -------------------------------------------------------------------------------------

GEOMETRY = ("strides", "dilations", "pads_before", "pads_after")


def _geometry(s: Step) -> dict[str, tuple[int, ...]]:
    return {name: s.attr(name) for name in GEOMETRY}


def back_through_windows(
    s: Step,
    gradient: Value,
    weight: Value,
    extents: tuple[DimLike, ...],
    groups: int,
    geometry: dict[str, Any],
) -> Value:
    """The transpose of a convolution, as long as its operand was: places that no window took get nothing."""
    spare = []
    for axis, extent in enumerate(extents):
        stride, dilation, before, after = (geometry[name][axis] for name in GEOMETRY)
        reach = dilation * (weight.shape[2 + axis] - 1) + 1
        rest = s.symbols.simplify(extent + before + after - reach - (gradient.shape[2 + axis] - 1) * stride)
        if not is_static(rest):
            s.missing("over symbolic extents of which a part may be left over")
        spare.append(int(rest))  # type: ignore[arg-type]
    return s.emit("conv_transpose", gradient, weight, output_padding=tuple(spare), groups=groups, **geometry)


def _weight_gradient(s: Step, x: Value, gradient: Value, weight: Value, groups: int) -> Value:
    """Weights' gradient as a convolution over the batch: steps and gaps change places.

    Groups stand side by side among the channels.
    """
    geometry = _geometry(s)
    geometry["strides"], geometry["dilations"] = geometry["dilations"], geometry["strides"]
    batch, channels, *area = x.shape
    apart = s.reshape(x, (batch, groups, channels // groups, *area))
    perm = (2, 1, 0, *range(3, apart.rank))
    images = s.reshape(transposed(s, apart, perm), (channels // groups, groups * batch, *area))
    swapped = (1, 0, *range(2, x.rank))
    made = s.emit("conv", images, transposed(s, gradient, swapped), groups=groups, **geometry)
    for axis, extent in enumerate(weight.shape[2:], 2):
        made = s.cut(made, axis, 0, extent)
    return transposed(s, made, swapped)


def _bias_gradient(s: Step) -> Value:
    return s.emit("reduce.sum", s.c, axes=(0, *range(2, s.c.rank)), keepdims=False)


def _conv(s: Step) -> Gradients:
    x, w, groups = s.x(0), s.x(1), s.attr("groups")
    return [
        back_through_windows(s, s.c, w, x.shape[2:], groups, _geometry(s)) if s.wanted[0] else None,
        _weight_gradient(s, x, s.c, w, groups) if s.wanted[1] else None,
        _bias_gradient(s) if any(s.wanted[2:]) else None,
    ]


def _conv_transpose(s: Step) -> Gradients:
    x, w, groups = s.x(0), s.x(1), s.attr("groups")
    of_x: Value | None = None
    if s.wanted[0]:
        of_x = s.emit("conv", s.c, w, groups=groups, **_geometry(s))
        for axis, extent in enumerate(x.shape[2:], 2):
            of_x = s.cut(of_x, axis, 0, extent)
    return [
        of_x,
        _weight_gradient(s, s.c, x, w, groups) if s.wanted[1] else None,
        _bias_gradient(s) if any(s.wanted[2:]) else None,
    ]


# -- pools --------------------------------------------------------------------------------------------

WINDOW = ("kernel", *GEOMETRY, "ceil_mode")


def _max_pool(s: Step) -> Gradients:
    """Each gradient goes to where its maximum was."""
    window = {name: s.attr(name) for name in WINDOW}
    positions = s.emit_all("max_pool_indices", s.x(), **window)[1]
    return [scattered_flat(s, s.x(), positions, s.c)]


def _max_pool_indices(s: Step) -> Gradients:
    if s.attr("column_major"):
        s.missing("with column-major positions")
    return [scattered_flat(s, s.x(), s.op.results[1], s.c)]


def _avg_pool(s: Step) -> Gradients:
    """Each gradient is spread over its window."""
    if s.attr("ceil_mode"):
        s.missing("with windows that are rounded up")
    x, kernel, rank = s.x(), s.attr("kernel"), len(s.attr("kernel"))
    lead = x.shape[: x.rank - rank]
    planes: DimLike = 1
    for extent in lead:
        planes = planes * extent
    shares = s.number(s.c)
    if not s.attr("count_include_pad") and any((*s.attr("pads_before"), *s.attr("pads_after"))):
        window = {name: s.attr(name) for name in WINDOW}
        ones = s.filled((1, 1, *x.shape[-rank:]), 1.0, x.dtype)
        covered = s.emit("avg_pool", ones, count_include_pad=True, **window)
        shares = shares / s.number(s.reshape(covered, covered.shape[-rank:]))
    flat = s.reshape(shares.value, (planes, 1, *s.c.shape[-rank:]))
    weights = s.filled((1, 1, *kernel), 1.0 / math.prod(kernel), x.dtype)
    made = back_through_windows(s, flat, weights, x.shape[-rank:], 1, _geometry(s))
    return [s.reshape(made, x.shape)]


TABLE: dict[str, Rule] = {
    "nn.avg_pool": _avg_pool,
    "nn.conv": _conv,
    "nn.conv_transpose": _conv_transpose,
    "nn.einsum": _einsum,
    "nn.matmul": _matmul,
    "nn.max_pool": _max_pool,
    "nn.max_pool_indices": _max_pool_indices,
}
"""Rules by op name."""

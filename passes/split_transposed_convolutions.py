"""Takes transposed convolutions with strides apart: one of stride 1 for each remainder of the positions.

Position o of a result with stride s gets something only from taps t with o + pad - t * dilation divisible
by s: those of one remainder of o share their taps.  So every s-th position is a transposed convolution of
stride 1 with every s-th tap, without the zeros that a direct sum would multiply by (the "sub-pixel"
convolution of Shi et al., 2016).  The results are interleaved.

A transposed convolution of stride 1 is a plain one with its taps in the opposite order; where the weights
are constants, turning them over costs nothing once it is folded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, ceildiv, is_static
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.tensor import Slice
from aino_ir.ops.window import ConvTranspose
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, constant_of


@dataclass(frozen=True)
class Residue:
    """Every s-th position of an axis.

    Attributes:
        first, step, count: its taps.
        dilation: between those taps, in elements of the operand.
        pad: zeros before the operand.
    """

    first: int
    step: int
    count: int
    dilation: int
    pad: int


def residue_of(r: int, stride: int, dilation: int, pad: int, taps: int) -> Residue | None:
    """Which taps reach positions q * stride + r of an axis; None when none do."""
    reaching = [t for t in range(taps) if (r + pad - t * dilation) % stride == 0]
    if not reaching:
        return None
    step = stride // math.gcd(stride, dilation)
    first = reaching[0]
    return Residue(
        first, step, len(reaching), step * dilation // stride, (r + pad - first * dilation) // stride
    )


class StridesIntoResidues(Rule):
    """conv_transpose(x, w, strides) ==> interleaved conv_transpose(x, w[every strides-th tap])"""

    pattern = P(ConvTranspose, op="conv")
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        op = m.op("conv")
        if all(s == 1 for s in op.strides):
            return ""
        if not all(is_static(d) for d in (*op.w.shape, *op.x.shape[2:])):
            return "symbolic extents"
        if any(r is not None and r.pad < 0 for axis in _residues(op) for r in axis):
            return "taps that begin behind the operand's start"
        if any(d == 0 for d in (*op.result.shape, *op.x.shape)):
            return "nothing to compute"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("conv")
        residues = _residues(op)
        sizes = [ceildiv(o, s) for o, s in zip(op.result.shape[2:], op.strides, strict=True)]
        parts = {
            at: _part(b, op, [axis[r] for axis, r in zip(residues, at, strict=True)], sizes)
            for at in product(*(range(s) for s in op.strides))
        }
        whole = _interleaved(b, parts, op.strides)
        starts = (0,) * whole.rank
        if whole.shape == op.result.shape:
            return whole
        return b.slice(whole, starts=starts, sizes=op.result.shape, steps=(1,) * whole.rank)  # type: ignore[no-any-return]


def _residues(op: Op) -> list[list[Residue | None]]:
    """By spatial axis, by remainder."""
    assert isinstance(op, ConvTranspose)
    axes = zip(op.strides, op.dilations, op.pads_before, op.w.shape[2:], strict=True)
    return [[residue_of(r, s, d, p, int(k)) for r in range(s)] for s, d, p, k in axes]


def _after(length: DimLike, r: Residue, size: DimLike) -> int:
    """What the full result of a remainder has behind the positions that are wanted."""
    return int(length) + (r.count - 1) * r.dilation - r.pad - int(size)  # type: ignore[arg-type]


def _part(b: Builder, op: Op, residues: Sequence[Residue | None], sizes: Sequence[DimLike]) -> Value:
    """The positions of one remainder of each axis: `sizes` of them."""
    assert isinstance(op, ConvTranspose)
    shape = (*op.result.shape[:2], *sizes)
    taps = [r for r in residues if r is not None]
    if len(taps) < len(residues):
        return _without_taps(b, op, shape)
    w = op.w
    starts = (0, 0, *(r.first for r in taps))
    extents = (*w.shape[:2], *(r.count for r in taps))
    steps = (1, 1, *(r.step for r in taps))
    if extents != w.shape:
        w = b.slice(w, starts=starts, sizes=extents, steps=steps)
    after = [_after(n, r, size) for n, r, size in zip(op.x.shape[2:], taps, sizes, strict=True)]
    short = any(a < 0 for a in after)
    part: Value = b.conv_transpose(
        op.x,
        w,
        None if short else op.bias,
        strides=(1,) * len(taps),
        dilations=tuple(max(r.dilation, 1) for r in taps),
        pads_before=tuple(r.pad for r in taps),
        pads_after=tuple(max(a, 0) for a in after),
        output_padding=(0,) * len(taps),
        groups=op.groups,
    )
    if not short:
        return part
    none = (0,) * part.rank
    part = b.pad(part, before=none, after=(0, 0, *(max(-a, 0) for a in after)))
    return part if op.bias is None else b.add(part, _bias(b, op))


def _without_taps(b: Builder, op: ConvTranspose, shape: tuple[DimLike, ...]) -> Value:
    """What positions that no tap reaches hold: the bias, or zeros."""
    filler = b.constant(np.zeros((), op.x.dtype.numpy)) if op.bias is None else _bias(b, op)
    return b.expand(filler, shape=shape)  # type: ignore[no-any-return]


def _bias(b: Builder, op: ConvTranspose) -> Value:
    assert op.bias is not None
    return b.reshape(op.bias, shape=(1, *op.bias.shape, *(1,) * (op.x.rank - 2)))  # type: ignore[no-any-return]


def _interleaved(b: Builder, parts: Mapping[tuple[int, ...], Value], strides: Sequence[int]) -> Value:
    """Parts by remainders as one value, the last axis first."""
    found = dict(parts)
    for number in reversed(range(len(strides))):
        axis = number + 2
        merged: dict[tuple[int, ...], Value] = {}
        for at in product(*(range(s) for s in strides[:number])):
            merged[at] = _zipped(b, [v for key, v in found.items() if key[:number] == at], axis)
        found = merged
    return found[()]


def _zipped(b: Builder, values: Sequence[Value], axis: int) -> Value:
    """Elements of values in turn along an axis."""
    if len(values) == 1:
        return values[0]
    shape = values[0].shape
    apart = [b.reshape(v, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :])) for v in values]
    joined = b.concat(*apart, axis=axis + 1)
    return b.reshape(joined, shape=(*shape[:axis], shape[axis] * len(values), *shape[axis + 1 :]))  # type: ignore[no-any-return]


class TapsTurnedOver(Rule):
    """conv_transpose(x, w), stride 1 ==> conv(x, w[taps backwards, channels swapped])   when w is constant"""

    pattern = P(ConvTranspose, op="conv")
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        op = m.op("conv")
        if any(s != 1 for s in op.strides) or not _is_constant(op.w):
            return ""
        cut = [_cut_off(*_plain_pads(op), d) for d in range(op.x.rank - 2)]
        if any(is_static(n) and int(n) <= sum(c) for n, c in zip(op.x.shape[2:], cut, strict=True)):
            return "all of its operand is cut off"
        if any(sum(c) and not is_static(n) for n, c in zip(op.x.shape[2:], cut, strict=True)):
            return "symbolic extents of which something is cut off"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("conv")
        before, after = _plain_pads(op)
        return b.conv(  # type: ignore[no-any-return]
            _without_ends(b, op.x, [_cut_off(before, after, d) for d in range(op.x.rank - 2)]),
            _turned_over(b, op.w, op.groups),
            op.bias,
            strides=op.strides,
            dilations=op.dilations,
            pads_before=tuple(max(p, 0) for p in before),
            pads_after=tuple(max(p, 0) for p in after),
            groups=op.groups,
        )


def _cut_off(before: Sequence[int], after: Sequence[int], axis: int) -> tuple[int, int]:
    """Elements at the ends of an axis that no result reads: pads below zero."""
    return max(-before[axis], 0), max(-after[axis], 0)


def _without_ends(b: Builder, x: Value, ends: Sequence[tuple[int, int]]) -> Value:
    """The operand without so many elements at the ends of its spatial axes."""
    if not any(map(any, ends)):
        return x
    sizes = (*x.shape[:2], *(n - sum(cut) for n, cut in zip(x.shape[2:], ends, strict=True)))
    starts = (0, 0, *(first for first, _ in ends))
    return b.slice(x, starts=starts, sizes=sizes, steps=(1,) * x.rank)  # type: ignore[no-any-return]


def _is_constant(w: Value) -> bool:
    """Whether weights are a constant, or some taps of one."""
    return constant_of(w.op.x if isinstance(w.op, Slice) else w) is not None


def _plain_pads(op: Op) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The zeros around the operand of the plain convolution; below zero what is cut off."""
    assert isinstance(op, ConvTranspose)
    reach = [d * (int(k) - 1) for d, k in zip(op.dilations, op.w.shape[2:], strict=True)]
    before = tuple(r - p for r, p in zip(reach, op.pads_before, strict=True))
    after = zip(reach, op.pads_after, op.output_padding, strict=True)
    return before, tuple(r - p + o for r, p, o in after)


def _turned_over(b: Builder, w: Value, groups: int) -> Value:
    """Constant weights [c, oc / groups, *taps] as a convolution has them, [oc, c / groups, *taps]."""
    channels, each, *taps = (int(d) for d in w.shape)
    starts = (0, 0, *(k - 1 for k in taps))
    w = b.slice(w, starts=starts, sizes=w.shape, steps=(1, 1, *(-1 for _ in taps)))
    w = b.reshape(w, shape=(groups, channels // groups, each, *taps))
    w = b.transpose(w, perm=(0, 2, 1, *range(3, w.rank)))
    return b.reshape(w, shape=(each * groups, channels // groups, *taps))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SplitTransposedConvolutions(RulePass):
    """Transposed convolutions with strides become interleaved ones without, and plain ones where they can."""

    name = "split-transposed-convolutions"
    rules = (StridesIntoResidues(), TapsTurnedOver())

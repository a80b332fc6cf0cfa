"""Leaves out taps of convolutions that only ever meet padding: 3x3 kernels over 1x1 pictures have eight."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.dims import is_static
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.nn import Conv
from aino_ir.ops.window import ConvTranspose
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P


def used_taps(steps: int, stride: int, dilation: int, pad: int, limit: int, taps: int) -> tuple[int, int]:
    """The first tap that meets an element, and how many there are up to the last that does; (0, 0) = none.

    Tap t meets one when i * stride + t * dilation - pad lies in 0..limit-1 for some i in 0..steps-1.
    """
    used = []
    for t in range(taps):
        start = t * dilation - pad
        first, last = max(0, -(start // stride)), min(steps - 1, (limit - 1 - start) // stride)
        if first <= last:
            used.append(t)
    return (used[0], used[-1] - used[0] + 1) if used else (0, 0)


def _spans(op: Op) -> list[tuple[int, int]]:
    """(first, count) of the used taps of each spatial axis."""
    assert isinstance(op, (Conv, ConvTranspose))
    inner, outer = (op.result, op.x) if isinstance(op, Conv) else (op.x, op.result)
    rows = zip(
        inner.shape[2:],
        op.strides,
        op.dilations,
        op.pads_before,
        outer.shape[2:],
        op.w.shape[2:],
        strict=True,
    )
    return [used_taps(int(n), s, d, p, int(m), int(k)) for n, s, d, p, m, k in rows]


class UnusedTaps(Rule):
    """conv(x, w) ==> conv(x, w[used taps]) with smaller pads, and conv_transpose   when extents are known"""

    pattern = P((Conv, ConvTranspose), op="conv")

    def check(self, m: Match) -> str | None:
        op = m.op("conv")
        if not all(is_static(d) for v in (op.x, op.w, op.result) for d in v.shape[2:]):
            return ""
        spans = _spans(op)
        if spans == [(0, int(k)) for k in op.w.shape[2:]]:
            return ""
        if not all(count for _, count in spans):
            return "no tap meets an element"
        if min(*_pads(op, spans)[0], *_pads(op, spans)[1]) < 0:
            return "elements would have to be cut off"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("conv")
        spans = _spans(op)
        w = b.slice(
            op.w,
            starts=(0, 0, *(first for first, _ in spans)),
            sizes=(*op.w.shape[:2], *(count for _, count in spans)),
            steps=(1,) * op.w.rank,
        )
        before, after = _pads(op, spans)
        attrs = {**op.attrs(), "pads_before": before, "pads_after": after}
        return b.op(type(op), op.x, w, *op.operands[2:], **attrs).result


def _pads(op: Op, spans: list[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pads before and after that go with the used taps."""
    assert isinstance(op, (Conv, ConvTranspose))
    before = tuple(
        p - first * d for p, (first, _), d in zip(op.pads_before, spans, op.dilations, strict=True)
    )
    after = tuple(
        p - (int(k) - first - count) * d
        for p, (first, count), d, k in zip(op.pads_after, spans, op.dilations, op.w.shape[2:], strict=True)
    )
    return before, after


@dataclass(frozen=True)
class DropUnusedTaps(RulePass):
    """Convolutions read no weights that only padding meets."""

    name = "drop-unused-taps"
    rules = (UnusedTaps(),)

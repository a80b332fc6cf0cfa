"""Leaves out taps of convolutions and pools that only ever meet padding.

A 3x3 kernel over a 1x1 picture has eight of them; a pool whose window is larger than any picture it will see
(a network's way to say "the mean of all") has thousands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.builder import Builder
from aino_ir.dims import is_static
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.nn import AvgPool, Conv, MaxPool, Pool, Window, used_taps
from aino_ir.ops.window import ConvTranspose, LpPool
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P


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


class UnusedPoolTaps(Rule):
    """pool(x, kernel) ==> pool(x, used part of the kernel)   when extents are known"""

    pattern = P((MaxPool, AvgPool, LpPool), op="pool")

    def check(self, m: Match) -> str | None:
        op = m.op("pool")
        if not all(is_static(d) for v in (op.x, op.result) for d in v.shape[2:]):
            return ""
        windows = _pool_windows(op)
        if tuple(w.kernel for w in windows) == op.kernel:
            return ""
        if min(w.kernel for w in windows) < 1:
            return "no tap meets an element"
        if min(w.before for w in windows) < 0:
            return "elements would have to be cut off"
        if any(
            w.count(int(d)) != n for w, d, n in zip(windows, op.x.shape[2:], op.result.shape[2:], strict=True)
        ):
            return "there would be another number of windows"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("pool")
        windows = _pool_windows(op)
        attrs = {
            "kernel": tuple(w.kernel for w in windows),
            "pads_before": tuple(w.before for w in windows),
            "pads_after": tuple(w.after for w in windows),
            "ceil_mode": op.ceil_mode and _counts_pads(op),
        }
        return b.op(type(op), op.x, **{**op.attrs(), **attrs}).result


def _counts_pads(op: Op) -> bool:
    return isinstance(op, AvgPool) and op.count_include_pad


def _pool_windows(op: Op) -> list[Window]:
    """What the windows of each spatial axis become over the used taps alone.

    Pads that count in a mean's divisor are used as elements are, and stay.
    """
    assert isinstance(op, Pool)
    windows = []
    for size, steps, window in zip(op.x.shape[2:], op.result.shape[2:], op.windows_by_axis(), strict=True):
        d, n, stride, dilation = int(size), int(steps), window.stride, window.dilation
        if _counts_pads(op):
            padded = d + window.before + window.after
            first, count = used_taps(n, stride, dilation, 0, padded, window.kernel)
            windows.append(replace(window, kernel=count, before=window.before - first * dilation))
            continue
        first, count = used_taps(n, stride, dilation, window.before, d, window.kernel)
        before = window.before - first * dilation
        reach = (n - 1) * stride + (count - 1) * dilation + 1
        windows.append(
            replace(window, kernel=count, before=before, after=max(0, reach - d - before), ceil_mode=False)
        )
    return windows


@dataclass(frozen=True)
class DropUnusedTaps(RulePass):
    """Convolutions read no weights that only padding meets, pools no taps."""

    name = "drop-unused-taps"
    rules = (UnusedTaps(), UnusedPoolTaps())

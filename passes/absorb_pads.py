"""Lets convolutions and pools do the padding that stands before them."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.dims import is_static
from aino_ir.graph import Value
from aino_ir.ops.nn import AvgPool, Conv, MaxPool
from aino_ir.ops.tensor import Pad
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P


class PadIntoWindow(Rule):
    """conv(pad(x, 0)) ==> conv(x), max_pool(pad(x, -inf)) ==> max_pool(x), with larger pads

    avg_pool(pad(x, 0)) ==> avg_pool(x) when padding counts.  Only for constant padding of spatial axes.
    """

    pattern = P((Conv, MaxPool, AvgPool), P(Pad, "x", op="pad"), op="window")

    def check(self, m: Match) -> str | None:
        pad, window = m.op("pad"), m.op("window")
        amounts = (*pad.before, *pad.after)
        if pad.mode != "constant" or not all(is_static(d) and d >= 0 for d in amounts):
            return f"{pad.mode} padding by {amounts}"
        if any((*pad.before[:2], *pad.after[:2])):
            return "batch or channels are padded"
        wanted = float("-inf") if isinstance(window, MaxPool) else 0.0
        if pad.value != wanted:
            return f"padding with {pad.value}, not {wanted}"
        if getattr(window, "ceil_mode", False):
            return "a ceil-mode pool ends where its padding ends"
        if isinstance(window, AvgPool) and not window.count_include_pad:
            return "the pool does not count its padding"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        pad, window = m.op("pad"), m.op("window")
        attrs = window.attrs()
        attrs["pads_before"] = tuple(
            p + int(q) for p, q in zip(window.pads_before, pad.before[2:], strict=True)
        )
        attrs["pads_after"] = tuple(p + int(q) for p, q in zip(window.pads_after, pad.after[2:], strict=True))
        return b.op(type(window), m["x"], *window.operands[1:], **attrs).result


@dataclass(frozen=True)
class AbsorbPads(RulePass):
    """Padding before convolutions and pools becomes part of them."""

    name = "absorb-pads"
    rules = (PadIntoWindow(),)

"""Decision trees, as gathers that go down one level after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row
from aino_ir.ops.trees import LEAF, MODES

TESTS = {
    "<=": ("LessOrEqual", False),
    "<": ("Less", False),
    ">=": ("GreaterOrEqual", False),
    ">": ("Greater", False),
    "==": ("Equal", False),
    "!=": ("Equal", True),
}
"""The operator of each comparison of a feature with a threshold, and whether its answer is turned round."""


def leaves(g: GraphWriter, op: Any) -> Ref:
    """The node of each row in each tree, moved `depth` times; a leaf moves to itself."""
    x, features, thresholds, modes, missing, yes, no = (
        g.of(v) for v in (op.x, op.features, op.thresholds, op.modes, op.missing, op.yes, op.no)
    )
    known = g.known(modes)
    present = range(LEAF) if known is None else sorted({*known.tolist()} - {LEAF})
    node = g.node("Expand", g.of(op.roots), g.dims((op.x.shape[0], op.roots.shape[0])))
    for _ in range(op.depth):
        value = g.node("GatherElements", x, g.node("Gather", features, node, axis=0), axis=1)
        threshold = g.node("Gather", thresholds, node, axis=0)
        mode = g.node("Gather", modes, node, axis=0)
        holds = _held(g, present, mode, value, threshold)
        lost = g.node("And", g.node("IsNaN", value), g.node("Gather", missing, node, axis=0))
        decided = g.node("And", g.node("Not", g.node("IsNaN", value)), holds)
        taken, other = (g.node("Gather", way, node, axis=0) for way in (yes, no))
        following = g.node("Where", g.node("Or", lost, decided), taken, other, dtype=i64)
        stays = g.node("Equal", mode, g.scalar(LEAF, i64))
        node = g.node("Where", stays, node, following, dtype=i64)
    return node


def _held(g: GraphWriter, present: Iterable[int], mode: Ref, value: Ref, threshold: Ref) -> Ref:
    """Whether the comparison of each node holds, of the comparisons that some node makes."""
    holds = g.node("Equal", mode, g.scalar(-1, i64))
    for number in present:
        kind, turned = TESTS[MODES[number]]
        answer = g.node(kind, value, threshold)
        if turned:
            answer = g.node("Not", answer)
        asked = g.node("Equal", mode, g.scalar(number, i64))
        holds = g.node("Or", holds, g.node("And", asked, answer))
    return holds


TABLE: dict[str, Row] = {"trees.leaves": leaves}
"""How each op is written."""

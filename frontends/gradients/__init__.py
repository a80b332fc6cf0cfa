"""Reverse-mode differentiation of ops, by a table of rules: one row an op.

A row takes the step that is differentiated and gives the gradient of each operand (None where nothing flows).
`pullback` walks the ops between some values and results once, from the last to the first (Griewank and
Walther, "Evaluating Derivatives", 2008, chapter 3), and adds up what reaches a value over several ways.
"""

from __future__ import annotations

from aino_ir.frontends.gradients import composed, contraction, elementwise, movement, reduction
from aino_ir.frontends.gradients.engine import Rule, Step, pullback

TABLE: dict[str, Rule] = {
    **elementwise.TABLE,
    **movement.TABLE,
    **reduction.TABLE,
    **contraction.TABLE,
    **composed.TABLE,
}
"""Rules by op name."""

__all__ = ["TABLE", "Rule", "Step", "pullback"]

"""Puts the graph into one form: drops what does nothing, merges chains, turns rare ops into common ones."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.passes.arithmetic_rules import ARITHMETIC_RULES
from aino_ir.passes.movement_rules import MOVEMENT_RULES
from aino_ir.passes.quantization_rules import QUANTIZATION_RULES
from aino_ir.passes.rules import RulePass


@dataclass(frozen=True)
class Canonicalize(RulePass):
    """Algebraic identities and chains of data movement, by rules."""

    name = "canonicalize"
    rules = (*ARITHMETIC_RULES, *MOVEMENT_RULES, *QUANTIZATION_RULES)

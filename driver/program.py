"""What a module is compiled to: native functions, and a host program that calls them where one is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aino_ir.codegen.lower.outline import Outlined
from aino_ir.graph import Module
from aino_ir.plan import Plan


@dataclass(frozen=True)
class Program:
    """A module, lowered.

    Attributes:
        module: it, after the passes.
        host: the host program, or None when `main` is one native function.
        plans: ISA variant -> name of a native function -> its finished plan, in the order of the calls.
    """

    module: Module
    host: Outlined | None
    plans: Mapping[str, Mapping[str, Plan]]

    @property
    def functions(self) -> Mapping[str, Plan]:
        """The plans of the first variant."""
        return next(iter(self.plans.values()))

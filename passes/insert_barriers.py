"""Plan pass: barriers between steps that depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.plan import Plan, Run, Step, Sync


@dataclass(frozen=True)
class InsertBarriers:
    """A barrier after every step but the last (elision by footprints refines this)."""

    def run(self, plan: Plan) -> None:
        """Rebuild `plan.steps` with barriers."""
        steps: list[Step] = []
        for step in plan.steps:
            if isinstance(step, Run) and steps:
                steps.append(Sync())
            steps.append(step)
        plan.steps = steps

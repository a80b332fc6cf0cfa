"""Module to artifact: passes, lowering, plan passes, emission, compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aino_ir.codegen.c.backend import Emission, emit
from aino_ir.codegen.c.compile import compile_units
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.legality import require_native
from aino_ir.codegen.lower.lowering import Lowering, LoweringOptions
from aino_ir.codegen.lower.pricing import CataloguePricer
from aino_ir.driver.bundle import Bundle, model_identifier
from aino_ir.driver.extend import with_extensions
from aino_ir.graph import Module
from aino_ir.passes.base import PassContext
from aino_ir.passes.final_check import FinalCheck
from aino_ir.passes.insert_barriers import InsertBarriers, check_barriers
from aino_ir.passes.manager import PassManager, PipelineReport
from aino_ir.passes.pipelines import pipeline
from aino_ir.passes.plan_memory import PlaceConstants, PlanMemory, check_memory
from aino_ir.passes.reserve_segments import ReserveSegments, check_segments
from aino_ir.plan import Plan
from aino_ir.runtime.artifact import ArtifactWriter
from aino_ir.runtime.store import Store
from aino_ir.target import Target

PLAN_PASSES = (PlaceConstants(), ReserveSegments(), PlanMemory(), InsertBarriers())
"""Passes over the plan, in order."""

ALONE_BELOW = 2_000_000
"""Runs with less work than this (operations; a byte counts as four) take one thread: about 50 us, which
is what waking other threads can cost."""

Progress = Callable[[str, int, int], None]
"""Gets a stage's name and how much of it is done: (stage, done, total), total 0 when unknown."""


@dataclass
class CompileOptions:
    """What `aino.compile` was asked for."""

    target: Target
    level: int = 2
    numerics: str = "default"
    verify: str = "auto"
    strict: bool = False
    tune: float = 0.0
    jobs: int | None = None


@dataclass
class Compilation:
    """One run of the compiler: options in, plans, sources or an artifact out.

    Attributes:
        seconds: stage -> time spent in it so far.
        progress: is told what happens, or None.
        passes: what the passes did.
        checks: what was compared with what, and the outcome, for the report.
    """

    options: CompileOptions
    seconds: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None
    passes: PipelineReport = field(default_factory=PipelineReport)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self.tell(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def tell(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(stage, done, total)

    def artifact(
        self, module: Module, toolchain: Toolchain, store: Store, calls: CompilerCalls | None = None
    ) -> ArtifactWriter:
        """Compile a module; what is returned writes the artifact."""
        plans = self.plans(module)
        emissions = self.emissions(plans, profile=True)
        with self.stage("cc"):
            units = [u for e in emissions.values() for u in e.units]
            headers = {k: v for e in emissions.values() for k, v in e.headers.items()}
            libraries = compile_units(
                units,
                headers,
                toolchain,
                store,
                calls,
                self.options.jobs,
                progress=lambda done, total: self.tell("cc", done, total),
            )
        target, defaults = self.options.target, module.main.defaults
        facts = self.facts()
        return Bundle(module.name, target, plans, emissions, libraries, toolchain, defaults, facts).writer()

    def facts(self) -> dict[str, Any]:
        """What the report tells about the compilation itself."""
        seconds = {stage: round(spent, 4) for stage, spent in self.seconds.items()}
        return {"seconds": seconds, "checks": self.checks, **self.passes.facts()}

    def plans(self, module: Module) -> dict[str, Plan]:
        """The finished plan of every ISA variant of the target."""
        target = self.options.target
        name = model_identifier(module.name)
        module = self.optimize(module)
        require_native(module.main, target)
        with self.stage("lower"):
            return {isa: self.plan(module, target.variant(isa), name) for isa in target.variants}

    def optimize(self, module: Module) -> Module:
        """The module after the passes of the level; the caller's own is left alone."""
        options = self.options
        passes = with_extensions(pipeline(options.level, options.target))
        if options.verify == "off":
            module = module.clone()
            with self.stage("passes"):
                self.passes = PassManager(passes, validate=False).run(module, self.context())
            return module
        each = options.verify == "each-pass"
        outcome = FinalCheck(passes, self.context, verify_all=each, stage=self.stage).run(module)
        self.passes, self.checks["whole module"] = outcome.report, outcome.verdict.facts()
        return outcome.module

    def context(self) -> PassContext:
        """What passes may ask in this compilation."""
        options = self.options
        catalogue = KernelCatalogue(options.target)
        pricer = CataloguePricer(catalogue, options.numerics)
        return PassContext(options.target, options.level, options.numerics, catalogue, pricer)

    def plan(self, module: Module, target: Target, name: str) -> Plan:
        """The finished plan of a module for one ISA variant."""
        lowering = Lowering(
            module.main, KernelCatalogue(target), target, LoweringOptions(self.options.numerics, name)
        )
        plan = lowering.run()
        for plan_pass in PLAN_PASSES:
            plan_pass.run(plan)
        check_segments(plan)
        check_memory(plan)
        check_barriers(plan)
        return plan

    def emissions(self, plans: Mapping[str, Plan], profile: bool = False) -> dict[str, Emission]:
        """C text of every variant's plan; with `profile`, an entry that measures the steps beside it."""
        target = self.options.target
        with self.stage("emit"):
            return {
                isa: emit(plan, target.variant(isa), alone_below=ALONE_BELOW, profile=profile)
                for isa, plan in plans.items()
            }

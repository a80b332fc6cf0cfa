"""Module to artifact: passes, lowering, plan passes, emission, compilation."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aino_ir import __version__
from aino_ir.codegen.c.backend import Emission, emit
from aino_ir.codegen.c.compile import compile_units
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.codegen.lower.lowering import Lowering, LoweringOptions
from aino_ir.graph import Module
from aino_ir.passes.insert_barriers import InsertBarriers, check_barriers
from aino_ir.passes.plan_memory import PlaceConstants, PlanMemory, check_memory, used_constants
from aino_ir.plan import Plan, Run
from aino_ir.runtime.artifact import Artifact, ArtifactWriter
from aino_ir.runtime.manifest import Manifest, TensorSpec
from aino_ir.runtime.store import Store
from aino_ir.target import Target
from aino_ir.types import TensorType

PLAN_PASSES = (PlaceConstants(), PlanMemory(), InsertBarriers())
"""Passes over the plan, in order."""


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
    """One run of the compiler: options in, artifact out, with facts for the report."""

    options: CompileOptions
    toolchain: Toolchain
    store: Store
    calls: CompilerCalls = field(default_factory=CompilerCalls)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def run(self, module: Module) -> Artifact:
        """Compile a module."""
        name = model_identifier(module.name)
        plans: dict[str, Plan] = {}
        emissions: dict[str, Emission] = {}
        for target in [self.options.target.variant(isa) for isa in self.options.target.variants]:
            with self.stage("lower"):
                plans[target.isa] = self.plan(module, target, name)
            with self.stage("emit"):
                emissions[target.isa] = emit(plans[target.isa], target)
        with self.stage("cc"):
            libraries = self._compile(emissions)
        with self.stage("artifact"):
            return self._artifact(module, plans, emissions, libraries)

    def plan(self, module: Module, target: Target, name: str) -> Plan:
        """The finished plan of a module for one ISA variant."""
        lowering = Lowering(
            module.main, KernelCatalogue(target), target, LoweringOptions(self.options.numerics, name)
        )
        plan = lowering.run()
        for plan_pass in PLAN_PASSES:
            plan_pass.run(plan)
        check_memory(plan)
        check_barriers(plan)
        return plan

    def _compile(self, emissions: Mapping[str, Emission]) -> dict[str, bytes]:
        units = [u for e in emissions.values() for u in e.units]
        headers = {k: v for e in emissions.values() for k, v in e.headers.items()}
        return compile_units(units, headers, self.toolchain, self.store, self.calls, self.options.jobs)

    def _artifact(
        self, module: Module, plans: dict[str, Plan], emissions: dict[str, Emission], libraries: dict[str, bytes]
    ) -> Artifact:
        first = next(iter(plans.values()))
        offsets = _weight_offsets(plans)
        manifest = Manifest(
            name=module.name,
            target=str(self.options.target),
            arch=self.options.target.arch,
            producer=f"aino {__version__}",
            compiler=str(self.toolchain),
            inputs=tuple(_tensor_spec(n, t) for n, t in first.inputs),
            outputs=tuple(_tensor_spec(n, t) for n, t in first.outputs),
            report=self._report(first, libraries, offsets),
            details={
                "symbols": [[n, *_bounds(first, n), 1] for n in first.symbols],
                "checks": [[c.kind, str(c.lhs), str(c.rhs), c.what] for c in first.checks],
                "variants": {
                    isa: {
                        "symbol_prefix": plan.name,
                        "weights_offset": offsets[isa],
                        "steps": [str(s.loc) if isinstance(s, Run) else "" for s in plan.steps],
                    }
                    for isa, plan in plans.items()
                },
            },
        )
        writer = ArtifactWriter(manifest)
        for isa, library in libraries.items():
            writer.add_library(isa, library, self.toolchain.flags(isa))
        for isa, plan in plans.items():
            _add_weights(writer, plan)
            for unit in emissions[isa].units:
                writer.add_source(f"{isa}/{unit.name}.c", unit.text)
        for header, text in next(iter(emissions.values())).headers.items():
            writer.add_source(header, text)
        return Artifact.from_bytes(writer.to_bytes(), verify=False)

    def _report(self, plan: Plan, libraries: dict[str, bytes], offsets: dict[str, int]) -> dict[str, Any]:
        rows = []
        for step in plan.steps:
            if isinstance(step, Run):
                kernel = plan.kernels[step.kernel]
                rows.append(
                    {
                        "kernel": step.kernel,
                        "ops": kernel.spec.label,
                        "nodes": list(step.nodes),
                        "candidate": f"{kernel.candidate.generator}: {kernel.candidate.name}",
                        "flops": step.flops if isinstance(step.flops, int) else str(step.flops),
                    }
                )
        constants = used_constants(plan)
        return {
            "kernels": rows,
            "arena_bytes": plan.arena_bytes if isinstance(plan.arena_bytes, int) else str(plan.arena_bytes),
            "weight_bytes": sum(int(b.bytes) for b in constants),  # type: ignore[arg-type]
            "library_bytes": sum(len(b) for b in libraries.values()),
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "flops": sum(int(r["flops"]) for r in rows) if all(isinstance(r["flops"], int) for r in rows) else "",
        }


def model_identifier(name: str) -> str:
    """A C identifier for a model's name: letters, digits, underscores, at most 40 of them."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")[:40] or "model"
    return plain if plain[0].isalpha() else f"m_{plain}"


def _tensor_spec(name: str, type: object) -> TensorSpec:
    assert isinstance(type, TensorType)
    return TensorSpec(name, type.dtype.name, tuple(d if isinstance(d, int) else str(d) for d in type.shape))


def _bounds(plan: Plan, name: str) -> tuple[int, int | None]:
    return plan.symbol_bounds[name]


def _weight_offsets(plans: Mapping[str, Plan]) -> dict[str, int]:
    """Where each variant's weights start in the weights section."""
    out: dict[str, int] = {}
    position = 0
    for isa, plan in plans.items():
        out[isa] = position
        constants = used_constants(plan)
        if constants:
            last = constants[-1]
            position += -(-(int(last.offset) + int(last.bytes)) // 64) * 64  # type: ignore[arg-type]
    return out


def _add_weights(writer: ArtifactWriter, plan: Plan) -> None:
    for buffer in used_constants(plan):
        data = constant_bytes(buffer)
        writer.add_weight(data, len(data), buffer.name)

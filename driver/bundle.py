"""Plans, emitted sources and libraries become an artifact: manifest, report, weights, defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aino_ir import __version__
from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.toolchain import Toolchain
from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.constants import Const
from aino_ir.dims import DimLike, is_static
from aino_ir.passes.plan_memory import used_constants
from aino_ir.plan import Plan, Run, runs, walk
from aino_ir.runtime.artifact import WEIGHT_ALIGNMENT, ArtifactWriter
from aino_ir.runtime.manifest import Manifest, TensorSpec
from aino_ir.target import Target
from aino_ir.types import TensorType, Type


@dataclass
class Bundle:
    """All that goes into an artifact.

    Attributes:
        name: the model's name.
        target: what it was compiled for.
        plans, emissions, libraries: by ISA variant, from the least to the most demanding.
        toolchain: the compiler of the libraries.
        defaults: inputs that may be left out, and what they are then.
        facts: report fields that the compilation knows (passes, undone, seconds).
    """

    name: str
    target: Target
    plans: Mapping[str, Plan]
    emissions: Mapping[str, Emission]
    libraries: Mapping[str, bytes]
    toolchain: Toolchain
    defaults: Mapping[str, Const] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def writer(self) -> ArtifactWriter:
        """What writes the artifact; constants are packed as they are written."""
        offsets = weight_offsets(self.plans)
        writer = ArtifactWriter(self._manifest(offsets))
        for isa, library in self.libraries.items():
            writer.add_library(isa, library, self.toolchain.flags(isa))
        for isa, plan in self.plans.items():
            for buffer in used_constants(plan):
                writer.add_weight(partial(constant_bytes, buffer), whole(buffer.bytes), buffer.name)
            for unit in self.emissions[isa].units:
                writer.add_source(f"{isa}/{unit.name}.c", unit.text)
        for name in self._default_names():
            handle = self.defaults[name]
            data = handle.array().tobytes()
            writer.add_weight(data, len(data), name, handle.dtype.name, [int(d) for d in handle.shape])
        for header, text in self._first(self.emissions).headers.items():
            writer.add_source(header, text)
        return writer

    def _manifest(self, offsets: Mapping[str, int]) -> Manifest:
        plan = self._first(self.plans)
        before = sum(len(used_constants(p)) for p in self.plans.values())
        place = {name: before + i for i, name in enumerate(self._default_names())}
        return Manifest(
            name=self.name,
            target=str(self.target),
            arch=self.target.arch,
            producer=f"aino {__version__}",
            compiler=str(self.toolchain),
            inputs=tuple(tensor_spec(n, t, place.get(n)) for n, t in plan.inputs),
            outputs=tuple(tensor_spec(n, t) for n, t in plan.outputs),
            report={
                **{k: v for k, v in plan_report(plan).items() if k != "kernels"},
                "library_bytes": sum(len(b) for b in self.libraries.values()),
                **self.facts,
            },
            details={
                "symbols": [[n, *plan.symbol_bounds[n], 1] for n in plan.entry_symbols],
                "decided": plan.decided,
                "checks": [[c.kind, str(c.lhs), str(c.rhs), c.what] for c in plan.checks],
                "variants": {
                    isa: {
                        "symbol_prefix": p.name,
                        "weights_offset": offsets[isa],
                        "steps": [str(getattr(s, "loc", "")) for s in walk(p.steps)],
                        "kernels": kernel_rows(p),
                    }
                    for isa, p in self.plans.items()
                },
            },
        )

    def _default_names(self) -> list[str]:
        """Inputs with a default, in the order in which the defaults stand after the weights."""
        return [n for n, _ in self._first(self.plans).inputs if n in self.defaults]

    @staticmethod
    def _first(parts: Mapping[str, Any]) -> Any:
        return next(iter(parts.values()))


def plan_report(plan: Plan) -> dict[str, Any]:
    """Report fields that follow from a plan."""
    return {
        "kernels": kernel_rows(plan),
        "arena_bytes": number_or_text(plan.arena_bytes),
        "weight_bytes": sum(whole(b.bytes) for b in used_constants(plan)),
        "flops": number_or_text(sum((r.flops for r in runs(plan)), start=0)),
    }


def kernel_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a kernel call, in order."""
    return [kernel_row(plan, number, s) for number, s in enumerate(walk(plan.steps)) if isinstance(s, Run)]


def kernel_row(plan: Plan, number: int, step: Run) -> dict[str, Any]:
    """One row of the report: what a step runs, where it comes from, and what it must do and move."""
    kernel = plan.kernels[step.kernel]
    return {
        "step": number,
        "kernel": step.kernel,
        "ops": kernel.spec.label,
        "nodes": list(step.nodes),
        "candidate": f"{kernel.candidate.generator}: {kernel.candidate.name}",
        "flops": number_or_text(step.flops),
        "bytes": number_or_text(step.moved_bytes),
    }


def whole(value: DimLike) -> int:
    """The value of a dimension that has no symbols."""
    assert isinstance(value, int), f"{value} has symbols"
    return value


def number_or_text(value: DimLike) -> int | str:
    """A dimension as JSON holds it: a number, or the expression when symbols occur."""
    return int(value) if is_static(value) else str(value)  # type: ignore[arg-type]


def tensor_spec(name: str, type: Type, default: int | None = None) -> TensorSpec:
    """What the manifest says about an input or output; `default` is the number of a weight."""
    assert isinstance(type, TensorType), f"{name} is no tensor"
    shape = tuple(number_or_text(d) for d in type.shape)
    return TensorSpec(name, type.dtype.name, shape, {} if default is None else {"default": default})


def weight_offsets(plans: Mapping[str, Plan]) -> dict[str, int]:
    """Where each variant's weights start in the weights section."""
    out: dict[str, int] = {}
    position = 0
    for isa, plan in plans.items():
        out[isa] = position
        constants = used_constants(plan)
        if constants:
            last = constants[-1]
            assert last.offset is not None
            end = whole(last.offset) + whole(last.bytes)
            position += -(-end // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
    return out


def model_identifier(name: str) -> str:
    """A C identifier for a model's name: letters, digits, underscores, at most 40 of them."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")[:40] or "model"
    return plain if plain[0].isalpha() else f"m_{plain}"

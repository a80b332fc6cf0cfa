"""Plans, emitted sources and libraries become an artifact: manifest, report, weights, defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from aino_ir import __version__
from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.dialects import dialect
from aino_ir.codegen.c.footprint import footprint
from aino_ir.codegen.cuda.launch import asked_bytes
from aino_ir.codegen.cuda.library_products import beside_library
from aino_ir.codegen.cuda.plan_data import plan_data
from aino_ir.codegen.cuda.toolchain import BinaryMaker
from aino_ir.codegen.lower.constants import constant_bytes, stored_dtype
from aino_ir.codegen.lower.outline import Outlined
from aino_ir.constants import Const
from aino_ir.dims import DimLike, is_static
from aino_ir.driver.program import Program
from aino_ir.graph import Module
from aino_ir.isa import GPU
from aino_ir.passes.plan_memory import used_constants
from aino_ir.plan import Bind, Plan, Require, Run, runs, walk
from aino_ir.runtime.artifact import WEIGHT_ALIGNMENT, ArtifactWriter
from aino_ir.runtime.cubins import CubinLibrary
from aino_ir.runtime.host import PROGRAM
from aino_ir.runtime.manifest import Manifest, TensorSpec
from aino_ir.runtime.structures import shown_type
from aino_ir.target import Target
from aino_ir.text.printer import Printer
from aino_ir.types import Type


@dataclass
class Bundle:
    """All that goes into an artifact.

    Attributes:
        program: the lowered module.
        target: what it was compiled for.
        emissions, libraries: by ISA variant, from the least to the most demanding.
        toolchain: the compiler of the libraries.
        facts: report fields that the compilation knows (passes, undone, seconds).
    """

    program: Program
    target: Target
    emissions: Mapping[str, Emission]
    libraries: Mapping[str, bytes]
    toolchain: BinaryMaker
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host = HostText.of(self.program.host)

    def writer(self) -> ArtifactWriter:
        """What writes the artifact; constants are packed as they are written."""
        writer = ArtifactWriter(self._manifest())
        for isa, library in self.libraries.items():
            ending = self.toolchain.platform.ending
            writer.add_library(isa, library, self.toolchain.flags(isa), ending)
        for plan in self._plans():
            for buffer in used_constants(plan):
                source = partial(constant_bytes, buffer)
                writer.add_weight(source, whole(buffer.bytes), buffer.name, stored_dtype(buffer).name)
        for isa, emission in self.emissions.items():
            for unit in emission.units:
                writer.add_source(f"{isa}/{unit.name}{dialect(isa).ending}", unit.text)
            if emission.script:
                writer.add_source(f"{isa}/{emission.programs[0].name}.py", emission.script)
        for name, handle in self._whole_constants():
            data = handle.array().tobytes()
            writer.add_weight(data, len(data), name, handle.dtype.name, [int(d) for d in handle.shape])
        for header, text in next(iter(self.emissions.values())).headers.items():
            writer.add_source(header, text)
        if self.host is not None:
            writer.add_section(PROGRAM, self.host.text.encode("ascii"))
        return writer

    def _plans(self) -> Iterator[Plan]:
        """All plans, in the order in which their constants stand."""
        return (plan for functions in self.program.plans.values() for plan in functions.values())

    def _whole_constants(self) -> list[tuple[str, Const]]:
        """(name, constant) of what stands unpacked behind the weights: defaults, and what Python reads."""
        main = self.program.module.main
        found = [(n, main.defaults[n]) for n in main.input_names if n in main.defaults]
        return found + [(c.name, c) for c in self._own_constants()]

    def _own_constants(self) -> list[Const]:
        """Constants of the host program that no native function reads as they are."""
        shared = self._shared()
        return [c for c in self.host.constants.values() if id(c) not in shared] if self.host else []

    def _shared(self) -> dict[int, int]:
        """Id of a constant that native functions read unpacked -> its number among the weights."""
        buffers = (b for plan in self._plans() for b in used_constants(plan))
        return {id(b.const): n for n, b in enumerate(buffers) if b.const is not None and b.packing is None}

    def _host_constants(self, whole_before: int) -> dict[str, int]:
        """Hash of a constant of the host program -> its number among the weights."""
        assert self.host is not None
        places = self._shared()
        places |= {id(c): whole_before + n for n, c in enumerate(self._own_constants())}
        return {digest: places[id(c)] for digest, c in self.host.constants.items()}

    def _manifest(self) -> Manifest:
        main = self.program.module.main
        before = sum(len(used_constants(p)) for p in self._plans())
        defaults = [n for n in main.input_names if n in main.defaults]
        place = {name: before + i for i, name in enumerate(defaults)}
        inputs = zip(main.input_names, main.inputs, strict=True)
        outputs = zip(main.output_names, main.outputs, strict=True)
        return Manifest(
            name=self.program.module.name,
            target=str(self.target),
            arch=self.target.arch,
            producer=f"aino {__version__}",
            compiler=str(self.toolchain),
            system=self.target.system,
            inputs=tuple(tensor_spec(n, v.type, place.get(n)) for n, v in inputs),
            outputs=tuple(tensor_spec(n, v.type) for n, v in outputs),
            report={
                **{k: v for k, v in program_report(self.program).items() if k != "kernels"},
                "library_bytes": sum(len(b) for b in self.libraries.values()),
                **self._device_facts(),
                **self.facts,
            },
            details=self._details(before + len(defaults)),
        )

    def _device_facts(self) -> dict[str, Any]:
        """Flash and RAM, where a library is an archive that becomes part of a firmware."""
        if self.toolchain.platform.format != "archive":
            return {}
        (plan,), (library,) = self.program.functions.values(), self.libraries.values()
        constants = sum(whole(b.bytes) for b in used_constants(plan))
        return {"device": footprint(plan, constants, library).facts()}

    def _details(self, whole_before: int) -> dict[str, Any]:
        """What the executable needs besides; `whole_before` is the number of Python's first constant."""
        program = self.program
        details = {name: self._function_details(name) for name in program.functions}
        if self.host is None:
            return details[program.module.main.name]
        return {
            "host": {
                "functions": details,
                "constants": self._host_constants(whole_before),
            },
            "variants": {
                isa: {
                    "kernels": [
                        {"function": name, **row}
                        for name, plan in functions.items()
                        for row in self._kernel_rows(isa, plan)
                    ]
                }
                for isa, functions in program.plans.items()
            },
        }

    def _function_details(self, name: str) -> dict[str, Any]:
        """How one native function is called."""
        offsets = weight_offsets(self._plans())
        plan = self.program.functions[name]
        found: dict[str, Any] = {
            "symbols": [[n, *plan.symbol_bounds[n], 1] for n in plan.entry_symbols],
            "decided": plan.decided,
            "checks": [[c.kind, str(c.lhs), str(c.rhs), c.what] for c in plan.checks],
            "variants": {},
        }
        for isa, functions in self.program.plans.items():
            p = functions[name]
            found["variants"][isa] = {
                "symbol_prefix": p.name,
                "weights_offset": offsets[id(p)],
                "steps": [str(getattr(s, "loc", "")) for s in walk(p.steps)],
                "demands": demands(p),
            }
            if self.target.arch == GPU:
                found["variants"][isa]["plan"] = plan_data(p)
            if self.host is None:
                found["variants"][isa]["kernels"] = self._kernel_rows(isa, p)
        if self.host is not None:
            del found["checks"]  # the host program tests them
            specs = [tensor_spec(n, t) for n, t in plan.outputs]
            found["inputs"] = len(plan.inputs)
            found["outputs"] = [[s.name, s.dtype, list(s.shape)] for s in specs]
        return found

    def _kernel_rows(self, isa: str, plan: Plan) -> list[dict[str, Any]]:
        """Rows of the report; on a GPU with what kernels take: by the compiler, and what launches ask for."""
        rows = kernel_rows(plan)
        if self.target.arch == GPU:
            entries = CubinLibrary.from_bytes(self.libraries[isa], isa).entries
            for row in rows:
                row |= asdict(entries[f"{row['kernel']}_kernel"][1])
                row["asked_shared_bytes"] = asked_bytes(plan.kernels[row["kernel"]].function)
        return rows


@dataclass(frozen=True)
class HostText:
    """The host program as an artifact holds it.

    Attributes:
        text: `main`, and functions that it calls in Python.
        constants: its large constants by their hash.
    """

    text: str
    constants: Mapping[str, Const]

    @staticmethod
    def of(host: Outlined | None) -> HostText | None:
        """The text of a host program; None when there is none."""
        if host is None:
            return None
        shown = Module(host.module.name)
        shown.functions = {n: f for n, f in host.module.functions.items() if n not in host.natives}
        printer = Printer()
        text = printer.module(shown)
        return HostText(text, dict(sorted(printer.weights.items())))


def program_report(program: Program) -> dict[str, Any]:
    """Report fields that follow from a program; numbers are sums over its native functions."""
    plans = list(program.functions.values())
    found: dict[str, Any] = {
        "kernels": [row for plan in plans for row in kernel_rows(plan)],
        "arena_bytes": _sum(working_bytes(plan) for plan in plans),
        "weight_bytes": sum(whole(b.bytes) for plan in plans for b in used_constants(plan)),
        "flops": _sum(r.flops for plan in plans for r in runs(plan)),
    }
    if program.host is not None:
        found["kernels"] = program_rows(program.functions)
        found["python_nodes"] = [asdict(op) for op in program.host.host]
    return found


def _sum(dims: Iterable[DimLike]) -> int | str:
    return number_or_text(sum(dims, start=0))


def kernel_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a kernel call, in order."""
    return [kernel_row(plan, number, s) for number, s in enumerate(walk(plan.steps)) if isinstance(s, Run)]


def program_rows(functions: Mapping[str, Plan]) -> list[dict[str, Any]]:
    """One row a kernel call of a host program, with the function in which it is."""
    return [{"function": name, **row} for name, plan in functions.items() for row in kernel_rows(plan)]


def kernel_row(plan: Plan, number: int, step: Run) -> dict[str, Any]:
    """One row of the report: what a step runs, where it comes from, and what it must do and move."""
    kernel = plan.kernels[step.kernel]
    own = beside_library(kernel.candidate)
    return {
        "step": number,
        "kernel": step.kernel,
        "ops": kernel.spec.label,
        "nodes": list(step.nodes),
        "candidate": f"{kernel.candidate.generator}: {kernel.candidate.name}",
        **({} if own is None else {"beside": f"{own.generator}: {own.name}"}),
        "flops": number_or_text(step.flops),
        "bytes": number_or_text(step.moved_bytes),
    }


def demands(plan: Plan) -> dict[str, str]:
    """What steps demand of the extents that a run decides, by step, in words for who broke it."""
    out = {}
    for number, step in enumerate(walk(plan.steps)):
        if isinstance(step, Require):
            out[str(number)] = f"{step.check.what}: {step.check}"
        if isinstance(step, Bind):
            lo, hi = ("" if bound is None else bound for bound in (step.lo, step.hi))
            what = step.what or "an extent that it decides"
            out[str(number)] = f"{what} must be in {lo}..{hi}, and no extent that follows from it negative"
    return out


def working_bytes(plan: Plan) -> DimLike:
    """What a session keeps for intermediate contents: the arena, and segments that are no outputs."""
    kept = (s.bytes for s in plan.segments if s.output < 0 and not s.per_thread)
    return plan.arena_bytes + sum(kept, start=0)


def whole(value: DimLike) -> int:
    """The value of a dimension that has no symbols."""
    assert isinstance(value, int), f"{value} has symbols"
    return value


def number_or_text(value: DimLike) -> int | str:
    """A dimension as JSON holds it: a number, or the expression when symbols occur."""
    return int(value) if is_static(value) else str(value)  # type: ignore[arg-type]


def tensor_spec(name: str, type: Type, default: int | None = None) -> TensorSpec:
    """What the manifest says about an input or output; `default` is the number of a weight."""
    dtype, shape = shown_type(type)
    return TensorSpec(name, dtype, shape, {} if default is None else {"default": default})


def weight_offsets(plans: Iterable[Plan]) -> dict[int, int]:
    """Where each plan's weights start in the weights section, by the plan's id."""
    out: dict[int, int] = {}
    position = 0
    for plan in plans:
        out[id(plan)] = position
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

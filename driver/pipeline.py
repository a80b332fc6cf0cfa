"""Module to artifact: passes, lowering, plan passes, emission, compilation."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aino_ir.codegen.c.backend import Emission, emit_all
from aino_ir.codegen.c.compile import compile_units
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain, find_toolchain
from aino_ir.codegen.catalogue import Experience, KernelCatalogue, generators_for
from aino_ir.codegen.cuda.backend import emit_cuda
from aino_ir.codegen.kernels.tiled import BEST
from aino_ir.codegen.lower.legality import (
    host_ops,
    interface_obstacles,
    refuse,
    require_native,
    runs_in_python,
)
from aino_ir.codegen.lower.lowering import Lowering, LoweringOptions
from aino_ir.codegen.lower.outline import Outlined, outline
from aino_ir.codegen.lower.pricing import CataloguePricer
from aino_ir.codegen.tvm.backend import emit_tvm
from aino_ir.codegen.tvm.build import built_object
from aino_ir.driver.bundle import Bundle, model_identifier
from aino_ir.driver.emulated_kernels import ISA, WORK_LIMIT, emulated_kernels
from aino_ir.driver.extend import with_extensions
from aino_ir.driver.gpu import AnyToolchain, cubin_libraries, spillers, this_host
from aino_ir.driver.gpu_trials import DeviceBench
from aino_ir.driver.kernel_check import KernelChecker, KernelChecks, KernelWrong, Wrong
from aino_ir.driver.libraries import LIBRARIES, VendorLibraries
from aino_ir.driver.program import Program
from aino_ir.driver.tuning import DEFAULT_SECONDS, MOST_CANDIDATES, Bench, HostBench, Tuner, Tuning
from aino_ir.driver.tuning_records import TuningRecords
from aino_ir.driver.tvm_tuning import TvmTuner
from aino_ir.errors.codegen import NoLowering
from aino_ir.errors.toolchain import TvmRefused
from aino_ir.graph import Function, Module
from aino_ir.kernels import Kernel
from aino_ir.passes.base import PassContext
from aino_ir.passes.final_check import FinalCheck
from aino_ir.passes.insert_barriers import InsertBarriers, check_barriers
from aino_ir.passes.manager import PassManager, PipelineReport
from aino_ir.passes.pipelines import pipeline
from aino_ir.passes.plan_branches import PlanBranches
from aino_ir.passes.plan_memory import PlaceConstants, PlanMemory, check_memory
from aino_ir.passes.reserve_segments import ReserveSegments, check_segments
from aino_ir.plan import Plan
from aino_ir.runtime.artifact import ArtifactWriter
from aino_ir.runtime.cuda.device import open_device
from aino_ir.runtime.executable import default_threads
from aino_ir.runtime.store import Store
from aino_ir.target import Target, detect_host
from aino_ir.verify import verify

_EMITTERS: dict[str, Callable[..., Emission]] = {"tvm": emit_tvm, "cuda": emit_cuda}
"""What writes the sources of targets that are not C."""

PLAN_PASSES = (PlaceConstants(), ReserveSegments(), PlanMemory(), InsertBarriers())
"""Passes over the plan, in order."""

DEVICE_PLAN_PASSES = (*PLAN_PASSES[:-1], PlanBranches(), PLAN_PASSES[-1])
"""The same for devices that run independent launches side by side."""

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
    libraries: tuple[str, ...] = LIBRARIES


@dataclass
class Compilation:
    """One run of the compiler: options in, plans, sources or an artifact out.

    Attributes:
        seconds: stage -> time spent in it so far.
        progress: is told what happens, or None.
        passes: what the passes did.
        checks: what was compared with what, and the outcome, for the report.
        experience: by ISA, what is known about candidates beyond their modelled cost.
        wrong_kernels: kernels that are not used because they do not compute what their ops mean.
        tuning: what was measured, for the report.
        turned_down: ids of ops that no generator serves -> why; they run in Python.
        remarks: lines about what was written.
        spilled: kernels for GPUs that are not used because registers do not suffice for them.
        libraries: what is known of NVIDIA's libraries beside them.
    """

    options: CompileOptions
    seconds: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None
    passes: PipelineReport = field(default_factory=PipelineReport)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    experience: dict[str, Experience] = field(default_factory=lambda: defaultdict(Experience))
    wrong_kernels: list[dict[str, str]] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)
    turned_down: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    spilled: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.libraries = VendorLibraries(self.options.libraries)

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
        self, module: Module, toolchain: AnyToolchain, store: Store, calls: CompilerCalls | None = None
    ) -> ArtifactWriter:
        """Compile a module; what is returned writes the artifact."""
        optimized, host = self.prepared(module)
        self.tune(optimized, host, toolchain, store)
        while True:
            program = self.lowered(optimized, host)
            host = program.host
            emissions = self.emissions(program.plans, profile=True)
            try:
                libraries = self._libraries(emissions, toolchain, store, calls)
            except TvmRefused as refusal:
                self._take_others(program, refusal)
                continue
            if self._spilling_given_up(program, libraries):
                continue
            if self.options.verify == "off" or self._kernels_are_right(program, libraries, toolchain, store):
                break
        return Bundle(program, self.options.target, emissions, libraries, toolchain, self.facts()).writer()

    def _libraries(
        self,
        emissions: Mapping[str, Emission],
        toolchain: AnyToolchain,
        store: Store,
        calls: CompilerCalls | None,
    ) -> dict[str, bytes]:
        """The compiled library of every variant."""
        if not isinstance(toolchain, Toolchain):
            with self.stage("cubins"):
                return cubin_libraries(emissions, toolchain, store, calls, self.options.jobs)
        objects = {}
        for isa, emission in emissions.items():
            if emission.script:
                with self.stage("tvm"):
                    objects[isa] = built_object(emission.script, emission.programs[0].name, store)
        with self.stage("cc"):
            units = [u for e in emissions.values() for u in e.units]
            headers = {k: v for e in emissions.values() for k, v in e.headers.items()}
            return compile_units(
                units,
                headers,
                toolchain,
                store,
                calls,
                self.options.jobs,
                progress=lambda done, total: self.tell("cc", done, total),
                objects=objects,
            )

    def _spilling_given_up(self, program: Program, libraries: Mapping[str, bytes]) -> bool:
        """Whether kernels for GPUs spilled that others can replace; those are taken from now on."""
        if self.options.target.name != "cuda":
            return False
        before = len(self.spilled)
        for isa, library in libraries.items():
            plans, experience = list(program.plans[isa].values()), self.experience[isa]
            target = self.options.target.variant(isa)
            catalogue = KernelCatalogue(target, generators_for(target), experience)
            for kernel, reason in list(spillers(plans, library, isa, catalogue)):
                experience.note_wrong(kernel.spec, kernel.candidate, reason)
                self.spilled.append(Wrong(kernel, reason).facts(isa))
        self.checks["registers"] = {"given up": list(self.spilled)}
        return len(self.spilled) > before

    def tune(self, module: Module, host: Outlined | None, toolchain: AnyToolchain, store: Store) -> None:
        """Measure candidates of the module's kernels where that was asked for: level 3, or seconds for it."""
        options = self.options
        machine = this_host() if options.target.name == "cuda" else detect_host()
        seconds = options.tune or (DEFAULT_SECONDS if options.level >= 3 else 0.0)
        if not seconds:
            return
        tuning = Tuning(seconds)
        deadline = time.monotonic() + seconds
        program = self.lowered(module, host)
        with self.stage("tune"):
            for isa, plans in program.plans.items():
                obstacle = machine.obstacle(options.target, isa)
                if obstacle:
                    tuning.skipped[isa] = obstacle
                    continue
                target, experience = options.target.variant(isa), self.experience[isa]
                if target.name == "tvm":
                    TvmTuner(target, store, default_threads(), tuning).tune(
                        list(plans.values()), experience, max(0.0, deadline - time.monotonic())
                    )
                    continue
                known = Experience(wrong=experience.wrong)
                everyone = [*self.libraries.offered(target), *generators_for(target, MOST_CANDIDATES)]
                catalogue = KernelCatalogue(target, everyone, known)
                bench, records = bench_for(target, toolchain, store, self.libraries.version)
                tuner = Tuner(target, catalogue, bench, records, tuning)
                tuner.tune(list(plans.values()), experience, deadline)
        self.libraries.note(tuning.rows)
        self.tuning = tuning.facts()

    def _take_others(self, program: Program, refusal: TvmRefused) -> None:
        """Note which candidates TVM's scheduler refuses, so that others are taken."""
        plans = [(isa, plan) for isa, functions in program.plans.items() for plan in functions.values()]
        kernels = {name: (isa, kernel) for isa, plan in plans for name, kernel in plan.kernels.items()}
        for name, reason in refusal.fields["kernels"].items():
            isa, kernel = kernels[name]
            self._take_another(isa, Wrong(kernel, f"TVM does not schedule it: {reason}"))

    def _take_another(self, isa: str, wrong: Wrong) -> None:
        experience, spec = self.experience[isa], wrong.kernel.spec
        found = experience.schedules.pop(spec.key, None)
        if found is None:
            experience.note_wrong(spec, wrong.kernel.candidate, wrong.reason)
        self.wrong_kernels.append(wrong.facts(isa))
        instead = "another candidate" if found is None else "AINO's own schedule"
        warnings.warn(f"{wrong.sentence()}; {instead} is taken", KernelWrong, stacklevel=4)

    def _kernels_are_right(
        self, program: Program, libraries: Mapping[str, bytes], toolchain: AnyToolchain, store: Store
    ) -> bool:
        """Whether every kernel does what its ops mean; candidates that do not are not taken again."""
        checks = KernelChecks(wrong=list(self.wrong_kernels))
        with self.stage("check kernels"):
            plans = {isa: list(program.plans[isa].values()) for isa in libraries}
            progress = partial(self.tell, "check kernels")
            if self._emulates_kernels:
                found = self._emulated(plans, store, checks, progress)
            else:
                tuned = [sorted(e.schedules.items()) for e in self.experience.values() if e.schedules]
                language = self.options.target.name + (f" {tuned}" if tuned else "")
                checker = KernelChecker(toolchain, store, checks, progress, language)
                found = {
                    isa: checker.check(plans[isa], isa, library, self._check_obstacle(isa))
                    for isa, library in libraries.items()
                }
        for isa, several in found.items():
            for wrong in several:
                self._take_another(isa, wrong)
        self.checks["kernels"] = checks.facts()
        return not any(found.values())

    @property
    def _emulates_kernels(self) -> bool:
        """Whether kernels for GPUs are tried on this processor, which takes a C compiler and time."""
        return self.options.target.name == "cuda" and self.options.verify == "each-pass"

    def _emulated(
        self,
        plans: Mapping[str, Sequence[Plan]],
        store: Store,
        checks: KernelChecks,
        progress: Callable[[int, int], None],
    ) -> dict[str, list[Wrong]]:
        """The wrong kernels of each architecture, tried in the emulation."""
        compiler = find_toolchain(store)
        checker = KernelChecker(compiler, store, checks, progress, ISA, WORK_LIMIT)
        found = {}
        for isa, several in plans.items():
            made = emulated_kernels(several, compiler, store)
            found[isa] = checker.check(several, ISA, made.library, left_out=made.left_out)
        return found

    def _check_obstacle(self, isa: str) -> str:
        """Why kernels of an instruction set cannot be tried here one by one; empty: they can."""
        if self.options.target.name == "cuda":
            return "verify='each-pass' tries kernels for GPUs one by one, emulated on the CPU"
        return detect_host().obstacle(self.options.target, isa)

    def facts(self) -> dict[str, Any]:
        """What the report tells about the compilation itself."""
        seconds = {stage: round(spent, 4) for stage, spent in self.seconds.items()}
        if self.options.target.name == "cuda":
            self.checks["libraries"] = self.libraries.facts()
        told = {"seconds": seconds, "checks": self.checks, "tuning": self.tuning}
        return {**told, **self.passes.facts()}

    def program(self, module: Module) -> Program:
        """A module lowered: what has no native code is left to a host program.

        Raises:
            OperatorsUnsupported: there is such a thing, and `strict` was asked for.
        """
        return self.lowered(*self.prepared(module))

    def prepared(self, module: Module) -> tuple[Module, Outlined | None]:
        """A module after the passes, and the host program that it needs, if any."""
        module = self.optimize(module)
        return module, self.host_program(module)

    def lowered(self, module: Module, host: Outlined | None) -> Program:
        """The plans of a module that the passes are through with; ops without a kernel join the host program.

        Raises:
            NoLowering: there is such an op, and `strict` was asked for, or Python cannot run it either.
        """
        while True:
            try:
                return Program(module, host, self._lowered(module, host))
            except NoLowering as error:
                self._turn_down(module, error)
                host = self.host_program(module)

    def _turn_down(self, module: Module, error: NoLowering) -> None:
        """Leave the op that an error is about to Python, if that can be."""
        found = [op for op in module.main.block if op.id == error.op_id]
        if self.options.strict or not found or not runs_in_python(found[0]):
            raise error
        self.turned_down[found[0].id] = error.message

    def _lowered(self, module: Module, host: Outlined | None) -> dict[str, dict[str, Plan]]:
        if host is None:
            functions = {module.main.name: module.main}
            names = [model_identifier(module.name)]
        else:
            functions = {name: host.module.functions[name] for name in host.natives}
            names = [f"{model_identifier(module.name)}_{number}" for number in range(len(functions))]
        with self.stage("lower"):
            return {
                isa: self._plans_of(functions, names, self.options.target.variant(isa))
                for isa in self.options.target.variants
            }

    def host_program(self, module: Module) -> Outlined | None:
        """A module cut into native functions and what Python runs, or None when all of it is native.

        Raises:
            OperatorsUnsupported: ops would run in Python, and `strict` was asked for, or the target has none.
        """
        reasons = host_ops(module.main)
        left = {op: self.turned_down.get(op.id) for op in module.main.block}
        reasons |= {op: reason for op, reason in left.items() if reason is not None}
        if not reasons and not any(interface_obstacles(module.main)):
            return None
        strict = self.options.strict or not self.options.target.has_python
        bad = [op for op in reasons if strict or not runs_in_python(op)]
        refuse([(str(op.loc), f"{op.name}: {reasons[op]}") for op in bad], self.options.target)
        host = outline(module.main, reasons)
        verify(host.module)
        return host

    def plans(self, module: Module) -> dict[str, Plan]:
        """The finished plan of every ISA variant of the target, for a module that is all native.

        Raises:
            OperatorsUnsupported: it is not.
        """
        module = self.optimize(module)
        require_native(module.main, self.options.target)
        with self.stage("lower"):
            return {
                isa: self.plan(module.main, self.options.target.variant(isa), model_identifier(module.name))
                for isa in self.options.target.variants
            }

    def _plans_of(
        self, functions: Mapping[str, Function], names: Sequence[str], target: Target
    ) -> dict[str, Plan]:
        """Finished plans of functions that share kernels; `names` are their prefixes in C."""
        kernels: dict[str, Kernel] = {}
        return {
            function: self.plan(functions[function], target, name, kernels)
            for function, name in zip(functions, names, strict=True)
        }

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

    def plan(
        self, function: Function, target: Target, name: str, kernels: dict[str, Kernel] | None = None
    ) -> Plan:
        """The finished plan of a function for one ISA variant.

        Args:
            function: the function.
            target: the variant.
            name: its prefix in C.
            kernels: kernels by the keys of their specs, to be shared; new ones are entered.
        """
        options = LoweringOptions(self.options.numerics, name)
        shared = {} if kernels is None else kernels
        experience = self.experience[target.isa]
        most = MOST_CANDIDATES if experience.best else BEST
        everyone = [*self.libraries.chosen(experience), *generators_for(target, most)]
        lowering = Lowering(
            function,
            KernelCatalogue(target, everyone, experience),
            target,
            options,
            shared,
        )
        plan = lowering.run()
        for plan_pass in DEVICE_PLAN_PASSES if target.name == "cuda" else PLAN_PASSES:
            plan_pass.run(plan)
        check_segments(plan)
        check_memory(plan)
        check_barriers(plan)
        return plan

    def emissions(
        self, plans: Mapping[str, Mapping[str, Plan]], profile: bool = False
    ) -> dict[str, Emission]:
        """C text of every variant's plans; with `profile`, an entry that measures the steps beside it."""
        target = self.options.target
        emit = _EMITTERS.get(target.name, emit_all)
        with self.stage("emit"):
            return {
                isa: emit(
                    list(functions.values()), target.variant(isa), alone_below=ALONE_BELOW, profile=profile
                )
                for isa, functions in plans.items()
            }


def bench_for(
    target: Target, toolchain: AnyToolchain, store: Store, cublas: str = ""
) -> tuple[Bench, TuningRecords]:
    """What measures candidates for a target on this machine, and what was measured before.

    On a GPU, `cublas` is the version of the library that is measured too.
    """
    if isinstance(toolchain, Toolchain):
        threads = default_threads()
        records = TuningRecords(store, target, threads, str(toolchain))
        return HostBench(target, toolchain, store, threads), records
    device = open_device()
    beside = f" beside cuBLAS {cublas}" if cublas else ""
    records = TuningRecords(store, target, 1, f"{toolchain} on {device.name}{beside}")
    return DeviceBench(device, target, toolchain, store), records

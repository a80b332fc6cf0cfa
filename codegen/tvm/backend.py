"""The TVM back end: finished plans as a file of TVMScript, and the C around its kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aino_ir.codegen.c.backend import Emission, describe
from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.interface import InterfacePrinter
from aino_ir.codegen.c.program import print_program
from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.codegen.tvm.facts import on_gpu, tvm_target
from aino_ir.codegen.tvm.helpers import Helpers
from aino_ir.codegen.tvm.kernel import PrintedKernel
from aino_ir.codegen.tvm.runtime import HEADER, header_text, source_text
from aino_ir.codegen.tvm.script import print_kernel, print_script
from aino_ir.codegen.tvm.shims import print_shims
from aino_ir.codegen.tvm.walk import walk_text
from aino_ir.kernels import Kernel
from aino_ir.plan import Plan, runs
from aino_ir.target import Target


class TvmInterface(InterfacePrinter):
    """The interface of a model one thread of which walks the steps, and whose kernels use the others."""

    runner = "aino_tvm_run"
    includes = (f'#include "{HEADER}"', "#include <string.h>")


def emit_tvm(
    plans: Sequence[Plan],
    target: Target,
    *,
    alone_below: int = 0,
    profile: bool = False,
    schedules: Mapping[str, Sequence[str]] | None = None,
) -> Emission:
    """Plans that go into one library: a file of TVMScript with all kernels, and mains in C that call them.

    Args:
        plans: finished plans.
        target: facts of one ISA variant.
        alone_below, profile: as for `print_program`.
        schedules: traces in the place of kernels' own, by the keys of their specs.
    """
    kernels, helpers = printed_kernels(plans, target, schedules or {})
    programs = [
        print_program(p, describe(p), alone_below=alone_below, profile=profile, interface=TvmInterface)
        for p in plans
    ]
    name = plans[0].name if plans else "model"
    units = [
        SourceUnit(p.name, program.source, target.isa) for p, program in zip(plans, programs, strict=True)
    ]
    units += [
        SourceUnit(f"{name}_shims", print_shims(kernels), target.isa),
        SourceUnit("aino_tvm", source_text(), target.isa),
    ]
    headers = {**runtime_headers(), HEADER: header_text()}
    headers |= {f"{p.name}.h": program.header for p, program in zip(plans, programs, strict=True)}
    walk = walk_text(plans[0], kernels) if len(plans) == 1 and not on_gpu(target) else ""
    script = print_script(name, kernels, helpers, tvm_target(target), walk) if plans else ""
    return Emission(units, headers, tuple(programs), script)


def printed_kernels(
    plans: Sequence[Plan], target: Target, schedules: Mapping[str, Sequence[str]]
) -> tuple[list[PrintedKernel], Helpers]:
    """Every kernel of some plans, in order of first use, and the helpers that they call."""
    used: dict[str, Kernel] = {}
    for plan in plans:
        for run in runs(plan):
            used.setdefault(run.kernel, plan.kernels[run.kernel])
    helpers = Helpers(on_llvm=not on_gpu(target))
    return [
        print_kernel(kernel, target, helpers, schedules.get(kernel.spec.key)) for kernel in used.values()
    ], helpers

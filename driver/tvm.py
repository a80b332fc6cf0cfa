"""Models as modules of TVM's own: what `aino.to_relax` gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.codegen.tvm.build import load_script, tvm_version
from aino_ir.codegen.tvm.walk import obstacle
from aino_ir.driver.api import Dims, collector_frozen, compile_options, load
from aino_ir.driver.emit import native_program
from aino_ir.driver.gpu import kernels_alone, this_host
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors.toolchain import NotOneRelaxFunction, TvmKernelsAlone
from aino_ir.errors.usage import TargetRunsNothing
from aino_ir.passes.plan_memory import used_constants
from aino_ir.plan import Plan
from aino_ir.runtime.store import opened_or_temporary


def to_relax(
    x: Any,
    target: str = "tvm:llvm",
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    dims: Dims | None = None,
    **options: Any,
) -> Any:
    """A model as an IRModule of TVM's: kernels, and a Relax function `main` that calls them.

    ``tvm.compile`` builds it, ``tvm.relax.VirtualMachine`` runs it, ``export_library`` writes it.  `main`
    takes the inputs in order and gives a tuple of the outputs; behind them stand two status words where
    kernels report errors.  Elements of a type that TVM lacks travel as integers of their bits.

    Args:
        x, example_inputs, dynamic_shapes, dims: as for `compile`.
        target: for which device of TVM's.
        options: level, numerics, verify as for `compile`.

    Raises:
        TvmMissing: TVM is not installed.
        TargetRunsNothing: the target is none of TVM's.
        SourcesNeedPython: ops have no native code.
        TvmKernelsAlone: the target is for threads of a GPU.
        NotOneRelaxFunction: extents, state or control flow that a run decides.
    """
    tvm_version()
    chosen = compile_options(target, **options)
    if chosen.target.name != "tvm":
        raise TargetRunsNothing(target=target, what="a Relax module")
    missing = kernels_alone(chosen.target, this_host())
    if missing:
        raise TvmKernelsAlone(target=str(chosen.target), missing=missing)
    compilation = Compilation(chosen)
    module = load(x, example_inputs, dynamic_shapes, dims)
    with collector_frozen():
        program = native_program(compilation, module, "relax")
        (plan,) = program.functions.values()
        why = obstacle(plan)
        if why:
            raise NotOneRelaxFunction(model=module.name, what=why)
        (emission,) = compilation.emissions(program.plans).values()
    with opened_or_temporary() as store, store.work_folder() as folder:
        place = folder / f"{plan.name}.py"
        place.write_text(emission.script, encoding="ascii")
        return load_script(place).relax_module(weights_section(plan))


def weights_section(plan: Plan) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of a plan's constants, each at its offset."""
    constants = [(int(b.offset), constant_bytes(b)) for b in used_constants(plan)]  # type: ignore[arg-type]
    section = np.zeros(max((at + len(data) for at, data in constants), default=0), np.uint8)
    for at, data in constants:
        section[at : at + len(data)] = np.frombuffer(data, np.uint8)
    return section

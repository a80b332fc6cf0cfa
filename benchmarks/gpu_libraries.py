"""Products by cuBLAS whether or not they are faster: to see on a device that the calls are right."""

from __future__ import annotations

from aino_ir.codegen.catalogue import identity
from aino_ir.codegen.cuda.library_products import LibraryProductGenerator
from aino_ir.driver.api import compile_options
from aino_ir.driver.gpu import toolchain_for
from aino_ir.driver.pipeline import Compilation
from aino_ir.graph import Module
from aino_ir.kernels import Candidate
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.executable import Executable, open_executable
from aino_ir.runtime.store import opened_or_temporary


def compiled_by_library(module: Module, target: str) -> Executable:
    """A module compiled with calls of cuBLAS for all products that it could do; nothing is measured.

    Raises:
        AssertionError: there is no such product.
    """
    options = compile_options(target, verify="off")
    compilation = Compilation(options)
    found = 0
    for isa, functions in Compilation(options).program(module).plans.items():
        goal, best = options.target.variant(isa), compilation.experience[isa].best
        for kernel in (k for plan in functions.values() for k in plan.kernels.values()):
            for answer in LibraryProductGenerator().candidates(kernel.spec, goal):
                if isinstance(answer, Candidate):
                    best[kernel.spec.key] = identity(answer)
                    found += 1
    assert found, "cuBLAS does none of its products"
    with opened_or_temporary() as store:
        writer = compilation.artifact(module, toolchain_for(options.target, store), store)
    return open_executable(Artifact.from_bytes(writer.to_bytes()), None)

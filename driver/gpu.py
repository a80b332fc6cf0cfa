"""What a compilation for GPUs does differently: the compiler, cubins, and what spills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain, find_toolchain
from aino_ir.codegen.catalogue import KernelCatalogue, identity
from aino_ir.codegen.cuda.backend import library_of, spilling
from aino_ir.codegen.cuda.cubins import compile_cubins
from aino_ir.codegen.cuda.emulated.compiler import EmulatedCompiler
from aino_ir.codegen.cuda.emulated.cublas import EmulatedCublas
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.codegen.cuda.toolchain import CudaToolchain, find_cuda_toolchain
from aino_ir.isa import GPU
from aino_ir.kernels import Candidate, Kernel
from aino_ir.library_calls import CUBLAS
from aino_ir.plan import Plan
from aino_ir.runtime.cubins import CubinLibrary
from aino_ir.runtime.cuda.device import gpu_architecture
from aino_ir.runtime.cuda.driver import Driver, driver_in_use
from aino_ir.runtime.store import Store, opened_or_temporary
from aino_ir.target import Host, Target, detect_host

AnyToolchain = Toolchain | CudaToolchain

AS_FAST = 2.0
"""A candidate that spills is given up for one whose modelled cost is at most so many times its own."""

_compilers: list[CudaToolchain] = []


def this_host() -> Host:
    """The facts of this machine, its first GPU included."""
    return replace(detect_host(), gpu=gpu_architecture())


def toolchain_for(target: Target, store: Store, calls: CompilerCalls | None = None) -> AnyToolchain:
    """The compiler for a target.

    Raises:
        NoCompiler, NoCrossCompiler, NoCudaCompiler, CompilerUnusable: there is none.
    """
    if target.name != "cuda":
        return find_toolchain(store, calls=calls, target=target)
    return _compilers[-1] if _compilers else find_cuda_toolchain()


def kernels_alone(target: Target, host: Host) -> str:
    """What is missing to run kernels that TVM makes for a GPU; empty for processors."""
    if target.name != "tvm" or target.arch != GPU:
        return ""
    device = "" if host.gpu and target.device.startswith("cuda") else ", nor such a device here"
    return f"there is no host program for TVM's kernels on GPUs{device}"


def cubin_libraries(
    emissions: Mapping[str, Emission],
    toolchain: CudaToolchain,
    store: Store,
    calls: CompilerCalls | None,
    jobs: int | None,
) -> dict[str, bytes]:
    """The library of every architecture."""
    units = [unit for emission in emissions.values() for unit in emission.units]
    headers = {name: text for e in emissions.values() for name, text in e.headers.items()}
    cubins = iter(compile_cubins(units, headers, toolchain, store, calls, jobs))
    made = {isa: [next(cubins) for _ in e.units] for isa, e in emissions.items()}
    maker = str(toolchain)
    return {isa: library_of(e.units, made[isa], maker).to_bytes() for isa, e in emissions.items()}


def spillers(
    plans: Sequence[Plan], library: bytes, isa: str, catalogue: KernelCatalogue
) -> Iterator[tuple[Kernel, str]]:
    """Kernels that spill and for which there is another candidate, as fast by its model; with the reason."""
    entries = CubinLibrary.from_bytes(library, isa).entries
    kernels = {name: kernel for plan in plans for name, kernel in plan.kernels.items()}
    for name, size in spilling(plans, {n: taken for n, (_, taken) in entries.items()}).items():
        kernel = kernels[name]
        if kernel.candidate.library is not None:  # it only stands beside what was measured to be faster
            continue
        most, own = AS_FAST * kernel.candidate.cost, identity(kernel.candidate)
        others = [
            a
            for a in catalogue.candidates(kernel.spec)
            if isinstance(a, Candidate) and identity(a) != own and a.cost <= most
        ]
        if others:
            yield kernel, f"a thread spills {size} bytes"


@contextmanager
def emulated_gpu(
    gpus: EmulatedGpus | None = None, messages: str = "", cublas: EmulatedCublas | None = None
) -> Iterator[EmulatedGpus]:
    """Compile for, and run on, GPUs that are emulated by this process, for tests and dry runs.

    Args:
        gpus: the devices; one of compute capability 8.0 when None.
        messages: what the compiler says of every unit, as ``ptxas -v`` would.
        cublas: the library beside the devices `gpus`; None: it is not installed.
    """
    devices = gpus if gpus is not None else EmulatedGpus()
    libraries = {} if cublas is None else {CUBLAS: cublas.functions}
    with opened_or_temporary() as store:
        compiler = EmulatedCompiler(find_toolchain(store), messages)
    _compilers.append(compiler)
    try:
        with driver_in_use(Driver(devices.functions, libraries)):
            yield devices
    finally:
        _compilers.remove(compiler)

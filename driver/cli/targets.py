"""``ainoc targets``: what models can be compiled for, and run on, this machine, and why the rest cannot."""

from __future__ import annotations

import importlib.util
from typing import Any

import click

from aino_ir.codegen.c.toolchain import compiler_obstacle, find_toolchain
from aino_ir.codegen.cuda.toolchain import find_cuda_toolchain
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.extend import load_entry_points
from aino_ir.driver.gpu import kernels_alone, this_host
from aino_ir.errors.base import AinoError
from aino_ir.isa import GPU, ISAS
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.runtime.tables import format_table
from aino_ir.target import Host, Target, known_targets, parse_target

WHAT = {
    "c": "C for this processor",
    "cuda": "CUDA C++ for the first GPU of this machine",
    "tvm:llvm": "TensorIR with schedules, built by TVM for this processor",
    "tvm:llvm -mtriple=aarch64-linux-gnu": "TensorIR with schedules for 64-bit ARM",
    "tvm:cuda": "TensorIR with schedules for threads of GPUs, as CUDA C++ (--emit tvm)",
    "tvm:opencl": "TensorIR with schedules for threads of GPUs, as OpenCL C (--emit tvm)",
    "tvm:metal": "TensorIR with schedules for threads of GPUs, as Metal (--emit tvm)",
    "stablehlo": "StableHLO as text, run by XLA",
    "reference": "the interpreter: every op in Python on numpy",
    "null": "compiles as far as C text and runs nothing",
}
"""Target -> what it is."""

NEEDS = {"stablehlo": "jaxlib", "tvm": "tvm"}
"""Target -> the package without which it is text alone."""

HEADINGS = ("target", "what", "can be built", "runs here")


@click.command()
@common_options
@click.pass_obj
def command(shell: Shell) -> None:
    """List the targets, whether they can be built and run here, and the C compiler."""
    load_entry_points()
    host = this_host()
    rows = [target_row(name, host) for name in known_targets()]
    compiler = compiler_name()
    machine = {
        "arch": host.arch,
        "cpu": host.cpu,
        "cores": host.cores,
        "isa": host.isa().name,
        "gpu": host.gpu,
    }
    table = format_table(HEADINGS, [tuple(row[h] for h in HEADINGS) for row in rows])
    processor = f"{host.cpu} ({host.arch}, {host.isa().name}, {host.cores} cores)"
    text = f"{table}\n\nprocessor: {processor}\nGPU: {host.gpu or 'none'}\ncompiler: {compiler}"
    shell.result({"targets": rows, "machine": machine, "compiler": compiler}, text)


def target_row(name: str, host: Host) -> dict[str, Any]:
    """One target: what it is, whether it can be built here, and whether its code runs here."""
    target = parse_target(name, host)
    answers = (described(name, target), build_obstacle(target), run_obstacle(target, host))
    what, *obstacles = answers
    shown = (f"no: {obstacle}" if obstacle else "yes" for obstacle in obstacles)
    return dict(zip(HEADINGS, (name, what, *shown), strict=True))


def described(name: str, target: Target) -> str:
    """What a target is."""
    if name in WHAT or target.name not in ("c", "cuda"):
        return WHAT.get(name, target.name)
    if target.name == "cuda":
        return "; ".join(ISAS[isa].what for isa in target.variants)
    system = "" if target.system in ("linux", "none") else f", {target.system}"
    facts = [ISAS[isa] for isa in target.variants]
    parts = [f.what or f"{f.name} ({8 * f.vector_bytes} bit)" for f in facts]
    return f"C for {', '.join(parts)}{system}"


def build_obstacle(target: Target) -> str:
    """Why a target cannot be built on this machine; empty when it can."""
    if target.name == "tvm" and target.arch == GPU:
        return missing_package(target)
    if target.name in ("c", "tvm"):
        return compiler_obstacle(target) or missing_package(target)
    return cuda_compiler_obstacle() if target.name == "cuda" else missing_package(target)


def run_obstacle(target: Target, host: Host) -> str:
    """Why a target's code does not run on this machine; empty when it does."""
    if target.name == "null":
        return "it runs nothing"
    if target.name in ("c", "cuda", "tvm"):
        return kernels_alone(target, host) or host.obstacle(target, target.variants[0])
    return missing_package(target)


def missing_package(target: Target) -> str:
    """The package that a target lacks, in words."""
    package = NEEDS.get(target.name)
    return f"needs the package {package}" if package and importlib.util.find_spec(package) is None else ""


def cuda_compiler_obstacle() -> str:
    """Why there is no compiler of CUDA C++; empty when there is."""
    try:
        find_cuda_toolchain()
    except AinoError as error:
        return error.message
    return ""


def compiler_name() -> str:
    """The C compiler that would be used, or why there is none."""
    try:
        with opened_or_temporary() as store:
            toolchain = find_toolchain(store)
            return f"{toolchain} ({toolchain.command})"
    except AinoError as error:
        return f"none: {error.message}"

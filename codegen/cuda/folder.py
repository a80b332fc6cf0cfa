"""A model as a folder of CUDA C++ that builds with plain nvcc: kernels, host program, weights, a small main.

Nothing in it needs Python or AINO.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from aino_ir.codegen.c.backend import Emission, describe
from aino_ir.codegen.c.plan_text import filled
from aino_ir.codegen.c.standalone import (
    FILE_HELPERS,
    SizePrinter,
    file_table,
    main_lines,
    wrapped,
    write_folder,
)
from aino_ir.codegen.cuda.host import print_host
from aino_ir.plan import Plan
from aino_ir.runtime.fileio import DISK, Disk
from aino_ir.target import Target

FLAGS = ("-O3", "-std=c++17", "-fmad=false")
"""What the sources are compiled with: sums and products are fused only where the program says so."""


def architecture_flags(isa: str) -> tuple[str, ...]:
    """What tells nvcc an architecture: for some with features of their own, ``-arch`` means others, too."""
    if isa.endswith("a"):
        return "-gencode", f"arch={isa.replace('sm_', 'compute_')},code={isa}"
    return (f"-arch={isa}",)


def write_cuda(
    folder: Path,
    emission: Emission,
    plan: Plan,
    target: Target,
    weights: Iterable[tuple[int, bytes]],
    disk: Disk = DISK,
) -> list[Path]:
    """Write a plan's CUDA C++ into `folder` (made if absent) and return the files written.

    Args:
        folder: where; files of the same names are replaced, others are left alone.
        emission: the kernels for one architecture.
        plan: the plan that was emitted.
        target: that architecture.
        weights: (offset, bytes) of every constant, in order of offset.
        disk: the layer to write through.

    Raises:
        DiskFull, FileNotWritable: as the disk says; then no file has been replaced.
        NoSpelling: an input or output is no tensor.
    """
    return write_folder(folder, cuda_texts(emission, plan, target), f"{plan.name}.weights", weights, disk)


def cuda_texts(emission: Emission, plan: Plan, target: Target) -> dict[str, str]:
    """Every text file of the folder by name."""
    name = plan.name
    host = print_host(plan, describe(plan))
    sources = {f"{unit.name}.cu": unit.text for unit in emission.units} | {f"{name}.cu": host.source}
    command = [*FLAGS, *architecture_flags(target.isa), *sources, f"{name}_main.cu"]
    main = main_text(plan, command)
    return {
        **sources,
        **emission.headers,
        f"{name}.h": host.header,
        f"{name}_main.cu": main,
        "Makefile": filled(
            _MAKEFILE,
            NAME=name,
            FLAGS=" ".join([*FLAGS, *architecture_flags(target.isa)]),
            SOURCES=" ".join([*sources, f"{name}_main.cu"]),
        ),
        f"{name}.json": json.dumps(json.loads(describe(plan)), indent=1, sort_keys=True) + "\n",
    }


def main_text(plan: Plan, command: list[str]) -> str:
    """A program that runs the model once on files of raw values."""
    name, printer = plan.name, SizePrinter(plan)
    lines = main_lines(plan, printer, "to_device", "on_device", "from_device")
    return filled(
        _MAIN,
        NAME=name,
        COMMAND=wrapped(["nvcc", *command], " *     "),
        USAGE=wrapped([f"./{name}_main", f"{name}.weights", *lines.words], " *     "),
        TABLE="\n".join(t for t in (file_table("in", plan.inputs), file_table("out", plan.outputs)) if t),
        COUNT=str(1 + len(lines.words)),
        HELPERS="\n\n".join([*printer.helpers(), FILE_HELPERS, _DEVICE_HELPERS]),
        VALUES=lines.values,
        READS=lines.reads,
        PLACES=lines.places,
        TOLD=lines.told,
        WRITES=lines.writes,
    )


_MAKEFILE = """\
# Builds the example program NAME_main; `make NVCC=/path/to/nvcc`.
NVCC ?= nvcc
NAME_main: SOURCES
	$(NVCC) FLAGS $^ -o $@
"""

_DEVICE_HELPERS = """\
static void expect(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "CUDA: %s\\n", cudaGetErrorString(error));
        exit(4);
    }
}

static void *on_device(size_t bytes)
{
    void *memory = NULL;
    expect(cudaMalloc(&memory, bytes ? bytes : 1));
    return memory;
}

static void *to_device(const char *path, size_t bytes)
{
    void *values = read_file(path, (int64_t)bytes), *memory = on_device(bytes);
    expect(cudaMemcpy(memory, values, bytes, cudaMemcpyHostToDevice));
    free(values);
    return memory;
}

static void from_device(const char *path, const void *memory, int64_t bytes)
{
    void *values = allocate((size_t)bytes);
    expect(cudaMemcpy(values, memory, (size_t)bytes, cudaMemcpyDeviceToHost));
    write_file(path, values, bytes);
    free(values);
}"""

_MAIN = """\
/* Runs NAME once on a GPU, on files of raw values.
 *
 * Build (or use the Makefile):
 *     COMMAND \\
 *         -o NAME_main
 * Run:
 *     USAGE
 *
TABLE
 */
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "NAME.h"

HELPERS

int main(int argc, char **argv)
{
    NAME_context *context = NULL;
    void *weights;
    int status;
    if (argc - 1 != COUNT) {
        fprintf(stderr, "expected COUNT arguments, got %d: see NAME_main.cu\\n", argc - 1);
        return 2;
    }
    weights = read_file(argv[1], -1);VALUES
    const void *const in[] = {
READS
    };
    void *const out[] = {
PLACES
    };
    status = NAME_create(weights, &context);
    if (!status)
        status = NAME_run(context, in, out, NULL);
    if (status) {
        fprintf(stderr, "NAME failed: code %d in step %d%s%s\\n", status & 255, status >> 8,
                (status & 255) == 19 ? ": " : "", (status & 255) == 19 ? NAME_error(context) : "");
        return 1;
    }TOLD
WRITES
    NAME_destroy(context);
    return 0;
}
"""

"""A model as a folder of C that builds alone: sources, headers, weights, CMakeLists and a small main.

Nothing in it needs Python or AINO: a C11 compiler (GCC or Clang), libm and POSIX threads are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.dialects import dialect
from aino_ir.codegen.c.helpers import Helpers
from aino_ir.codegen.c.interface import given_outputs
from aino_ir.codegen.c.platforms import platform
from aino_ir.codegen.cstyle.index import IndexPrinter, Ranges
from aino_ir.codegen.cstyle.names import Names, comment
from aino_ir.dims import product
from aino_ir.dtypes import i64
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import VecType
from aino_ir.plan import Plan
from aino_ir.runtime.fileio import DISK, Disk, Part, disk_errors, new_part
from aino_ir.target import Target
from aino_ir.types import TensorType, Type

FLAGS = (
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fwrapv",
    "-fno-strict-aliasing",
    "-Wno-psabi",
)
"""What the meaning of the sources depends on, and a warning about functions that are all inlined."""


def write_standalone(
    folder: Path,
    emission: Emission,
    plan: Plan,
    target: Target,
    weights: Iterable[tuple[int, bytes]],
    disk: Disk = DISK,
) -> list[Path]:
    """Write a plan's C into `folder` (made if absent) and return the files written.

    Args:
        folder: where; files of the same names are replaced, others are left alone.
        emission: the sources of one ISA variant.
        plan: the plan that was emitted.
        target: the facts of that variant.
        weights: (offset, bytes) of every constant, in order of offset.
        disk: the layer to write through.

    Raises:
        DiskFull, FileNotWritable: as the disk says; then no file has been replaced.
        NoSpelling: an input or output is no tensor.
    """
    folder_of = dialect(target.isa).folder
    if folder_of is None:
        texts = standalone_texts(emission, plan, target)
    else:
        sources = {f"{unit.name}.c": unit.text for unit in emission.units}
        texts = {**sources, **emission.headers, **folder_of(plan, target, list(sources), weights)}
    name = f"{plan.name}.weights" if folder_of is None else ""
    return write_folder(folder, texts, name, weights, disk)


def write_folder(
    folder: Path,
    texts: Mapping[str, str],
    weights_name: str,
    weights: Iterable[tuple[int, bytes]],
    disk: Disk = DISK,
) -> list[Path]:
    """Write texts, and weights where they have a name, into a folder: all of them or none.

    Raises:
        DiskFull, FileNotWritable: as the disk says; then no file has been replaced.
    """
    with disk_errors(folder), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        parts: list[tuple[Part, Path]] = []
        for name, text in texts.items():
            part = stack.enter_context(new_part(folder, disk, 0o666))
            disk.write(part.fd, text.encode("ascii"))
            parts.append((part, folder / name))
        if weights_name:
            part = stack.enter_context(new_part(folder, disk, 0o666))
            _write_weights(part, weights, disk)
            parts.append((part, folder / weights_name))
        for part, path in parts:
            part.publish(path, durable=False)
    return [path for _, path in parts]


def _write_weights(part: Part, weights: Iterable[tuple[int, bytes]], disk: Disk) -> None:
    position = 0
    for offset, data in weights:
        disk.write(part.fd, b"\0" * (offset - position))
        disk.write(part.fd, data)
        position = offset + len(data)
    disk.write(part.fd, b"\0" * (-position % 64))


def standalone_texts(emission: Emission, plan: Plan, target: Target) -> dict[str, str]:
    """Every text file of the folder by name."""
    sources = {f"{unit.name}.c": unit.text for unit in emission.units}
    main = f"{plan.name}_main.c"
    return {
        **sources,
        **emission.headers,
        main: main_text(plan, target, list(sources)),
        "CMakeLists.txt": cmake_text(plan.name, target, list(sources)),
    }


def isa_flags(target: Target) -> list[str]:
    """Compiler flags for the processor that the sources are for."""
    flags = platform(target.arch, target.system).cpu.get("clang")
    return list(flags) if flags is not None else dialect(target.isa).table.flags.split()


def cmake_text(name: str, target: Target, sources: list[str]) -> str:
    """A CMakeLists with a library and the example program."""
    files = "\n".join(f"  {source}" for source in sources)
    flags = "\n".join(f"  {flag}" for flag in (*FLAGS, *isa_flags(target)))
    return f"""\
cmake_minimum_required(VERSION 3.13)
project({name} C)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(Threads REQUIRED)

add_library({name}
{files}
)
target_compile_options({name} PRIVATE
{flags}
  $<$<C_COMPILER_ID:GNU>:-fira-region=one>
)
set_target_properties({name} PROPERTIES C_STANDARD 11 C_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON)
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_link_libraries({name} PUBLIC Threads::Threads m)

add_executable({name}_main {name}_main.c)
target_link_libraries({name}_main PRIVATE {name})
"""


def main_text(plan: Plan, target: Target, sources: list[str]) -> str:
    """A program that runs the model once on files of raw values."""
    name, printer = plan.name, SizePrinter(plan)
    command = ["cc", "-std=gnu11", "-O3", *FLAGS, *isa_flags(target), *sources, f"{name}_main.c"]
    lines = main_lines(plan, printer, "read_file", "allocate", "write_file")
    return _MAIN.format(
        name=name,
        command=wrapped(command, " *     "),
        usage=wrapped([f"./{name}_main", f"{name}.weights", *lines.words], " *     "),
        inputs=file_table("in", plan.inputs),
        outputs=file_table("out", plan.outputs),
        count=1 + len(lines.words),
        helpers="\n\n".join([*printer.helpers(), FILE_HELPERS]),
        symbols=lines.values,
        reads=lines.reads,
        allocations=lines.places,
        decided=lines.told,
        writes=lines.writes,
    )


@dataclass(frozen=True)
class MainLines:
    """What the example programs of all languages share: their arguments, and the lines that use them.

    Attributes:
        words: the arguments behind the file of weights.
        values: declarations of symbols and of what the model fills in.
        reads: the model's inputs, as arguments of its call.
        places: where its outputs go, likewise.
        told: extents that the call has decided.
        writes: outputs on their way to files.
    """

    words: list[str]
    values: str
    reads: str
    places: str
    told: str
    writes: str


def main_lines(plan: Plan, printer: SizePrinter, read: str, allocate: str, write: str) -> MainLines:
    """The lines of an example program, by the names of its functions that read, allocate and write."""
    entry, given = plan.entry_symbols, given_outputs(plan)
    words = [*entry, *file_names("in", plan.inputs), *file_names("out", plan.outputs)]
    place = iter(range(2, 2 + len(words)))
    values = [f"    const int64_t {printer.names[s]} = atoll(argv[{next(place)}]);" for s in entry]
    reads = [f"        {read}(argv[{next(place)}], {printer.bytes(t)})," for _, t in plan.inputs]
    if entry:
        known = ", ".join(printer.names[s] for s in entry)
        values.append(f"    const int64_t symbols[] = {{{known}}};")
        reads.append("        symbols,")
    sizes = [printer.bytes(t) for _, t in plan.outputs]
    places = [
        f"        &given[{i}]," if i in given else f"        {allocate}((size_t)({size})),"
        for i, size in enumerate(sizes)
    ]
    if given:
        values.append(f"    void *given[{len(sizes)}] = {{0}};")
    if plan.decided:
        values.append(f"    int64_t decided[{len(plan.decided)}];")
        places.append("        decided,")
    told = [f"    const int64_t {printer.names[s]} = decided[{i}];" for i, s in enumerate(plan.decided)]
    told += [f"    (void){printer.names[s]};" for s in plan.decided]
    writes = [
        f"    {write}(argv[{next(place)}], {f'given[{i}]' if i in given else f'out[{i}]'}, {size});"
        for i, size in enumerate(sizes)
    ]
    return MainLines(
        words,
        values="\n".join(["", *values]) if values else "",
        reads="\n".join(reads or ["        NULL,"]),
        places="\n".join(places or ["        NULL,"]),
        told="\n".join(["", *told]) if told else "",
        writes="\n".join(writes),
    )


class SizePrinter:
    """Sizes of tensors as C expressions over the plan's symbols."""

    def __init__(self, plan: Plan) -> None:
        self.names = Names(
            ("argc", "argv", "in", "out", "weights", "context", "status", "symbols", "given", "decided")
        )
        self._helpers = Helpers("vec128", 16)
        ranges = Ranges(dict(plan.symbol_bounds))
        self._indices = IndexPrinter(self.names, ranges, lambda op: self._helpers.operation(op, VecType(i64)))

    def bytes(self, type_: Type) -> str:
        """The bytes of a dense tensor."""
        if not isinstance(type_, TensorType):
            raise NoSpelling(operation="an interface value", type=str(type_), target="C")
        return self._indices.code(product(type_.shape) * type_.dtype.bytes).text

    def helpers(self) -> list[str]:
        """The functions that these expressions call."""
        return ["#define INLINE static inline", *self._helpers.texts] if self._helpers.texts else []


def file_names(kind: str, values: list[tuple[str, Type]]) -> list[str]:
    """The file of each input or output."""
    return [f"{kind}{i}.bin" for i in range(len(values))]


def file_table(kind: str, values: list[tuple[str, Type]]) -> str:
    """What each of these files holds, as lines of a comment."""
    return "\n".join(f" * {kind}{i}.bin: {comment(f'{n}, {t}')}" for i, (n, t) in enumerate(values))


def wrapped(words: list[str], margin: str) -> str:
    """Words of a command in lines that a shell can read."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > 90:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{word}"
    return f" \\\n{margin}    ".join([*lines, line])


FILE_HELPERS = """\
static void *allocate(size_t bytes)
{
    void *memory = NULL;
#if defined(_WIN32)
    memory = _aligned_malloc(bytes ? bytes : 1, 64);
#else
    if (posix_memalign(&memory, 64, bytes ? bytes : 1))
        memory = NULL;
#endif
    if (!memory) {
        fprintf(stderr, "no memory for %zu bytes\\n", bytes);
        exit(4);
    }
    return memory;
}

/* The first `bytes` bytes of a file, all of it when -1. */
static void *read_file(const char *path, int64_t bytes)
{
    FILE *file = fopen(path, "rb");
    void *memory;
    if (file && bytes < 0 && !fseek(file, 0, SEEK_END)) {
        bytes = ftell(file);
        rewind(file);
    }
    memory = allocate(bytes < 0 ? 0 : (size_t)bytes);
    if (!file || bytes < 0 || fread(memory, 1, (size_t)bytes, file) != (size_t)bytes) {
        fprintf(stderr, "cannot read %lld bytes of %s\\n", (long long)bytes, path);
        exit(1);
    }
    fclose(file);
    return memory;
}

static void write_file(const char *path, const void *memory, int64_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(memory, 1, (size_t)bytes, file) != (size_t)bytes || fclose(file)) {
        fprintf(stderr, "cannot write %s\\n", path);
        exit(4);
    }
}"""

_MAIN = """\
/* Runs {name} once, on files of raw values.
 *
 * Build (or use the CMakeLists):
 *     {command} \\
 *         -lm -lpthread -o {name}_main
 * (gcc makes faster code with -fira-region=one).
 * Run:
 *     {usage}
 *
{inputs}
{outputs}
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#endif

#include "{name}.h"

{helpers}

int main(int argc, char **argv)
{{
    {name}_context *context;
    int status;
    if (argc - 1 != {count}) {{
        fprintf(stderr, "expected {count} arguments, got %d: see {name}_main.c\\n", argc - 1);
        return 2;
    }}
    const void *weights = read_file(argv[1], -1);{symbols}
    const void *const in[] = {{
{reads}
    }};
    void *const out[] = {{
{allocations}
    }};
    status = {name}_create(weights, 1, &context);
    if (!status)
        status = {name}_run(context, in, out);
    if (status) {{
        fprintf(stderr, "{name} failed: code %d in step %d\\n", status & 255, status >> 8);
        return 1;
    }}{decided}
{writes}
    {name}_destroy(context);
    return 0;
}}
"""

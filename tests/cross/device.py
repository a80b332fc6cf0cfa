"""Runs a model on an emulated microcontroller: the folder that `--emit c` writes, linked into a firmware."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.codegen.c.process import Command, run_commands
from aino_ir.codegen.c.toolchain import Toolchain, find_toolchain
from aino_ir.driver.emit import emit_files
from aino_ir.dtypes import DType
from aino_ir.graph import Module
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

HERE = Path(__file__).parent
TARGET = "c:cortex-m"
EMULATOR = (
    "qemu-system-arm",
    "-machine",
    "mps2-an386",
    "-cpu",
    "cortex-m4",
    "-nographic",
    "-monitor",
    "none",
)
SEMIHOSTING = ("-serial", "none", "-semihosting-config", "enable=on,target=native")

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic-errors", "-Wno-overlength-strings")
"""The folder must be C99 to the letter."""


def missing() -> str:
    """What has to be installed first; empty when all is there."""
    return "" if shutil.which(EMULATOR[0]) else "apt install qemu-system-arm"


def run_on_device(
    module: Module, inputs: Sequence[Array], folder: Path, store: Store, runs: int = 2
) -> list[Array]:
    """Outputs of a module on the emulated device, of the last of so many runs."""
    written = emit_files(module, "c", folder, TARGET, verify="off")
    name = next(p.stem for p in written if p.suffix == ".h" and not p.stem.startswith("aino_"))
    outputs = [v.type for v in module.main.outputs]
    (folder / "case.h").write_text(_case(name, inputs, outputs, runs), encoding="ascii")
    for file in ("firmware.c", "firmware.ld"):
        shutil.copy(HERE / file, folder / file)
    tool = find_toolchain(store, {}, target=parse_target(TARGET))
    sources = [p.name for p in written if p.suffix == ".c"]
    _build(tool, folder, sources)
    done = subprocess.run(
        [*EMULATOR, *SEMIHOSTING, "-kernel", "firmware"], cwd=folder, capture_output=True, timeout=300
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode()[-400:]}"
    text = (done.stdout + done.stderr).decode()
    words = np.array([int(line, 16) for line in text.split() if len(line) == 8], np.uint32)
    return _arrays(words, outputs)


def _build(tool: Toolchain, folder: Path, sources: Sequence[str]) -> None:
    """Compile and link the firmware."""
    goal = parse_target(TARGET).isa
    commands = [tool.compile_command(goal, s, f"{s}.o", folder, STRICT) for s in sources]
    commands.append(tool.compile_command(goal, "firmware.c", "firmware.c.o", folder))
    for outcome in run_commands(commands, 1, 300.0):
        assert outcome.ok, outcome.output
    zig, target = tool.argv[: tool.argv.index("cc")], tool.argv[tool.argv.index("-target") :]
    link = (
        *zig,
        "build-exe",
        "-O",
        "ReleaseSmall",
        "-fstrip",
        *target[:2],
        *tool.platform.cpu["zig"],
        "-fcompiler-rt",
    )
    objects = [f"{s}.o" for s in (*sources, "firmware.c")]
    script = ("--script", "firmware.ld", "--gc-sections", "-femit-bin=firmware")
    (outcome,) = run_commands([Command((*link, *objects, *script), folder, dict(tool.environ))], 1, 600.0)
    assert outcome.ok, outcome.output


def _case(name: str, inputs: Sequence[Array], outputs: Sequence[Any], runs: int) -> str:
    """The header that the firmware includes."""
    lines = ["#include <stdint.h>", f'#include "{name}.h"', f"extern const uint64_t {name}_weights[];"]
    lines += [
        f"#define CASE_{part.upper()} {name}_{part}" for part in ("context", "create", "run", "weights")
    ]
    lines += [f"#define CASE_RUNS {runs}", f"#define CASE_OUTPUTS {len(outputs)}"]
    for i, array in enumerate(inputs):
        data = array.tobytes().ljust(-(-max(1, array.nbytes) // 8) * 8, b"\0")
        words = ", ".join(f"0x{w:x}u" for w in np.frombuffer(data, np.uint32))
        lines.append(f"static const uint32_t in{i}[] __attribute__((aligned(8))) = {{{words}}};")
    sizes = [_words(t) for t in outputs]
    lines += [f"static uint64_t out{i}[{max(1, -(-size // 2))}];" for i, size in enumerate(sizes)]
    names = ", ".join([*(f"in{i}" for i in range(len(inputs))), "0"])
    lines.append(f"static const void *const case_inputs[] = {{{names}}};")
    lines.append(
        f"static void *const case_outputs[] = {{{', '.join(f'out{i}' for i in range(len(sizes)))}}};"
    )
    lines.append(f"static const uint32_t case_words[] = {{{', '.join(map(str, sizes))}}};")
    return "\n".join(lines) + "\n"


def _words(type_: Any) -> int:
    assert isinstance(type_, TensorType)
    return -(-int(type_.size) * type_.dtype.bytes // 4)  # type: ignore[call-overload,no-any-return]


def _arrays(words: Array, outputs: Sequence[Any]) -> list[Array]:
    """The printed words as the outputs."""
    made, position = [], 0
    for type_ in outputs:
        count, dtype = _words(type_), type_.dtype
        assert isinstance(dtype, DType)
        data = words[position : position + count].tobytes()[: int(type_.size) * dtype.bytes]
        made.append(np.frombuffer(data, dtype.numpy).reshape([int(d) for d in type_.shape]))
        position += count
    assert position == len(words), f"{len(words)} words instead of {position}"
    return made

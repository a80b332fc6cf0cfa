"""Control flow as a program of its own, on two threads, under the sanitizers of gcc: no race, no stray access."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.c.backend import emit
from aino_ir.codegen.c.standalone import FLAGS, standalone_texts
from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.plan_memory import used_constants
from tests.codegen.native import planned, target
from tests.codegen.region_cases import CASES as STATIC
from tests.driver.test_decided_control import CASES as DECIDED

SANITIZERS = {
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "address": [
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-sanitize=alignment",
    ],
}
RUNS = 20
"""Runs of one context in a row, so that barriers and memory of one run meet those of the next."""

MODULES = (
    "loops_in_loops",
    "a_choice_in_a_loop",
    "a_recurrent_cell",
    "carried_values_that_change_places",
    "grown_stacks_in_a_loop",
    "values_that_change_places_and_extents",
    "a_choice_that_decides",
)


def module_and_inputs(name: str) -> tuple[Module, list[np.ndarray[Any, Any]]]:
    """A module, and those of its inputs that keep it longest at work."""
    if name in STATIC:
        case = STATIC[name]()
        return case.module, list(case.inputs[-1])
    module, inputs = DECIDED[name]()
    return module, list(inputs[-1])


def build(module: Module, folder: Path, flags: list[str]) -> Path:
    """The program, which runs the model again and again on two threads and writes the last results."""
    facts = target("c:vec128")
    plan = planned(module, "c:vec128", name="guarded")
    texts = standalone_texts(emit(plan, facts), plan, facts)
    main = texts["guarded_main.c"]
    once = "        status = guarded_run(context, in, out);\n"
    assert once in main and "guarded_create(weights, 1," in main
    again = f"        for (int run = 0; run < {RUNS} && !status; ++run)\n    {once}"
    texts["guarded_main.c"] = main.replace(once, again).replace(
        "guarded_create(weights, 1,", "guarded_create(weights, 2,"
    )
    for name, text in texts.items():
        (folder / name).write_text(text)
    data = b""
    for buffer in used_constants(plan):
        data = data.ljust(int(buffer.offset), b"\0") + constant_bytes(buffer)  # type: ignore[arg-type]
    (folder / "guarded.weights").write_bytes(data.ljust(-(-len(data) // 64) * 64, b"\0"))
    sources = [name for name in texts if name.endswith(".c")]
    command = ["gcc", "-std=gnu11", *FLAGS, *flags, *sources, "-lm", "-lpthread", "-o", "guarded"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "guarded"


@pytest.mark.slow
@pytest.mark.parametrize("kind", SANITIZERS)
@pytest.mark.parametrize("name", MODULES)
def test_no_race_and_no_stray_access(name: str, kind: str, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc with its sanitizers")
    module, inputs = module_and_inputs(name)
    program = build(module, tmp_path, SANITIZERS[kind])
    words = ["guarded.weights"]
    for i, x in enumerate(inputs):
        np.ascontiguousarray(x).tofile(tmp_path / f"in{i}.bin")
        words.append(f"in{i}.bin")
    wanted = [np.asarray(y) for y in run_module(module, list(inputs))]
    outputs = [f"out{i}.bin" for i in range(len(wanted))]
    wrap = ["setarch", os.uname().machine, "-R"] if kind == "thread" and shutil.which("setarch") else []
    environ = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [*wrap, str(program), *words, *outputs],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=environ,
        check=False,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    for file, want in zip(outputs, wanted, strict=True):
        got = np.fromfile(tmp_path / file, want.dtype).reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)

"""The same units compiled by nvcc for devices: text that is right must also be CUDA C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.runtime import cuda_headers
from tests.codegen.cuda.test_block_attention import block_kernels
from tests.codegen.cuda.test_flash_attention import flash_kernels
from tests.codegen.cuda.test_tensor_cores import tiled
from tests.codegen.cuda.test_warp import every_kernel
from tests.codegen.kernels.support import Given, kernels, normal, problem
from tests.codegen.native import target

NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_80", "sm_90a")
EMULATED = "c:cuda-emu"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")]


def problems() -> list[Any]:
    """A kernel of every generator."""
    x, w, rows = normal(40, 33), normal(33, 50), normal(20, 200)
    bodies = [
        (lambda b, x, w: b.gelu(b.matmul(x, w)), (x, w)),
        (lambda b, x: b.softmax(x), (rows,)),
        (lambda b, x: b.argmax(x, axis=1), (rows,)),
        (lambda b, x: b.softmax(x), (x,)),
        (lambda b, x: b.cumsum(x, axis=1), (x,)),
        (lambda b, x: b.cumsum(x, axis=1), (rows,)),
        (lambda b, x: b.top_k(x, k=3), (x,)),
        (lambda b, x: b.top_k(x, k=3), (rows,)),
        (lambda b, x: b.tanh(b.transpose(x, perm=(1, 0))), (x,)),
        (lambda b, x: b.cast(b.cast(x, to="bf16"), to="i8"), (x,)),
    ]
    return [
        problem(lambda b, *v, body=body: _listed(body(b, *v)), *map(Given, operands))
        for body, operands in bodies
    ]


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, tuple) else [made]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_for_devices(architecture: str, tmp_path: Path) -> None:
    functions = {k.fn.name: k.fn for p in problems() for k in kernels(p, EMULATED)}
    functions |= {fn.name: fn for fn in every_kernel()}
    functions |= {k.fn.name: k.fn for k in (*tiled(), *flash_kernels(), *block_kernels())}
    generators = {k.candidate.generator for p in problems() for k in kernels(p, EMULATED)}
    assert {"tile", "block rows", "row", "block scan", "block sort", "nest", "element"} <= generators
    (tmp_path / "kernels.cu").write_text(
        print_unit(list(functions.values()), target(EMULATED)), encoding="ascii"
    )
    for name, text in cuda_headers("linux").items():
        (tmp_path / name).write_text(text, encoding="ascii")
    assert NVCC is not None
    command = [
        NVCC,
        f"-arch={architecture}",
        "-fmad=false",
        "-Xptxas",
        "-v",
        "-cubin",
        "-o",
        "k.cubin",
        "kernels.cu",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", done.stderr)]
    assert len(spills) >= len(functions)
    assert not any(spills)

"""Compilers of CUDA C++: which is taken, what they say of kernels, and that the same text is compiled once."""

from __future__ import annotations

import re
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.toolchain import CompilerCalls
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda import toolchain as tools
from aino_ir.codegen.cuda.cubins import Cubin, compile_cubins, resources_of
from aino_ir.codegen.cuda.launch import BOUNDARY, asked_bytes, shared_bytes
from aino_ir.codegen.cuda.runtime import device_headers
from aino_ir.codegen.cuda.toolchain import Nvcc, Nvrtc, find_cuda_toolchain, nvrtc_library
from aino_ir.errors.cuda import CudaCompilerFailed, NoCudaCompiler
from aino_ir.errors.toolchain import CompilerUnusable
from aino_ir.runtime.cubins import Resources
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target
from tests.codegen.cuda.compiles import count, modules_of_cases
from tests.codegen.cuda.test_block_attention import block_kernels
from tests.codegen.cuda.test_device import problems
from tests.codegen.cuda.test_fetching_kernel import fetching_kernels
from tests.codegen.cuda.test_groups import group_kernels
from tests.codegen.cuda.test_tensor_cores import mixed_kernels
from tests.codegen.kernels.support import Given, kernels, normal, problem

Array = np.ndarray[Any, Any]

NVRTC = nvrtc_library()
ONE_IN = 60
FAKE = """#!{python}
import sys
if "--version" in sys.argv:
    print("Cuda compilation tools, release 13.9, V13.9.1")
    raise SystemExit(0)
text = open("unit.cu").read()
if "broken" in text:
    print("unit.cu(1): error: identifier is undefined")
    raise SystemExit(2)
open("unit.cubin", "wb").write(text.encode())
print("ptxas info : Compiling entry function 'k' for 'sm_80'")
print("    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads")
print("ptxas info : Used 40 registers, 512 bytes smem, 400 bytes cmem[0]")
"""


@pytest.fixture
def nvcc(tmp_path: Path) -> str:
    path = tmp_path / "nvcc"
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "cache")


def test_the_report_of_ptxas_is_read() -> None:
    text = "x\n".join(
        f"ptxas info : Compiling entry function '{n}' for 'sm_80'\nUsed {r} registers, {s} bytes smem\n"
        for n, r, s in (("a", 8, 0), ("b", 255, 4096))
    )
    assert resources_of(text) == {"a": Resources(8, 0), "b": Resources(255, 4096)}
    assert resources_of("nothing of the kind") == {}


def test_cubins_keep_their_report() -> None:
    cubin = Cubin(b"\x7fELF\n\x00", {"k": Resources(40, 512, 16, 12)})
    assert Cubin.from_bytes(cubin.to_bytes()) == cubin


def test_the_same_text_is_compiled_once(nvcc: str, store: Store) -> None:
    tool, calls = find_cuda_toolchain({"AINO_NVCC": nvcc}), CompilerCalls()
    units = [
        SourceUnit("a", "one", "sm_80"),
        SourceUnit("b", "one", "sm_80"),
        SourceUnit("c", "one", "sm_90a"),
    ]
    made = compile_cubins(units, {}, tool, store, calls)
    assert calls.compiles == 2  # two architectures
    assert [c.data for c in made] == [b"one"] * 3
    assert made[0].resources == {"k": Resources(40, 512, 16, 12)}
    assert compile_cubins(units, {}, tool, store, calls) == made
    assert calls.compiles == 2 and calls.object_hits == 2
    compile_cubins(units[:1], {"aino_cuda.h": "new"}, tool, store, calls)
    assert calls.compiles == 3


def test_rejected_text_is_kept(nvcc: str, store: Store) -> None:
    with pytest.raises(CudaCompilerFailed, match=r"nvcc 13.9 rejected generated code \(bad\)") as caught:
        compile_cubins([SourceUnit("bad", "broken", "sm_80")], {}, Nvcc.at(nvcc), store)
    assert "identifier is undefined" in str(caught.value)
    assert Path(caught.value.fields["kept"]).read_text() == "broken"


def test_the_compiler_is_chosen(nvcc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_cuda_toolchain({"AINO_NVCC": nvcc})
    assert isinstance(found, Nvcc) and str(found) == "nvcc 13.9"
    with pytest.raises(CompilerUnusable, match="AINO_NVCC"):
        find_cuda_toolchain({"AINO_NVCC": "no-such-nvcc", "PATH": str(tmp_path)})
    monkeypatch.setattr(tools, "nvrtc_library", lambda: "libnvrtc.so")
    assert find_cuda_toolchain({"PATH": str(tmp_path)}) == Nvrtc("libnvrtc.so")
    monkeypatch.setattr(tools, "nvrtc_library", lambda: None)
    assert isinstance(find_cuda_toolchain({"PATH": str(tmp_path)}), Nvcc)
    with pytest.raises(NoCudaCompiler, match="nvidia-cuda-nvrtc"):
        find_cuda_toolchain({"PATH": str(tmp_path / "empty")})


def test_a_program_without_a_version_is_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "nvcc"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    with pytest.raises(CompilerUnusable, match="no release"):
        Nvcc.at(str(path))


@pytest.mark.slow
@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
def test_nvrtc_compiles_kernels_of_every_generator(store: Store) -> None:
    assert NVRTC is not None
    for architecture in ("sm_80", "sm_90a"):
        target = parse_target(f"cuda:{architecture}")
        functions = {k.fn.name: k.fn for p in problems() for k in kernels(p, str(target))}
        functions |= {
            k.fn.name: k.fn
            for k in (*block_kernels(), *mixed_kernels(str(target)), *group_kernels(str(target)))
        }
        if architecture == "sm_90a":
            functions |= {k.fn.name: k.fn for k in fetching_kernels(str(target))}
        unit = SourceUnit("kernels", print_unit(list(functions.values()), target), architecture)
        (cubin,) = compile_cubins([unit], device_headers(), Nvrtc(NVRTC), store)
        assert cubin.data[:4] == b"\x7fELF"
        assert {f"{name}_kernel" for name in functions} <= set(cubin.resources)
        assert all(taken.registers > 0 for taken in cubin.resources.values())
        assert not [n for n, taken in cubin.resources.items() if taken.spill_bytes]
        declared = declared_shared(cubin.data)
        asking = {name: asked_bytes(fn) for name, fn in functions.items() if asked_bytes(fn)}
        for name, asked in asking.items():  # what is asked for lies behind what is declared
            assert declared[name] % BOUNDARY == 0
            assert declared[name] - RESERVED[architecture] + asked <= shared_bytes(target)
        assert asking or architecture == "sm_80"


RESERVED = {"sm_80": 0, "sm_90a": 1024}
"""Shared memory that the driver keeps of what a cubin declares."""


def declared_shared(cubin: bytes) -> dict[str, int]:
    """Kernel -> bytes of shared memory that its section in an ELF file has."""
    start, (width, count, names) = (
        struct.unpack_from("<Q", cubin, 40)[0],
        struct.unpack_from("<3H", cubin, 58),
    )
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + width * n) for n in range(count)]
    texts = cubin[sections[names][4] :]
    found = {}
    for name, _, _, _, _, size in sections:
        text = texts[name : texts.index(b"\0", name)].decode("ascii")
        if text.startswith(".nv.shared.") and text.endswith("_kernel"):
            found[text.removeprefix(".nv.shared.").removesuffix("_kernel")] = size
    return found


def instructions(text: str) -> dict[str, Counter[str]]:
    """Of each kernel in PTX: how often it has which instruction; of loads and stores whatever their type is."""
    found = {}
    for part in text.split(".visible .entry")[1:]:
        names = re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)[ \t;]", part, re.MULTILINE)
        kinds = (re.sub(r"^((?:ld|st)\..*)\.\w+$", r"\1", name) for name in names)
        found[part.split("(")[0].strip()] = Counter(kinds)
    return found


def half(*shape: int) -> Array:
    return normal(*shape).astype(ml_dtypes.bfloat16)


WANTED: list[tuple[str, Any, tuple[Array, ...], str, dict[str, int]]] = [
    (
        "sm_80",
        lambda b, x, w: [b.matmul(x, w, transpose_rhs=True)],
        (half(512, 256), half(512, 256)),
        "bf16, 64x64, 32x32 a warp",
        {
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": 8,
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16": 4,
            "cp.async.cg.shared.global": 4,
        },
    ),
    (
        "sm_90a",
        lambda b, x, w: [b.matmul(x, w, transpose_rhs=True)],
        (half(4096, 64), half(2048, 64)),
        "wgmma",
        {"wgmma.fence.sync.aligned": 1, "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16": 4},
    ),
    (
        "sm_80",
        lambda b, x, y: [b.relu(b.add(x, y))],
        (normal(512, 512), normal(512, 512)),
        "4 elements",
        {"ld.global.nc.v4": 2, "st.global.v4": 1},
    ),
    (
        "sm_80",
        lambda b, x: [b.softmax(x)],
        (half(8, 32768),),
        "block of 1024 threads",
        {"ld.global.nc.v4": 4, "st.global.v4": 4, "bar.sync": 2},
    ),
    (
        "sm_80",
        lambda b, x: [b.sum(x, axes=(1,))],
        (normal(64, 4096),),
        "block of 256 threads",
        {"ld.global.nc.v4": 4, "st.global": 1},
    ),
]
"""Architecture, what is computed, a word of the candidate, and instructions that its kernel has at least."""


@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("number", range(len(WANTED)))
def test_nvrtc_makes_the_instructions_that_kernels_are_meant_for(number: int, store: Store) -> None:
    assert NVRTC is not None
    architecture, build, operands, word, wanted = WANTED[number]
    target = parse_target(f"cuda:{architecture}")
    first = kernels(problem(build, *map(Given, operands)), str(target))[0]
    assert word in first.candidate.name
    text = print_unit([first.fn], target)
    made = Nvrtc(NVRTC).instructions("kernels", text, architecture, device_headers(), store)
    found = instructions(made)[f"{first.fn.name}_kernel"]
    assert {name: found[name] for name in wanted if found[name] < wanted[name]} == {}
    assert not [name for name in found if ".local" in name]
    assert (f".maxntid {first.fn.threads}" in made) == (first.fn.threads > 256)


@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
def test_nvrtc_says_what_is_wrong(store: Store) -> None:
    assert NVRTC is not None
    with pytest.raises(CudaCompilerFailed, match="nvrtc"):
        Nvrtc(NVRTC).compile("bad", "int x = ;", "sm_80", {}, store)


@pytest.mark.slow
@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
def test_nvrtc_compiles_a_share_of_the_cases(store: Store) -> None:
    assert NVRTC is not None
    found = count(modules_of_cases(ONE_IN, 3), "cuda:sm_80+sm_90a", Nvrtc(NVRTC), store)
    assert found.kernels > 40 and not found.rejected and not found.refused

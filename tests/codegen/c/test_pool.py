"""The C runtime that is emitted with every model: a C program checks it, also under sanitizers."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.runtime import RUNTIME_HEADER, STATUS_HEADER, runtime_headers
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.loops.stmt import Status
from aino_ir.runtime.library import Library
from aino_ir.runtime.store import Store

PROGRAM = Path(__file__).with_name("pool_check.c")
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZERS = {
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


def build(folder: Path, compiler: list[str], flags: list[str]) -> Path:
    """Compile the checking program against the emitted headers alone."""
    for name, text in runtime_headers().items():
        (folder / name).write_text(text)
    program = folder / "pool_check"
    argv = [*compiler, *STRICT, *flags, f"-I{folder}", str(PROGRAM), "-o", str(program), "-lpthread"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, *arguments: str, wrap: tuple[str, ...] = ()) -> str:
    environ = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"}
    done = subprocess.run(
        [*wrap, str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_runtime_holds_its_promises(tmp_path: Path, threads: int) -> None:
    said = run(build(tmp_path, ["cc"], ["-O2"]), str(threads), "100", "fork")
    assert said.count("ok: ") >= 9 + threads and "FAILED" not in said


@pytest.mark.parametrize("kind", SANITIZERS)
def test_sanitizers_find_nothing(tmp_path: Path, kind: str) -> None:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc with its sanitizers")
    program = build(tmp_path, ["gcc"], SANITIZERS[kind])
    wrap = ("setarch", os.uname().machine, "-R") if kind == "thread" and shutil.which("setarch") else ()
    arguments = ("4", "30") if kind == "thread" else ("4", "30", "fork")
    said = run(program, *arguments, wrap=wrap)
    assert "FAILED" not in said and "WARNING" not in said


def test_clang_takes_the_headers_without_a_warning(tmp_path: Path, shared_store: Store) -> None:
    zig = find_toolchain(shared_store, {"AINO_CC": "zig", "PATH": ""})
    for name, text in runtime_headers().items():
        (tmp_path / name).write_text(text)
    argv = [*zig.argv, *STRICT, "-c", f"-I{tmp_path}", str(PROGRAM), "-o", str(tmp_path / "pool.o")]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, **dict(zig.environ)}, check=False
    )
    assert done.returncode == 0 and not done.stderr


def test_status_codes_are_those_of_the_loop_language() -> None:
    text = runtime_headers()[STATUS_HEADER]
    codes = {name: int(value) for name, value in re.findall(r"AINO_(\w+) = (\d+)", text)}
    for status in Status:
        assert codes[status.name] == status.value


def test_headers_are_ascii_and_define_nothing_global() -> None:
    for name, text in runtime_headers().items():
        assert text.isascii() and max(map(len, text.splitlines())) <= 110, name
        at_margin = re.findall(r"(?m)^(?!static|typedef|struct|enum|#|/|\s|}|{)\w.*$", text)
        assert not at_margin, name


# --- inside this process ----------------------------------------------------------------------------

MODEL = f"""#include "{RUNTIME_HEADER}"
#define PUBLIC __attribute__((visibility("default")))
struct job {{ int64_t *counts; aino_barrier barrier; int64_t status[2]; }};
static void count(void *argument, int tid, int nthreads)
{{
    struct job *job = argument;
    job->counts[tid] += 1;
    if (aino_barrier_wait(&job->barrier, nthreads)) return;
    job->counts[tid] += 1000 * nthreads;
}}
PUBLIC void *model_create(int nthreads) {{ return aino_pool_create(nthreads); }}
PUBLIC void model_destroy(void *pool) {{ aino_pool_destroy(pool); }}
PUBLIC int model_run(void *pool, int nthreads, int64_t *counts)
{{
    struct job job = {{.counts = counts}};
    aino_barrier_init(&job.barrier, job.status);
    return aino_pool_run(pool, nthreads, count, &job);
}}
"""


@pytest.fixture(scope="module")
def model(shared_store: Store) -> Library:
    tool = find_toolchain(shared_store)
    units = [SourceUnit("model", MODEL, "vec128")]
    return Library(compile_units(units, runtime_headers(), tool, shared_store)["vec128"], "model")


class Pool:
    """A pool of the library, driven through ctypes as executables do it."""

    def __init__(self, library: Library, threads: int) -> None:
        self.run_function = library.function(
            "model_run", ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int64)
        )
        self.destroy = library.function("model_destroy", None, ctypes.c_void_p)
        self.handle = library.function("model_create", ctypes.c_void_p, ctypes.c_int)(threads)

    def run(self, threads: int) -> bool:
        """Run once and return whether every thread of the team came by exactly once."""
        counts = (ctypes.c_int64 * 8)()
        team = self.run_function(self.handle, threads, counts)
        return list(counts) == [1 + 1000 * team] * team + [0] * (8 - team)


def test_pool_serves_python_threads_at_once(model: Library) -> None:
    pool = Pool(model, 3)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(i for i in range(200) if not pool.run(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pool.destroy(pool.handle)
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that is what is tested
def test_pool_works_before_and_after_a_fork(model: Library) -> None:
    pool = Pool(model, 3)
    assert pool.run(3)
    child = os.fork()
    if child == 0:
        fine = pool.run(3) and pool.run(2)
        pool.destroy(pool.handle)
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.run(3)
    pool.destroy(pool.handle)


def test_no_thread_stays_behind(model: Library) -> None:
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        pool = Pool(model, 4)
        assert pool.run(4)
        assert len(os.listdir("/proc/self/task")) == before + 3
        pool.destroy(pool.handle)
    assert len(os.listdir("/proc/self/task")) == before

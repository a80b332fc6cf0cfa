"""Finding compilers and learning about them: the real ones, and ones that are broken in every way."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aino_ir.codegen.c.toolchain import (
    FLAGS,
    LINK_FLAGS,
    CompilerCalls,
    Toolchain,
    examine,
    find_command,
    find_toolchain,
)
from aino_ir.errors.toolchain import CompilerTimedOut, CompilerUnusable, NoCompiler, NoCrossCompiler
from aino_ir.runtime.store import Store
from aino_ir.target import ISAS, parse_target
from tests.tools.hermetic import left_over

COMPILERS = ["cc", "zig"]


def fake_compiler(folder: Path, script: str, name: str = "cc") -> Path:
    """Write an executable shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def toolchain(name: str, store: Store, calls: CompilerCalls | None = None) -> Toolchain:
    return find_toolchain(store, {**os.environ, "AINO_CC": name}, calls)


@pytest.mark.parametrize("name", COMPILERS)
def test_a_compiler_is_known_by_its_macros(name: str, store: Store) -> None:
    found = toolchain(name, store)
    assert found.family in (("zig",) if name == "zig" else ("gcc", "clang"))
    assert found.version >= (9,) and str(found).startswith(found.family)
    assert found.arch == os.uname().machine
    assert "vec128" in found.optional
    assert not left_over(store.root)


@pytest.mark.parametrize("name", COMPILERS)
def test_a_compiler_is_asked_once(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aino_ir.codegen.c.toolchain._ANSWERS", {})
    calls, again = CompilerCalls(), CompilerCalls()
    first = toolchain(name, store, calls)
    assert 2 <= calls.probes <= 2 * len(ISAS) + 4
    other = toolchain(name, Store.open(tmp_path / "other"), again)  # this process knows the answer
    assert replace(other, environ=first.environ) == first
    monkeypatch.setattr("aino_ir.codegen.c.toolchain._ANSWERS", {})
    assert toolchain(name, Store.open(store.root), again) == first  # so does the store, in another one
    assert again.processes == 0


def test_flags_name_every_feature_of_an_isa_and_nothing_unsafe(shared_store: Store) -> None:
    found = toolchain("cc", shared_store)
    if found.arch != "x86_64":
        pytest.skip("needs an x86-64 compiler")
    for isa, facts in ISAS.items():
        if facts.arch not in ("", "x86_64"):
            continue
        flags = found.flags(isa)
        assert set(FLAGS) <= set(flags)
        assert sum(flag.startswith("-m") and "=" not in flag for flag in flags) == len(facts.features)
        for unsafe in (
            "-ffast-math",
            "-Ofast",
            "-fschedule-insns",
            "-funsafe-math-optimizations",
            "-march=native",
        ):
            assert unsafe not in (*flags, *LINK_FLAGS)
    assert "-mprefer-vector-width=512" in found.flags("avx512")
    assert "-mprefer-vector-width=512" not in found.flags("avx2")
    if found.family == "gcc":
        assert "-fira-region=one" in found.flags("avx2")


def test_an_isa_that_the_compiler_lacks_is_an_error(shared_store: Store) -> None:
    found = toolchain("cc", shared_store)
    without = Toolchain(found.argv, found.family, found.version, found.arch, found.identity, {"vec128": ()})
    with pytest.raises(CompilerUnusable, match="it cannot compile for avx512"):
        without.flags("avx512")


@pytest.mark.parametrize("name", COMPILERS)
def test_supports_tells_what_compiles(name: str, store: Store) -> None:
    found = toolchain(name, store)
    calls = CompilerCalls()
    snippets = {
        "plain": "*(float *)p = 1.0f;",
        "typedef": "lanes v = *(lanes *)p; *(lanes *)p = v + v;",
        "unknown": "*(lanes *)p = __builtin_no_such_thing(*(lanes *)p);",
        "broken": "*(float *)p = ;",
    }
    prelude = "typedef float lanes __attribute__((vector_size(16)));"
    expected = {"plain": True, "typedef": True, "unknown": False, "broken": False}
    assert found.supports(snippets, "vec128", store, prelude, calls) == expected
    assert calls.probes == 1 + len(snippets)
    assert found.supports(snippets, "vec128", store, prelude, calls) == expected
    assert calls.probes == 1 + len(snippets), "the answer was kept"
    fine = {name: code for name, code in snippets.items() if expected[name]}
    assert found.supports(fine, "vec128", store, prelude, calls) == dict.fromkeys(fine, True)
    assert calls.probes == 2 + len(snippets), "one run when all is well"


def test_supports_depends_on_the_isa(shared_store: Store) -> None:
    found = toolchain("gcc", shared_store)
    if found.arch != "x86_64":
        pytest.skip("needs an x86-64 compiler")
    snippet = {
        "fma": "typedef float v __attribute__((vector_size(32))); v x = *(v *)p;"
        " *(v *)p = __builtin_ia32_vfmaddps256(x, x, x);"
    }
    assert found.supports(snippet, "avx2", shared_store) == {"fma": True}
    assert found.supports(snippet, "vec128", shared_store) == {"fma": False}


# --- finding ----------------------------------------------------------------------------------------


def test_the_first_compiler_on_the_path_is_used(tmp_path: Path) -> None:
    for name in ("clang", "gcc", "cc"):
        path = fake_compiler(tmp_path / "bin", "exit 1", name)
        assert find_command({"PATH": str(tmp_path / "bin")}) == (str(path),)


def test_without_a_system_compiler_zig_is_used(tmp_path: Path) -> None:
    command = find_command({"PATH": str(tmp_path)})
    assert command[0].endswith("/ziglang/zig") and command[1:] == ("cc",)


def test_without_any_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoCompiler) as caught:
        find_command({"PATH": str(tmp_path)})
    assert "pip install aino-ir[cc]" in str(caught.value) and caught.value.exit_status == 4


def test_aino_cc_may_hold_arguments(store: Store) -> None:
    gcc = shutil.which("gcc")
    assert find_command({"AINO_CC": "env gcc -O0", "PATH": os.environ["PATH"]})[1:] == ("gcc", "-O0")
    assert find_command({"AINO_CC": gcc or "", "PATH": ""}) == (gcc,)
    assert find_command({"AINO_CC": "python -m ziglang cc", "PATH": ""}) == find_command({"PATH": ""})
    assert examine(find_command({"AINO_CC": "env gcc", "PATH": os.environ["PATH"]}), store).family == "gcc"


@pytest.mark.parametrize(
    ("value", "reason"),
    [("no-such-cc", "no such program"), ("gcc '", "is no command line"), ("/etc/passwd", "no such")],
)
def test_a_wrong_aino_cc_is_an_error_and_never_another_compiler(value: str, reason: str) -> None:
    with pytest.raises(CompilerUnusable, match=reason):
        find_command({"AINO_CC": value, "PATH": os.environ["PATH"]})


# --- compilers for other machines -------------------------------------------------------------------


def test_zig_compiles_for_other_machines(store: Store) -> None:
    for text, arch, system in (("c:aarch64", "aarch64", "linux"), ("c:avx2-macos", "x86_64", "macos")):
        found = find_toolchain(store, {"PATH": os.environ["PATH"]}, target=parse_target(text))
        assert (found.family, found.arch, found.system) == ("zig", arch, system)
        assert "-target" in found.argv
    assert "avx2" in found.optional and "aarch64" not in found.optional


def test_a_compiler_of_another_machine_is_taken_when_it_is_named(tmp_path: Path, store: Store) -> None:
    script = 'for a in "$@"; do [ "$a" = -dM ] && m=1; done\n'
    macros = "__GNUC__ 12\n__GNUC_MINOR__ 2\n__aarch64__ 1\n__linux__ 1".splitlines()
    script += (
        f'[ "$m" ] && {{ printf "{"".join(f"#define {m}" + chr(92) + "n" for m in macros)}"; exit; }}\nexit 0'
    )
    path = fake_compiler(tmp_path / "bin", script, "aarch64-gcc")
    found = find_toolchain(store, {"AINO_CC": str(path), "PATH": "/bin"}, target=parse_target("c:aarch64"))
    assert (found.family, found.arch, found.system) == ("gcc", "aarch64", "linux")
    with pytest.raises(NoCrossCompiler, match=r"makes code for aarch64 \(linux\)"):
        find_toolchain(store, {"AINO_CC": str(path), "PATH": "/bin"}, target=parse_target("c:armv7"))


def test_without_zig_there_is_no_compiler_for_other_machines(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoCrossCompiler, match="ziglang is not installed") as caught:
        find_toolchain(store, {"PATH": os.environ["PATH"]}, target=parse_target("c:riscv64"))
    assert "pip install aino-ir[cc]" in str(caught.value) and caught.value.exit_status == 4


# --- broken compilers -------------------------------------------------------------------------------

GCC_MACROS = "echo '#define __GNUC__ {}'; echo '#define __GNUC_MINOR__ 1'; echo '#define __x86_64__ 1'"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "ended with status 1: no output"),
        ("echo garbage; exit 0", "ended with status 0: garbage"),
        ("head -c 100 /dev/urandom", "ended with status 0"),
        ("echo 'license expired' >&2; exit 3", "status 3: license expired"),
        ("kill -SEGV $$", "status -11"),
        (GCC_MACROS.format(4), "gcc 4.1.0 is older than 9"),
        (
            f'case "$*" in *-dM*) {GCC_MACROS.format(12)};; *) exit 1;; esac',
            "does not compile an empty program",
        ),
    ],
)
def test_a_broken_compiler_is_described(tmp_path: Path, store: Store, script: str, reason: str) -> None:
    path = fake_compiler(tmp_path / "bin", script)
    with pytest.raises(CompilerUnusable, match=reason) as caught:
        find_toolchain(store, {"PATH": str(path.parent) + ":/usr/bin:/bin"})
    assert caught.value.exit_status == 4 and str(path) in str(caught.value)
    assert not left_over(store.root)
    assert store.entries() == [], "nothing is remembered of a compiler that does not work"


def test_a_compiler_that_does_not_run_is_described(tmp_path: Path, store: Store) -> None:
    path = fake_compiler(tmp_path / "bin", "")
    path.write_bytes(b"\x7fELF not really")
    with pytest.raises(CompilerUnusable, match="cannot be started"):
        examine((str(path),), store)


def test_a_hanging_compiler_is_ended(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aino_ir.codegen.c.toolchain._PROBE_SECONDS", 0.2)
    path = fake_compiler(tmp_path / "bin", "sleep 1000")
    with pytest.raises(CompilerTimedOut, match=r"did not finish within 0\.2 s"):
        examine((str(path),), store)
    assert not left_over(store.root)


def test_another_compiler_under_the_same_name_is_asked_anew(tmp_path: Path, store: Store) -> None:
    path = fake_compiler(tmp_path / "bin", 'exec gcc "$@"')
    first = examine((str(path),), store)
    path.write_text('#!/bin/sh\nexec gcc "$@" # another version\n')
    calls = CompilerCalls()
    second = examine((str(path),), store, calls=calls)
    assert calls.probes and second.identity != first.identity


def test_zig_keeps_its_files_in_the_cache_unless_told_otherwise(store: Store) -> None:
    command = find_command({"AINO_CC": "zig", "PATH": ""})
    environ = dict(examine(command, store, {}).environ)
    assert environ["ZIG_GLOBAL_CACHE_DIR"] == str(store.base / "zig")
    chosen = {"ZIG_GLOBAL_CACHE_DIR": "/elsewhere"}
    assert dict(examine(command, store, chosen).environ)["ZIG_GLOBAL_CACHE_DIR"] == "/elsewhere"
    assert sys.platform == "linux"

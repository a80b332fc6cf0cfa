"""Finds a C compiler, learns what it can do, and knows the flags that AINO's C wants.

A compiler is asked for its predefined macros (which tell its family, version and processor) and which
optional flags it takes; the answers are kept in the store and in this process, keyed by the compiler's
file, so that neither a second process nor a second store asks again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aino_ir.codegen.c.platforms import LIBRARIES, LINK_FLAGS, ZIG_LINKS, Platform, platform
from aino_ir.codegen.c.process import Command, Outcome, run_commands
from aino_ir.errors.base import AinoError
from aino_ir.errors.toolchain import CompilerTimedOut, CompilerUnusable, NoCompiler, NoCrossCompiler
from aino_ir.isa import BUILT_IN, ISAS
from aino_ir.runtime.store import Store, digest
from aino_ir.target import Target, detect_host, usable_cpus

FLAGS = (
    "-std=gnu11",
    "-O3",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # fused only where the program says so: same bits from every compiler
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fwrapv",
    "-fno-strict-aliasing",  # one arena holds values of many types
    "-fstack-protector-strong",
    "-Werror=implicit-function-declaration",
)
"""Flags of every compilation.  Never here: -ffast-math and its kin (they change results, and at link
time the floating-point mode of the whole process) and -fschedule-insns (spills in hot loops)."""

FAMILY_FLAGS: dict[str, tuple[str, ...]] = {
    "gcc": ("-pipe",),
    "clang": (),
    "zig": ("-fno-sanitize=undefined",),
}
"""Flags that a compiler family needs."""

OPTIONAL_FLAGS: dict[str, tuple[str, ...]] = {
    "gcc": ("-fira-region=one", "-Wno-psabi"),
    "clang": ("-Wno-psabi",),
    "zig": ("-Wno-psabi",),
}
"""Flags used where the compiler takes them."""

_WIDE_FLAG = "-mprefer-vector-width=512"
_FEATURE_FLAGS = {
    "avx512_bf16": "-mavx512bf16",
    "avx512_vnni": "-mavx512vnni",
    "bmi1": "-mbmi",
}  # the others are -m and the feature's name

MINIMUM_VERSIONS = {"gcc": (9,), "clang": (10,), "zig": (14,)}
"""Oldest compilers accepted; for zig the version of its clang."""

_TRIED = "AINO_CC, cc, gcc, clang, ziglang"
_ZIG_NAMES = ("zig", "python -m ziglang cc", "python3 -m ziglang cc")
_PROBE_SECONDS = 120.0
_FORMAT = 4  # of the probe records in the store


@dataclass
class CompilerCalls:
    """Counts what was asked of compilers, so that a test can say what it may cost.

    Attributes:
        probes: runs that learn about the compiler.
        compiles: translation units compiled.
        links: libraries linked.
        object_hits: translation units found in the store.
        library_hits: libraries found in the store.
    """

    probes: int = 0
    compiles: int = 0
    links: int = 0
    object_hits: int = 0
    library_hits: int = 0

    @property
    def processes(self) -> int:
        """How many compiler processes ran."""
        return self.probes + self.compiles + self.links


@dataclass(frozen=True)
class Toolchain:
    """One usable C compiler.

    Attributes:
        argv: the command that compiles, such as ``("/usr/bin/gcc",)``.
        family: ``gcc``, ``clang`` or ``zig``.
        version: as in ``(12, 2, 0)``; for zig that of its clang.
        arch: processor family that it compiles for.
        identity: hash of the compiler's file and version; part of every object's key.
        optional: optional flags that it takes, by ISA; an ISA that it lacks is missing.
        environ: additions to its environment.
        system: operating system that it compiles for.
    """

    argv: tuple[str, ...]
    family: str
    version: tuple[int, ...]
    arch: str
    identity: str
    optional: Mapping[str, tuple[str, ...]]
    environ: tuple[tuple[str, str], ...] = ()
    system: str = "linux"

    @property
    def platform(self) -> Platform:
        """How libraries are made for what it compiles for."""
        return platform(self.arch, self.system)

    @property
    def command(self) -> str:
        """The compiling command as one line, for people."""
        return shlex.join(self.argv)

    def __str__(self) -> str:
        """Family and version, such as ``gcc 12.2.0``; the same on every machine."""
        return f"{self.family} {'.'.join(map(str, self.version))}"

    def flags(self, isa: str) -> tuple[str, ...]:
        """Return the flags for compiling one unit for `isa`.

        Raises:
            CompilerUnusable: the compiler has no such instructions.
        """
        if isa not in self.optional:
            raise CompilerUnusable(command=self.command, reason=f"it cannot compile for {isa}")
        return (*_required_flags(self.family, isa, self.platform), *self.optional[isa])

    def compile_command(
        self, isa: str, source: str, output: str, folder: Path, extra: Iterable[str] = ()
    ) -> Command:
        """Return the command that compiles file `source` of `folder` to the object `output`."""
        argv = (*self.argv, *self.flags(isa), *extra, "-c", source, "-o", output)
        return Command(argv, folder, dict(self.environ))

    def link_commands(self, objects: Sequence[str], output: str, folder: Path) -> list[Command]:
        """Return commands that link `objects` to a library: the first that works is enough.

        A device without an operating system gets an archive of the objects.
        """
        environ, facts = dict(self.environ), self.platform
        if self.family != "zig":
            return [Command((*self.argv, *LINK_FLAGS, "-o", output, *objects, *LIBRARIES), folder, environ)]
        zig = self.argv[: self.argv.index("cc")]
        if facts.format == "archive":
            return [Command((*zig, "ar", "rcsD", output, *objects), folder, environ)]
        target = self.argv[self.argv.index("-target") : self.argv.index("-target") + 2]
        cpu = tuple(flag for flag in facts.cpu.get("zig", ()) if flag.startswith("-mcpu="))
        base = (*zig, *ZIG_LINKS[facts.format], *target, *cpu)
        end = (f"-femit-bin={output}", *objects)
        return [
            Command((*base, flag, *end), folder, environ) for flag in ("-fno-compiler-rt", "-fcompiler-rt")
        ]

    def supports(
        self,
        snippets: Mapping[str, str],
        isa: str,
        store: Store,
        prelude: str = "",
        calls: CompilerCalls | None = None,
    ) -> dict[str, bool]:
        """Return which of `snippets` this compiler accepts; answers are kept in `store`.

        Args:
            snippets: by name, C statements that stand in a function of their own, where ``p`` is a
                ``void *`` to read from and write to.
            isa: instruction set to compile for.
            store: where answers are kept.
            prelude: file-scope C before each function, such as typedefs.
            calls: counts compiler runs.

        One compiler run when all are accepted, else one more per snippet, in parallel.
        """
        units = {name: _probe_unit(prelude, [code]) for name, code in snippets.items()}
        texts = [part for item in sorted(units.items()) for part in item]
        key = digest("supports", _FORMAT, self.identity, *self.flags(isa), *texts)

        def ask() -> dict[str, bool]:
            runner = _Prober(store, calls)
            whole = _probe_unit(prelude, snippets.values())
            if all(o.ok for o in runner.compile(self, isa, [whole])):
                return dict.fromkeys(units, True)
            outcomes = runner.compile(self, isa, list(units.values()))
            return {name: outcome.ok for name, outcome in zip(units, outcomes, strict=True)}

        found = remembered(store, key, ask)
        return {name: bool(found[name]) for name in snippets}


def find_toolchain(
    store: Store,
    environ: Mapping[str, str] = os.environ,
    calls: CompilerCalls | None = None,
    target: Target | None = None,
) -> Toolchain:
    """Return the compiler to use: AINO_CC, else the first of cc, gcc, clang on PATH, else zig.

    Args:
        store: where what is learnt about the compiler is kept.
        environ: where AINO_CC and PATH are read.
        calls: counts compiler runs.
        target: what to compile for; this machine when None.  For another one it is AINO_CC, else zig.

    Raises:
        NoCompiler: there is none.
        NoCrossCompiler: there is none for such a target.
        CompilerUnusable: the compiler does not work, is too old, or is no C compiler.
    """
    host = detect_host()
    if target is None or (target.arch, target.system) == (host.arch, host.system):
        return examine(find_command(environ), store, environ, calls)
    goal = f"{target.arch} ({target.system})"
    if environ.get("AINO_CC", "").strip() not in ("", *_ZIG_NAMES):
        found = examine(find_command(environ), store, environ, calls)
        if (found.arch, found.system) != (target.arch, target.system):
            reason = f"{found.command!r} (set by AINO_CC) makes code for {found.arch} ({found.system})"
            raise NoCrossCompiler(target=target, needed=goal, reason=reason)
        return found
    zig = _packaged_zig() if not environ.get("AINO_CC") else find_command(environ)[0]
    if zig is None:
        raise NoCrossCompiler(target=target, needed=goal, reason="the package ziglang is not installed")
    return examine((zig, "cc"), store, environ, calls, (target.arch, target.system))


def compiler_obstacle(target: Target, environ: Mapping[str, str] = os.environ) -> str:
    """Why no compiler for a target is at hand, as far as can be told without running one; empty: it is."""
    host = detect_host()
    try:
        command = find_command(environ)
    except AinoError as error:
        return error.message
    if (target.arch, target.system) == (host.arch, host.system):
        return ""
    wanted = environ.get("AINO_CC", "").strip()
    if wanted not in ("", *_ZIG_NAMES):
        return f"AINO_CC names {command[0]!r}, which may be for another machine"
    return "" if wanted or _packaged_zig() else "the package ziglang is not installed"


def find_command(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the command of the compiler to use, its program as an absolute path.

    ``AINO_CC`` may hold arguments (``ccache gcc``); ``AINO_CC=zig`` is the zig on PATH, else the one
    of the `ziglang` package.
    """
    path = environ.get("PATH", os.defpath)
    wanted = environ.get("AINO_CC", "").strip()
    if wanted:
        return _chosen_command(wanted, path)
    for name in ("cc", "gcc", "clang"):
        program = shutil.which(name, path=path)
        if program:
            return (program,)
    zig = _packaged_zig()
    if zig is None:
        raise NoCompiler(tried=_TRIED)
    return (zig, "cc")


def _chosen_command(wanted: str, path: str) -> tuple[str, ...]:
    try:
        first, *rest = shlex.split(wanted)
    except ValueError as problem:
        raise CompilerUnusable(command=wanted, reason=f"AINO_CC is no command line: {problem}") from problem
    if wanted == "zig":
        rest = ["cc"]
    if wanted in _ZIG_NAMES:
        program = (shutil.which("zig", path=path) if wanted == "zig" else None) or _packaged_zig()
        rest = ["cc"]
    else:
        program = shutil.which(first, path=path)
    if program is None:
        raise CompilerUnusable(command=wanted, reason="there is no such program (set by AINO_CC)")
    return (os.path.abspath(program), *rest)


def _packaged_zig() -> str | None:
    """Return the path of the zig that the `ziglang` package brings, or None."""
    spec = importlib.util.find_spec("ziglang")
    for place in (spec.submodule_search_locations or []) if spec else []:
        program = Path(place) / "zig"
        if os.access(program, os.X_OK):
            return str(program)
    return None


def examine(
    command: tuple[str, ...],
    store: Store,
    environ: Mapping[str, str] = os.environ,
    calls: CompilerCalls | None = None,
    goal: tuple[str, str] | None = None,
) -> Toolchain:
    """Learn about the compiler `command` (or remember it from `store`).

    Args:
        command: its command line.
        store, environ, calls: as for `find_toolchain`.
        goal: (processor family, system) that zig compiles for; this machine when None.

    Raises:
        CompilerUnusable: it does not work, is too old, or is no C compiler.
        CompilerTimedOut: it does not answer.
    """
    is_zig = len(command) > 1 and command[-1] == "cc" and "zig" in os.path.basename(command[0])
    argv = command
    extra: tuple[tuple[str, str], ...] = ()
    if is_zig:
        host = detect_host()
        argv = (*command, "-target", platform(*(goal or (host.arch, host.system))).triple)
        extra = _zig_folders(store, environ)
    facts = os.stat(command[0])
    identity = digest("compiler", _FORMAT, *argv, facts.st_size, facts.st_mtime_ns)
    prober = _Prober(store, calls, dict(extra))
    others = [repr(facts) for name, facts in ISAS.items() if name not in BUILT_IN]
    key = digest("probe", identity, *others) if others else identity
    record = remembered(store, key, lambda: _ask(argv, is_zig, prober, goal))
    return Toolchain(
        argv=argv,
        family=record["family"],
        version=tuple(record["version"]),
        arch=record["arch"],
        identity=identity,
        optional={isa: tuple(flags) for isa, flags in record["optional"].items()},
        environ=extra,
        system=record["system"],
    )


def _zig_folders(store: Store, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Give zig cache folders beside the store's entries, unless the user chose some."""
    names = ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
    return tuple((name, environ.get(name) or str(store.side_folder("zig"))) for name in names)


_ANSWERS: dict[str, bytes] = {}
"""What compilers have answered in this process: a second store, such as a temporary one, asks none again."""


def remembered(store: Store, key: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record stored under `key`, asking for and storing it when there is none."""
    data = store.get("probe", key)
    if data is None:
        if key not in _ANSWERS:
            _ANSWERS[key] = json.dumps(ask(), sort_keys=True).encode()
        data = _ANSWERS[key]
        store.put("probe", key, data)
    found: dict[str, Any] = json.loads(data)
    return found


class _Prober:
    """Runs small compilations in a work folder of the store."""

    def __init__(
        self, store: Store, calls: CompilerCalls | None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.store = store
        self.calls = calls if calls is not None else CompilerCalls()
        self.environ = environ or {}

    def run(self, argvs: Sequence[tuple[str, ...]], files: Mapping[str, str]) -> list[Outcome]:
        """Run commands in a new folder that holds `files`.

        Raises:
            CompilerTimedOut, CompilerUnusable: a command hangs, or cannot be started.
        """
        self.calls.probes += len(argvs)
        with self.store.work_folder() as folder:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="ascii")
            commands = [Command(argv, folder, self.environ) for argv in argvs]
            try:
                outcomes = run_commands(commands, usable_cpus(), _PROBE_SECONDS)
            except OSError as problem:
                reason = f"it cannot be started: {problem.strerror}"
                raise CompilerUnusable(command=shlex.join(argvs[0]), reason=reason) from problem
        if any(outcome.timed_out for outcome in outcomes):
            raise CompilerTimedOut(command=shlex.join(argvs[0]), seconds=_PROBE_SECONDS)
        return outcomes

    def compile(self, toolchain: Toolchain, isa: str, units: Sequence[str]) -> list[Outcome]:
        """Compile each of `units` for `isa` and return how that went."""
        self.environ = dict(toolchain.environ)
        names = [f"p{i}" for i in range(len(units))]
        argvs = [(*toolchain.argv, *toolchain.flags(isa), "-c", f"{n}.c", "-o", f"{n}.o") for n in names]
        return self.run(argvs, {f"{n}.c": unit for n, unit in zip(names, units, strict=True)})


def _probe_unit(prelude: str, codes: Iterable[str]) -> str:
    functions = [f"void aino_probe_{i}(void *p) {{\n{code}\n}}\n" for i, code in enumerate(codes)]
    return "\n".join([prelude, *functions])


def _ask(
    argv: tuple[str, ...], is_zig: bool, prober: _Prober, goal: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return what the compiler says about itself."""
    macros = _macros(argv, prober)
    family = _family(macros, is_zig)
    names = {
        "gcc": ("__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__"),
        "clang": ("__clang_major__", "__clang_minor__", "__clang_patchlevel__"),
    }["gcc" if family == "gcc" else "clang"]
    version = [int(macros.get(name, "0")) for name in names]
    arch, system = goal or _goal(macros)
    if tuple(version) < MINIMUM_VERSIONS[family]:
        oldest = ".".join(map(str, MINIMUM_VERSIONS[family]))
        raise CompilerUnusable(
            command=shlex.join(argv),
            reason=f"{family} {'.'.join(map(str, version))} is older than {oldest}",
        )
    isas = [isa for isa, f in ISAS.items() if f.arch in ("", arch) and (system in f.systems or not f.arch)]
    optional = _optional_flags(argv, family, isas, prober, platform(arch, system))
    if not optional:
        raise CompilerUnusable(command=shlex.join(argv), reason="it does not compile an empty program")
    return {"family": family, "version": version, "arch": arch, "system": system, "optional": optional}


def _macros(argv: tuple[str, ...], prober: _Prober) -> dict[str, str]:
    """Return the compiler's predefined macros."""
    (outcome,) = prober.run([(*argv, "-dM", "-E", "empty.c")], {"empty.c": "\n"})
    macros = dict(re.findall(r"(?m)^#define (\w+) (.*)$", outcome.output))
    if outcome.ok and "__GNUC__" in macros:
        return macros
    first = (outcome.output.strip().splitlines() or ["no output"])[0][:200]
    reason = f"asked for its macros it ended with status {outcome.status}: {first}"
    raise CompilerUnusable(command=shlex.join(argv), reason=reason)


def _family(macros: Mapping[str, str], is_zig: bool) -> str:
    if is_zig:
        return "zig"
    return "clang" if "__clang__" in macros else "gcc"


_ARCH_MACROS = (
    (("__x86_64__",), "x86_64"),
    (("__aarch64__",), "aarch64"),
    (("__riscv", "__LP64__"), "riscv64"),
    (("__ARM_ARCH_7A__",), "armv7"),
    (("__ARM_ARCH_7EM__",), "armv7e-m"),
    (("__wasm32__",), "wasm32"),
)
"""Macros that tell processor families, all of a row together."""

_SYSTEM_MACROS = (("__linux__", "linux"), ("__APPLE__", "macos"), ("_WIN32", "windows"), ("__wasi__", "wasi"))


def _goal(macros: Mapping[str, str]) -> tuple[str, str]:
    """Return the processor family and the system that a compiler makes code for."""
    arch = next((name for wanted, name in _ARCH_MACROS if all(w in macros for w in wanted)), "unknown")
    return arch, next((name for macro, name in _SYSTEM_MACROS if macro in macros), "none")


def _required_flags(family: str, isa: str, facts: Platform) -> tuple[str, ...]:
    flags = (f for f in (*FLAGS, *FAMILY_FLAGS[family]) if f not in facts.without)
    cpu = facts.cpu.get(family, ())
    if ISAS[isa].arch == "x86_64":
        cpu = tuple(_FEATURE_FLAGS.get(f, f"-m{f}") for f in ISAS[isa].features)
    return (*flags, *facts.more, *cpu)


def _optional_flags(
    argv: tuple[str, ...], family: str, isas: Sequence[str], prober: _Prober, facts: Platform
) -> dict[str, list[str]]:
    """Return the optional flags that the compiler takes, by ISA; ISAs that it lacks are left out."""

    def accepted(cases: Sequence[tuple[str, tuple[str, ...]]]) -> list[bool]:
        argvs = [
            (*argv, *_required_flags(family, isa, facts), *flags, "-Werror", "-c", "empty.c", "-o", f"e{i}.o")
            for i, (isa, flags) in enumerate(cases)
        ]
        return [o.ok for o in prober.run(argvs, {"empty.c": "int aino_probe;\n"})]

    wanted = {isa: _wanted_flags(family, isa) for isa in isas}
    found: dict[str, list[str]] = {}
    for isa, fits in zip(isas, accepted(list(wanted.items())), strict=True):
        if fits:
            found[isa] = list(wanted[isa])
            continue
        plain, *each = accepted([(isa, ()), *((isa, (flag,)) for flag in wanted[isa])])
        if plain:
            found[isa] = [flag for flag, fine in zip(wanted[isa], each, strict=True) if fine]
    return found


def _wanted_flags(family: str, isa: str) -> tuple[str, ...]:
    return (*OPTIONAL_FLAGS[family], *((_WIDE_FLAG,) if ISAS[isa].vector_bytes == 64 else ()))

"""Compiles generated C into shared libraries: in parallel, and never the same text twice.

Objects are kept in the store under the hash of text, headers, flags and compiler; libraries under the
hashes of their objects.  File names handed to the compiler come from these hashes.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aino_ir.codegen.c.process import Command, Outcome, run_commands
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain
from aino_ir.errors.cache import DiskFull
from aino_ir.errors.toolchain import (
    BadSourceUnit,
    CompilerCrashed,
    CompilerFailed,
    CompilerTimedOut,
    CompilerUnusable,
)
from aino_ir.isa import ISAS
from aino_ir.runtime.fileio import disk_errors
from aino_ir.runtime.store import Store, digest
from aino_ir.target import usable_cpus

COMPILE_SECONDS = 600.0
"""Time that all compilations of one model may take."""

_UNIT_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z_]\w{0,63}\.h", re.ASCII)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]*)"', re.MULTILINE)
_COMPILER_ROUTINE = re.compile(r"undefined symbol: __")  # such as __divti3: a link with more may help
_KEPT_FAILURES = 8
_SHOWN_LINES = 6


@dataclass(frozen=True)
class SourceUnit:
    """One translation unit.

    Attributes:
        name: letters, digits and underscores; unique among the units of one ISA.
        text: C source, ASCII.
        isa: instruction set to compile for, a key of `aino_ir.isa.ISAS`; units of one ISA are
            linked into one library.
    """

    name: str
    text: str
    isa: str


@dataclass(frozen=True)
class _Job:
    """One object to make."""

    unit: SourceUnit
    key: str

    @property
    def source(self) -> str:
        return f"u{self.key[:24]}.c"

    @property
    def object(self) -> str:
        return f"u{self.key[:24]}.o"


def compile_units(
    units: Sequence[SourceUnit],
    headers: Mapping[str, str],
    toolchain: Toolchain,
    store: Store,
    calls: CompilerCalls | None = None,
    jobs: int | None = None,
    timeout: float = COMPILE_SECONDS,
    progress: Callable[[int, int], None] | None = None,
    objects: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Compile `units` and return one shared library per ISA that occurs among them.

    Args:
        units: translation units; those of one ISA must link together with libc, libm and pthread.
        headers: text of the headers that units include as ``#include "name.h"``; a unit is compiled again
            only when one that it includes has changed.
        toolchain: the compiler.
        store: where objects and libraries are looked up and kept.
        calls: counts compilations, links and hits.
        jobs: compilers at a time; the CPUs this process may use when None.
        timeout: seconds for all compilations together, and for each link.
        progress: called as (done, total) while units are compiled.
        objects: by ISA, an object file of another compiler that is linked with the units.

    Returns:
        ISA name to the bytes of its library.  The same input gives the same bytes.

    Raises:
        BadSourceUnit: a name, an ISA or a character that cannot be.
        CompilerFailed, CompilerCrashed, CompilerTimedOut, CompilerUnusable, DiskFull: as they say.
    """
    _check_units(units, headers)
    calls = calls if calls is not None else CompilerCalls()
    run = _Run(dict(headers), toolchain, store, calls, jobs or usable_cpus(), timeout, progress, objects)
    by_isa: dict[str, list[_Job]] = {}
    for unit in units:
        by_isa.setdefault(unit.isa, []).append(run.job(unit))
    libraries: dict[str, bytes] = {}
    missing: dict[str, list[_Job]] = {}
    for isa, group in by_isa.items():
        data = store.get("library", run.library_key(isa, group))
        if data is None:
            missing[isa] = group
        else:
            run.calls.library_hits += 1
            libraries[isa] = data
    if missing:
        libraries |= run.build(missing)
    return {isa: libraries[isa] for isa in by_isa}


def _check_units(units: Sequence[SourceUnit], headers: Mapping[str, str]) -> None:
    seen = set()
    for unit in units:
        reason = ""
        if not _UNIT_NAME.fullmatch(unit.name):
            reason = "names consist of letters, digits and underscores"
        elif unit.isa not in ISAS:
            reason = f"no instruction set {unit.isa!r}"
        elif not unit.text.isascii():
            reason = "its text is not ASCII"
        elif (unit.isa, unit.name) in seen:
            reason = f"a second unit of that name for {unit.isa}"
        if reason:
            raise BadSourceUnit(name=unit.name, reason=reason)
        seen.add((unit.isa, unit.name))
    for name, text in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not text.isascii():
            raise BadSourceUnit(name=name, reason="headers are ASCII files called like `name.h`")


@dataclass
class _Run:
    """One call of `compile_units`."""

    headers: dict[str, str]
    toolchain: Toolchain
    store: Store
    calls: CompilerCalls
    jobs: int
    timeout: float
    progress: Callable[[int, int], None] | None
    objects: Mapping[str, bytes]

    def job(self, unit: SourceUnit) -> _Job:
        """Return the job of a unit; its key holds everything that the object depends on."""
        tool = self.toolchain
        used = [part for name in self._included(unit.text) for part in (name, self.headers[name])]
        return _Job(unit, digest("object", tool.identity, *tool.flags(unit.isa), len(used), *used, unit.text))

    def _included(self, text: str) -> list[str]:
        """Return the headers that `text` includes, directly or not, sorted."""
        found: set[str] = set()
        texts = [text]
        while texts:
            named = _INCLUDE.findall(texts.pop())
            new = {name for name in named if name in self.headers} - found
            found |= new
            texts += [self.headers[name] for name in new]
        return sorted(found)

    def library_key(self, isa: str, group: Sequence[_Job]) -> str:
        """Return the store key of the library that `group` links to."""
        command = self.toolchain.link_commands((), f"l{self.toolchain.platform.ending}", Path())[0]
        other = (self.objects[isa],) if isa in self.objects else ()
        return digest("library", *command.argv, *(job.key for job in group), *other)

    def build(self, groups: Mapping[str, list[_Job]]) -> dict[str, bytes]:
        """Compile what the store lacks and link each group."""
        with self.store.work_folder() as folder, disk_errors(folder):
            for name, text in self.headers.items():
                self._write(folder / name, text.encode())
            self._make_objects([job for group in groups.values() for job in group], folder)
            return {isa: self._link(isa, group, folder) for isa, group in groups.items()}

    def _make_objects(self, jobs: Sequence[_Job], folder: Path) -> None:
        """Put the object of every job into `folder`."""
        absent: dict[str, _Job] = {}
        for job in jobs:
            if job.key in absent:
                continue
            data = self.store.get("object", job.key)
            if data is None:
                absent[job.key] = job
            else:
                self.calls.object_hits += 1
                self._write(folder / job.object, data)
        order = sorted(absent.values(), key=lambda job: -len(job.unit.text))  # the longest first
        for job in order:
            self._write(folder / job.source, job.unit.text.encode())
        commands = [self.toolchain.compile_command(j.unit.isa, j.source, j.object, folder) for j in order]
        self.calls.compiles += len(commands)
        done = 0

        def keep(index: int, outcome: Outcome) -> None:
            nonlocal done
            done += 1
            if outcome.ok:
                self.store.put("object", order[index].key, (folder / order[index].object).read_bytes())
            if self.progress is not None:
                self.progress(done, len(order))

        for job, outcome in zip(order, self._run(commands, keep), strict=True):
            if not outcome.ok and outcome.status is not None:
                raise self._failure(outcome, [job.source], folder)

    def _link(self, isa: str, group: Sequence[_Job], folder: Path) -> bytes:
        """Link the objects of `group`, which lie in `folder`."""
        output = f"{isa}{self.toolchain.platform.ending}"
        objects = [job.object for job in group]
        if isa in self.objects:
            self._write(folder / f"{isa}.o", self.objects[isa])
            objects.append(f"{isa}.o")
        for command in self.toolchain.link_commands(objects, output, folder):
            self.calls.links += 1
            (outcome,) = self._run([command])
            if outcome.ok or not _COMPILER_ROUTINE.search(outcome.output):
                break
        if not outcome.ok:
            raise self._failure(outcome, [job.source for job in group], folder)
        library = (folder / output).read_bytes()
        self.store.put("library", self.library_key(isa, group), library)
        return library

    def _write(self, path: Path, data: bytes) -> None:
        disk = self.store.disk
        fd = disk.create(path)
        try:
            disk.write(fd, data)
        finally:
            disk.close(fd)

    def _run(
        self, commands: Sequence[Command], finished: Callable[[int, Outcome], None] | None = None
    ) -> list[Outcome]:
        try:
            outcomes = run_commands(
                commands, self.jobs, self.timeout, stop_on_failure=True, finished=finished
            )
        except (FileNotFoundError, PermissionError) as problem:
            reason = f"it cannot be started: {problem.strerror}"
            raise CompilerUnusable(command=self.toolchain.command, reason=reason) from problem
        if any(outcome.timed_out for outcome in outcomes):
            raise CompilerTimedOut(command=self.toolchain.command, seconds=self.timeout)
        return outcomes

    def _failure(self, outcome: Outcome, sources: Sequence[str], folder: Path) -> Exception:
        """Return the error that a failed compiler run stands for, after keeping its input."""
        if "No space left on device" in outcome.output:
            return DiskFull(path=str(folder))
        kept = self._keep(outcome, sources, folder)
        status, command = outcome.status or 0, self.toolchain.command
        if status < 0:
            return CompilerCrashed(command=command, reason=f"signal {-status}", kept=kept)
        if re.search(r"internal compiler error|fatal error: Killed|PLEASE submit a bug", outcome.output):
            return CompilerCrashed(command=command, reason="internal compiler error", kept=kept)
        lines = "\n".join(_first_errors(outcome.output))
        return CompilerFailed(command=command, status=status, lines=lines, kept=kept)

    def _keep(self, outcome: Outcome, sources: Sequence[str], folder: Path) -> str:
        """Copy the sources, the command and its messages to a folder that outlives this run."""
        if self.store.temporary:
            kept = Path(tempfile.mkdtemp(prefix="aino-failed-"))
        else:
            shelf = self.store.side_folder("failed")
            kept = shelf / digest(*outcome.command.argv)[:16]
            self.store.disk.make_folder(kept)
            _trim(shelf)
        for name in (*self.headers, *sources):
            if (folder / name).exists():
                shutil.copyfile(folder / name, kept / name)
        (kept / "command.json").write_text(json.dumps(outcome.command.argv, indent=1), encoding="ascii")
        (kept / "messages.txt").write_text(outcome.output, encoding="utf-8")
        return str(kept)


def _trim(shelf: Path) -> None:
    """Remove the oldest kept failures but a few."""
    kept = sorted((p for p in shelf.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for path in kept[:-_KEPT_FAILURES]:
        shutil.rmtree(path, ignore_errors=True)


def _first_errors(output: str) -> list[str]:
    """Return the lines that say what is wrong, or the first ones when none does."""
    lines = [line[:200] for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(error|undefined)\b", line)]
    return (errors or lines or ["(no messages)"])[:_SHOWN_LINES]

"""Generated kernels on a real GPU: right first, then how fast, beside PyTorch where that is there.

    python -m benchmarks.gpu --only SECTION              one section, each under eight minutes
    python -m benchmarks.gpu --budget 780                what tells most first, as long as there is time
    python -m benchmarks.gpu --make-bundle gpu.tar.gz    all for a machine without network and compiler; with
                                                         --budget in several calls
    python -m benchmarks.gpu --summary                   what the rows say of the goals
    python -m benchmarks.gpu --dry-run                   small extents on an emulated GPU: is all right here?

The sections are a ladder, each rung complete alone (`ORDER`); AINO climbs it first, then PyTorch, eager and
compiled, where that is installed.  Each section of each engine has a process of its own (`gpu_apart`).  Every
figure is one line of JSON in `--rows`, written as soon as it is there, with the device and versions; a second
call goes on where the first one ended.  Of what is timed some elements are compared with numpy
(`gpu_checks`).
In an unpacked bundle numpy, ml_dtypes and a driver are enough: its artifacts hold cubins, and the results
that the interpreter gave stand beside them.

Nothing measured by this script is in the repository: no GPU has been at hand.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aino_ir import __version__
from aino_ir.errors.base import AinoError
from aino_ir.runtime.cuda.device import open_device
from aino_ir.runtime.cuda.library_launch import LibraryNotUsed
from aino_ir.tolerance import disagreement
from benchmarks.gpu_apart import COMPLETE, CONTEXT_LOST, NO_DEVICE, TIME_IS_UP, Part, run_parts
from benchmarks.gpu_bundle import FOLDER, ROOT, Found, Offer, Ready, compiled_here, from_bundle, make_bundle
from benchmarks.gpu_checks import wrong
from benchmarks.gpu_rows import OWN, Rows, latest, summary
from benchmarks.gpu_timing import (
    COPIED,
    clocks,
    copy_speed,
    fetched,
    milliseconds,
    new_stream,
    placed,
    speeds,
)

ORDER = (
    "correctness",
    "bandwidth",
    "mma",
    "wgmma",
    "norms",
    "attention",
    "gemv",
    "networks",
    "libraries",
    "suite",
    "sanitizer",
)
"""The sections, what tells most first."""

CHECKED = ("correctness", "libraries", "suite")
"""Sections whose results are compared; the others are timed."""

SECONDS = 420.0
"""Time that a section may take; what is left is for the next call."""

PEERS = ("torch", "torch.compile")
LONGEST = ("norms", "networks")
"""Sections whose goal is `torch.compile`; the others' come last, for it takes minutes."""

TOOLS = ("memcheck", "racecheck", "synccheck")
TOOL_SECONDS = 180.0
FAULT = 99
"""The exit status by which compute-sanitizer says that it has found something."""


@dataclass
class Clock:
    """How long a call may go on.

    Attributes:
        budget: seconds of all sections together.
    """

    budget: float

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.budget
        self._section_end = self._end

    def begin(self) -> None:
        """A section begins."""
        self._section_end = min(self._end, time.monotonic() + SECONDS)

    @property
    def is_up(self) -> bool:
        """Whether the section, or all of it, has to end."""
        return time.monotonic() >= self._section_end


# -- sections -----------------------------------------------------------------------------------------


def run_section(section: str, found: Found, rows: Rows, dry: bool, clock: Clock) -> bool:
    """Run the cases of a section that have no row yet; False when time is up before that."""
    clock.begin()
    if section in ("bandwidth", "gemv") and rows.find("bandwidth", "copy") is None:
        gigabytes = copy_speed(1 << 16 if dry else COPIED)
        rows.add("bandwidth", "copy", what="GB/s of cuMemcpyDtoD", value=None if dry else round(gigabytes, 1))
    for offer in found:
        if clock.is_up:
            return _stopped(section, offer.name)
        if rows.find(section, offer.name) is None:
            rows.begin(section, offer.name)
            rows.add(section, offer.name, **_figures(section, offer, dry))
            _expect_context()
    return True


def _stopped(section: str, name: str) -> bool:
    print(f"{section}: time is up before {name!r}; call again to go on")
    return False


def _figures(section: str, offer: Offer, dry: bool) -> dict[str, Any]:
    try:
        ready = offer.make()
        return checked(ready) if section in CHECKED else measured(ready, dry)
    except AinoError as error:
        return {"what": "error", "value": None, "error": f"{error.code}: {error.message}"[:300]}
    except Exception as problem:  # of this case alone: the others have figures all the same
        return {"what": "error", "value": None, "error": f"{type(problem).__name__}: {problem}"[:300]}


class ContextLost(Exception):
    """After a fault on the device this process can do nothing more there."""


def _expect_context() -> None:
    device = open_device()
    try:
        with device.current():
            device.synchronize(0)
    except AinoError as error:
        raise ContextLost(error.message) from error


def checked(ready: Ready) -> dict[str, Any]:
    """Whether results are those that are known or that the interpreter gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LibraryNotUsed)  # an own kernel instead would tell nothing
        made = ready.executable.run(*ready.inputs)
    reasons = []
    for got, want in zip(made, ready.expected(), strict=True):
        kind = "exact" if want.dtype.kind in "biu" else "approximate"
        reason = disagreement(got, want, kind)
        reasons += [] if reason is None else [reason]
    return {"what": "results are right", "value": not reasons, "reasons": reasons}


def measured(ready: Ready, dry: bool) -> dict[str, Any]:
    """How long a run takes on the device, and what that means in GB/s and TFLOP/s; and as it is called."""
    facts = ready.facts
    candidates = sorted({row["candidate"] for row in ready.executable.report.kernels})
    if facts["needs"] and not any(facts["needs"] in c for c in candidates):
        return {"what": "no such kernel", "value": None, "candidates": candidates, "needs": facts["needs"]}
    device = open_device()
    stream = new_stream(device)
    arrays = [
        placed(device, value, row[0], stream.handle)
        for value, row in zip(ready.inputs, facts["inputs"], strict=True)
    ]
    out = list(ready.executable.run(*arrays, stream=stream.handle))

    def run() -> None:
        ready.executable.run(*arrays, out=out, stream=stream.handle)

    called = milliseconds(device, stream.handle, run, dry)
    again = ready.executable.repeat_on(device.number, stream.handle)
    ms = called if again is None else milliseconds(device, stream.handle, again, dry)
    figures = {"what": "ms a run", "candidates": candidates, "launches": len(ready.executable.report.kernels)}
    peer = facts["peer"][0] if facts["peer"] else ""
    problems = [wrong(peer, ready.inputs, fetched(device, array, stream.handle)) for array in out]
    reasons = [problem for problem in problems if problem is not None]
    figures |= {"right": not reasons, **({"reasons": reasons} if reasons else {})}
    if dry:
        return {**figures, "value": None, "ms a call": None}
    figures |= {"value": round(ms, 5), "ms a call": round(called, 5)}
    return {**figures, **speeds(facts["moved"], facts["flops"], ms), **clocks()}


def run_peer(engine: str, section: str, found: Found, rows: Rows, clock: Clock) -> bool:
    """The cases that have a figure, in PyTorch; False when time is up before the end."""
    clock.begin()
    for offer in found:
        own = rows.find(section, offer.name)
        missing = rows.find(section, offer.name, engine) is None
        if own is None or own["value"] is None or not missing or not offer.facts["peer"]:
            continue
        if clock.is_up:
            return _stopped(section, f"{offer.name} of {engine}")
        rows.begin(section, offer.name, engine)
        rows.add(section, offer.name, engine, **peer_figures(engine, offer))
    return True


def peer_figures(engine: str, offer: Offer) -> dict[str, Any]:
    """What PyTorch needs for a case."""
    import torch

    if not torch.cuda.is_available():
        return {"what": "no CUDA", "value": None}
    from benchmarks import gpu_peers

    facts = offer.facts
    dtypes = [row[0] for row in facts["inputs"]]
    try:
        ms = gpu_peers.milliseconds(engine, facts["peer"], offer.inputs(), dtypes)
    except Exception as problem:  # whatever the peer lacks here: a C compiler, Triton, memory
        return {"what": "error", "value": None, "error": f"{type(problem).__name__}: {str(problem)[:200]}"}
    return {"what": "ms a run", "value": ms, **speeds(facts["moved"], facts["flops"], ms), **clocks()}


def run_sanitizer(rows: Rows, artifacts: Path | None, dry: bool, clock: Clock) -> bool:
    """The cases of correctness once more, under each tool of compute-sanitizer, in a process of its own."""
    clock.begin()
    program = shutil.which("compute-sanitizer")
    for tool in TOOLS:
        if rows.find("sanitizer", tool) is not None:
            continue
        if clock.is_up:
            return _stopped("sanitizer", tool)
        if program is None:
            rows.add("sanitizer", tool, what="compute-sanitizer is not installed", value=None)
            continue
        apart = rows.path.with_suffix(f".{tool}.jsonl")
        apart.unlink(missing_ok=True)
        command = [program, "--tool", tool, "--error-exitcode", str(FAULT), sys.executable, "-m"]
        command += ["benchmarks.gpu", "--only", "correctness", "--engine", OWN, "--rows", str(apart)]
        command += ["--artifacts", str(artifacts)] if artifacts is not None else []
        command += ["--dry-run"] if dry else []
        rows.add("sanitizer", tool, **_tool_figures(command))
    return True


def _tool_figures(command: Sequence[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"what": f"not over after {TOOL_SECONDS:.0f} s", "value": None}
    told = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, FAULT):
        return {"what": f"exit status {done.returncode}", "value": None, "error": "\n".join(told[-5:])[:500]}
    return {"what": "nothing found", "value": done.returncode == 0, "told": told[-3:]}


# -- the command --------------------------------------------------------------------------------------


def versions(dry: bool) -> dict[str, Any]:
    """What every row says of where it comes from."""
    device = open_device()
    try:
        peer = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        peer = ""
    return {
        "device": device.name,
        "architecture": device.architecture,
        "driver": device.driver.number("cuDriverGetVersion"),
        "aino": __version__,
        "source": source_identity(),
        "python": platform.python_version(),
        "torch": peer,
        "dry": dry,
    }


def source_identity() -> str:
    """The first digits of the hash of AINO's own source."""
    from aino_ir.driver.cache import source_hash

    return source_hash()[:12]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the command was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=ORDER, help="a section (all of them in order)")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of all sections together")
    parser.add_argument("--rows", type=Path, default=None, help="where rows are added, build/gpu_rows.jsonl")
    parser.add_argument("--dry-run", action="store_true", help="small extents on an emulated GPU")
    parser.add_argument("--artifacts", type=Path, default=None, help=f"the folder {FOLDER} of a bundle")
    parser.add_argument("--make-bundle", type=Path, default=None, help="write a bundle and run nothing")
    engines = (OWN, *PEERS)
    parser.add_argument("--engine", choices=engines, help="one engine, in this process")
    parser.add_argument("--summary", action="store_true", help="only say what the rows say of the goals")
    return parser.parse_args(argv)


def run_here(given: argparse.Namespace, path: Path, artifacts: Path | None) -> int:
    """Sections of one engine in this process; the status of a part (see `gpu_apart`)."""
    dry = given.dry_run
    complete, clock = True, Clock(given.budget)
    try:
        rows = Rows(path, versions(dry))
        for section in given.only or ORDER:
            if section == "sanitizer":
                complete &= run_sanitizer(rows, artifacts, dry, clock)
                continue
            found = compiled_here(section, dry) if artifacts is None else from_bundle(section, artifacts)
            if given.engine == OWN:
                complete &= run_section(section, found, rows, dry, clock)
            else:
                complete &= run_peer(given.engine, section, found, rows, clock)
    except AinoError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except ContextLost as lost:
        print(f"{lost}: a new process goes on", file=sys.stderr)
        return CONTEXT_LOST
    return COMPLETE if complete else TIME_IS_UP


def parts_of(only: Sequence[str], dry: bool) -> list[Part]:
    """What to run, what tells most first: AINO's part of every section, then what it is compared with."""
    timed = [s for s in only if s not in (*CHECKED, "sanitizer")]
    peers = [] if dry or importlib.util.find_spec("torch") is None else timed
    eager, compiled = PEERS
    return [
        *((s, OWN) for s in only if s != "sanitizer"),
        *((s, eager) for s in peers),
        *((s, compiled) for s in peers if s in LONGEST),
        *((s, OWN) for s in only if s == "sanitizer"),
        *((s, compiled) for s in peers if s not in LONGEST),
    ]


def run_apart(given: argparse.Namespace, path: Path, artifacts: Path | None) -> int:
    """All parts in processes of their own."""
    end: float = time.monotonic() + given.budget

    def command(part: Part, seconds: float) -> list[str]:
        section, engine = part
        words = ["-m", "benchmarks.gpu", "--only", section, "--engine", engine, "--rows", str(path)]
        words += ["--budget", f"{seconds:.0f}"]
        words += ["--artifacts", str(artifacts)] if artifacts is not None else []
        return [*words, "--dry-run"] if given.dry_run else words

    def seconds(section: str) -> float:
        most = len(TOOLS) * TOOL_SECONDS if section == "sanitizer" else SECONDS
        return min(most, end - time.monotonic())

    status = run_parts(parts_of(given.only or ORDER, given.dry_run), path, command, seconds)
    if status != NO_DEVICE:
        print(summary(latest(path)))
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run sections, make a bundle, or tell what is known."""
    given = arguments(argv)
    only, dry = given.only or list(ORDER), given.dry_run
    path = given.rows or ROOT / "build" / ("gpu_dry_rows.jsonl" if dry else "gpu_rows.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    if given.summary:
        print(summary(latest(path)))
        return COMPLETE
    artifacts = given.artifacts or (ROOT / FOLDER if (ROOT / FOLDER).is_dir() else None)
    if given.engine is None and given.make_bundle is None:
        return run_apart(given, path, artifacts)
    context: Any = nullcontext()
    if dry:
        from aino_ir.codegen.cuda.emulated.cublas import EmulatedCublas
        from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
        from aino_ir.driver.gpu import emulated_gpu

        gpus = EmulatedGpus()
        context = emulated_gpu(gpus, cublas=EmulatedCublas(gpus))
    with context:
        if given.make_bundle is None:
            return run_here(given, path, artifacts)
        size = make_bundle(given.make_bundle, [s for s in only if s != "sanitizer"], dry, given.budget)
        if size is None:
            return TIME_IS_UP
        print(f"{given.make_bundle}: {size / 1e6:.1f} MB")
        return COMPLETE


if __name__ == "__main__":
    raise SystemExit(main())

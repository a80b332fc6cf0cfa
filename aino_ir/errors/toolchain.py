"""Errors of targets and C toolchains: E0440 to E0459."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault, InternalError, UsageError, UserError


class UnknownTarget(UsageError):
    """A target name or one of its architectures does not exist."""

    code = "AINO-E0440"
    template = "unknown target {target!r}: {reason}"
    hint = "targets that exist: {known}"
    example = {"target": "c:avx1024", "reason": "no architecture 'avx1024'", "known": "c, c:avx2, reference"}


class NoCrossCompiler(EnvironmentFault):
    """The target's code is for another machine, and no compiler for it is there."""

    code = "AINO-E0441"
    template = "no compiler for target '{target}', which is for {needed}: {reason}"
    hint = "run `pip install aino-ir[cc]`, which brings one for every target, and leave AINO_CC unset"
    example = {
        "target": "c:aarch64",
        "needed": "aarch64 (linux)",
        "reason": "the package ziglang is not installed",
    }


class NoCompiler(EnvironmentFault):
    """No C compiler was found."""

    code = "AINO-E0450"
    template = "no C compiler found (tried {tried})"
    hint = "run `pip install aino-ir[cc]` (brings one), or install gcc or clang, or set AINO_CC to a compiler"
    example = {"tried": "AINO_CC, cc, gcc, clang, ziglang"}


class CompilerUnusable(EnvironmentFault):
    """A compiler is there but does not compile an empty program, or does not say what it is."""

    code = "AINO-E0451"
    template = "C compiler {command!r} cannot be used: {reason}"
    hint = "set AINO_CC to a working gcc 11+, clang 14+ or `zig cc`, or run `pip install aino-ir[cc]`"
    example = {"command": "gcc", "reason": "exit status 1 on an empty program"}


class CompilerFailed(InternalError):
    """The C compiler rejected code that AINO wrote."""

    code = "AINO-E0452"
    template = "C compiler {command!r} rejected generated code (exit status {status}):\n{lines}"
    hint = "this is a fault of AINO; the source, the command and the whole output are in {kept}"
    example = {
        "command": "gcc",
        "status": 1,
        "lines": "k.c:3:5: error: expected ';'",
        "kept": "~/.cache/aino/v1/failed/1f0c",
    }


class CompilerTimedOut(EnvironmentFault):
    """The C compiler did not finish in time; it and its children were ended."""

    code = "AINO-E0453"
    template = "C compiler {command!r} did not finish within {seconds:g} s"
    hint = "the machine may be overloaded; compile again with fewer jobs, or at a lower level"
    example = {"command": "gcc", "seconds": 600.0}


class CompilerCrashed(EnvironmentFault):
    """The C compiler died from a signal or reported an internal error of its own."""

    code = "AINO-E0454"
    template = "C compiler {command!r} crashed ({reason})"
    hint = "often too little memory; source and command are in {kept}; AINO_CC names another compiler"
    example = {"command": "gcc", "reason": "signal 9", "kept": "~/.cache/aino/v1/failed/1f0c"}


class TvmMissing(EnvironmentFault):
    """A target of TVM's was asked for, and TVM is not installed."""

    code = "AINO-E0457"
    template = "TVM is not installed"
    hint = "run `pip install aino-ir[tvm]`, or choose the target 'c'"
    example = {}


class TvmFailed(InternalError):
    """TVM did not take a file that AINO wrote."""

    code = "AINO-E0458"
    template = "TVM does not build {what} ({kind}): {lines}"
    hint = "this is a fault of AINO; `ainoc compile --emit tvm` writes the file; the target 'c' needs no TVM"
    example = {"what": "model", "kind": "TypeError", "lines": "mismatched type on argument #1"}


class TvmRefused(InternalError):
    """TVM's scheduler did not take the schedules of some kernels; they are made in another way."""

    code = "AINO-E0459"
    template = "TVM does not schedule {kernels}"
    hint = "this is a fault of AINO; compile with verify='auto', which takes other candidates then"
    example = {"kernels": {"matmul_4x4_1f0c": "ScheduleError: the block is no reduction block"}}


class TvmKernelsAlone(UserError):
    """An executable was asked for on a device whose kernels AINO writes for TVM, and does not run."""

    code = "AINO-E0467"
    template = "AINO runs no artifacts on target {target!r}: {missing}"
    hint = (
        "`ainoc compile --emit tvm` writes kernels and schedules for it, and `build()` or `sources()` in "
        "that file compiles them; the target 'cuda' runs on GPUs of NVIDIA's"
    )
    example = {"target": "tvm:cuda", "missing": "there is no host program for its kernels"}


class NotOneRelaxFunction(UserError):
    """A Relax module was asked for, and the model is more than kernels in a row."""

    code = "AINO-E0466"
    template = "no Relax module is made of {model!r}: it has {what}"
    hint = "give its extents numbers (`dims=`), or use the target 'tvm:llvm', which runs such models"
    example = {"model": "gpt2", "what": "extents that a run decides"}


class BadSourceUnit(InternalError):
    """A translation unit's name or ISA is not one that the compile step accepts."""

    code = "AINO-E0455"
    template = "translation unit {name!r} cannot be compiled: {reason}"
    hint = "this is a fault of AINO; please report it"
    example = {"name": "../k", "reason": "names consist of letters, digits and underscores"}

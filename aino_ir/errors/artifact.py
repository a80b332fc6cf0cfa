"""Errors of compiled artifacts (``.aino`` files): E0601 to E0629."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault, InternalError, UserError


class ArtifactUnreadable(UserError):
    """The file cannot be opened or read."""

    code = "AINO-E0601"
    template = "cannot read artifact {path}: {reason}"
    hint = "check the path and its permissions"
    example = {"path": "m.aino", "reason": "No such file or directory"}


class NotAnArtifact(UserError):
    """The file is not an artifact as AINO writes it: another file, a cut one, or an edited one."""

    code = "AINO-E0602"
    template = "{path} is not an intact AINO artifact: {reason}"
    hint = "write it again with `ainoc compile` or `exe.save`"
    example = {"path": "m.aino", "reason": "4000 bytes of 9120 are there"}


class ArtifactSchema(UserError):
    """The artifact was written by a version of AINO with another file layout."""

    code = "AINO-E0603"
    template = "artifact {path} has schema {found}, this version of AINO reads schema {supported}"
    hint = "compile the model again with this version of AINO"
    example = {"path": "m.aino", "found": 9, "supported": 1}


class ArtifactDamaged(UserError):
    """A section's bytes do not match the hash in the manifest."""

    code = "AINO-E0604"
    template = "artifact {path} is damaged: section {section!r} has SHA-256 {found}, expected {expected}"
    hint = "copy it again from its source, or compile the model again"
    example = {"path": "m.aino", "section": "weights.bin", "found": "31f0...", "expected": "a2b4..."}


class CpuUnsupported(EnvironmentFault):
    """No library in the artifact runs on this processor."""

    code = "AINO-E0605"
    template = "artifact {path} has no code for this processor: required features missing: {missing}"
    hint = "the artifact holds {have}; compile for this machine, or add a variant (c:portable runs anywhere)"
    example = {"path": "m.aino", "missing": "avx512f", "have": "avx512"}


class ArchitectureMismatch(EnvironmentFault):
    """The artifact's code is for another processor family, or another operating system."""

    code = "AINO-E0606"
    template = "artifact {path} holds code for {found}, this machine is {expected}"
    hint = "compile the model for this machine (target c), or take the artifact to one of that kind"
    example = {"path": "m.aino", "found": "x86_64", "expected": "aarch64"}


class LibraryNotLoadable(EnvironmentFault):
    """The dynamic loader refused the artifact's library."""

    code = "AINO-E0607"
    template = "the system cannot load library {section!r}: {reason}"
    hint = (
        "often an older C library than where it was compiled; compile on this machine, or with `AINO_CC=zig`"
    )
    example = {"section": "lib/avx2.so", "reason": "version `GLIBC_2.38' not found"}


class SectionMissing(UserError):
    """The artifact lacks a section that was asked for."""

    code = "AINO-E0608"
    template = "artifact {path} has no section {section!r}; it has {have}"
    hint = "the file was written without it; compile the model again"
    example = {"path": "m.aino", "section": "lib/avx2.so", "have": "manifest.json, weights.bin"}


class BadArtifactContent(InternalError):
    """The compiler tried to write an artifact that its own reader would refuse."""

    code = "AINO-E0609"
    template = "cannot put {section!r} into an artifact: {reason}"
    hint = "this is a fault of AINO; please report it"
    example = {"section": "../x", "reason": "not a plain relative path"}

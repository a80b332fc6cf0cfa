"""Artifacts: compiled models as one file.

An ``.aino`` file is a zip of ``manifest.json``, one library per ISA variant (``lib/<isa>.so``),
``weights.bin`` and the sources (``src/...``).  The same input gives the same bytes.  A reader checks the
whole layout and every section's SHA-256 before anything is used; the hash is integrity, not trust:
loading an artifact runs the code in it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aino_ir.errors.artifact import (
    ArchitectureMismatch,
    ArtifactDamaged,
    ArtifactUnreadable,
    BadArtifactContent,
    CpuUnsupported,
    NotAnArtifact,
    SectionMissing,
)
from aino_ir.isa import ISAS
from aino_ir.runtime.archive import (
    MAX_MEMBERS,
    Member,
    comment_for,
    directory,
    is_member_name,
    lay_out,
    local_header,
    read_layout,
)
from aino_ir.runtime.fileio import DISK, Disk, disk_errors, new_part
from aino_ir.runtime.manifest import Manifest, TensorSpec, Variant, WeightSlice, parse_manifest
from aino_ir.target import Host, detect_host

MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"
WEIGHT_ALIGNMENT = 64
"""Alignment of each constant in the weights section, which itself starts on a page."""

Bytes = bytes | bytearray | memoryview
Source = Bytes | Callable[[], Bytes]
"""A section's content, or a function that makes it when it is written."""


class ArtifactWriter:
    """Collects the sections of an artifact and writes them.

    `manifest` brings the facts; its variants, weights and sections are filled in here.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._sections: dict[str, list[tuple[int, Source]]] = {}
        self._variants: dict[str, Variant] = {}
        self._weights: list[WeightSlice] = []
        self._weight_bytes = 0

    def add_section(self, name: str, data: Bytes) -> None:
        """Add a section.

        Raises:
            BadArtifactContent: the name is no plain relative path, or is taken.
        """
        if not is_member_name(name) or name == MANIFEST:
            raise BadArtifactContent(section=name, reason="not a plain relative path")
        if name in self._sections or len(self._sections) >= MAX_MEMBERS - 1:
            raise BadArtifactContent(section=name, reason="there already, or there are too many")
        self._sections[name] = [(len(data), data)]

    def add_library(self, isa: str, data: Bytes, flags: Sequence[str] = (), ending: str = ".so") -> None:
        """Add the library for one ISA variant; `ending` is that of such a file on its system."""
        section = f"lib/{isa}{ending}"
        self.add_section(section, data)
        self._variants[isa] = Variant(isa, section, ISAS[isa].features, tuple(flags))

    def add_source(self, name: str, text: str) -> None:
        """Add a source file for the reader, as ``src/<name>``."""
        self.add_section(f"src/{name}", text.encode())

    def add_weight(
        self, data: Source, size: int, name: str = "", dtype: str = "", shape: Sequence[int] = ()
    ) -> int:
        """Add one constant and return its offset in the weights section.

        Args:
            data: its bytes, or a function that makes them when the artifact is written.
            size: how many bytes that will be.
            name: for people.
            dtype, shape: of the array, when it is one.
        """
        start = -(-self._weight_bytes // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
        pieces = self._sections.setdefault(WEIGHTS, [])
        if start > self._weight_bytes:
            pieces.append((start - self._weight_bytes, bytes(start - self._weight_bytes)))
        pieces.append((size, data))
        self._weight_bytes = start + size
        self._weights.append(WeightSlice(start, size, name, dtype, tuple(shape)))
        return start

    def write(self, path: Path, disk: Disk = DISK) -> None:
        """Write the artifact to `path`: afterwards the whole new file is there, or what was before.

        Raises:
            DiskFull, FileNotWritable: the disk refuses; nothing is left behind.
            BadArtifactContent: a section's content is not as long as was said.
        """
        with disk_errors(path), new_part(path.parent, disk, mode=0o666) as part:
            self.write_to(part.fd, disk)
            part.publish(path, durable=True)

    def to_bytes(self) -> bytes:
        """Return the artifact as bytes."""
        fd = os.memfd_create("aino-artifact", os.MFD_CLOEXEC)
        try:
            with disk_errors("memory"):
                self.write_to(fd)
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def write_to(self, fd: int, disk: Disk = DISK) -> None:
        """Write the artifact to the empty file behind descriptor `fd`.

        Raises:
            OSError: as the disk reports it.
            BadArtifactContent: a section's content is not as long as was said.
        """
        sizes = {name: sum(size for size, _ in pieces) for name, pieces in self._sections.items()}
        blank = self._finished_manifest(dict.fromkeys(sizes, "0" * 64)).to_bytes()  # as long as the real one
        sizes[MANIFEST] = len(blank)
        places = {member.name: member for member in lay_out(sizes, {})}
        crcs: dict[str, int] = {}
        hashes: dict[str, str] = {}
        for name, pieces in sorted(self._sections.items()):
            disk.seek(fd, places[name].start)
            crcs[name], hashes[name] = _write_pieces(fd, disk, name, pieces)
        manifest = self._finished_manifest(hashes).to_bytes()
        crcs[MANIFEST] = zlib.crc32(manifest)
        members = lay_out(sizes, crcs)
        for member in members:
            disk.seek(fd, member.header)
            disk.write(fd, local_header(member) + (manifest if member.name == MANIFEST else b""))
        disk.seek(fd, members[-1].start + members[-1].size)
        disk.write(fd, directory(members, comment_for(hashlib.sha256(manifest).hexdigest())))

    def _finished_manifest(self, hashes: Mapping[str, str]) -> Manifest:
        variants = tuple(self._variants[isa] for isa in ISAS if isa in self._variants)
        return replace(self._manifest, variants=variants, weights=tuple(self._weights), sections=dict(hashes))


def _write_pieces(fd: int, disk: Disk, name: str, pieces: Sequence[tuple[int, Source]]) -> tuple[int, str]:
    """Write a section's pieces one after the other; return CRC-32 and SHA-256 of them all."""
    crc, state = 0, hashlib.sha256()
    for size, source in pieces:
        view = memoryview(source() if callable(source) else source).cast("B")
        if len(view) != size:
            raise BadArtifactContent(section=name, reason=f"{len(view)} bytes were given, {size} announced")
        disk.write(fd, view)
        crc = zlib.crc32(view, crc)
        state.update(view)
    return crc, state.hexdigest()


class Artifact:
    """An artifact that was opened and found intact.

    Attributes:
        path: where it came from, for messages.
        manifest: what it says about itself.
        identity: SHA-256 (hex) of the manifest, which covers every section.
    """

    def __init__(self, data: memoryview, path: str, verify: bool = True) -> None:
        self._data = data
        self.path = path
        self._members, self.identity = read_layout(data, path)
        self.manifest = self._read_manifest()
        self._check_references()
        if verify:
            for name in self.manifest.sections:
                self._checked(name, self.section(name))

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> Artifact:
        """Map an artifact file and check it.

        Args:
            path: the file.
            verify: whether to hash every section now; libraries are always hashed before use.

        Raises:
            ArtifactUnreadable: there is no such file, or it cannot be read.
            NotAnArtifact, ArtifactSchema, ArtifactDamaged: it is not intact.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as problem:
            raise ArtifactUnreadable(path=str(path), reason=problem.strerror or str(problem)) from problem
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise ArtifactUnreadable(path=str(path), reason="it is not a regular file")
            if facts.st_size == 0:
                raise NotAnArtifact(path=str(path), reason="it is empty")
            view = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except OSError as problem:
            raise ArtifactUnreadable(path=str(path), reason=problem.strerror or str(problem)) from problem
        finally:
            os.close(fd)
        return cls(memoryview(view), str(path), verify)

    @classmethod
    def from_bytes(cls, data: Bytes, verify: bool = True) -> Artifact:
        """Check an artifact in memory; it is copied to a page boundary, as weights must be aligned."""
        if not len(data):
            raise NotAnArtifact(path="(bytes)", reason="it is empty")
        copy = mmap.mmap(-1, len(data))
        copy[:] = bytes(data)
        return cls(memoryview(copy).toreadonly(), "(bytes)", verify)

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of all sections, sorted."""
        return tuple(self._members)

    @property
    def content(self) -> memoryview:
        """The whole file, read-only."""
        return self._data

    def section(self, name: str) -> memoryview:
        """Return a section's bytes, read-only and mapped from the file.

        Raises:
            SectionMissing: there is no such section.
        """
        member = self._members.get(name)
        if member is None:
            raise SectionMissing(path=self.path, section=name, have=", ".join(self._members))
        return self._data[member.start : member.start + member.size]

    @property
    def weights(self) -> memoryview:
        """The weights section (empty when the model has no constants); it starts on a page."""
        return self.section(WEIGHTS) if WEIGHTS in self._members else memoryview(b"")

    def weight(self, index: int) -> memoryview:
        """Return the bytes of one constant."""
        piece = self.manifest.weights[index]
        return self.weights[piece.offset : piece.offset + piece.bytes]

    def choose_variant(self, host: Host | None = None) -> Variant:
        """Return the most demanding variant that `host` (this machine when None) can run.

        Raises:
            ArchitectureMismatch: the libraries are for another processor family or operating system.
            CpuUnsupported: every variant needs a feature that the processor lacks.
        """
        host = host if host is not None else detect_host()
        variants = self.manifest.variants
        if not variants:
            raise SectionMissing(path=self.path, section="lib/*.so", have=", ".join(self._members))
        for found, expected in ((self.manifest.arch, host.arch), (self.manifest.system, host.system)):
            if found != expected:
                raise ArchitectureMismatch(path=self.path, found=found, expected=expected)
        fitting = [variant for variant in variants if not host.missing(variant.features)]
        if fitting:
            return fitting[-1]
        raise CpuUnsupported(
            path=self.path,
            missing=", ".join(host.missing(variants[0].features)),
            have=", ".join(variant.isa for variant in variants),
        )

    def library(self, variant: Variant) -> bytes:
        """Return a private copy of a variant's library whose hash was checked after copying.

        Raises:
            ArtifactDamaged: it does not match the manifest.
        """
        return bytes(self._checked(variant.section, bytes(self.section(variant.section))))

    def _checked(self, name: str, data: Any) -> Any:
        expected, found = self.manifest.sections[name], hashlib.sha256(data).hexdigest()
        if found != expected:
            raise ArtifactDamaged(path=self.path, section=name, found=found, expected=expected)
        return data

    def _read_manifest(self) -> Manifest:
        data = bytes(self.section(MANIFEST))
        found = hashlib.sha256(data).hexdigest()
        if found != self.identity:
            raise ArtifactDamaged(path=self.path, section=MANIFEST, found=found, expected=self.identity)
        return parse_manifest(data, self.path)

    def _check_references(self) -> None:
        """Check that the manifest speaks of what is there, and of nothing else."""
        manifest = self.manifest
        if set(manifest.sections) != set(self._members) - {MANIFEST}:
            raise NotAnArtifact(path=self.path, reason="its manifest does not list the sections that it has")
        for variant in manifest.variants:
            if variant.section not in manifest.sections:
                raise NotAnArtifact(path=self.path, reason=f"it has no library {variant.section!r}")
        size = len(self.weights)
        for index, piece in enumerate(manifest.weights):
            if not 0 <= piece.offset <= piece.offset + piece.bytes <= size:
                raise NotAnArtifact(
                    path=self.path, reason=f"constant {index} lies outside the weights section"
                )


def save_artifact(artifact: Artifact, path: Path, disk: Disk = DISK) -> None:
    """Write an opened artifact to `path`: afterwards the whole file is there, or what was before.

    Raises:
        DiskFull, FileNotWritable: the disk refuses; nothing is left behind.
    """
    with disk_errors(path), new_part(path.parent, disk, mode=0o666) as part:
        disk.write(part.fd, artifact.content)
        part.publish(path, durable=True)


__all__ = [
    "MANIFEST",
    "WEIGHTS",
    "Artifact",
    "ArtifactWriter",
    "Manifest",
    "Member",
    "TensorSpec",
    "Variant",
    "WeightSlice",
    "save_artifact",
]

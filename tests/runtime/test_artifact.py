"""Artifacts: same bytes from the same input, nothing accepted that the writer would not write."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aino_ir.errors import AinoError
from aino_ir.errors.artifact import (
    ArchitectureMismatch,
    ArtifactDamaged,
    ArtifactSchema,
    ArtifactUnreadable,
    BadArtifactContent,
    CpuUnsupported,
    NotAnArtifact,
    SectionMissing,
)
from aino_ir.errors.cache import DiskFull, FileNotWritable
from aino_ir.runtime.archive import SCHEMA, comment_for, directory, lay_out, local_header
from aino_ir.runtime.artifact import Artifact, ArtifactWriter, Manifest, TensorSpec, save_artifact
from aino_ir.target import ISAS, Host
from tests.tools.hermetic import FaultyDisk

MANIFEST = Manifest(
    name='odd "name"\n\u00e4',
    target="c:avx2+avx512",
    arch="x86_64",
    producer="aino 0.1.0",
    compiler="gcc 12.2.0",
    inputs=(TensorSpec("x", "f32", ("batch", 3)),),
    outputs=(TensorSpec("y", "f32", ("batch", 4), {"alias": 0}),),
    kernels=({"name": "k", "flops": 12},),
    report={"arena_bytes": 64},
    details={"entry": "aino_run"},
)
WEIGHTS = np.arange(1000, dtype=np.float32)


def writer(manifest: Manifest = MANIFEST) -> ArtifactWriter:
    """An artifact with everything in it."""
    made = ArtifactWriter(manifest)
    made.add_library("avx512", b"wide library " * 100, ["-O3"])
    made.add_library("avx2", b"narrow library " * 100)
    made.add_source("main.c", "int x;\n")
    made.add_weight(b"abc", 3, "bias")
    made.add_weight(lambda: WEIGHTS.tobytes(), WEIGHTS.nbytes, "w", "f32", WEIGHTS.shape)
    return made


@pytest.fixture(scope="module")
def data() -> bytes:
    """The bytes of `writer()`."""
    return writer().to_bytes()


def host(*features: str, arch: str = "x86_64") -> Host:
    return Host(arch, "test", frozenset(features), 1, 1, 1, 1)


def test_everything_comes_back(tmp_path: Path) -> None:
    writer().write(tmp_path / "m.aino")
    found = Artifact.open(tmp_path / "m.aino")
    assert found.manifest.inputs == MANIFEST.inputs and found.manifest.outputs == MANIFEST.outputs
    assert (found.manifest.name, found.manifest.kernels) == (MANIFEST.name, MANIFEST.kernels)
    assert found.sections == ("lib/avx2.so", "lib/avx512.so", "manifest.json", "src/main.c", "weights.bin")
    assert bytes(found.section("src/main.c")) == b"int x;\n"
    assert bytes(found.weight(0)) == b"abc"
    assert np.array_equal(np.frombuffer(found.weight(1), np.float32), WEIGHTS)
    assert [v.isa for v in found.manifest.variants] == ["avx2", "avx512"]
    assert found.manifest.variants[1].flags == ("-O3",)
    assert [p.name for p in tmp_path.iterdir()] == ["m.aino"]


def test_weights_are_mapped_from_the_file_and_aligned(tmp_path: Path) -> None:
    writer().write(tmp_path / "m.aino")
    found = Artifact.open(tmp_path / "m.aino")
    array = np.frombuffer(found.weights, np.uint8)
    assert array.ctypes.data % 4096 == 0 and not array.flags.writeable
    assert np.frombuffer(found.weight(1), np.float32).ctypes.data % 64 == 0
    mapped = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "m.aino") in mapped


def test_same_input_same_bytes(data: bytes, tmp_path: Path) -> None:
    assert writer().to_bytes() == data
    writer().write(tmp_path / "a.aino")
    assert (tmp_path / "a.aino").read_bytes() == data
    assert Artifact.from_bytes(data).identity == Artifact.open(tmp_path / "a.aino").identity


def test_an_artifact_is_a_real_zip(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.aino"
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names)
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.read("src/main.c") == b"int x;\n"
        for name, expected in manifest["sections"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == expected
    assert manifest["schema"] == SCHEMA


def test_an_artifact_without_weights_or_libraries_is_fine() -> None:
    found = Artifact.from_bytes(ArtifactWriter(MANIFEST).to_bytes())
    assert found.sections == ("manifest.json",) and len(found.weights) == 0
    with pytest.raises(SectionMissing, match=r"has no section 'lib/\*.so'"):
        found.choose_variant(host())
    with pytest.raises(SectionMissing, match=r"has no section .src/x"):
        found.section("src/x.c")


# --- damage -----------------------------------------------------------------------------------------


def test_no_flipped_byte_goes_unnoticed(data: bytes) -> None:
    body = Artifact.from_bytes(data)
    headers = sum(len(body.section(name)) for name in body.sections)
    assert len(data) - headers > 4096, "most of this file is headers, padding and directory"
    for position in [*range(0, len(data), 37), *range(len(data) - 600, len(data))]:
        changed = bytearray(data)
        changed[position] ^= 0x41
        with pytest.raises(AinoError) as caught:
            Artifact.from_bytes(changed)
        assert caught.value.code in ("AINO-E0602", "AINO-E0603", "AINO-E0604"), position


@pytest.mark.parametrize("keep", [0, 1, 21, 22, 100, 160, 1000, 4096, -1, -70, -500])
def test_a_cut_file_is_refused(data: bytes, keep: int) -> None:
    with pytest.raises(NotAnArtifact):
        Artifact.from_bytes(data[:keep])


@pytest.mark.parametrize("end", [b"", b"trailing", b"PK\x05\x06" + bytes(18)])
@pytest.mark.parametrize("front", [b"", b"#!/bin/sh\n"])
def test_added_bytes_are_refused(data: bytes, front: bytes, end: bytes) -> None:
    if front or end:
        with pytest.raises(NotAnArtifact):
            Artifact.from_bytes(front + data + end)


def test_any_other_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(NotAnArtifact, match="does not end the way an artifact ends"):
        Artifact.open(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment_for("0" * 64)
    with pytest.raises(NotAnArtifact):
        Artifact.open(path)


def test_another_schema_is_named(data: bytes) -> None:
    changed = data.replace(b"AINO artifact schema %d " % SCHEMA, b"AINO artifact schema 9 ")
    with pytest.raises(ArtifactSchema, match=f"has schema 9, this version of AINO reads schema {SCHEMA}"):
        Artifact.from_bytes(changed)


def forged(sections: dict[str, bytes]) -> bytes:
    """A zip that is laid out and hashed as the writer does it, whatever it holds."""
    import zlib

    members = lay_out(
        {n: len(d) for n, d in sections.items()}, {n: zlib.crc32(d) for n, d in sections.items()}
    )
    out = b"".join(local_header(m) + sections[m.name] for m in members)
    manifest = sections.get("manifest.json", b"")
    return out + directory(members, comment_for(hashlib.sha256(manifest).hexdigest()))


def good_manifest(**changes: object) -> bytes:
    manifest = json.loads(MANIFEST.to_bytes())
    manifest.update(changes)
    return json.dumps(manifest).encode()


def test_a_forged_file_with_good_content_is_read() -> None:
    assert Artifact.from_bytes(forged({"manifest.json": good_manifest()})).manifest.arch == "x86_64"


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        good_manifest()[:-1] + b',"name":"twice"}',
        good_manifest().replace(b"12", b"NaN"),
        good_manifest(schema=SCHEMA + 1),
        good_manifest(extra=1),
        good_manifest(name=3),
        good_manifest(report=[]),
        good_manifest(inputs=[3]),
        good_manifest(inputs=[{"name": "x"}]),
        good_manifest(inputs=[{"name": "x", "dtype": "f32", "shape": [1.5], "details": {}}]),
        good_manifest(sections={"lib/avx2.so": "0" * 64}),
        good_manifest(variants=[{"isa": "avx2", "section": "lib/avx2.so", "features": [], "flags": []}]),
        good_manifest(weights=[{"offset": 0, "bytes": 1, "name": "", "dtype": "", "shape": []}]),
        good_manifest(weights=[{"offset": -8, "bytes": 8, "name": "", "dtype": "", "shape": []}]),
        good_manifest(weights=[{"offset": True, "bytes": 0, "name": "", "dtype": "", "shape": []}]),
    ],
)
def test_a_bad_manifest_is_refused(manifest: bytes) -> None:
    with pytest.raises(NotAnArtifact):
        Artifact.from_bytes(forged({"manifest.json": manifest}))


def test_a_section_that_the_manifest_does_not_list_is_refused() -> None:
    with pytest.raises(NotAnArtifact, match="does not list"):
        Artifact.from_bytes(forged({"manifest.json": good_manifest(), "src/extra.c": b"x"}))


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../b", ".hidden", "x" * 201, "a\\b", "a b"])
def test_bad_member_names_are_refused_both_ways(name: str) -> None:
    with pytest.raises(BadArtifactContent, match="not a plain relative path"):
        ArtifactWriter(MANIFEST).add_section(name, b"")
    with pytest.raises(NotAnArtifact, match="bad entry"):
        Artifact.from_bytes(forged({"manifest.json": good_manifest(), name: b""}))


def test_a_damaged_library_is_not_handed_out_even_unverified(data: bytes) -> None:
    changed = bytearray(data)
    changed[data.index(b"narrow") + 1] ^= 1
    found = Artifact.from_bytes(changed, verify=False)
    with pytest.raises(ArtifactDamaged, match=r"avx2\.so. has SHA-256"):
        found.library(found.manifest.variants[0])
    with pytest.raises(ArtifactDamaged):
        Artifact.from_bytes(changed)


# --- processors -------------------------------------------------------------------------------------


def test_the_most_demanding_variant_that_runs_is_chosen(data: bytes) -> None:
    found = Artifact.from_bytes(data)
    assert found.choose_variant(host(*ISAS["avx512"].features)).isa == "avx512"
    assert found.choose_variant(host(*ISAS["avx2"].features)).isa == "avx2"
    assert found.library(found.manifest.variants[0]).startswith(b"narrow library")


def test_a_processor_that_lacks_features_is_told_which(data: bytes) -> None:
    with pytest.raises(CpuUnsupported, match="bmi2, f16c"):
        Artifact.from_bytes(data).choose_variant(host("avx", "avx2", "bmi1", "fma"))
    only_wide = ArtifactWriter(MANIFEST)
    only_wide.add_library("avx512", b"x")
    lacking = host(*(f for f in ISAS["avx512"].features if f != "avx512f"))
    with pytest.raises(CpuUnsupported, match="missing: avx512f"):
        Artifact.from_bytes(only_wide.to_bytes()).choose_variant(lacking)


def test_another_processor_family_is_named(data: bytes) -> None:
    with pytest.raises(ArchitectureMismatch, match="holds code for x86_64, this machine is aarch64"):
        Artifact.from_bytes(data).choose_variant(host(arch="aarch64"))
    elsewhere = dataclasses.replace(host(), system="windows")
    with pytest.raises(ArchitectureMismatch, match="holds code for linux, this machine is windows"):
        Artifact.from_bytes(data).choose_variant(elsewhere)


# --- files ------------------------------------------------------------------------------------------


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match="No such file"):
        Artifact.open(tmp_path / "none.aino")
    with pytest.raises(ArtifactUnreadable, match=r"not a regular file|Is a directory"):
        Artifact.open(tmp_path)
    (tmp_path / "empty.aino").touch()
    with pytest.raises(NotAnArtifact, match="empty"):
        Artifact.open(tmp_path / "empty.aino")
    with pytest.raises(NotAnArtifact, match="empty"):
        Artifact.from_bytes(b"")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_what_was_there(tmp_path: Path, data: bytes, error: int) -> None:
    path = tmp_path / "m.aino"
    counting = FaultyDisk()
    writer().write(path, counting)
    other = dataclasses.replace(MANIFEST, name="other")
    for n in range(1, len(counting.calls) + 1):
        if counting.calls[n - 1] == "close":
            continue
        with pytest.raises((DiskFull, FileNotWritable)) as caught:
            writer(other).write(path, FaultyDisk(n, error, lasting=True))
        assert isinstance(caught.value, DiskFull) == (error == errno.ENOSPC)
        assert path.read_bytes() == data, n
        assert [p.name for p in tmp_path.iterdir()] == ["m.aino"], n


def test_an_opened_artifact_can_be_saved_elsewhere_and_onto_itself(tmp_path: Path, data: bytes) -> None:
    first, second = tmp_path / "a.aino", tmp_path / "b.aino"
    save_artifact(Artifact.from_bytes(data), first)
    save_artifact(Artifact.open(first), second)
    save_artifact(Artifact.open(second), second)
    assert first.read_bytes() == second.read_bytes() == data
    with pytest.raises(DiskFull):
        save_artifact(Artifact.open(first), second, FaultyDisk(2))
    assert second.read_bytes() == data


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotWritable, match="No such file or directory"):
        writer().write(tmp_path / "none" / "m.aino")


_KILLED = """
import sys
from pathlib import Path
from tests.runtime.test_artifact import FaultyDisk, writer
writer().write(Path(sys.argv[1]), FaultyDisk(int(sys.argv[2]), None))
"""


def test_a_killed_writer_never_leaves_a_broken_file(tmp_path: Path, root: Path, data: bytes) -> None:
    path = tmp_path / "m.aino"
    counting = FaultyDisk()
    writer().write(path, counting)
    total = len(counting.calls)
    path.unlink()
    for n in sorted({1, 2, 3, total // 2, total - 2, total - 1, total}):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(path), str(n)], cwd=root, capture_output=True, check=False
        )
        assert done.returncode == -9, done.stderr
        assert not path.exists() or path.read_bytes() == data, n
        path.unlink(missing_ok=True)


def test_content_of_another_length_than_announced_is_refused(tmp_path: Path) -> None:
    made = ArtifactWriter(MANIFEST)
    made.add_weight(b"abc", 4)
    with pytest.raises(BadArtifactContent, match="3 bytes were given, 4 announced"):
        made.write(tmp_path / "m.aino")
    assert not list(tmp_path.iterdir())


def test_a_name_cannot_be_taken_twice() -> None:
    made = ArtifactWriter(MANIFEST)
    made.add_source("a.c", "")
    with pytest.raises(BadArtifactContent, match="there already"):
        made.add_source("a.c", "")

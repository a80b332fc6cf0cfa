"""`.air` files: whole or not there, weights beside them, what is refused."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dtypes import DTYPES
from aino_ir.errors.cache import DiskFull, FileNotWritable
from aino_ir.errors.text import (
    TextFileUnreadable,
    TextMismatch,
    TextNotWellFormed,
    TextSyntaxError,
    UnknownWeight,
    WeightDamaged,
    WeightsFileMissing,
)
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.text import load_module, print_module, save
from aino_ir.text.files import weights_path
from aino_ir.types import tensor


def sample(scale: float = 1.0) -> Module:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 100))
    w = Const.of((np.arange(300, dtype=np.float32) * scale).reshape(100, 3))
    b.output("y", b.matmul(x, b.constant(w)))
    b.output("z", b.matmul(x, b.constant(w)))
    b.output("i", b.constant(np.arange(80, dtype=np.int8).astype(DTYPES["i4"].numpy)))
    b.output("s", b.constant(np.float32(3)))
    return b.module


def constants_of(module: Module) -> list[Const]:
    return [op.value for op in module.walk() if op.name == "core.constant"]


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    module = sample()
    path = save(module, tmp_path / "m.air")
    assert files_in(tmp_path) == ["m.air", "m.air.safetensors"]
    again = aino.load(path)
    assert print_module(again) == print_module(module)
    x = np.ones((2, 100), np.float32)
    for want, got in zip(run_module(module, [x]), run_module(again, [x]), strict=True):
        np.testing.assert_array_equal(want, got)


def test_the_public_names_save_and_parse(tmp_path: Path) -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 2))))
    aino.save(b.module, str(tmp_path / "m.air"))
    assert files_in(tmp_path) == ["m.air"]
    assert print_module(aino.parse((tmp_path / "m.air").read_text())) == print_module(b.module)


def test_tied_weights_are_written_once_and_read_back_tied(tmp_path: Path) -> None:
    save(sample(), tmp_path / "m.air")
    weights = load_file(tmp_path / "m.air.safetensors")
    assert sorted(a.nbytes for a in weights.values()) == [80, 1200]
    constants = [op.value for op in load_module(tmp_path / "m.air").walk() if op.name == "core.constant"]
    assert constants[0] is constants[1]


def test_the_same_module_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(sample(), tmp_path / f"{name}.air")
    assert (tmp_path / "a.air").read_bytes() == (tmp_path / "b.air").read_bytes()
    assert (tmp_path / "a.air.safetensors").read_bytes() == (tmp_path / "b.air.safetensors").read_bytes()


def test_weights_are_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(sample(), tmp_path / "m.air")
    module = load_module(tmp_path / "m.air")
    handle = next(op.value for op in module.walk() if op.name == "core.constant")
    assert handle._array is None
    assert handle.array().shape == (100, 3) and handle._array is not None


def test_a_module_may_be_saved_over_the_file_it_was_read_from(tmp_path: Path) -> None:
    path = save(sample(), tmp_path / "m.air")
    text = path.read_text()
    save(load_module(path), path)
    assert path.read_text() == text and load_module(path).op_count() == 7


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = save(sample(), tmp_path / "m.air")
    finally:
        os.umask(old)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, weights_path(path))] == [0o644, 0o644]


# -- failures while writing ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("fails_at", range(6))
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails_at: int
) -> None:
    path = save(sample(), tmp_path / "m.air")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = []

    def failing(real):
        def call(*args, **kwargs):
            calls.append(real)
            if len(calls) == fails_at + 1:
                raise OSError(number, "No space left on device")
            return real(*args, **kwargs)

        return call

    module = sys.modules["aino_ir.text.files"]
    monkeypatch.setattr(module.os, "fsync", failing(os.fsync))
    monkeypatch.setattr(module.os, "replace", failing(os.replace))
    monkeypatch.setattr(module.tempfile, "mkstemp", failing(module.tempfile.mkstemp))
    with pytest.raises(DiskFull, match=r"m\.air"):
        save(sample(scale=2.0), path)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert [c.array().sum() for c in constants_of(load_module(path))] == [
        c.array().sum() for c in constants_of(sample())
    ]


def test_a_first_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source, target):
        if str(target).endswith(".air"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    real = os.replace
    monkeypatch.setattr(sys.modules["aino_ir.text.files"].os, "replace", full)
    with pytest.raises(DiskFull):
        save(sample(), tmp_path / "m.air")
    assert files_in(tmp_path) == []


def test_a_save_that_is_killed_between_the_files_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(sample(), tmp_path / "m.air")

    class Killed(BaseException):
        pass

    def killed(source, target):
        if str(target).endswith(".air"):
            raise Killed
        return real(source, target)

    real = os.replace
    monkeypatch.setattr(sys.modules["aino_ir.text.files"].os, "replace", killed)
    with pytest.raises(Killed):
        save(sample(scale=2.0), path)
    monkeypatch.undo()
    again = load_module(path)
    assert constants_of(again)[0].array().max() == 299
    save(sample(scale=2.0), path)
    assert files_in(tmp_path) == ["m.air", "m.air.safetensors"]
    assert constants_of(load_module(path))[0].array().max() == 598


def test_there_are_six_places_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module = sys.modules["aino_ir.text.files"]
    for owner, name in ((module.os, "fsync"), (module.os, "replace"), (module.tempfile, "mkstemp")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, real=real, **k: (calls.append(1), real(*a, **k))[1])
    save(sample(), tmp_path / "m.air")
    assert len(calls) == 6


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotWritable, match="No such file or directory"):
        save(sample(), tmp_path / "missing" / "m.air")
    (tmp_path / "folder.air").mkdir()
    with pytest.raises(FileNotWritable, match="directory"):
        save(sample(), tmp_path / "folder.air")
    assert "m.air" not in files_in(tmp_path)


# -- failures while reading ---------------------------------------------------------------------------


def test_a_missing_file_and_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(TextFileUnreadable, match="No such file"):
        aino.load(tmp_path / "m.air")
    path = save(sample(), tmp_path / "m.air")
    weights_path(path).unlink()
    with pytest.raises(WeightsFileMissing, match=r"m\.air\.safetensors is missing"):
        load_module(path)


def test_weights_of_another_module(tmp_path: Path) -> None:
    path = save(sample(), tmp_path / "m.air")
    other = save(sample(scale=2.0), tmp_path / "n.air")
    os.replace(weights_path(other), weights_path(path))
    with pytest.raises(UnknownWeight):
        load_module(path)


def test_weights_that_are_no_safetensors(tmp_path: Path) -> None:
    path = save(sample(), tmp_path / "m.air")
    weights_path(path).write_bytes(b"\xff" * 100)
    with pytest.raises(TextFileUnreadable, match="safetensors"):
        load_module(path)
    weights_path(path).write_bytes(b"")
    with pytest.raises(TextFileUnreadable):
        load_module(path)


def test_flipped_bits_in_weights_are_found(tmp_path: Path) -> None:
    path = save(sample(), tmp_path / "m.air")
    beside = weights_path(path)
    raw = bytearray(beside.read_bytes())
    raw[-1] ^= 1
    beside.write_bytes(raw)
    module = load_module(path)
    with pytest.raises(WeightDamaged, match="is damaged"):
        for op in module.walk():
            if op.name == "core.constant":
                op.value.array()


def test_weights_of_another_size(tmp_path: Path) -> None:
    path = save(sample(), tmp_path / "m.air")
    path.write_text(path.read_text().replace("weight f32[100, 3]", "weight f32[100, 4]"))
    with pytest.raises(TextMismatch, match="has 1200 bytes, which do not make"):
        load_module(path)


def test_headers_are_as_safetensors_wants_them(tmp_path: Path) -> None:
    beside = weights_path(save(sample(), tmp_path / "m.air"))
    raw = beside.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    offsets = sorted(entry["data_offsets"] for entry in header.values())
    assert offsets[0][0] == 0 and offsets[-1][1] == len(raw) - 8 - length


def test_a_module_that_is_not_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "m.air"
    path.write_text('module "m" { func main(%1: f32[2] "x") -> ("y", "z") { core.return %1 #2 } }')
    with pytest.raises(TextNotWellFormed, match="invariant 10") as raised:
        aino.load(path)
    assert raised.value.exit_status == 1


def test_text_must_be_ascii(tmp_path: Path) -> None:
    path = tmp_path / "m.air"
    path.write_bytes(b'module "m" {\n  // \xc3\xa9\n}\n')
    with pytest.raises(TextSyntaxError, match="line 2, column 6") as raised:
        load_module(path)
    assert raised.value.fields["expected"] == "ASCII text"

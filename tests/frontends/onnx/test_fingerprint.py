"""What tells a model from every other: its bytes and its external data."""

from __future__ import annotations

from pathlib import Path

import pytest

from aino_ir.frontends.onnx.fingerprint import external_locations, model_fingerprint
from tests.driver.models import mlp, saved, with_external_data


def test_names_of_external_files_are_found(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, mlp(), "m.onnx")
    assert external_locations(path.read_bytes()) == ["m.onnx.data"]
    assert external_locations(mlp().SerializeToString()) == []


def test_long_names_are_found_whole(tmp_path: Path) -> None:
    name = "n" * 150 + ".onnx"  # longer than one byte of length tells
    path = with_external_data(tmp_path, mlp(), name)
    assert external_locations(path.read_bytes()) == [f"{name}.data"]


def entry(name: bytes, swapped: bool = False) -> bytes:
    key, value = b"\x0a\x08location", b"\x12" + bytes([len(name)]) + name
    return value + key if swapped else key + value


def test_entries_written_otherwise_are_not_guessed() -> None:
    assert external_locations(entry(b"w.bin")) == ["w.bin"]
    assert external_locations(entry(b"w.bin", swapped=True)) is None
    assert external_locations(entry(b"w.bin") + entry(b"v.bin", swapped=True)) is None
    assert external_locations(entry(b"\xff\xfe")) is None
    assert model_fingerprint(entry(b"w.bin", swapped=True)) is None


def test_fingerprints_depend_on_model_and_data(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, mlp())
    first = model_fingerprint(path)
    assert first == model_fingerprint(path) is not None
    data = tmp_path / "external.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    second = model_fingerprint(path)
    assert second not in (first, None)
    (tmp_path / "unrelated").write_text("other")
    assert model_fingerprint(path) == second
    data.unlink()
    assert model_fingerprint(path) is None


def test_bytes_are_told_by_themselves_unless_data_lies_elsewhere(tmp_path: Path) -> None:
    content = saved(tmp_path, mlp()).read_bytes()
    assert model_fingerprint(content) == model_fingerprint(tmp_path / "model.onnx")
    external = with_external_data(tmp_path, mlp())
    assert model_fingerprint(external.read_bytes()) is None
    assert model_fingerprint(external.read_bytes(), tmp_path) == model_fingerprint(external)


@pytest.mark.parametrize("name", ["absent.onnx", "."])
def test_what_cannot_be_read_has_none(tmp_path: Path, name: str) -> None:
    assert model_fingerprint(tmp_path / name) is None


def test_empty_files_have_one(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert model_fingerprint(tmp_path / "empty.onnx") == model_fingerprint(b"")

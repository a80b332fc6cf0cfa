"""External data: what is read, and that nothing outside the model's folder ever is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aino_ir.errors import AinoError
from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx import external_data
from aino_ir.frontends.onnx.external_data import ExternalFolder
from aino_ir.frontends.onnx.reader import read_model
from tests.frontends.onnx.models import make_model, tensor_value

VALUES = np.arange(8, dtype=np.float32)


def external(name: str = "w", location: str = "w.bin", **entries: object) -> onnx.TensorProto:
    proto = TensorProto(name=name, data_type=1, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location} | entries).items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def model(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    names = [tensor.name for tensor in tensors]
    node = helper.make_node("Sum", ["x", *names], ["y"])
    return make_model([node], [tensor_value("x", (8,))], [tensor_value("y", (8,))], tensors)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data, beside a file that must stay out of reach."""
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    inside = tmp_path / "model"
    (inside / "deep" / "er").mkdir(parents=True)
    (inside / "w.bin").write_bytes(VALUES.tobytes())
    (inside / "deep" / "er" / "w.bin").write_bytes(b"12345" + VALUES.tobytes())
    (inside / "big.bin").write_bytes(bytes(8192) + VALUES.tobytes())
    return inside


def read(folder: Path, *tensors: onnx.TensorProto) -> np.ndarray:
    path = folder / "model.onnx"
    path.write_bytes(model(*tensors).SerializeToString())
    return read_model(path).graph.initializers[tensors[0].name].array()


@pytest.mark.parametrize(
    "proto",
    [
        external(),
        external(length=32),
        external(offset=0, length=32),
        external(location="./w.bin"),
        external(location="deep/er/w.bin", offset=5, length=32),
        external(location="deep/./er/w.bin", offset=5),
        external(location="big.bin", offset=8192),
        external(checksum=hashlib.sha1(VALUES.tobytes()).hexdigest()),
    ],
)
def test_data_is_found(folder: Path, proto: onnx.TensorProto) -> None:
    np.testing.assert_array_equal(read(folder, proto), VALUES)


def test_tensors_of_one_file_share_its_map(folder: Path) -> None:
    tensors = [external(f"w{index}", "big.bin", offset=8192) for index in range(3)]
    first = read_model(model(*tensors), folder=folder)
    parts = [tensor.packed for tensor in first.graph.initializers.values()]
    assert len({id(part.obj) for part in parts if isinstance(part, memoryview)}) == 1


def test_many_files_do_not_use_up_descriptors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_data, "_MOST_MAPS", 2)
    tensors = []
    for index in range(5):
        (folder / f"big{index}.bin").write_bytes(bytes(8192) + VALUES.tobytes())
        tensors.append(external(f"w{index}", f"big{index}.bin", offset=8192))
    before = len(os.listdir("/proc/self/fd"))
    read_in = read_model(model(*tensors), folder=folder)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    for tensor in read_in.graph.initializers.values():
        np.testing.assert_array_equal(tensor.array(), VALUES)


def test_sparse_and_attribute_tensors_may_be_external(folder: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value=external())
    read_in = read_model(make_model([node]), folder=folder)
    np.testing.assert_array_equal(read_in.graph.nodes[0].tensor("value").array(), VALUES)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/etc/passwd", "absolute"),
        ("../secret.bin", "leaves the folder"),
        ("deep/../../secret.bin", "leaves the folder"),
        ("deep/../w.bin", "leaves the folder"),
        ("..", "leaves the folder"),
        (".", "empty"),
        ("deep//er/w.bin", "empty"),
        ("w.bin/", "empty"),
        ("deep\\..\\w.bin", "backslash"),
        ("w.bin\0.txt", "null character"),
        ("deep", "not a regular file"),
    ],
)
def test_locations_that_are_refused(folder: Path, location: str, text: str) -> None:
    with pytest.raises(errors.ExternalPathRefused, match=text):
        read(folder, external(location=location))


def test_links_are_refused(folder: Path) -> None:
    secret = folder.parent / "secret.bin"
    (folder / "link.bin").symlink_to(secret)
    (folder / "inner.bin").symlink_to("w.bin")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "dangling.bin").symlink_to("nowhere")
    os.link(secret, folder / "hard.bin")
    for location in ("link.bin", "inner.bin", "linked/secret.bin", "dangling.bin"):
        with pytest.raises(errors.ExternalPathRefused, match="symbolic link"):
            read(folder, external(location=location))
    with pytest.raises(errors.ExternalPathRefused, match="2 hard links"):
        read(folder, external(location="hard.bin"))


def test_special_files_are_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "fifo.bin")
    with pytest.raises(errors.ExternalPathRefused, match="not a regular file"):
        read(folder, external(location="fifo.bin"))


def test_files_that_cannot_be_opened(folder: Path) -> None:
    with pytest.raises(errors.ExternalFileUnreadable, match="no such file"):
        read(folder, external(location="missing.bin"))
    with pytest.raises(errors.ExternalFileUnreadable, match="not a directory"):
        read(folder, external(location="w.bin/x"))
    with pytest.raises(errors.ExternalFileUnreadable, match="name too long"):
        read(folder, external(location="n" * 5000))


@pytest.mark.parametrize(
    ("entries", "kind", "text"),
    [
        ({"offset": "-1"}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"offset": "0x10"}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"offset": "1" * 30}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"offset": "\u0661"}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"length": " 32"}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"length": ""}, errors.ExternalDataInvalid, "not a decimal number"),
        ({"checksum": "abc"}, errors.ExternalDataInvalid, "not a hexadecimal SHA-1"),
        ({"__class__": "x"}, errors.ExternalDataInvalid, "the key is unknown"),
        ({"location": ""}, errors.ExternalDataInvalid, "it is missing"),
        ({"length": 16}, errors.TensorSizeMismatch, "needs 32 bytes, external data holds 16"),
        ({"length": 2**62}, errors.TensorSizeMismatch, "external data holds 4611686018427387904"),
        ({"offset": 4}, errors.ExternalRangeInvalid, "bytes 4 to 36 of external data 'w.bin', which has 32"),
        ({"offset": 2**62}, errors.ExternalRangeInvalid, "which has 32"),
        ({"checksum": "0" * 40}, errors.ExternalChecksumMismatch, "expects 0000"),
    ],
)
def test_entries_that_are_refused(
    folder: Path, entries: dict[str, object], kind: type[AinoError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        read(folder, external(**({"location": "w.bin"} | entries)))  # type: ignore[arg-type]


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    proto = external(offset=0)
    proto.external_data.add(key="offset", value="4")
    with pytest.raises(errors.ExternalDataInvalid, match="given twice"):
        read(folder, proto)


def test_a_huge_tensor_takes_no_memory(folder: Path) -> None:
    proto = external()
    proto.dims[:] = [2**39]
    with pytest.raises(errors.ExternalRangeInvalid, match="which has 32"):
        read(folder, proto)


def test_a_model_without_a_place_has_no_external_data(folder: Path) -> None:
    proto = model(external())
    for source in (proto, proto.SerializeToString()):
        with pytest.raises(errors.ExternalFolderUnknown, match=r"external data 'w\.bin'"):
            read_model(source)
        assert read_model(source, folder=folder).graph.initializers["w"].size == 8


def test_a_folder_swapped_for_a_link_is_refused(folder: Path) -> None:
    """The walk opens each component from the one before, so a late swap meets the same refusal."""
    reader = ExternalFolder(folder)
    proto = external(location="deep/er/w.bin", offset=5)
    assert len(reader.read(proto, "tensor 'w'", 32)) == 32
    (folder / "deep" / "er" / "w.bin").unlink()
    (folder / "deep" / "er").rmdir()
    (folder / "deep" / "er").symlink_to(folder)
    with pytest.raises(errors.ExternalPathRefused, match="symbolic link"):
        ExternalFolder(folder).read(proto, "tensor 'w'", 32)

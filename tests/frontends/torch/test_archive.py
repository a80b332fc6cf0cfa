"""Archives are read as plain data: nothing in them runs, and what could is refused."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.errors.torch import ArchiveUnreadable, ArchiveUnsafe
from aino_ir.frontends.torch.archive import is_expression, read_archive


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()).eval()
    x = torch.randn(4, 6)
    batch = torch.export.Dim("batch", max=32)
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: 2 * batch},)), path)
    return path, model, x


def changed(path: Path, to: Path, change: Callable[[str, bytes], bytes | None], mode: int = 0) -> Path:
    """A copy of an archive with members changed, or left out where `change` gives None."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", mode) as new:
        for member in old.infolist():
            data = change(member.filename.partition("/")[2], old.read(member))
            if data is not None:
                new.writestr(member.filename, data)
    return to


def program(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    """A change of the program's JSON."""

    def apply(name: str, data: bytes) -> bytes:
        if not name.startswith("models/"):
            return data
        tree = json.loads(data)
        change(tree)
        return json.dumps(tree).encode()

    return apply


def test_archive_runs_without_unpickling(
    saved: tuple[Path, nn.Module, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model, x = saved

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(pickle, "loads", never)
    executable = aino.compile(str(path), "reference")
    assert (executable.run(x)[0] - model(x)).abs().max() < 1e-6
    assert (executable.run(x[:2])[0] - model(x[:2])).abs().max() < 1e-6


def test_pickled_sample_inputs_are_not_even_needed(
    saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path
) -> None:
    path = changed(saved[0], tmp_path / "m.pt2", lambda name, data: None if "sample_inputs" in name else data)
    assert read_archive(path).graph_signature.user_inputs == ("input",)


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "__import__('os').system('true')": lambda p: _expression(p, "__import__('os').system('true')"),
    "torch.load": lambda p: _node(p, target="torch.load"),
    "torch.ops.load_library": lambda p: _node(p, target="torch.ops.load_library"),
    "torch.ops.__class__.mro": lambda p: _node(p, target="torch.ops.__class__.mro.x"),
    "objects": lambda p: _node(p, inputs=[{"name": "x", "arg": {"as_custom_obj": {"name": "o"}}}]),
}


def _node(tree: dict[str, Any], **fields: Any) -> None:
    tree["graph_module"]["graph"]["nodes"][0].update(fields)


def _expression(tree: dict[str, Any], text: str) -> None:
    tree["graph_module"]["graph"]["sym_int_values"]["s"] = {"as_expr": {"expr_str": text, "hint": None}}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_programs_are_refused(
    saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path, what: str
) -> None:
    path = changed(saved[0], tmp_path / "m.pt2", program(HOSTILE[what]))
    with pytest.raises(ArchiveUnsafe):
        aino.load(path)


def test_files_of_other_kinds_are_told(tmp_path: Path) -> None:
    """What torch.save and TorchScript write are zip files too, with pickled data."""
    path = tmp_path / "m.pt2"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(ArchiveUnsafe, match=r"pickled object.*torch\.save"):
        aino.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(nn.Linear(2, 2)).save(path)
    with pytest.raises(ArchiveUnsafe, match="TorchScript"):
        aino.load(path)


def test_pickled_weights_are_refused(saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path) -> None:
    def pickled(name: str, data: bytes) -> bytes:
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if "config" in name else data

    with pytest.raises(ArchiveUnsafe, match="pickled data"):
        aino.load(changed(saved[0], tmp_path / "m.pt2", pickled))
    legacy = tmp_path / "legacy.pt2"
    changed(saved[0], legacy, lambda name, data: data)
    with zipfile.ZipFile(legacy, "a") as archive:
        archive.writestr("model/data/weights/model.pt", b"")
    with pytest.raises(ArchiveUnsafe, match="pickled tensors"):
        aino.load(legacy)


def test_damaged_archives_say_what_is_wrong(
    saved: tuple[Path, nn.Module, torch.Tensor], tmp_path: Path
) -> None:
    path = saved[0]
    cases = {
        "no such file": tmp_path / "absent.pt2",
        "zip": _bytes(tmp_path / "text.pt2", b"no archive"),
        "no program": changed(
            path, tmp_path / "a.pt2", lambda name, data: None if name.startswith("models/") else data
        ),
        "damaged": changed(
            path, tmp_path / "b.pt2", lambda name, data: b"{" if name.startswith("models/") else data
        ),
        "no JSON object": changed(
            path, tmp_path / "c.pt2", lambda name, data: b"[]" if name.startswith("models/") else data
        ),
        "missing": changed(
            path, tmp_path / "d.pt2", lambda name, data: None if "weights_config" in name else data
        ),
        "compressed": changed(path, tmp_path / "e.pt2", lambda name, data: data, zipfile.ZIP_DEFLATED),
        "tensor '0.weight' is damaged": changed(
            path, tmp_path / "f.pt2", lambda name, data: data[:8] if name.endswith("weight_0") else data
        ),
        "cannot read the program": changed(
            path, tmp_path / "g.pt2", program(lambda p: _node(p, target="torch.ops.aten.nothing.default"))
        ),
        "nested deeper": changed(path, tmp_path / "h.pt2", program(_nest)),
    }
    for reason, archive in cases.items():
        with pytest.raises(ArchiveUnreadable) as caught:
            aino.load(archive)
        assert reason in str(caught.value).lower() or reason in str(caught.value)


def _nest(tree: dict[str, Any]) -> None:
    inner: Any = {}
    for _ in range(300):
        inner = [inner]
    tree["extra"] = inner


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("Symbol('s0', positive=True, integer=True)", True),
        ("Mul(Integer(2), Symbol('s0', integer=True))", True),
        ("FloorDiv(s0 + 1, 2)", True),
        ("True", True),
        ("s0.__class__", False),
        ("eval('1')", False),
        ("Symbol(__import__('os'))", False),
        ("Symbol('s0', x=open('f'))", False),
        ("[x for x in s0]", False),
        ("__builtins__", False),
        ("1 +", False),
        ("'text'", False),
        (None, False),
    ],
)
def test_expressions_have_a_small_grammar(text: object, legal: bool) -> None:
    assert is_expression(text) is legal

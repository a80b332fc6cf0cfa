"""Installing: one import name, nothing else at the top level, and an import that costs little."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.source import ROOMS, ROOT, sources
from tests.tools.child import run_python

HEAVY = ("torch", "onnx", "tvm", "onnxruntime", "transformers", "networkx", "lark")


def child(code: str, cwd: Path) -> str:
    """What code prints in a Python of its own, without a path to this checkout."""
    done = run_python(code, cwd, path=None)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_nothing_heavy(tmp_path: Path) -> None:
    loaded = json.loads(child("import json, sys, aino_ir; print(json.dumps(sorted(sys.modules)))", tmp_path))
    assert not {name for name in loaded if name.split(".")[0] in HEAVY}
    assert "numpy" not in loaded


def test_a_checkout_finds_its_rooms_from_anywhere(tmp_path: Path) -> None:
    code = "import aino_ir.passes, aino_ir.codegen.kernels; print(aino_ir.passes.__file__)"
    for cwd in (tmp_path, ROOT):
        assert Path(child(code, cwd).strip()) == ROOT / "passes" / "__init__.py"


def test_submodule_does_not_hide_the_function_of_its_name(tmp_path: Path) -> None:
    child("import aino_ir, aino_ir.verify; assert callable(aino_ir.verify)", tmp_path)


def test_unknown_name_is_an_attribute_error(tmp_path: Path) -> None:
    code = "import aino_ir\ntry: aino_ir.nonsense\nexcept AttributeError as e: print(e)"
    assert "has no attribute 'nonsense'" in child(code, tmp_path)


def test_every_public_name_resolves(tmp_path: Path) -> None:
    child("import aino_ir; [getattr(aino_ir, name) for name in aino_ir.__all__]", tmp_path)


def test_every_folder_with_code_is_a_package() -> None:
    lonely = {s.path.parent for s in sources() if not (s.path.parent / "__init__.py").is_file()}
    assert not lonely


@pytest.mark.slow
def test_wheel_holds_one_top_level_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aino_ir"}
    held = {name for name in names if name.endswith(".py")}
    wanted = {s.name if s.room == "aino_ir" else f"aino_ir/{s.name}" for s in sources()}
    assert held == wanted


@pytest.mark.slow
def test_wheel_holds_the_data_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    suffixes = {".lark", ".h", ".c", ".json"}
    data = [
        p for room in ROOMS for p in (ROOT / room).rglob("*") if p.suffix in suffixes or p.name == "py.typed"
    ]
    for path in data:
        name = path.relative_to(ROOT).as_posix()
        assert (name if name.startswith("aino_ir/") else f"aino_ir/{name}") in names


@pytest.mark.slow
def test_installed_wheel_stands_alone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = "import aino_ir, aino_ir.passes, aino_ir.driver; print(aino_ir.__path__, aino_ir.driver.__file__)"
    printed = child(f"import sys; sys.path.insert(0, {str(site)!r}); {code}", tmp_path)
    assert str(ROOT) not in printed


@pytest.mark.slow
def test_checkout_shadowing_an_installed_wheel_still_works(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.append({str(site)!r}); import aino_ir.passes; print(aino_ir.passes.__file__)"
    )
    assert Path(child(code, ROOT).strip()) == ROOT / "passes" / "__init__.py"

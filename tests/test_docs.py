"""The generated pages say what the code says, and no page points at a file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import PAGES
from tests.source import ROOT
from tests.tools.child import run_python

WRITTEN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_page_is_current(name: str) -> None:
    stored = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert stored == PAGES[name](), f"docs/{name} is stale: run `make docs`"


@pytest.mark.parametrize(
    "page", [*WRITTEN, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_make_target_in_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*WRITTEN, *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, page.name


HOW_TO = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NEW_TARGET = (ROOT / "docs" / "how-to-add-a-target.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", HOW_TO + NEW_TARGET, re.DOTALL)


def test_every_how_to_has_code() -> None:
    sections = re.split(r"^## ", HOW_TO, flags=re.MULTILINE)
    how_tos = [s for s in sections if s.startswith("How to")]
    assert [s.split("\n")[0] for s in how_tos] == [
        "How to add an op",
        "How to add a fusion rule",
        "How to add a target",
    ]
    assert all("```python" in s for s in how_tos)


@pytest.mark.parametrize(
    "code", CODE, ids=[re.sub(r"\W+", "-", c.strip().split("\n")[-1])[:40] for c in CODE]
)
def test_code_of_the_how_tos_runs(code: str) -> None:
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_files_named_in_the_walk_exist() -> None:
    folders = [
        "",
        "aino_ir",
        "frontends",
        "frontends/onnx",
        "frontends/torch",
        "frontends/torch/export",
        "frontends/onnx/export",
        "passes",
        "passes/compression",
        "codegen",
        "codegen/cuda",
        "codegen/lower",
        "codegen/kernels",
        "codegen/schedule",
        "codegen/c",
        "codegen/cuda",
        "codegen/tvm",
        "runtime",
        "driver",
        "driver/dynamo",
    ]
    named = set(re.findall(r"`([\w/]+\.py|[\w/]+/)`", HOW_TO))
    missing = [n for n in sorted(named) if not any((ROOT / folder / n).exists() for folder in folders)]
    assert len(named) > 60 and not missing


def test_modules_of_the_ir_are_all_in_the_walk() -> None:
    words = set(re.findall(r"[\w./]+", HOW_TO))
    helpers = {
        "__init__.py",
        "dim_learner.py",
        "dim_parser.py",
        "dim_walk.py",
        "definition_interp.py",
        "interning.py",
        "sampling.py",
        "special.py",
    }
    files = {p.name for p in (ROOT / "aino_ir").glob("*.py")} - helpers
    assert not files - words

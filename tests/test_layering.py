"""The arrows of the house: who may import whom, and what may stand where.

Every rule is a function from a source file to complaints, so that each is also tested on a file that
breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.source import ROOMS, ROOT, Source, sources

ALLOWED = {
    "aino_ir": {"aino_ir"},
    "frontends": {"aino_ir", "frontends"},
    "passes": {"aino_ir", "passes"},
    "codegen": {"aino_ir", "codegen"},
    "runtime": {"aino_ir", "runtime"},
    "driver": set(ROOMS),
}
"""Room -> rooms that it may import."""

EXTRA = {("codegen", f"aino_ir.runtime.{module}") for module in ("artifact", "cubins", "store", "fileio")}
"""Single modules that a room may import on top: codegen puts files on disk with the runtime's writers."""

HEAVY = {"torch", "onnx", "tvm", "transformers", "onnxruntime", "openvino", "onnxscript"}
"""Packages that only the named rooms may import, and never while AINO itself is imported."""

MAY_IMPORT_HEAVY = {"frontends", "driver"}
RUNTIME_THIRD_PARTY = {"numpy", "ml_dtypes"}

FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_ATTRIBUTES = {("os", "system"), ("os", "popen"), ("torch", "load"), ("yaml", "load")}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}

TARGET_TEXT = re.compile(
    r"#include|#pragma|#define|\b__(m512|m256|m128|attribute__|builtin_\w+|global__|shared__|restrict)\b"
    r"|\b(static inline|const float \*|float \*|uint8_t|int64_t|size_t|threadIdx|blockIdx|T\.prim_func)\b"
    r"|;\s*\n?$"
)
"""What would be C, CUDA or TVMScript in a string."""

MODEL_NAMES = re.compile(
    r"\b(resnet|mobilenet|efficientnet|convnext|vit|bert|gpt|whisper|llama|swin|densenet|inception|yolo|vgg|alexnet"
    r"|squeezenet|shufflenet)[\w-]*\b",
    re.IGNORECASE,
)


def room_of(module: str) -> str | None:
    """Return the room that a dotted import name belongs to, or None for a third party."""
    parts = module.split(".")
    if parts[0] != "aino_ir":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS[1:] else "aino_ir"


def against_the_arrows(source: Source) -> Iterator[str]:
    for line, module in source.imports():
        room = room_of(module)
        extra = any(
            module == name or module.startswith(name + ".") for own, name in EXTRA if own == source.room
        )
        if room is not None and room not in ALLOWED[source.room] and not extra:
            yield f"{source.name}:{line}: {source.room} imports {module}"
        if module.split(".")[0] in ROOMS[1:]:
            yield f"{source.name}:{line}: {module} goes by the name aino_ir.{module}"


def module_file(module: str) -> Path | None:
    """The file of a module of the project, or None when there is none."""
    parts = module.split(".")[1:] if room_of(module) in (None, *ROOMS[1:]) else module.split(".")
    base = ROOT.joinpath(*parts)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def defined_names(path: Path) -> frozenset[str]:
    """What a module defines or imports at its top level."""
    tree = next((s.tree for s in sources() if s.path == path), None) or ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def absent_names(source: Source) -> Iterator[str]:
    for line, name in source.imports():
        module, _, what = name.rpartition(".")
        if not module.startswith("aino_ir.") or module_file(name) is not None:
            continue
        path = module_file(module)
        if path is None or what not in defined_names(path):
            yield f"{source.name}:{line}: there is no {name}"


def heavy_imports(source: Source) -> Iterator[str]:
    for line, module in source.imports():
        if module.split(".")[0] in HEAVY and source.room not in MAY_IMPORT_HEAVY:
            yield f"{source.name}:{line}: {source.room} imports {module}"


def runtime_imports(source: Source) -> Iterator[str]:
    if source.room != "runtime":
        return
    import sys

    for line, module in source.imports():
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names | RUNTIME_THIRD_PARTY | {"aino_ir", "__future__"}:
            yield f"{source.name}:{line}: the runtime needs numpy alone, but imports {module}"


def dangerous_calls(source: Source) -> Iterator[str]:
    for line, module in source.imports():
        if module.split(".")[0] in FORBIDDEN_MODULES:
            yield f"{source.name}:{line}: {module} runs code that it reads"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in FORBIDDEN_CALLS:
            yield f"{source.name}:{node.lineno}: {function.id}()"
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if (function.value.id, function.attr) in FORBIDDEN_ATTRIBUTES:
                yield f"{source.name}:{node.lineno}: {function.value.id}.{function.attr}()"
        for keyword in node.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and not keyword.value.value
            ):
                yield f"{source.name}:{node.lineno}: shell={ast.unparse(keyword.value)}"
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                yield f"{source.name}:{node.lineno}: allow_pickle={ast.unparse(keyword.value)}"


def _docstrings(tree: ast.Module) -> set[int]:
    """Return the ids of string nodes that stand alone as statements: docstrings and attribute notes."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _strings(source: Source) -> Iterator[ast.Constant]:
    notes = _docstrings(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node


def target_text_in_kernels(source: Source) -> Iterator[str]:
    if not source.name.startswith("codegen/kernels/"):
        return
    for node in _strings(source):
        if TARGET_TEXT.search(str(node.value)):
            yield f"{source.name}:{node.lineno}: target-language text {node.value!r}"


def model_identity(source: Source) -> Iterator[str]:
    if source.room not in {"passes", "codegen"}:
        return
    for node in _strings(source):
        found = MODEL_NAMES.search(str(node.value))
        if found:
            yield f"{source.name}:{node.lineno}: a test for the model {found.group()!r}"
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            text = ast.unparse(node.test)
            if re.search(r"\b(model|module|function|graph)\.name\s*(==|!=|in\b)|\.loc\.\w+\s*==", text):
                yield f"{source.name}:{node.lineno}: decides by identity: {text}"


RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    against_the_arrows,
    absent_names,
    heavy_imports,
    runtime_imports,
    dangerous_calls,
    target_text_in_kernels,
    model_identity,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    complaints = [complaint for source in sources() for complaint in rule(source)]
    assert not complaints, "\n".join(complaints)


BREAKS = [
    (against_the_arrows, "aino_ir/x.py", "from aino_ir.passes.manager import PassManager"),
    (against_the_arrows, "passes/x.py", "def f():\n    import aino_ir.codegen.c"),
    (against_the_arrows, "passes/x.py", "from aino_ir import codegen"),
    (against_the_arrows, "passes/x.py", "from ..codegen import c"),
    (against_the_arrows, "runtime/x.py", "import aino_ir.driver"),
    (against_the_arrows, "codegen/x.py", "from aino_ir.runtime.executable import Executable"),
    (against_the_arrows, "driver/x.py", "from passes import manager"),
    (absent_names, "codegen/x.py", "def f():\n    from aino_ir.graph import Walue"),
    (absent_names, "codegen/x.py", "from aino_ir.codegen.nothing import f"),
    (heavy_imports, "passes/x.py", "import onnx"),
    (heavy_imports, "runtime/x.py", "from torch import nn"),
    (runtime_imports, "runtime/x.py", "import networkx"),
    (dangerous_calls, "driver/x.py", "import pickle"),
    (dangerous_calls, "driver/x.py", "eval('1')"),
    (dangerous_calls, "driver/x.py", "import os\nos.system('ls')"),
    (dangerous_calls, "codegen/c/x.py", "import subprocess\nsubprocess.run('cc', shell=True)"),
    (dangerous_calls, "runtime/x.py", "import numpy as np\nnp.load('f', allow_pickle=True)"),
    (target_text_in_kernels, "codegen/kernels/x.py", "def f():\n    return '#include <math.h>'"),
    (target_text_in_kernels, "codegen/kernels/x.py", "def f(n):\n    return f'acc += {n};'"),
    (model_identity, "passes/x.py", "def f(m):\n    return 'resnet50' in m.title"),
    (model_identity, "codegen/x.py", "def f(model):\n    if model.name == x:\n        pass"),
]


@pytest.mark.parametrize(("rule", "name", "text"), BREAKS)
def test_rule_finds_what_breaks_it(rule: Callable[[Source], Iterator[str]], name: str, text: str) -> None:
    source = Source(ROOT / name)
    source.__dict__["text"] = text  # stands in for the file's content
    assert list(rule(source))


KEEPS = [
    (
        absent_names,
        "driver/x.py",
        "from aino_ir.codegen import c\nimport aino_ir\nfrom aino_ir.graph import Op",
    ),
    (against_the_arrows, "codegen/x.py", "from aino_ir.runtime.artifact import write"),
    (against_the_arrows, "driver/x.py", "from aino_ir.passes import manager\nimport aino_ir.codegen.c"),
    (target_text_in_kernels, "codegen/kernels/x.py", '"""Keeps a; b. #include is C."""\nNAME = "contract"'),
    (dangerous_calls, "codegen/x.py", "import subprocess\nsubprocess.run(['cc'], shell=False)"),
]


@pytest.mark.parametrize(("rule", "name", "text"), KEEPS)
def test_rule_leaves_good_code_alone(rule: Callable[[Source], Iterator[str]], name: str, text: str) -> None:
    source = Source(ROOT / name)
    source.__dict__["text"] = text
    assert not list(rule(source))


def test_every_room_is_walked() -> None:
    assert {source.room for source in sources()} == set(ROOMS)
    assert Path(ROOT / "aino_ir" / "__init__.py") in {source.path for source in sources()}

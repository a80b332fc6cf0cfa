"""The house style that a machine can judge: docstrings, sizes, silent failures, the error catalogue.

Sizes are signals, not walls: the limits here stand well past them, and `python -m tests.test_house` prints
what is over a signal.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

from aino_ir.errors import CATALOGUE, AinoError
from tests.source import ROOT, Source, sources

FILE_SIGNAL, FILE_LIMIT = 500, 900
FUNCTION_SIGNAL, FUNCTION_LIMIT = 50, 120

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(source: Source) -> Iterator[Definition]:
    """Yield every function and class of a file."""
    for node in ast.walk(source.tree):
        if isinstance(node, Definition):
            yield node


def length(node: Definition) -> int:
    """Return a definition's length in lines, docstring and decorators left out."""
    first = node.body[0]
    note = 0
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        note = (first.end_lineno or first.lineno) - first.lineno + 1
    return (node.end_lineno or node.lineno) - node.lineno + 1 - note


def public(tree: ast.Module) -> Iterator[Definition]:
    """Yield the public functions and classes at the top level of a file, and public methods of the latter."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node


def test_every_file_opens_with_a_docstring() -> None:
    missing = [s.name for s in sources() if not ast.get_docstring(s.tree)]
    assert not missing


def test_everything_public_has_a_docstring() -> None:
    missing = [
        f"{s.name}:{d.lineno} {d.name}" for s in sources() for d in public(s.tree) if not ast.get_docstring(d)
    ]
    assert not missing, "\n".join(missing)


def test_files_keep_a_size() -> None:
    over = {s.name: n for s in sources() if (n := len(s.text.splitlines())) > FILE_LIMIT}
    assert not over


def test_functions_fit_a_screen() -> None:
    over = [
        f"{s.name}:{d.lineno} {d.name}: {length(d)} lines"
        for s in sources()
        for d in definitions(s)
        if not isinstance(d, ast.ClassDef) and length(d) > FUNCTION_LIMIT
    ]
    assert not over, "\n".join(over)


def silent_failures(source: Source) -> Iterator[str]:
    """Yield handlers that catch everything and do nothing."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            kind = ast.unparse(node.type) if node.type else "everything"
            idle = all(isinstance(step, (ast.Pass, ast.Continue)) for step in node.body)
            if idle and kind in {"everything", "Exception", "BaseException"}:
                yield f"{source.name}:{node.lineno}: catches {kind} and says nothing"


def unfinished(source: Source) -> Iterator[str]:
    """Yield marks of work left undone."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield f"{source.name}:{number}: {line.strip()}"
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Raise)
            and node.exc is not None
            and not source.name.startswith("aino_ir/errors/")
        ):
            name = ast.unparse(node.exc).split("(")[0]
            if name in {"Exception", "BaseException"}:
                yield f"{source.name}:{node.lineno}: raises {name} instead of an error of the catalogue"


@pytest.mark.parametrize("rule", [silent_failures, unfinished])
def test_no_file_breaks_the_rule(rule) -> None:
    complaints = [complaint for source in sources() for complaint in rule(source)]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (silent_failures, "try:\n    f()\nexcept Exception:\n    pass"),
        (silent_failures, "for x in y:\n    try:\n        f()\n    except:\n        continue"),
        (unfinished, "x = 1  # TO" + "DO: more"),
        (unfinished, "raise Exception('no')"),
    ],
)
def test_rule_finds_what_breaks_it(rule, text: str) -> None:
    source = Source(ROOT / "driver" / "x.py")
    source.__dict__["text"] = text
    assert list(rule(source))


# -- the error catalogue ------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def catalogue() -> dict[str, type[AinoError]]:
    """Return every error class by code, all modules of aino_ir.errors imported."""
    for path in sorted((ROOT / "aino_ir" / "errors").glob("*.py")):
        importlib.import_module(f"aino_ir.errors.{path.stem}".removesuffix(".__init__"))
    return dict(CATALOGUE)


def test_codes_are_well_formed() -> None:
    assert catalogue()
    assert all(re.fullmatch(r"AINO-E0[1-79]\d\d", code) for code in catalogue())


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_error_says_what_and_what_next(code: str) -> None:
    error = catalogue()[code]
    raised = error(**error.example, loc="node 'n'")
    first, second = (error.template + "  ")[:2]
    assert raised.message and not (first.isupper() and second.islower()), "messages are lower case"
    assert error.hint, "an error says what to do next"
    assert error.hint.format(**error.example)
    assert f"see docs/errors.md#{code.lower()}" in str(raised)


def test_every_error_is_provoked_by_a_test() -> None:
    texts = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    never = [
        f"{code} {e.__name__}"
        for code, e in catalogue().items()
        if e.__name__ not in texts and code not in texts
    ]
    assert not never, "\n".join(never)


def main() -> None:
    """Print every file and function over a signal, longest first."""
    files = [(len(s.text.splitlines()), s.name) for s in sources()]
    functions = [
        (length(d), f"{s.name}:{d.lineno} {d.name}")
        for s in sources()
        for d in definitions(s)
        if not isinstance(d, ast.ClassDef)
    ]
    for rows, signal in ((files, FILE_SIGNAL), (functions, FUNCTION_SIGNAL)):
        for lines, name in sorted(rows, reverse=True):
            if lines > signal:
                print(f"{lines:6d}  {name}")


if __name__ == "__main__":
    main()

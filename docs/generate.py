"""Writes the generated pages, docs/ir.md and docs/errors.md, from the code (`make docs`).

Both are committed; `tests/test_docs.py` fails when they no longer say what the code says.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent

ERROR_AREAS = {
    "E01": "Models and frontends",
    "E02": "IR, text and dimensions",
    "E03": "Passes",
    "E04": "Code generation and toolchains",
    "E05": "Running",
    "E06": "Artifacts and the cache",
    "E07": "Usage",
    "E09": "Faults of AINO itself",
}

ERRORS_HEAD = """# Errors

Every error that AINO raises is a class of its own in `aino_ir.errors` with a code that never changes.
The message holds both values, then the place in the user's model, then what to do. `ainoc` exits with
the status named in each entry: 1 the model or the input is at fault, 2 usage, 3 a fault of AINO, 4 the
environment.

This page is written by `make docs` from the classes themselves.
"""

KINDS = {"one": "", "optional": " (may be absent)", "variadic": " (any number)"}


def _attribute_default(attribute: Any) -> str:
    from aino_ir.op import REQUIRED

    return "required" if attribute.default is REQUIRED else f"default {attribute.default!r}"


def op_entry(cls: Any) -> str:
    """Return the reference entry of one op class: meaning, operands, attributes, regions, traits."""
    lines = [f"### `{cls.name}`", "", inspect.cleandoc(cls.__doc__ or ""), ""]
    declared = cls.declaration
    if declared.operands:
        lines.append("- operands: " + ", ".join(f"`{n}`{KINDS[kind]}" for n, kind in declared.operands))
    if declared.attrs:
        attributes = (f"`{n}` ({a.kind}, {_attribute_default(a)})" for n, a in declared.attrs)
        lines.append("- attributes: " + ", ".join(attributes))
    if cls.region_names:
        lines.append("- regions: " + ", ".join(f"`{name}`" for name in cls.region_names))
    if cls.traits:
        lines.append("- traits: " + ", ".join(sorted(trait.name.lower() for trait in cls.traits)))
    return "\n".join(lines).rstrip() + "\n"


def ir_page() -> str:
    """Return docs/ir.md: the hand-written rules of docs/ir_rules.md, then every op by family."""
    importlib.import_module("aino_ir.ops")
    from aino_ir.op import OPS

    text = (DOCS / "ir_rules.md").read_text(encoding="utf-8").rstrip() + "\n\n## Every op\n"
    ours = sorted(
        (cls for cls in OPS.values() if cls.__module__.startswith("aino_ir.")), key=lambda cls: cls.name
    )
    for family, classes in groupby(ours, key=lambda cls: cls.name.split(".")[0]):
        text += f"\n## Family `{family}`\n"
        text += "".join("\n" + op_entry(cls) for cls in classes)
    return text


def error_entry(code: str, error: Any) -> str:
    """Return the entry of one error class: what it says, what to do, and an example."""
    lines = [f"### {code}", "", f"**{error.__name__}**, exit status {error.exit_status}. ", ""]
    lines[2] += " ".join(inspect.cleandoc(error.__doc__ or "").split())
    shown = error(**error.example)
    lines += ["```", str(shown).rsplit("\n", 1)[0], "```", ""]
    return "\n".join(lines)


def errors_page() -> str:
    """Return docs/errors.md: every error class by area and code."""
    folder = Path(importlib.import_module("aino_ir.errors").__path__[0])
    for path in sorted(folder.glob("[a-z]*.py")):
        importlib.import_module(f"aino_ir.errors.{path.stem}")
    from aino_ir.errors import CATALOGUE

    text = ERRORS_HEAD
    for area, title in ERROR_AREAS.items():
        codes = sorted(code for code in CATALOGUE if code.startswith(f"AINO-{area}"))
        if codes:
            text += f"\n## {area}xx: {title}\n"
            text += "".join("\n" + error_entry(code, CATALOGUE[code]) for code in codes)
    return text


PAGES = {"ir.md": ir_page, "errors.md": errors_page}
"""Generated page -> what makes it."""


def main() -> int:
    """Write every generated page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

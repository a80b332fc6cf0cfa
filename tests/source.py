"""Reads AINO's own source for the tests that judge it: files by room, syntax trees, imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("aino_ir", "frontends", "passes", "codegen", "runtime", "driver")


@dataclass(frozen=True)
class Source:
    """One Python file of the product."""

    path: Path

    @property
    def name(self) -> str:
        """The path in the checkout, with slashes."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The top-level folder it stands in."""
        return self.path.relative_to(ROOT).parts[0]

    @property
    def package(self) -> list[str]:
        """The parts of the package's import name that the file belongs to."""
        parts = self.path.relative_to(ROOT).parts[:-1]
        return list(parts) if parts[0] == "aino_ir" else ["aino_ir", *parts]

    @cached_property
    def text(self) -> str:
        """What the file holds."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, self.name)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield (line, dotted name) of everything imported, at any depth, relative names resolved."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(self.package[: len(self.package) + 1 - node.level]) if node.level else ""
                module = ".".join(part for part in (base, node.module) if part)
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"


@lru_cache(maxsize=1)
def sources() -> tuple[Source, ...]:
    """Return every Python file of the six rooms."""
    return tuple(Source(p) for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")))

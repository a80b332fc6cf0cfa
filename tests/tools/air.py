"""Tests written as `.air` text: a RUN line says what is done with the module, CHECK lines what must come out.

    // RUN: print                       the module, printed
    // RUN: verify                      nothing comes out
    // RUN: opt canonicalize,fold-constants
    // CHECK: math.add %1, [[w:%[0-9]+]]     some later line holds this; ``{{...}}`` is a regular
    // CHECK-NEXT: math.relu [[w]]           expression, ``[[name:...]]`` keeps what it finds
    // CHECK-NOT: math.neg                   no line until the next CHECK holds this

Files whose names end in ``_invalid`` hold modules that are refused, parted by ``// -----``; a line
``// ERROR: message`` stands before the line that is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aino_ir.errors import AinoError
from aino_ir.text import parse, print_module
from aino_ir.verify import verify

DIRECTIVE = re.compile(r"^\s*// (RUN|CHECK(?:-NEXT|-NOT)?|ERROR): (.*)$")
SEPARATOR = "// -----"


@dataclass(frozen=True)
class Directive:
    """One line that tells the test what to do or expect."""

    kind: str
    text: str
    line: int


def directives(text: str) -> list[Directive]:
    """Every directive of a text, with line numbers from 1."""
    found = ((DIRECTIVE.match(line), number) for number, line in enumerate(text.split("\n"), 1))
    return [Directive(m.group(1), m.group(2).strip(), number) for m, number in found if m]


def run(text: str, command: str) -> str:
    """What a RUN line makes of a module's text."""
    module = parse(text)
    verb, _, rest = command.partition(" ")
    if verb == "opt":
        from aino_ir.passes.manager import PassManager
        from aino_ir.passes.registry import parse_passes

        verify(module)
        report = PassManager(parse_passes(rest), verify_all=True).run(module)
        assert not report.undone, report.undone
    elif verb not in ("print", "verify"):
        raise ValueError(f"a RUN line cannot {verb}")
    verify(module)
    return "" if verb == "verify" else print_module(module)


def pattern(text: str, kept: dict[str, str]) -> re.Pattern[str]:
    """The regular expression of a CHECK line."""
    out = []
    for part in re.split(r"(\{\{.*?\}\}|\[\[[a-z]\w*(?::.*?\]?)?\]\])", text):
        name, _, inner = part[2:-2].partition(":")
        if part.startswith("{{"):
            out.append(f"(?:{part[2:-2]})")
        elif part.startswith("[["):
            out.append(f"(?P<{name}>{inner})" if inner else re.escape(kept[name]) + r"(?!\w)")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out))


def check(output: str, wanted: list[Directive]) -> None:
    """Assert that the output is as the CHECK lines say."""
    lines = output.split("\n")
    position, kept, absent = 0, dict[str, str](), list[Directive]()
    for item in [*wanted, Directive("END", "", 0)]:
        if item.kind == "CHECK-NOT":
            absent.append(item)
            continue
        found = len(lines)
        if item.kind != "END":
            expression = pattern(item.text, kept)
            stop = position + 1 if item.kind == "CHECK-NEXT" else len(lines)
            found, match = next(
                (
                    (n, m)
                    for n in range(position, min(stop, len(lines)))
                    if (m := expression.search(lines[n]))
                ),
                (-1, None),
            )
            assert match is not None, f"line {item.line}: {item.text!r} is not found in\n" + "\n".join(
                lines[position:stop]
            )
            kept.update(match.groupdict())
        for unwanted in absent:
            here = [line for line in lines[position:found] if pattern(unwanted.text, kept).search(line)]
            assert not here, f"line {unwanted.line}: {unwanted.text!r} stands in {here[0]!r}"
        absent = []
        position = found + 1


def run_file(path: Path) -> None:
    """Run a test file of modules that are sound."""
    text = path.read_text("ascii")
    lines = directives(text)
    commands = [d for d in lines if d.kind == "RUN"]
    assert len(commands) == 1, f"{path.name} has {len(commands)} RUN lines"
    assert any(d.kind.startswith("CHECK") for d in lines), f"{path.name} checks nothing"
    check(run(text, commands[0].text), [d for d in lines if d.kind.startswith("CHECK")])


def invalid_parts(path: Path) -> Iterator[tuple[int, str]]:
    """The parts of an invalid file: (lines before it, text)."""
    before, part = 0, list[str]()
    for number, line in enumerate([*path.read_text("ascii").split("\n"), SEPARATOR], 1):
        if line.strip() == SEPARATOR:
            yield before, "\n".join(part)
            before, part = number, []
        else:
            part.append(line)


def run_invalid(part: str) -> None:
    """Assert that a part is refused as its ERROR line says."""
    (wanted,) = (d for d in directives(part) if d.kind == "ERROR")
    try:
        run(part, "verify")
    except AinoError as error:
        assert wanted.text in error.message, f"line {wanted.line}: got {error.message}"
        line = error.fields.get("line")
        assert line is None or line == wanted.line + 1, f"line {wanted.line}: the error is at line {line}"
        return
    raise AssertionError(f"line {wanted.line}: nothing is refused")

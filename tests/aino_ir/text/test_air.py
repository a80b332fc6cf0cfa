"""Runs every `.air` test file, and tries the runner itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source import ROOT
from tests.tools.air import check, directives, invalid_parts, run_file, run_invalid

FILES = sorted(p for p in (ROOT / "tests").rglob("*.air") if "fuzz" not in p.parts)
INVALID = [
    (path, line, part)
    for path in FILES
    if path.stem.endswith("_invalid")
    for line, part in invalid_parts(path)
]


@pytest.mark.parametrize("path", [p for p in FILES if not p.stem.endswith("_invalid")], ids=lambda p: p.stem)
def test_file(path: Path) -> None:
    run_file(path)


@pytest.mark.parametrize(
    "part", [part for _, _, part in INVALID], ids=[f"{path.stem}:{line}" for path, line, _ in INVALID]
)
def test_invalid(part: str) -> None:
    run_invalid(part)


OUTPUT = "a = add %1, %2\nb = mul %2, %3\nreturn b"


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        (["CHECK: add", "CHECK: return"], True),
        (["CHECK: return", "CHECK: add"], False),
        (["CHECK: add", "CHECK-NEXT: mul", "CHECK-NEXT: return"], True),
        (["CHECK: add", "CHECK-NEXT: return"], False),
        (["CHECK: add", "CHECK-NOT: mul", "CHECK: return"], False),
        (["CHECK: add", "CHECK-NOT: sub", "CHECK: return"], True),
        (["CHECK: mul", "CHECK-NOT: add"], True),
        (["CHECK-NOT: return"], False),
        (["CHECK: add %1, [[v:%[0-9]+]]", "CHECK: mul [[v]], %3"], True),
        (["CHECK: add [[v:%[0-9]+]]", "CHECK: mul [[v]]"], False),
        (["CHECK: {{a|b}} = mul"], True),
        (["CHECK: sub"], False),
    ],
)
def test_check_lines(lines: list[str], good: bool) -> None:
    wanted = directives("\n".join(f"// {line}" for line in lines))
    assert len(wanted) == len(lines)
    if good:
        check(OUTPUT, wanted)
    else:
        with pytest.raises(AssertionError):
            check(OUTPUT, wanted)


def test_a_file_must_run_and_check_something(tmp_path: Path) -> None:
    path = tmp_path / "empty.air"
    path.write_text('module "m" {}\n')
    with pytest.raises(AssertionError, match="0 RUN lines"):
        run_file(path)
    path.write_text('// RUN: print\nmodule "m" {}\n')
    with pytest.raises(AssertionError, match="checks nothing"):
        run_file(path)


def test_an_error_must_stand_where_it_is_expected() -> None:
    run_invalid("// ERROR: unexpected text\nmodule {\n")
    with pytest.raises(AssertionError, match="the error is at line 3"):
        run_invalid("// ERROR: unexpected text\n\nmodule {\n")
    with pytest.raises(AssertionError, match="nothing is refused"):
        run_invalid('// ERROR: no\nmodule "m" {}')
    with pytest.raises(AssertionError, match="got line 2"):
        run_invalid("// ERROR: something else\nmodule {\n")

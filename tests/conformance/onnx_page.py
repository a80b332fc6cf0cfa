"""Writes docs/conformance.md from the rows that `tests.conformance.onnx_suite` has left in build/conformance."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Sequence

from tests.conformance.onnx_cases import CORE_OPSET, LEFT_OUT
from tests.conformance.onnx_suite import TARGETS, did_pass, percent, rows_file
from tests.conformance.rows import Row, read_rows
from tests.source import ROOT

PAGE = ROOT / "docs" / "conformance.md"

HEAD = f"""# ONNX conformance

Every case of the backend test suite of the `onnx` package, through `aino_ir.driver.onnx_backend`, each in a process of
its own: a crash or a hang counts as a failure. `make conformance TARGET=reference` and `make conformance TARGET=c`
run it and write this page; nothing on it is written by hand.

- *native*: passes with no operator in Python, counted by the executable. *host steps*: passes, some operators ran in
  Python. Target `reference` is the interpreter: everything is Python there.
- *refused*: an error with a code, before or while the model runs. *wrong*: a result differs by more than the suite's own
  tolerance. *crashed*: the process died, hung, or raised anything else.
- *fair core*: the node cases of released operators (opset {CORE_OPSET} and older, default domain) whose inputs and outputs
  are of standard types (float64, float32, float16, integers of 8 to 64 bits, bool).
"""

COLUMNS: dict[str, Callable[[Row], bool]] = {
    "native": lambda r: r["status"] == "passed" and not r["host_steps"],
    "host steps": lambda r: r["status"] == "passed" and bool(r["host_steps"]),
    "refused": lambda r: r["status"] == "refused",
    "wrong": lambda r: r["status"] == "wrong",
    "crashed": lambda r: r["status"] == "crashed",
}
"""How a case can end."""


def write_page() -> None:
    """Write the page from the newest row of every case; it says which commits they were run at."""
    PAGE.write_text(page({target: newest(target) for target in TARGETS}), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def newest(target: str) -> list[Row]:
    """The last row of every case on a target."""
    return list({row["case"]: row for row in read_rows(rows_file(target))}.values())


def page(runs: dict[str, list[Row]]) -> str:
    """The whole page, from the rows of each target."""
    runs = {target: sorted(rows, key=lambda r: str(r["case"])) for target, rows in runs.items() if rows}
    parts = [HEAD, *_summary(runs), *_failures(runs), *_left_out(), *_operators(runs)]
    return "\n".join(parts).rstrip() + "\n"


def _judged(rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if r["status"] != "left out"]


def _summary(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## Summary\n"
    heads = ["target", "cases", *COLUMNS, "passed", "fair core", "without Python"]
    yield _line(heads)
    yield _line(["---", *["---:"] * (len(heads) - 1)])
    for target, rows in runs.items():
        judged = _judged(rows)
        core = [r for r in judged if r["core"]]
        cells = [
            f"`{target}`",
            len(judged),
            *(sum(map(is_it, judged)) for is_it in COLUMNS.values()),
            f"{percent(judged, _passed)} %",
            f"{sum(map(_passed, core))} of {len(core)}",
            f"{percent(judged, COLUMNS['native'])} %" if target != "reference" else "none",
        ]
        yield _line(cells)
    yield ""
    for target, rows in runs.items():
        last = max(rows, key=lambda r: str(r["date"]))
        commits = collections.Counter(str(r["commit"]) for r in rows)
        runs_of = ", ".join(f"{commit} ({count} cases)" for commit, count in commits.most_common())
        fixed = sum(_passed(r) and bool(r["fixed"]) for r in rows)
        yield (
            f"`{target}`: {last['date']}, {last['versions']}; commit {runs_of}; {fixed} cases pass because the "
            "model was compiled again for the values of some inputs.\n"
        )


def _passed(row: Row) -> bool:
    return bool(row["status"] == "passed")


def _failures(runs: dict[str, list[Row]]) -> Iterator[str]:
    for target, rows in runs.items():
        bad = [r for r in rows if not did_pass(r["status"])]
        yield f"## Cases that do not pass on `{target}`: {len(bad)}\n"
        if bad:
            yield _line(["case", "", "reason"])
            yield _line(["---"] * 3)
            yield from (_line([f"`{r['case']}`", r["status"], _plain(r["detail"])]) for r in bad)
            yield ""


def _left_out() -> Iterator[str]:
    yield f"## Cases left out: {len(LEFT_OUT)}\n"
    yield "They are run; their values are not compared.\n"
    yield from (f"- `{name}`: {reason}" for name, reason in sorted(LEFT_OUT.items()))
    yield ""


def _operators(runs: dict[str, list[Row]]) -> Iterator[str]:
    yield "## Every operator\n"
    yield "Named by the first node of a case; expansions count with the operator that they expand.\n"
    tables = {target: _by_operator(rows) for target, rows in runs.items()}
    heads = ["operator", "cases"]
    for target in tables:
        names = list(COLUMNS)[target == "reference" :]
        heads += [
            f"{target}: {'passed' if name == 'host steps' and target == 'reference' else name}"
            for name in names
        ]
    yield _line(heads)
    yield _line(["---", *["---:"] * (len(heads) - 1)])
    operators = sorted({op for table in tables.values() for op in table}, key=str.lower)
    for operator in operators:
        cells: list[object] = [operator, max(len(table.get(operator, ())) for table in tables.values())]
        for target, table in tables.items():
            counts = [sum(map(is_it, table.get(operator, ()))) for is_it in COLUMNS.values()]
            if target == "reference":
                counts[:2] = [counts[0] + counts[1]]
            cells += [n or "" for n in counts]
        yield _line(cells)


def _by_operator(rows: Sequence[Row]) -> dict[str, list[Row]]:
    named = {r["case"]: r["operator"] for r in rows}
    out: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        whole = row["case"].partition("_expanded")[0]
        out[named.get(whole, row["operator"])].append(row)
    return out


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _plain(text: str) -> str:
    """A message as one table cell: no paths, no line breaks, not too long."""
    text = re.sub(r"(/[\w.+-]+){2,}", "...", " ".join(text.split())).replace("|", "\\|")
    text = text.replace("<", "&lt;").replace("[", "\\[")
    return text if len(text) <= 160 else text[:157] + "..."

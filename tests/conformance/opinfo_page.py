"""Writes docs/opinfo.md from the file of outcomes that `python -m tests.conformance.opinfo` keeps."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.opinfo_cases import DTYPES, is_core
from tests.conformance.opinfo_compile import COMPILED, ERRORS
from tests.conformance.rows import read_rows, versions
from tests.source import ROOT

PAGE = ROOT / "docs" / "opinfo.md"
TARGETS = ("reference", "c")
COUNTED = ("native", "fallback", "by rule", "wrong", "refused", "crashed")
FAULTS = ("wrong", "refused", "crashed", "accepted")
REFUSALS = ("raises", "accepted", "crashed")

HEAD = """# PyTorch's operator samples

Written by `make opinfo` (`PART=samples|dtypes|compile|errors`, `SHARD=i/n`; it goes on where it stopped); do not edit.
Every sample of PyTorch's own operator database (OpInfo) is captured as a graph, lowered by the PyTorch frontend, run,
and compared with what eager PyTorch gives. Where Python decides by a sample's data it is captured with that data; random
numbers are drawn by PyTorch, as in `torch.compile`, and are inputs of what is computed with them.
*native*: AINO runs it and the result is right. *fallback*: an operator or a form of it has no lowering, so that
`torch.compile` leaves it to PyTorch and `aino.load` refuses it. *by rule*: other than eager's, by a rule of the table
below. *wrong*, *refused* (by another error) and *crashed* are faults. *not captured*: PyTorch itself cannot trace the
sample, or it gives no tensor. The share of native ones is that of all samples, captured or not.
Operators whose results depend on what memory held (`empty`) are compared by shape; of results that are determined but
for signs and rotations (`svd`, `eigh`) what a sample says of them.
"""

BY_COMPILE = """
## Through torch.compile

The first sample of each operator by `torch.compile(backend="aino", fullgraph=False)`: its results, and its tensors
afterwards, are those of eager PyTorch. *native*: nothing of it but random draws stayed with PyTorch. *not run*: eager
itself refuses the sample. Among the fallbacks are calls of which only views or draws would be left, and those at which
Dynamo breaks the graph because their shape depends on data, so that nothing is handed to AINO.
"""

MUST_FAIL = """
## Calls that must fail

What OpInfo gives as wrong arguments of the operators of core ATen (`error_inputs`). *raises*: an error, as in eager.
*accepted* is a fault. *not run*: eager takes the arguments.
"""

Row = Mapping[str, Any]


def write_page(path: Path) -> None:
    """Render the newest rows of each operator, dtype and target."""
    newest: dict[tuple[str, str, str], list[Row]] = {}
    for row in read_rows(path):
        key = (row["operator"], row["dtype"], row["target"])
        held = newest.get(key)
        if held and held[0]["source"] == row["source"]:
            held.append(row)
        else:
            newest[key] = [row]
    PAGE.write_text(page([row for group in newest.values() for row in group]), encoding="utf-8")


def page(rows: Sequence[Row]) -> str:
    """The page's text."""
    columns = ("all samples", *COUNTED, "not captured", "native share")
    parts = [HEAD, f"{runs(rows)}; {versions('torch', 'numpy')}.\n"]
    parts.append(_table(("target", "dtype", *columns), _totals(rows)))
    parts.append("\n## Core ATen\n")
    heads = ("target", "dtype", "operators with samples", "all samples native or by rule", "share")
    parts.append(_table(heads, _core(rows)))
    parts.append(BY_COMPILE)
    parts.append(_table(("operators", *COUNTED, "not run"), _compiled(rows)))
    parts.append(MUST_FAIL)
    parts.append(_table(("through", "operators", "calls", *REFUSALS, "not run"), _errors(rows)))
    parts.append("\n## Rules by which results differ\n")
    parts.append(_table(("operator", "dtype", "target", "samples", "rule"), _rules(rows)))
    parts.append("\n## Operators that are not wholly native\n")
    parts.append(_table(("operator", "target", "dtype", *COUNTED, "first reason"), _operators(rows)))
    accepted = list(_accepted(rows))
    if accepted:
        parts.append("\n## Calls that should fail and do not\n")
        parts.append(_table(("operator", "through", "call", "status", "what eager says"), accepted))
    return "\n".join(parts)


def runs(rows: Sequence[Row]) -> str:
    """When the rows were made, at which commits."""
    commits = sorted({(str(r.get("date", "")), str(r.get("commit", ""))) for r in rows})
    if not commits:
        return "No rows"
    if len(commits) == 1:
        return f"Commit {commits[0][1]} of {commits[0][0]}"
    days = sorted({date for date, _ in commits})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Commits {', '.join(c for _, c in commits)} ({when})"


def native_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Percent of all samples that are native, by target and dtype, rounded down to hundredths."""
    out = {}
    for target in (*TARGETS, COMPILED):
        for dtype in DTYPES:
            counts = _counts(r for r in rows if (r["target"], r["dtype"]) == (target, dtype))
            if total := sum(counts.values()):
                out[f"{target} {dtype}"] = int(10000 * counts["native"] / total) / 100
    return out


def _core(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    """Operators of core ATen, by the names that their samples have."""
    groups: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        if row["target"] in TARGETS and is_core(row["operator"]) and row["status"] != "skipped":
            by_name = groups.setdefault((row["target"], row["dtype"]), {})
            by_name.setdefault(row["operator"], set()).add(row["status"])
    for key, by_name in sorted(groups.items(), key=lambda g: (TARGETS.index(g[0][0]), DTYPES.index(g[0][1]))):
        whole = sum(statuses <= {"native", "by rule"} for statuses in by_name.values())
        yield *key, len(by_name), whole, f"{100 * whole / len(by_name):.1f} %"


def _compiled(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    counts = _counts(r for r in rows if r["target"] == COMPILED)
    if counts:
        yield sum(counts.values()), *(counts[s] for s in COUNTED), counts["skipped"]


def _errors(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    for target in ERRORS:
        mine = [r for r in rows if r["target"] == target and r["detail"] != "no samples"]
        counts = _counts(mine)
        if counts:
            names = len({r["operator"] for r in mine})
            through = target.partition(" ")[2]
            yield through, names, sum(counts.values()), *(counts[s] for s in REFUSALS), counts["skipped"]


def _accepted(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    found = [r for r in rows if r["target"] in ERRORS and r["status"] in FAULTS]
    for row in sorted(found, key=lambda r: (r["operator"], r["target"], r["sample"])):
        through = row["target"].partition(" ")[2]
        yield row["operator"], through, row["sample"], row["status"], _reason(row["detail"])


def _rules(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    found = collections.Counter(
        (r["operator"], r["dtype"], r["target"], r["detail"]) for r in rows if r["status"] == "by rule"
    )
    for (operator, dtype, target, rule), count in sorted(found.items()):
        yield operator, dtype, target, count, rule


def _totals(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    for target in TARGETS:
        for dtype in DTYPES:
            counts = _counts(r for r in rows if (r["target"], r["dtype"]) == (target, dtype))
            captured, missed = sum(counts[s] for s in COUNTED), counts["skipped"]
            if captured:
                share = f"{100 * counts['native'] / (captured + missed):.1f} %"
                yield target, dtype, captured + missed, *(counts[s] for s in COUNTED), missed, share


def _operators(rows: Sequence[Row]) -> Iterable[tuple[object, ...]]:
    groups: dict[tuple[str, str, str], list[Row]] = collections.defaultdict(list)
    for row in rows:
        if row["target"] not in ERRORS:
            groups[row["operator"], row["target"], row["dtype"]].append(row)
    for key, group in sorted(groups.items()):
        counts = _counts(group)
        other = [r for r in group if r["status"] in COUNTED[1:]]
        if other:
            yield *key, *(counts[s] for s in COUNTED), _reason(other[0]["detail"])


def _reason(detail: str) -> str:
    return " ".join(detail.replace("|", "/").split())[:120]


def _counts(rows: Iterable[Row]) -> collections.Counter[str]:
    """Samples by status; an operator that has none for a dtype is no sample."""
    return collections.Counter(str(r["status"]) for r in rows if r["detail"] != "no samples")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

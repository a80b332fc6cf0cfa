"""Writes docs/opinfo.md from the files of outcomes that `python -m tests.conformance.opinfo` keeps."""

from __future__ import annotations

import collections
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.opinfo_cases import DTYPES, is_core
from tests.conformance.rows import commit, read_rows, versions
from tests.source import ROOT

PAGE = ROOT / "docs" / "opinfo.md"
TARGETS = ("reference", "c")
COUNTED = ("native", "fallback", "by rule", "wrong", "refused", "crashed")

HEAD = """# PyTorch's operator samples

Written by `make opinfo TARGET=reference` and `TARGET=c`; do not edit. Every sample of PyTorch's own operator database
(OpInfo) is captured as a graph, lowered by the PyTorch frontend, run, and compared with what eager PyTorch gives.
*native*: AINO runs it and the result is right. *fallback*: an operator or a form of it has no lowering, so that
`torch.compile` leaves it to PyTorch and `aino.load` refuses it. *by rule*: other than eager's, by a rule of the table
below. *wrong*, *refused* (by another error) and *crashed* are faults. *not captured*: PyTorch itself cannot trace the
sample without its data, or it gives no tensor. The share of native ones is that of all samples, captured or not.
Operators whose results depend on what memory held (`empty`) are compared by shape; of results that are determined but
for signs and rotations (`svd`, `eigh`) what a sample says of them.
"""


def write_page(folder: Path) -> None:
    """Render the newest rows of each operator, dtype and target."""
    newest: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in (r for t in TARGETS for r in read_rows(folder / f"opinfo-{t}.jsonl")):
        key = (row["operator"], row["dtype"], row["target"])
        held = newest.get(key)
        if held and held[0]["source"] == row["source"]:
            held.append(row)
        else:
            newest[key] = [row]
    rows = [row for group in newest.values() for row in group]
    PAGE.write_text(page(rows, revision()), encoding="utf-8")


def revision() -> str:
    """The commit and its date."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%cs"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return f"{commit()} of {done.stdout.strip()}" if done.returncode == 0 else commit()


def page(rows: Sequence[Mapping[str, Any]], revision: str) -> str:
    """The page's text."""
    sources = collections.Counter(str(r["source"]) for r in rows if "source" in r)
    parts = [HEAD, f"Commit {revision}; {versions('torch', 'numpy')}.\n"]
    if len(sources) > 1:
        parts.append(
            f"Operators were run at {len(sources)} revisions of AINO, and are run again by the same command "
            "when its source has changed.\n"
        )
    columns = ("all samples", *COUNTED, "not captured", "native share")
    parts.append(_table(("target", "dtype", *columns), _totals(rows)))
    parts.append("\n## Core ATen\n")
    heads = ("target", "dtype", "operators with samples", "all samples native or by rule", "share")
    parts.append(_table(heads, _core(rows)))
    parts.append("\n## Rules by which results differ\n")
    parts.append(_table(("operator", "dtype", "target", "samples", "rule"), _rules(rows)))
    parts.append("\n## Operators that are not wholly native\n")
    parts.append(_table(("operator", "target", "dtype", *COUNTED, "first reason"), _operators(rows)))
    return "\n".join(parts)


def _core(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    """Operators of core ATen, by the names that their samples have."""
    groups: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        if is_core(row["operator"]) and row["status"] != "skipped":
            by_name = groups.setdefault((row["target"], row["dtype"]), {})
            by_name.setdefault(row["operator"], set()).add(row["status"])
    for key, by_name in sorted(groups.items(), key=lambda g: (TARGETS.index(g[0][0]), DTYPES.index(g[0][1]))):
        whole = sum(statuses <= {"native", "by rule"} for statuses in by_name.values())
        yield *key, len(by_name), whole, f"{100 * whole / len(by_name):.1f} %"


def _rules(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    found = collections.Counter(
        (r["operator"], r["dtype"], r["target"], r["detail"]) for r in rows if r["status"] == "by rule"
    )
    for (operator, dtype, target, rule), count in sorted(found.items()):
        yield operator, dtype, target, count, rule


def _totals(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    for target in TARGETS:
        for dtype in DTYPES:
            counts = _counts(r for r in rows if (r["target"], r["dtype"]) == (target, dtype))
            captured, missed = sum(counts[s] for s in COUNTED), counts["skipped"]
            if captured:
                share = f"{100 * counts['native'] / (captured + missed):.1f} %"
                yield target, dtype, captured + missed, *(counts[s] for s in COUNTED), missed, share


def _operators(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        groups[row["operator"], row["target"], row["dtype"]].append(row)
    for key, group in sorted(groups.items()):
        counts = _counts(group)
        other = [r for r in group if r["status"] in COUNTED[1:]]
        if other:
            reason = other[0]["detail"].replace("|", "/")[:120]
            yield *key, *(counts[s] for s in COUNTED), reason


def _counts(rows: Iterable[Mapping[str, Any]]) -> collections.Counter[str]:
    """Samples by status; an operator that has none for a dtype is no sample."""
    return collections.Counter(str(r["status"]) for r in rows if r["detail"] != "no samples")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

"""Writes docs/opinfo.md from the files of outcomes that `python -m tests.conformance.opinfo` keeps."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.opinfo_cases import DTYPES
from tests.conformance.rows import commit, read_rows, versions
from tests.source import ROOT

PAGE = ROOT / "docs" / "opinfo.md"
TARGETS = ("reference", "c")
COUNTED = ("native", "fallback", "by rule", "wrong", "refused", "crashed")

HEAD = """# PyTorch's operator samples

Written by `make opinfo`; do not edit. Every sample of PyTorch's own operator database (OpInfo) is captured as a graph,
lowered by the PyTorch frontend, run, and compared with what eager PyTorch gives. *native*: AINO runs it and the result
is right. *fallback*: an operator or a form of it has no lowering, so that `torch.compile` leaves it to PyTorch and
`aino.load` refuses it. *by rule*: other than eager's, as [ir.md](ir.md) says. *wrong*, *refused* (by another error) and
*crashed* are faults. Samples that PyTorch itself cannot capture, or that give no tensor, are not counted. Operators
whose results depend on what memory held (`empty`) are compared by shape.
"""


def write_page(folder: Path) -> None:
    """Render the rows of both targets."""
    rows = [r for t in TARGETS for r in read_rows(folder / f"opinfo-{t}.jsonl")]
    sources = collections.Counter(r["source"] for r in rows)
    latest = [r for r in rows if not sources or r["source"] == rows[-1]["source"]]
    PAGE.write_text(page(latest, commit()), encoding="utf-8")


def page(rows: Sequence[Mapping[str, Any]], revision: str) -> str:
    """The page's text."""
    parts = [HEAD, f"Commit {revision}; {versions('torch', 'numpy')}.\n"]
    parts.append(_table(("target", "dtype", *COUNTED, "native share"), _totals(rows)))
    parts.append("\n## Operators that are not wholly native\n")
    parts.append(_table(("operator", "target", "dtype", *COUNTED, "first reason"), _operators(rows)))
    return "\n".join(parts)


def _totals(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    for target in TARGETS:
        for dtype in DTYPES:
            counts = _counts(r for r in rows if (r["target"], r["dtype"]) == (target, dtype))
            total = sum(counts[s] for s in COUNTED)
            if total:
                yield target, dtype, *(counts[s] for s in COUNTED), f"{100 * counts['native'] / total:.1f} %"


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
    return collections.Counter(str(r["status"]) for r in rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

"""What a compilation did: kernels, bytes, seconds, and what did not go as wished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aino_ir.runtime.manifest import Manifest

MOST_SHOWN = 3
"""Python nodes that the text of a report names."""


@dataclass
class Report:
    """Facts about a compiled model.

    Attributes:
        kernels: one row a kernel call: kernel, ops, nodes, candidate, flops, bytes; where a library does it,
            the own kernel beside it.
        python_nodes: one row an op that runs in Python instead of native code: op, node, reason.
        undone: optional passes that failed validation and were undone.
        arena_bytes: working memory of a run (text when it depends on symbols).
        weight_bytes, library_bytes, source_bytes: sizes in the artifact.
        seconds: stage -> seconds of the compilation.
        passes: one row a pass: name, seconds, rewrites, sites run / deduplicated.
        flops: floating-point operations of a run (text when they depend on symbols).
        checks: what the compiled program was compared with, and the outcome: ``whole module`` (before and
            after the passes, on the interpreter) and ``kernels`` (each beside the meaning of its ops).
        device: bytes of flash and RAM, for devices without an operating system.
        tuning: what was measured where that was asked for: kernels whose candidate changed, and those that
            kept the analytic pick, with modelled and measured microseconds.
    """

    kernels: list[dict[str, Any]] = field(default_factory=list)
    python_nodes: list[dict[str, str]] = field(default_factory=list)
    undone: list[dict[str, Any]] = field(default_factory=list)
    arena_bytes: int | str = 0
    weight_bytes: int = 0
    library_bytes: int = 0
    source_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)
    flops: int | str = 0
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    device: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Report:
        """The report with these fields; what it has no field for is left out."""
        return Report(**{k: v for k, v in facts.items() if k in Report.__dataclass_fields__})

    @staticmethod
    def from_manifest(manifest: Manifest, isa: str) -> Report:
        """The report that an artifact carries, with the kernels of one of its variants."""
        kernels = manifest.details.get("variants", {}).get(isa, {}).get("kernels", [])
        return Report.of({**manifest.report, "kernels": list(kernels)})

    def sizes(self) -> str:
        """Bytes of weights and code in the artifact; what a device's archive holds is more than its code."""
        library = "archive" if self.device else "code"
        return f"weights {self.weight_bytes}, {library} {self.library_bytes}"

    def python_text(self) -> str:
        """How many nodes run in Python, and the first of them."""
        if not self.python_nodes:
            return "none"
        names = [f"{row['op']} ({row['node']})" for row in self.python_nodes[:MOST_SHOWN]]
        more = ", ..." if len(self.python_nodes) > MOST_SHOWN else ""
        return f"{len(self.python_nodes)}: {', '.join(names)}{more}"

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"kernel calls: {len(self.kernels)} ({len({k['kernel'] for k in self.kernels})} kernels)",
            f"python nodes: {self.python_text()}",
            f"bytes: arena {self.arena_bytes}, {self.sizes()}",
            *([device_line(self.device)] if self.device else []),
            f"undone passes: {', '.join(str(u) for u in self.undone) or 'none'}",
            *(f"{what}: {_sentence(facts)}" for what, facts in self.checks.items()),
            *_tuning_lines(self.tuning),
            "seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in self.seconds.items()),
        ]
        return "\n".join(lines)


def device_line(facts: Mapping[str, int]) -> str:
    """How much flash and RAM a model takes on a device, in a line."""
    code = f"code {facts['code']}" if facts["code"] >= 0 else "and its code"
    parts = ", ".join(f"{name} {facts[name]}" for name in ("arena", "scratch", "states", "other"))
    return (
        f"flash: {facts['flash']} bytes (constants {facts['constants']}, {code}); "
        f"RAM: {facts['ram']} bytes ({parts}), beside inputs, outputs and the stack"
    )


def _sentence(facts: Mapping[str, Any]) -> str:
    """The facts of a check that say something, in a row."""
    return ", ".join(f"{k} {v}" for k, v in facts.items() if v not in ("", 0, [], {}))


def _tuning_lines(tuning: Mapping[str, Any]) -> list[str]:
    """What was measured, and each kernel for which another candidate than the model's was taken."""
    if not tuning:
        return []
    counts = ", ".join(f"{tuning[k]} {k}" for k in ("measured", "remembered"))
    lines = [f"tuning: {counts}, {len(tuning['changed'])} changed, {len(tuning['skipped'])} skipped"]
    for row in tuning["changed"]:
        lines.append(
            f"  {row['kernel']}: {row['candidate']} in {row['measured_us']:.1f} us instead of "
            f"{row['analytic']} in {row['analytic_us']:.1f} us"
        )
    return lines

"""The plan: the program below the graph, shared by code generation, profile and reports."""

from aino_ir.plan.nodes import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Extend,
    Plan,
    Repeat,
    Require,
    Reserve,
    Run,
    Segment,
    Step,
    Sync,
    View,
)
from aino_ir.plan.walk import blocks_of, decided_by, runs, size, views_of, walk

__all__ = [
    "Bind",
    "Branch",
    "Buffer",
    "BufferKind",
    "Extend",
    "Plan",
    "Repeat",
    "Require",
    "Reserve",
    "Run",
    "Segment",
    "Step",
    "Sync",
    "View",
    "blocks_of",
    "decided_by",
    "runs",
    "size",
    "views_of",
    "walk",
]

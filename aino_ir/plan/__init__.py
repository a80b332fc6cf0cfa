"""The plan: the program below the graph, shared by code generation, profile and reports."""

from aino_ir.plan.nodes import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Host,
    Plan,
    Repeat,
    Run,
    Step,
    Sync,
    View,
)

__all__ = [
    "Bind",
    "Branch",
    "Buffer",
    "BufferKind",
    "Host",
    "Plan",
    "Repeat",
    "Run",
    "Step",
    "Sync",
    "View",
]

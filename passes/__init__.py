"""Passes: a graph to a better graph, a plan to a better plan."""

from aino_ir.passes.base import Pass, PassContext, PassResult
from aino_ir.passes.manager import PassManager, PassRecord, PassUndone, PipelineReport
from aino_ir.passes.pipelines import pipeline
from aino_ir.passes.registry import known_passes, parse_passes, register_pass
from aino_ir.passes.rules import Rule, RulePass

__all__ = [
    "Pass",
    "PassContext",
    "PassManager",
    "PassRecord",
    "PassResult",
    "PassUndone",
    "PipelineReport",
    "Rule",
    "RulePass",
    "known_passes",
    "parse_passes",
    "pipeline",
    "register_pass",
]

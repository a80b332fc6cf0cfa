"""The reference executable: a module run by the interpreter behind the interface of `Executable`."""

from __future__ import annotations

from aino_ir.graph import Module
from aino_ir.op import Op
from aino_ir.runtime.program_executable import ProgramExecutable
from aino_ir.runtime.report import Report


class ReferenceExecutable(ProgramExecutable):
    """Runs a module op by op on numpy: a host program without native functions.

    Attributes:
        report: every op counts as a python node.
    """

    no_profile = "target 'reference' runs in Python"

    def __init__(self, module: Module) -> None:
        nodes = [_python_node(op) for op in module.main.block if op.results]
        super().__init__(module, {}, Report(python_nodes=nodes))


def _python_node(op: Op) -> dict[str, str]:
    return {"op": op.name, "node": str(op.loc) or op.name, "reason": "target reference runs in Python"}

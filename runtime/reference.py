"""The reference executable: a module run by the interpreter behind the interface of `Executable`."""

from __future__ import annotations

from typing import Any

from aino_ir.errors.run import NoProfile
from aino_ir.graph import Module
from aino_ir.op import Op
from aino_ir.runtime.arguments import Outputs, filled, in_order
from aino_ir.runtime.host import HostProgram
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.report import Report
from aino_ir.runtime.structures import all_torch, any_torch, checked_value
from aino_ir.types import Type


class ReferenceExecutable:
    """Runs a module op by op on numpy: a host program without native functions.

    State slots live as long as the executable.

    Attributes:
        inputs, outputs: names and types, in order.
        symbols: symbolic dimensions -> their least and largest value (None: no bound).
        report: every op counts as a python node.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        main = module.main
        ins = zip(main.input_names, main.inputs, strict=True)
        outs = zip(main.output_names, main.outputs, strict=True)
        self.inputs: list[tuple[str, Type]] = [(n, v.type) for n, v in ins]
        self.outputs: list[tuple[str, Type]] = [(n, v.type) for n, v in outs]
        self.report = Report(python_nodes=[_python_node(op) for op in main.block if op.results])
        bounds = {name: main.symbols.info(name) for name in main.symbols}
        self.symbols = {name: (_number(i.lo) or 0, _number(i.hi)) for name, i in bounds.items()}
        self._program = HostProgram(module, {})

    def run(self, *inputs: Any, out: Outputs | None = None) -> tuple[Any, ...]:
        """Run the module; see `Executable.run`."""
        given = in_order(inputs, self.inputs, self.module.main.defaults)
        values = [checked_value(v, n, t) for v, (n, t) in zip(given, self.inputs, strict=False)]
        made = self._program.run(values)
        if out is not None:
            return tuple(filled(out, made, self.outputs))
        return tuple(map(all_torch, made)) if any(map(any_torch, given)) else tuple(made)

    __call__ = run

    @property
    def host_steps(self) -> int:
        """Ops that ran so far, in all runs together: all of them in Python."""
        return self._program.executed

    @property
    def defaults(self) -> tuple[str, ...]:
        """Inputs that may be left out."""
        return tuple(self.module.main.defaults)

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Refuse: the interpreter's time says nothing about compiled code.

        Raises:
            NoProfile: always.
        """
        raise NoProfile(reason="target 'reference' runs in Python")


def _python_node(op: Op) -> dict[str, str]:
    return {"op": op.name, "node": str(op.loc) or op.name, "reason": "target reference runs in Python"}


def _number(bound: object) -> int | None:
    return bound if isinstance(bound, int) else None

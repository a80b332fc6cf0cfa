"""Executables of this process: a host program whose native functions, if any, were made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aino_ir.errors.run import NoProfile
from aino_ir.graph import Module
from aino_ir.runtime.arguments import Outputs, filled, in_order
from aino_ir.runtime.host import Callee, HostProgram
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.report import Report
from aino_ir.runtime.structures import all_torch, any_torch, checked_value
from aino_ir.types import Type


class ProgramExecutable:
    """Runs a host program behind the interface of `Executable`.

    State slots live as long as the executable, on the host.

    Attributes:
        module: whose `main` is run.
        inputs, outputs: names and types, in order.
        symbols: symbolic dimensions -> their least and largest value (None: no bound).
        report: facts about the compilation.
    """

    no_profile = "it has no kernels of AINO's own"
    """Why the time of single steps is not measured."""

    def __init__(self, module: Module, natives: Mapping[str, Callee], report: Report) -> None:
        self.module = module
        main = module.main
        ins = zip(main.input_names, main.inputs, strict=True)
        outs = zip(main.output_names, main.outputs, strict=True)
        self.inputs: list[tuple[str, Type]] = [(n, v.type) for n, v in ins]
        self.outputs: list[tuple[str, Type]] = [(n, v.type) for n, v in outs]
        self.report = report
        bounds = {name: main.symbols.info(name) for name in main.symbols}
        self.symbols = {name: (_number(i.lo) or 0, _number(i.hi)) for name, i in bounds.items()}
        self._program = HostProgram(module, natives)

    def run(self, *inputs: Any, out: Outputs | None = None) -> tuple[Any, ...]:
        """Run the module; see `Executable.run`.

        Raises:
            InputMismatch, RankMismatch, ExtentMismatch ...: an input does not fit.
            IndexOutOfRange ...: a check of an op failed, with its node.
            HostStepFailed: an op that runs in Python failed in a way of its own.
        """
        given = in_order(inputs, self.inputs, self.module.main.defaults)
        values = [checked_value(v, n, t) for v, (n, t) in zip(given, self.inputs, strict=False)]
        made = self._program.run(values)
        if out is not None:
            return tuple(filled(out, made, self.outputs))
        return tuple(map(all_torch, made)) if any(map(any_torch, given)) else tuple(made)

    __call__ = run

    @property
    def host_steps(self) -> int:
        """Ops that ran in Python so far, in all runs together."""
        return self._program.executed

    @property
    def defaults(self) -> tuple[str, ...]:
        """Inputs that may be left out."""
        return tuple(self.module.main.defaults)

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Refuse: there are no kernels to measure.

        Raises:
            NoProfile: always.
        """
        raise NoProfile(reason=self.no_profile)


def _number(bound: object) -> int | None:
    return bound if isinstance(bound, int) else None

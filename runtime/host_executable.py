"""Executables of models that are not native code alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.ops.call import type_symbols
from aino_ir.runtime.arguments import filled
from aino_ir.runtime.executable import Executable, Outputs
from aino_ir.runtime.host import open_program
from aino_ir.runtime.host_profile import measure_host
from aino_ir.runtime.manifest import Manifest
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.structures import all_torch, any_torch, checked_value


class HostExecutable(Executable):
    """A compiled model with ops that run in Python; see `Executable`.

    Inputs and outputs may also be strings (object arrays), sequences (lists) and optional values (None).
    """

    def _read(self, manifest: Manifest) -> None:
        self._program = open_program(self._artifact, self._code(), self.threads)
        main = self._program.main
        ins = zip(main.input_names, main.inputs, strict=True)
        outs = zip(main.output_names, main.outputs, strict=True)
        self.inputs = [(name, v.type) for name, v in ins]
        self.outputs = [(name, v.type) for name, v in outs]
        self._defaults = {
            t.name: int(t.details["default"]) for t in manifest.inputs if "default" in t.details
        }
        used = frozenset[str]().union(*(type_symbols(t) for _, t in self.inputs))
        infos = {name: main.symbols.info(name) for name in main.symbols if name in used}
        self.symbols = {name: (_number(i.lo) or 0, _number(i.hi)) for name, i in infos.items()}

    def run(self, *inputs: Any, out: Outputs | None = None) -> tuple[Any, ...]:
        """Run the model; see `Executable.run`.

        Raises:
            HostStepFailed: an op that runs in Python failed in a way of its own.
            AinoError: as for `Executable.run`.
        """
        given = self._arguments(inputs)
        results = self._program.run(self._checked(given))
        if out is not None:
            return tuple(filled(out, results, self.outputs))
        if any(map(any_torch, given)):
            return tuple(map(all_torch, results))
        return tuple(results)

    __call__ = run

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Measure the steps of the model; see `Executable.profile`.

        Raises:
            NoProfile: the executable has no entry for it.
            OptionTooSmall: `runs` is below 1.
        """
        values = self._checked(self._arguments(inputs))
        return measure_host(self._program, values, self.report.kernels, runs, self.threads)

    @property
    def host_steps(self) -> int:
        """Ops that ran in Python so far, in all runs together."""
        return self._program.executed

    def _checked(self, given: Sequence[Any]) -> list[Any]:
        return [checked_value(v, name, type_) for v, (name, type_) in zip(given, self.inputs, strict=True)]


def _number(bound: object) -> int | None:
    return bound if isinstance(bound, int) else None

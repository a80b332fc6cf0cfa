"""The reference executable: a module run by the interpreter behind the interface of `Executable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.errors.run import BadOutputBuffer, NoProfile, WrongInputCount, WrongOutputCount
from aino_ir.graph import Module
from aino_ir.interp import Evaluation, initial_states, run_function
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.report import Report
from aino_ir.runtime.values import Port, checked, is_torch, to_torch
from aino_ir.types import TensorType, Type


class ReferenceExecutable:
    """Runs a module op by op on numpy; state slots live as long as the executable.

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
        nodes = [str(op.loc) or op.name for op in main.block if op.results]
        self.report = Report(python_nodes=nodes)
        bounds = {name: main.symbols.info(name) for name in main.symbols}
        self.symbols = {name: (_number(i.lo) or 0, _number(i.hi)) for name, i in bounds.items()}
        self._states: list[Any] | None = None

    def run(
        self, *inputs: Any, out: Sequence[np.ndarray] | Mapping[str, np.ndarray] | None = None
    ) -> tuple[Any, ...]:
        """Run the module; see `Executable.run`."""
        main = self.module.main
        given = self._arguments(inputs)
        arrays = [self._checked(v, n, t) for v, (n, t) in zip(given, self.inputs, strict=False)]
        bindings = main.symbols.bind(
            [t for _, t in self.inputs], [np.shape(a) for a in arrays], [n for n, _ in self.inputs]
        )
        if self._states is None:
            self._states = initial_states(main, Evaluation(bindings=dict(bindings)))
        results = run_function(main, arrays, states=self._states, bindings=bindings)
        count = len(self.outputs)
        self._states = list(results[count:])
        made = [np.array(r, copy=True) if isinstance(r, np.ndarray) else r for r in results[:count]]
        if out is not None:
            made = self._into(out, made)
        if any(is_torch(v) for v in given):
            return tuple(to_torch(r) if isinstance(r, np.ndarray) else r for r in made)
        return tuple(made)

    __call__ = run

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

    def _checked(self, value: Any, name: str, type: Type) -> Any:
        if not isinstance(type, TensorType):
            return value
        static = tuple(int(d) for d in type.shape) if all(is_static(d) for d in type.shape) else None  # type: ignore[arg-type]
        return checked(value, Port(name, type, static))

    def _arguments(self, inputs: tuple[Any, ...]) -> Sequence[Any]:
        names = [n for n, _ in self.inputs]
        defaults = self.module.main.defaults
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named = inputs[0]
            missing = [n for n in names if n not in named and n not in defaults]
            if missing or not set(named) <= set(names):
                raise WrongInputCount(expected=tuple(names), got=tuple(named))
            return [named[n] if n in named else defaults[n].array() for n in names]
        if len(inputs) > len(names) or any(n not in defaults for n in names[len(inputs) :]):
            raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional")
        return [*inputs, *(defaults[n].array() for n in names[len(inputs) :])]

    def _into(self, out: Sequence[np.ndarray] | Mapping[str, np.ndarray], made: list[Any]) -> list[Any]:
        names = [n for n, _ in self.outputs]
        fits = set(out) == set(names) if isinstance(out, Mapping) else len(out) == len(names)
        if not fits:
            raise WrongOutputCount(
                expected=tuple(names), got=tuple(out) if isinstance(out, Mapping) else len(out)
            )
        given = [out[n] for n in names] if isinstance(out, Mapping) else list(out)
        for target, value, (name, type) in zip(given, made, self.outputs, strict=False):
            if (
                not isinstance(target, np.ndarray)
                or target.shape != value.shape
                or target.dtype != value.dtype
                or not (target.flags.writeable and target.flags.c_contiguous)
            ):
                raise BadOutputBuffer(name=name, expected=type, got=_described(target))
            np.copyto(target, value)
        return given


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _number(bound: object) -> int | None:
    return bound if isinstance(bound, int) else None

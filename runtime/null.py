"""The null executable: a model that was compiled as far as its sources, to see what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.errors.run import NothingToRun
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.report import Report
from aino_ir.types import Type


class NullExecutable:
    """What target ``null`` gives: everything but a library.

    Attributes:
        inputs, outputs: names and types, in order.
        report: as of any executable.
        symbols, defaults, host_steps: empty or 0, as nothing runs.
    """

    def __init__(
        self, inputs: Sequence[tuple[str, Type]], outputs: Sequence[tuple[str, Type]], report: Report
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.report = report
        self.symbols: dict[str, tuple[int, int | None]] = {}
        self.defaults: tuple[str, ...] = ()
        self.host_steps = 0

    def run(self, *inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Refuse: nothing was compiled.

        Raises:
            NothingToRun: always.
        """
        raise NothingToRun(target="null")

    __call__ = run

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Refuse: nothing was compiled.

        Raises:
            NothingToRun: always.
        """
        raise NothingToRun(target="null")

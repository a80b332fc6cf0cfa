"""The null executable: a model that was compiled as far as its sources, to see what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.errors.run import NothingToRun
from aino_ir.runtime.report import Report
from aino_ir.types import Type


class NullExecutable:
    """What target ``null`` gives: everything but a library.

    Attributes:
        inputs, outputs: names and types, in order.
        report: as of any executable.
    """

    def __init__(
        self, inputs: Sequence[tuple[str, Type]], outputs: Sequence[tuple[str, Type]], report: Report
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.report = report

    def run(self, *inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Refuse: nothing was compiled.

        Raises:
            NothingToRun: always.
        """
        raise NothingToRun(target="null")

    __call__ = run

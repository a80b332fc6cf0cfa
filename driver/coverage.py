"""What becomes of each operator of a model on a target, before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.legality import obstacle, runs_in_python
from aino_ir.codegen.lower.pricing import CataloguePricer
from aino_ir.driver.api import Dims, load
from aino_ir.op import Op, Trait
from aino_ir.ops.control import CONTROL
from aino_ir.ops.core import is_data
from aino_ir.target import Target

STATUSES = ("native", "python", "unsupported", "unknown")
"""As machine code; in Python; not at all; cannot be told, as an earlier operator is unsupported."""

STORAGE_OPS = frozenset({"core.constant", "tensor.concat", "tensor.slice"})
"""Ops that may need no kernel of their own."""


@dataclass(frozen=True)
class OperatorStatus:
    """One operator of a model.

    Attributes:
        node: where it stands, as errors name it.
        op: the operator.
        types: dtype and shape of its outputs.
        status: one of STATUSES.
        reason: why it is not native; empty when it is.
    """

    node: str
    op: str
    types: tuple[str, ...]
    status: str
    reason: str = ""


def check_model(x: Any, target: Target, dims: Dims | None = None) -> list[OperatorStatus]:
    """Every operator of a model in order, with its status on a target.

    Args:
        x: what `load` takes.
        target: for which device.
        dims: bounds or values of symbols.

    Raises:
        AinoError: the model cannot be read.
    """
    judge = _Judge(target)
    if isinstance(x, (str, Path)) and Path(x).suffix.lower() not in ("", ".onnx"):
        ops = [
            op
            for op in load(x, dims=dims).main.block
            if not op.has(Trait.TERMINATOR) and op.name != "core.constant"
        ]
        return [
            _status(str(op.loc), op.name, [str(r.type) for r in op.results], judge.of([op])) for op in ops
        ]
    from aino_ir.frontends.onnx.survey import survey_onnx

    _, nodes = survey_onnx(x, dims)
    rows = []
    for found in nodes:
        if found.problem:
            answer = ("unknown" if found.blocked else "unsupported", found.problem)
        else:
            answer = judge.of(found.ops)
        rows.append(_status(found.node.location, found.node.operator.strip("'"), found.types, answer))
    return rows


def _status(node: str, op: str, types: Iterable[str], answer: tuple[str, str]) -> OperatorStatus:
    return OperatorStatus(node, op, tuple(types), *answer)


class _Judge:
    """Says what a target makes of ops."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.pricer = CataloguePricer(KernelCatalogue(target))

    def of(self, ops: Iterable[Op]) -> tuple[str, str]:
        """Status and reason of ops that stand for one operator."""
        if self.target.name == "reference":
            return "python", "the interpreter runs everything in Python"
        answer = "native", ""
        for op in ops:
            if is_data(op):
                continue
            reason = obstacle(op)
            if reason and runs_in_python(op):
                answer = "python", f"{op.name}: {reason}"
            elif reason or self._rejection(op):
                return "unsupported", f"{op.name}: {reason or self._rejection(op)}"
        return answer

    def _rejection(self, op: Op) -> str:
        """Why no generator takes an op, or one in its regions; empty when one does."""
        if op.name in STORAGE_OPS or op.has(Trait.VIEW) or op.has(Trait.TERMINATOR):
            return ""
        if isinstance(op, CONTROL):
            found = ((i, self._rejection(i)) for region in op.regions for i in region)
            return next((f"{inner.name} in it: {why}" for inner, why in found if why), "")
        price = self.pricer.price(op)
        return price if isinstance(price, str) else ""

"""What the rules of differentiation may ask, and the walk that applies them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.errors.onnx import GradientMissing
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.floats import Number
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.math import Add
from aino_ir.types import TensorType

Gradients: TypeAlias = "Sequence[Value | None]"
"""One gradient an operand; missing trailing ones are absent."""

Rule: TypeAlias = "Callable[[Step], Gradients]"


class Step(Emitter):
    """One op whose operands' gradients are wanted.

    Attributes:
        b: the builder, at the end of the block.
        op: the op.
        cotangents: the gradient of each result, None where nothing depends on it.
        wanted: for each operand, whether its gradient is of use.
        rules: the table, for rules that differentiate a composition of other ops.
    """

    __slots__ = ("cotangents", "op", "rules", "wanted")

    def __init__(
        self,
        b: Builder,
        op: Op,
        cotangents: Sequence[Value | None],
        wanted: Sequence[bool],
        rules: Mapping[str, Rule],
    ) -> None:
        super().__init__(b)
        self.op = op
        self.cotangents = tuple(cotangents)
        self.wanted = tuple(wanted)
        self.rules = rules

    def attr(self, name: str) -> Any:
        """An attribute of the op."""
        return getattr(self.op, name)

    def real(self, name: str) -> float:
        """An attribute that is a float."""
        return float(getattr(self.op, name))

    @property
    def c(self) -> Value:
        """The gradient of the first result."""
        if self.cotangents[0] is None:
            self.missing("of its further results")
        return self.cotangents[0]

    @property
    def out(self) -> Value:
        """The first result."""
        return self.op.results[0]

    def x(self, index: int = 0) -> Value:
        """An operand that is there."""
        value = self.op.operands[index]
        assert value is not None
        return value

    def number(self, value: Value) -> Number:
        """A value that formulas can be written with."""
        return Number(self, value)

    def reduced(self, gradient: Value, like: Value) -> Value:
        """The gradient of an operand that was broadcast: summed over what broadcasting repeated."""
        lead = gradient.rank - like.rank
        axes = list(range(lead))
        for axis, extent in enumerate(like.shape):
            if is_one(extent) and not is_one(gradient.shape[lead + axis]):
                axes.append(lead + axis)
        if not axes:
            return gradient
        total = self.emit("reduce.sum", gradient, axes=tuple(axes), keepdims=True)
        return self.reshape(total, like.shape)

    def missing(self, what: str = "") -> NoReturn:
        """Refuse an op, or a form of it, that has no rule."""
        raise GradientMissing(loc=self.op.loc, op=f"{self.op.name} {what}".strip())


def is_one(extent: DimLike) -> bool:
    """Whether an extent is the number 1."""
    return is_static(extent) and extent == 1


def differentiable(value: Value | None) -> bool:
    """Whether a value can have a gradient: it is a tensor of floats."""
    return value is not None and isinstance(value.type, TensorType) and value.type.dtype.is_float


def pullback(
    b: Builder,
    rules: Mapping[str, Rule],
    results: Sequence[tuple[Value, Value]],
    inputs: Sequence[Value],
) -> list[Value | None]:
    """Gradients of some values, from those of results that are computed from them.

    Args:
        b: makes the ops, at the end of the block that all the values stand in.
        rules: by op name.
        results: (value, its gradient).
        inputs: the independent values; what they are computed from does not matter.

    Returns:
        For each input its gradient, None where no result depends on it.

    Raises:
        GradientMissing: an op on the way has no rule.
    """
    depends = set(inputs)
    steps = _between([value for value, _ in results], depends)
    gradients: dict[Value, Value] = {}

    def add(value: Value, more: Value) -> None:
        known = gradients.get(value)
        gradients[value] = more if known is None else b.op(Add, known, more).result

    for value, gradient in results:
        add(value, gradient)
    for op in reversed(steps):
        cotangents: list[Value | None] = [None if r in inputs else gradients.pop(r, None) for r in op.results]
        if all(c is None for c in cotangents):
            continue
        wanted = [v in depends for v in op.operands]
        step = Step(b, op, cotangents, wanted, rules)
        rule = rules.get(op.name)
        if rule is None:
            step.missing()
        for operand, more in zip(op.operands, rule(step), strict=False):
            if operand is not None and operand in depends and more is not None:
                add(operand, more)
    return [gradients.get(value) for value in inputs]


def _between(results: Collection[Value], depends: set[Value]) -> list[Op]:
    """Ops between given values and results, in order; what they make of the former joins `depends`."""
    seen: set[Op] = set()
    ahead = [v.op for v in results if v.op is not None and v not in depends]
    while ahead:
        op = ahead.pop()
        if op in seen:
            continue
        seen.add(op)
        ahead.extend(v.op for v in op.present_operands() if v.op is not None and v not in depends)
    found: list[Op] = []
    for op in sorted(seen, key=lambda op: op._position):
        if any(differentiable(v) and v in depends for v in op.present_operands()):
            floats = [r for r in op.results if differentiable(r)]
            depends.update(floats)
            if floats:
                found.append(op)
    return found

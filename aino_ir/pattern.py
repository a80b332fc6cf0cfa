"""Patterns over the graph: op classes, captures and constants, matched with backtracking.

``P(Mul, "x", P(Sigmoid, "x"))`` matches ``x * sigmoid(x)``.  Operands are written as

- ``"x"``: any value, captured; the same name twice must be the same value,
- ``P(...)``: the value is the result of an op,
- ``number(0.5)``: a one-element constant near 0.5; ``constant("c")``: any constant, captured,
- ``absent("x")``: an operand that may be missing (captured as None),
- ``anything``: any value.

Operands of commutative ops match in both orders.  Matching is a generator: a caller that finds a
match unfit asks for the next one, and a sub-pattern that fails late lets earlier choices be undone,
so that ``(y * x) * x`` is found whichever way its operands stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aino_ir.constants import Const
from aino_ir.graph import Value
from aino_ir.op import Op, Trait

READ_LIMIT = 1 << 12
"""Patterns look into constants of at most this many elements."""


class Match:
    """What a pattern captured.

    Attributes:
        root: the op that the pattern's outermost node matched.
        values: captured values by name (None for an absent operand).
        ops: every op that the match used, the root first, constants included whose content was read.
        named: ops that the pattern named with ``op="..."``.
    """

    __slots__ = ("named", "ops", "root", "values")

    def __init__(
        self, root: Op, values: dict[str, Value | None], ops: tuple[Op, ...], named: dict[str, Op]
    ) -> None:
        self.root = root
        self.values = values
        self.ops = ops
        self.named = named

    def __getitem__(self, name: str) -> Value:
        value = self.values[name]
        assert value is not None, f"operand {name} is absent"
        return value

    def get(self, name: str) -> Value | None:
        """A captured value, or None where the operand is absent."""
        return self.values.get(name)

    def op(self, name: str) -> Any:
        """A named op."""
        return self.named[name]


@dataclass(frozen=True)
class State:
    """Captures so far; immutable, so that alternatives do not disturb each other."""

    values: tuple[tuple[str, Value | None], ...] = ()
    ops: tuple[Op, ...] = ()
    named: tuple[tuple[str, Op], ...] = ()

    def bind(self, name: str, value: Value | None) -> State | None:
        """With one more capture; None when the name stands for another value already."""
        for known, bound in self.values:
            if known == name:
                return self if bound is value else None
        return State((*self.values, (name, value)), self.ops, self.named)

    def used(self, op: Op, name: str = "") -> State:
        """With one more matched op."""
        named = (*self.named, (name, op)) if name else self.named
        return State(self.values, self.ops if op in self.ops else (*self.ops, op), named)


Test = Callable[["Value | None", State], "Iterator[State]"]


@dataclass(frozen=True)
class Leaf:
    """An operand pattern given by a function from (value, state) to the states in which it holds."""

    test: Test


Part = Any
"""An operand pattern: a capture's name, a P, a Leaf, or a tuple of alternatives."""


class P:
    """An op of a class (or one of several) with patterns for its operands.

    Args:
        cls: op class or classes (subclasses match too).
        operands: one pattern per operand; fewer leave the rest free.
        op: name under which the op is captured.
        once: whether its first result must have exactly one reader.
        attrs: attributes that must be equal.
    """

    __slots__ = ("attrs", "classes", "makers", "name", "once", "operands")

    def __init__(
        self,
        cls: type[Op] | tuple[type[Op], ...],
        *operands: Part,
        op: str = "",
        once: bool = False,
        **attrs: Any,
    ) -> None:
        self.classes = cls if isinstance(cls, tuple) else (cls,)
        self.operands = operands
        self.name = op
        self.once = once
        self.attrs = attrs
        self.makers = tuple(_makers(part) for part in operands)

    def possible(self, op: Op) -> bool:
        """Whether an op and the makers of its operands have fitting classes: cheap, and most ops end here."""
        if not isinstance(op, self.classes):
            return False
        made = [None if v is None else v.op for v in op.operands]
        if _fitting(self.makers, made):
            return True
        return len(self.makers) == 2 and op.has(Trait.COMMUTATIVE) and _fitting(self.makers, made[::-1])

    def matches(self, root: Op) -> Iterator[Match]:
        """Every way in which `root` matches."""
        if not self.possible(root):
            return
        for state in match_op(self, root, State()):
            yield Match(root, dict(state.values), state.ops, dict(state.named))


def _makers(part: Part) -> tuple[type[Op], ...] | None:
    """Classes that the maker of an operand must have for a part to match, or None where any may do."""
    if isinstance(part, P):
        return part.classes
    if isinstance(part, tuple):
        found = [_makers(p) for p in part]
        return None if None in found else tuple(c for classes in found for c in classes or ())
    return None


def _fitting(makers: tuple[tuple[type[Op], ...] | None, ...], made: list[Op | None]) -> bool:
    for wanted, op in zip(makers, made, strict=False):  # absent operands at the end
        if wanted is not None and not isinstance(op, wanted):
            return False
    return True


def match_op(pattern: P, op: Op, state: State) -> Iterator[State]:
    """States in which an op fits a pattern."""
    if not isinstance(op, pattern.classes):
        return
    if pattern.once and op.results[0].use_count != 1:
        return
    if any(getattr(op, key) != wanted for key, wanted in pattern.attrs.items()):
        return
    state = state.used(op, pattern.name)
    operands: tuple[Value | None, ...] = op.operands
    if len(operands) < len(pattern.operands):
        operands = (*operands, *[None] * (len(pattern.operands) - len(operands)))
    yield from _match_operands(pattern.operands, operands, state)
    if op.has(Trait.COMMUTATIVE) and len(pattern.operands) == 2 and operands[0] is not operands[1]:
        yield from _match_operands(pattern.operands, (operands[1], operands[0]), state)


def _match_operands(
    parts: tuple[Part, ...], values: tuple[Value | None, ...], state: State
) -> Iterator[State]:
    if not parts:
        yield state
        return
    for after in match_value(parts[0], values[0], state):
        yield from _match_operands(parts[1:], values[1:], after)


def match_value(part: Part, value: Value | None, state: State) -> Iterator[State]:
    """States in which a value fits an operand pattern."""
    if isinstance(part, tuple):
        for alternative in part:
            yield from match_value(alternative, value, state)
    elif isinstance(part, Leaf):
        yield from part.test(value, state)
    elif value is None:
        return
    elif isinstance(part, str):
        bound = state.bind(part, value)
        if bound is not None:
            yield bound
    elif value.op is not None and value.index == 0:
        yield from match_op(part, value.op, state)


def constant_of(value: Value | None) -> Const | None:
    """The handle behind a constant value, or None."""
    if value is None or value.op is None or value.op.name != "core.constant":
        return None
    return value.op.value  # type: ignore[attr-defined, no-any-return]


def held_constant(value: Value | None) -> Const | None:
    """The handle behind a constant value, also where a region has captured it, or None."""
    while value is not None and value.op is None and value.block is not None:
        owner = value.block.parent
        value = None if owner is None else owner.capture(value.index)
    return constant_of(value)


def scalar_of(value: Value | None) -> float | int | bool | None:
    """The number in a one-element constant, or None."""
    handle = constant_of(value)
    if handle is None or handle.size != 1:
        return None
    item = handle.array().reshape(-1)[0]
    return float(item) if handle.dtype.is_float else item.item()


def uniform_of(value: Value | None) -> float | int | bool | None:
    """The number that fills a small constant (one element or more, all equal), or None."""
    handle = constant_of(value)
    if handle is None or not 0 < handle.size <= READ_LIMIT:
        return None
    array = handle.array().reshape(-1)
    if not bool((array == array[0]).all()):
        return None
    return float(array[0]) if handle.dtype.is_float else array[0].item()


def number(wanted: float, tolerance: float = 1e-6) -> Leaf:
    """A one-element constant whose value is `wanted` up to a relative tolerance (exactly if 0)."""

    def test(value: Value | None, state: State) -> Iterator[State]:
        found = scalar_of(value)
        if found is not None and _near(float(found), wanted, tolerance):
            assert value is not None and value.op is not None
            yield state.used(value.op)

    return Leaf(test)


def _near(found: float, wanted: float, tolerance: float) -> bool:
    if tolerance == 0.0 or wanted == 0.0 or math.isinf(wanted):
        return found == wanted
    return abs(found - wanted) <= tolerance * abs(wanted)


def scalar(name: str) -> Leaf:
    """Any one-element constant, captured; its content counts as read."""

    def test(value: Value | None, state: State) -> Iterator[State]:
        if scalar_of(value) is None:
            return
        assert value is not None and value.op is not None
        bound = state.used(value.op).bind(name, value)
        if bound is not None:
            yield bound

    return Leaf(test)


def constant(name: str) -> Leaf:
    """Any constant, captured; its content is not looked at."""

    def test(value: Value | None, state: State) -> Iterator[State]:
        if constant_of(value) is None:
            return
        bound = state.bind(name, value)
        if bound is not None:
            yield bound

    return Leaf(test)


def absent(name: str) -> Leaf:
    """An operand that may be missing: captured as the value, or as None."""

    def test(value: Value | None, state: State) -> Iterator[State]:
        bound = state.bind(name, value)
        if bound is not None:
            yield bound

    return Leaf(test)


def _any(value: Value | None, state: State) -> Iterator[State]:
    yield state


anything = Leaf(_any)
"""Any value, not captured."""

"""Building graphs: one method per op, derived from the op classes.

What a function is made of in order::

    b = Builder()
    x = b.input("x", tensor("f32", 8, 16))
    y = b.relu(b.matmul(x, b.constant(w)))
    b.output("y", y)
    module = b.module
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.dims import Dim, DimLike, is_static, symbol
from aino_ir.errors.ir import BadAttribute, BadOperand
from aino_ir.graph import Block, Function, Module, State, Value, count_uses
from aino_ir.infer import InferContext
from aino_ir.location import UNKNOWN, Loc
from aino_ir.op import OPS, REQUIRED, Op, Trait, coerce, operand_count_ok
from aino_ir.symbols import model_symbol_name
from aino_ir.types import Layout, TensorType, Type

PREFERRED_FAMILIES = ("core", "tensor", "nn", "math", "logic")
"""Families whose ops own the short name when two end alike: `max` is ``math.max``."""

_SHORT: dict[str, type[Op]] = {}


def op_class(name: str) -> type[Op]:
    """The op class called `name`: ``reduce.max``, ``reduce_max``, or ``max`` where that is plain."""
    import aino_ir.ops  # noqa: F401  registers every family

    found = OPS.get(name) or _SHORT.get(name)
    if found is None:
        _fill_short_names()
        found = _SHORT.get(name)
    if found is None:
        raise AttributeError(f"no op is called '{name}'")
    return found


def _fill_short_names() -> None:
    def rank(full: str) -> int:
        family = full.partition(".")[0]
        return PREFERRED_FAMILIES.index(family) if family in PREFERRED_FAMILIES else len(PREFERRED_FAMILIES)

    for full in sorted(OPS, key=rank):
        _SHORT.setdefault(full.replace(".", "_"), OPS[full])
        _SHORT.setdefault(full.rsplit(".", 1)[-1], OPS[full])


class Builder:
    """Creates ops at an insertion point; `b.relu(x)` is derived from the op's declaration.

    Args:
        function: where to build; None makes a new module with an empty `main`.
        block: the block to append to (default: the function's).
        before: insert before this op instead of at the end.
        loc: location of the ops that are made.
        record: whether undecided shape facts become entry checks (see InferContext).
        on_create: called with each new op (the rewriter's log).
    """

    def __init__(
        self,
        function: Function | None = None,
        block: Block | None = None,
        before: Op | None = None,
        loc: Loc = UNKNOWN,
        record: bool = True,
        on_create: Callable[[Op], None] | None = None,
    ) -> None:
        self.function = function if function is not None else Module().add_function()
        home = before.block if block is None and before is not None else block
        self.block = home if home is not None else self.function.block
        self.before = before
        self.loc = loc
        self.record = record
        self._on_create = on_create

    @property
    def module(self) -> Module:
        """The module being built; `main` is closed with a terminator if it has none yet."""
        if self.function.block.last is None or not self.function.block.last.has(Trait.TERMINATOR):
            self.finish()
        return self.function.module

    # -- function interface -------------------------------------------------------------------------

    def input(self, name: str, type: Type) -> Value:
        """A new input."""
        self.function.input_names.append(name)
        return self.function.add_argument(type, name)

    def symbol(self, name: str, lo: int = 0, hi: int | None = None, step: int = 1) -> Dim:
        """A symbolic extent of this function."""
        if name in self.function.symbols:
            return symbol(name)
        return self.function.symbols.new(model_symbol_name(name), lo, hi, step)

    def state(self, name: str, type: Type, init: Const | None = None) -> Value:
        """A new state slot (after all inputs); returns its present value."""
        self.function.states.append(State(name, type, init))
        return self.function.add_argument(type, name)

    def output(self, name: str, value: Value) -> None:
        """Name a value as the next output; `finish` closes the function."""
        self.function.output_names.append(name)
        self._outputs().append(value)

    def finish(self, states: Sequence[Value] = ()) -> Function:
        """Close the function: outputs so far, then the new values of the state slots."""
        self.op(op_class("core.return"), *self._outputs(), *states)
        return self.function

    def _outputs(self) -> list[Value]:
        if not hasattr(self, "_pending_outputs"):
            self._pending_outputs: list[Value] = []
        return self._pending_outputs

    # -- ops ----------------------------------------------------------------------------------------

    def op(
        self,
        cls: type[Op],
        *operands: Value | None,
        layouts: Sequence[Layout] | None = None,
        regions: Sequence[Block] = (),
        names: Sequence[str] = (),
        **attrs: Any,
    ) -> Op:
        """Create an op, infer its result types, and insert it."""
        values = list(operands)
        while values and values[-1] is None and operand_count_ok(cls, len(values) - 1):
            values.pop()
        if not operand_count_ok(cls, len(values)):
            raise BadOperand(
                loc=self.loc, op=cls.name, what="operand count", expected=_wanted(cls), got=len(values)
            )
        module = self.function.module
        op = cls(module.new_id(), tuple(values), _attributes(cls, attrs, self.loc), tuple(regions), self.loc)
        for block in op.regions:
            block.parent = op
            block.function = self.function
        types = op.infer(InferContext(self.function.symbols, self.record, op, module))
        op.results = tuple(
            Value(module.new_id(), _laid_out(t, layouts, i), op, i, name=names[i] if i < len(names) else "")
            for i, t in enumerate(types)
        )
        count_uses(op, op.operands)
        self.block.insert(op, self.before)
        if self._on_create is not None:
            self._on_create(op)
        return op

    def constant(self, data: Any, name: str = "") -> Value:
        """A constant from a handle, an array or a number."""
        handle = data if isinstance(data, Const) else Const.of(np.asarray(data), name)
        return self.op(op_class("core.constant"), value=handle, names=(name,)).result

    def dims_vector(self, dims: Sequence[DimLike]) -> Value:
        """A 1-d i64 value holding extents: a constant, or `core.dims` when symbols occur."""
        if all(is_static(d) for d in dims):
            return self.constant(np.asarray([int(d) for d in dims], np.int64))  # type: ignore[arg-type]
        return self.op(op_class("core.dims"), dims=tuple(dims)).result

    def region(self, arguments: Sequence[Type], body: Callable[..., Sequence[Value]]) -> Block:
        """An isolated block: `body(builder, *arguments)` returns the values it yields."""
        block = Block(self.function)
        from aino_ir.graph import add_block_argument

        args = [add_block_argument(block, t, self.function.module) for t in arguments]
        inner = Builder(self.function, block, None, self.loc, self.record)
        inner.op(op_class("core.return"), *body(inner, *args))
        return block

    def known(self, value: Value) -> tuple[DimLike, ...] | None:
        """Contents of a small integer value, flattened, when they follow from types."""
        return InferContext(self.function.symbols, record=False).known_dims(value)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        cls = op_class(name)

        def create(*operands: Value | None, **attrs: Any) -> Any:
            op = self.op(cls, *operands, **attrs)
            return op.results[0] if len(op.results) == 1 else op.results

        return create


def _wanted(cls: type[Op]) -> str:
    return (
        "("
        + ", ".join(
            n if k == "one" else f"{n}?" if k == "optional" else f"{n}..."
            for n, k in cls.declaration.operands
        )
        + ")"
    )


def _attributes(cls: type[Op], given: dict[str, Any], loc: Loc) -> tuple[Any, ...]:
    rest = dict(given)
    out = []
    for key, attr in cls.declaration.attrs:
        value = rest.pop(key, attr.default)
        if value is REQUIRED:
            raise BadAttribute(
                loc=loc, op=cls.name, attribute=key, expected=f"given ({attr.kind})", got="nothing"
            )
        try:
            out.append(coerce(attr.kind, value))
        except (TypeError, ValueError) as error:
            raise BadAttribute(
                loc=loc, op=cls.name, attribute=key, expected=attr.kind, got=repr(value)
            ) from error
    if rest:
        known = ", ".join(key for key, _ in cls.declaration.attrs) or "none"
        raise BadAttribute(
            loc=loc,
            op=cls.name,
            attribute=next(iter(rest)),
            expected=f"one of: {known}",
            got="an unknown name",
        )
    return tuple(out)


def _laid_out(type: Type, layouts: Sequence[Layout] | None, index: int) -> Type:
    if layouts is None or not isinstance(type, TensorType):
        return type
    return TensorType(type.dtype, type.shape, layouts[index])

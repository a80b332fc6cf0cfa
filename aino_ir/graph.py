"""The graph: Module > Function > Block > Op, and the Values between ops.

SSA dataflow.  Ids are never reused and survive `clone()`.  All mutation goes through
`aino_ir.rewriter`; building goes through `aino_ir.builder`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aino_ir.op import Op, Trait
from aino_ir.symbols import Symbols
from aino_ir.types import Type

if TYPE_CHECKING:
    import numpy as np


class Value:
    """One value: the result of an op or the argument of a block.

    Attributes:
        id: unique in the module, never reused.
        type: its type.
        op: the producing op, or None for a block argument.
        block: the block it is an argument of, or None for a result.
        index: which result or argument it is.
        name: a hint for people (an ONNX tensor's name); never an identity.
        users: ops that read it -> how many of their operands it is, in insertion order.
        known: contents as an object array of ints and Dims when they follow from types (derived).
    """

    __slots__ = ("block", "id", "index", "known", "known_ready", "name", "op", "type", "users")

    def __init__(
        self, id: int, type: Type, op: Op | None, index: int, block: Block | None = None, name: str = ""
    ) -> None:
        self.id = id
        self.type = type
        self.op = op
        self.block = block
        self.index = index
        self.name = name
        self.users: dict[Op, int] = {}
        self.known: np.ndarray | None = None
        self.known_ready = False

    @property
    def dtype(self) -> Any:
        """Element dtype of a tensor value."""
        return self.type.dtype  # type: ignore[union-attr]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Logical shape of a tensor or string value."""
        return self.type.shape  # type: ignore[union-attr]

    @property
    def rank(self) -> int:
        """Rank of a tensor or string value."""
        return len(self.type.shape)  # type: ignore[union-attr]

    @property
    def use_count(self) -> int:
        """Operands that read it."""
        return sum(self.users.values())

    def __repr__(self) -> str:
        return f"%{self.id}: {self.type}"


class Block:
    """A list of ops with arguments, ended by a terminator; isolated from the blocks around it.

    Ops form a linked list with float positions, so order comparisons are constant time and
    iteration survives insertion and removal.
    """

    __slots__ = ("_first", "_last", "args", "count", "function", "parent")

    def __init__(self, function: Function | None = None, parent: Op | None = None) -> None:
        self.function = function
        self.parent = parent
        self.args: list[Value] = []
        self._first: Op | None = None
        self._last: Op | None = None
        self.count = 0

    def __iter__(self) -> Iterator[Op]:
        op = self._first
        while op is not None:
            following = op._next
            yield op
            op = op._next if op.block is self else following
            while op is not None and op.block is not self:  # removed meanwhile; its links still lead on
                op = op._next

    def __reversed__(self) -> Iterator[Op]:
        op = self._last
        while op is not None:
            before = op._prev
            yield op
            op = before

    def __len__(self) -> int:
        return self.count

    @property
    def first(self) -> Op | None:
        """The first op."""
        return self._first

    @property
    def last(self) -> Op | None:
        """The last op."""
        return self._last

    @property
    def terminator(self) -> Op:
        """The op that ends the block; its operands are the block's results."""
        assert self._last is not None and self._last.has(Trait.TERMINATOR), "block has no terminator"
        return self._last

    def insert(self, op: Op, before: Op | None = None) -> None:
        """Link `op` in before another one (at the end when None).  For builder and rewriter only."""
        after = before._prev if before is not None else self._last
        op.block, op._prev, op._next = self, after, before
        if after is None:
            self._first = op
        else:
            after._next = op
        if before is None:
            self._last = op
        else:
            before._prev = op
        low = after._position if after is not None else None
        high = before._position if before is not None else None
        if low is None:
            op._position = 0.0 if high is None else high - 1.0
        else:
            op._position = low + 1.0 if high is None else (low + high) / 2
        self.count += 1
        if (low is not None and op._position <= low) or (high is not None and op._position >= high):
            self._renumber()

    def remove(self, op: Op) -> None:
        """Unlink `op`.  For the rewriter only."""
        if op._prev is None:
            self._first = op._next
        else:
            op._prev._next = op._next
        if op._next is None:
            self._last = op._prev
        else:
            op._next._prev = op._prev
        op.block = None
        self.count -= 1

    def _renumber(self) -> None:
        position, op = 0.0, self._first
        while op is not None:
            op._position, position, op = position, position + 1.0, op._next

    def walk(self) -> Iterator[Op]:
        """Ops of this block and of all regions inside, outer ops first."""
        for op in self:
            yield op
            for region in op.regions:
                yield from region.walk()


def comes_before(a: Op, b: Op) -> bool:
    """Whether `a` stands before `b` in their common block."""
    return a._position < b._position


@dataclass
class State:
    """A named cell that lives across runs: read as a block argument, written back as a result.

    `init` is a constant handle, or None for zeros.
    """

    name: str
    type: Type
    init: Any = None


class Function:
    """A named block with inputs, state slots and outputs.

    Block arguments are the inputs followed by one per state slot; the terminator's operands are the
    outputs followed by the new state values.
    """

    def __init__(self, module: Module, name: str) -> None:
        self.module = module
        self.name = name
        self.symbols = Symbols()
        self.block = Block(self)
        self.input_names: list[str] = []
        self.output_names: list[str] = []
        self.states: list[State] = []
        self.defaults: dict[str, Any] = {}
        """Inputs that may be left out at run time -> the Const they then have."""

    @property
    def inputs(self) -> list[Value]:
        """Arguments that callers pass."""
        return self.block.args[: len(self.input_names)]

    @property
    def state_args(self) -> list[Value]:
        """Arguments that hold the state's present values."""
        return self.block.args[len(self.input_names) :]

    @property
    def results(self) -> tuple[Value, ...]:
        """Operands of the terminator: outputs, then new state values."""
        return tuple(self.block.terminator.operands)  # type: ignore[arg-type]

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Values that callers get."""
        return self.results[: len(self.output_names)]

    def add_argument(self, type: Type, name: str = "") -> Value:
        """Append a block argument (for builders and parsers)."""
        return add_block_argument(self.block, type, self.module, name)

    def walk(self) -> Iterator[Op]:
        """Every op, regions included."""
        return self.block.walk()


def add_block_argument(block: Block, type: Type, module: Module, name: str = "") -> Value:
    """Append an argument to any block."""
    value = Value(module.new_id(), type, None, len(block.args), block, name)
    block.args.append(value)
    return value


class Module:
    """A program: functions by name (the entry is ``main``), ids, and free-form metadata.

    Attributes:
        compression: the report of the compression that made it, or None.
    """

    def __init__(self, name: str = "module") -> None:
        self.name = name
        self.functions: dict[str, Function] = {}
        self.metadata: dict[str, str] = {}
        self.compression: Any = None
        self._next_id = 0

    def new_id(self) -> int:
        """A fresh id for an op or value."""
        self._next_id += 1
        return self._next_id

    @property
    def last_id(self) -> int:
        """The largest id handed out so far."""
        return self._next_id

    def reserve_ids(self, up_to: int) -> None:
        """Never hand out ids up to this one again (parsers, clones)."""
        self._next_id = max(self._next_id, up_to)

    def add_function(self, name: str = "main") -> Function:
        """A new empty function."""
        function = Function(self, name)
        self.functions[name] = function
        return function

    @property
    def main(self) -> Function:
        """The entry function."""
        return self.functions["main"]

    def walk(self) -> Iterator[Op]:
        """Every op of every function, regions included."""
        for function in self.functions.values():
            yield from function.walk()

    def op_count(self) -> int:
        """Ops in all functions and regions."""
        return sum(1 for _ in self.walk())

    def clone(self) -> Module:
        """A deep copy with the same ids; constant handles are shared."""
        from aino_ir.clone import clone_module

        return clone_module(self)

    def __str__(self) -> str:
        from aino_ir.text import print_module

        return print_module(self, elide=True)


def count_uses(op: Op, operands: Iterable[Value | None], sign: int = 1) -> None:
    """Enter (or with sign -1, strike out) `op` as a user of its operands."""
    for value in operands:
        if value is None:
            continue
        left = value.users.get(op, 0) + sign
        if left:
            value.users[op] = left
        else:
            value.users.pop(op, None)

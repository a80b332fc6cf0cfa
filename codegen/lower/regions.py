"""Storage of control flow: what regions take and yield, as views of the buffers around them.

Captures are the outer values' views.  A carried value has one place, that of the op's result: what it
is at first is made there or copied there, and each turn's new value is made right there when nothing
reads the old one any more, else copied at the turn's end.  Elements of sequences and of stacked results
are windows at offsets that the number of the turn decides.

A state whose values are stacked, as recurrent nets have it, is its own history: it lies in one element of
the stack, and each turn makes the next.

Extents that only a run decides go through cells, i64 elements of the arena that `Bind` steps read.  Each
region of a choice writes the extents of its own results; behind the choice the results get their memory,
and a second choice copies.  A stacked result that grows as long as the loop goes on, and a carried value
whose extents change, lie in memory that `Extend` steps enlarge.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from aino_ir.codegen.lower.carried import Copies, same_place
from aino_ir.codegen.lower.decided import extents
from aino_ir.compute import axis_name
from aino_ir.constants import Const
from aino_ir.dims import DimLike, free_symbols, product, symbol
from aino_ir.dtypes import i64
from aino_ir.graph import Value
from aino_ir.infer import known_contents
from aino_ir.op import Op
from aino_ir.ops.control import If, Loop, Scan
from aino_ir.plan import BufferKind, View
from aino_ir.types import ROW_MAJOR, Layout, TensorType

if TYPE_CHECKING:
    from aino_ir.codegen.lower.storage import StorageAssignment


@dataclass(frozen=True)
class LoopParts:
    """A loop's or a scan's values by what they are for.

    Attributes:
        initial, arguments, following, results: carried values before the loop, in a turn, after it, and
            in the end.
        sequences, slices: what is read along the first axis, and its element of the turn.
        captures, captured: what every turn sees, outside and inside.
        elements, stacks: what a turn adds to the stacked results, and these.
        turn, going: arguments that are the number of the turn and the (true) condition.
        again: what the body yields as the next condition.
    """

    initial: tuple[Value, ...]
    arguments: tuple[Value, ...]
    following: tuple[Value, ...]
    results: tuple[Value, ...]
    sequences: tuple[Value, ...]
    slices: tuple[Value, ...]
    captures: tuple[Value, ...]
    captured: tuple[Value, ...]
    elements: tuple[Value, ...]
    stacks: tuple[Value, ...]
    turn: Value | None = None
    going: Value | None = None
    again: Value | None = None

    @staticmethod
    def of(op: Op) -> LoopParts:
        """The parts of a `control.loop` or `control.scan`."""
        (body,) = op.regions
        inputs = tuple(op.inputs)  # type: ignore[attr-defined]
        arguments, yielded = tuple(body.args), tuple(body.terminator.present_operands())
        turn = going = again = None
        carried, sequences = 0, 0
        if isinstance(op, Loop):
            (turn, going), arguments = arguments[:2], arguments[2:]
            again, yielded = yielded[0], yielded[1:]
            carried = op.carried
        elif isinstance(op, Scan):
            carried, sequences = op.states, op.sequences
        behind = carried + sequences
        return LoopParts(
            initial=inputs[:carried],
            arguments=arguments[:carried],
            following=yielded[:carried],
            results=op.results[:carried],
            sequences=inputs[carried:behind],
            slices=arguments[carried:behind],
            captures=inputs[behind:],
            captured=arguments[behind:],
            elements=yielded[carried:],
            stacks=op.results[carried:],
            turn=turn,
            going=going,
            again=again,
        )


@dataclass(frozen=True)
class Cell:
    """An i64 element that holds an extent until it is bound.

    Attributes:
        view: the element.
        symbol: what it is bound to behind the op, or "".
        values: what is written: by each region of a choice; before a loop, and at the end of each turn.
        inside: what it is bound to at the start of each turn, or "".
    """

    view: View
    symbol: str
    values: tuple[DimLike, DimLike]
    inside: str = ""


@dataclass
class ChoiceStorage:
    """What a choice needs beside its regions.

    Attributes:
        cells: extents that the regions decide differently.
        late: for each region, copies of what has such extents, behind the choice.
    """

    cells: list[Cell] = field(default_factory=list)
    late: tuple[Copies, Copies] = field(default_factory=lambda: ([], []))


@dataclass
class LoopStorage:
    """What a loop's step needs beside its body.

    Attributes:
        turn: the symbol that counts turns.
        count, start, again, turns: as in `aino_ir.plan.Repeat`.
        entry: copies before the first turn.
        final: copies at the end of each turn, when nothing reads the old carried values any more.
        counters: symbols that are the number of turns.
        stacks: (buffer, bytes of an element) of stacked results that grow.
        late: (buffer, bytes of an element, copy of it) of those whose elements' extents turns decide.
        same: cells of extents that must be the same in every turn.
        resized: (buffer, bytes at first, bytes after a turn) of carried values that change their extents.
        cells: those extents.
    """

    turn: str
    count: View | DimLike | None = None
    start: View | None = None
    again: View | None = None
    turns: View | None = None
    entry: Copies = field(default_factory=list)
    final: Copies = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    stacks: list[tuple[int, DimLike]] = field(default_factory=list)
    late: list[tuple[int, DimLike, tuple[Value | View, View]]] = field(default_factory=list)
    same: list[Cell] = field(default_factory=list)
    resized: list[tuple[int, DimLike, DimLike]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True)
class History:
    """Where a carried value lies whose values are stacked.

    Attributes:
        first, present, following: before the loop, in a turn, and after it.
    """

    first: View
    present: View
    following: View


class RegionStorage:
    """Assigns views around and inside the regions of one function's control flow."""

    def __init__(self, storage: StorageAssignment) -> None:
        self.storage = storage
        self.plan = storage.plan
        self.views = storage.views
        self.decided = storage.decided
        self.loops: dict[Op, LoopStorage] = {}
        self.choices: dict[Op, ChoiceStorage] = {}

    def place_initial(self, op: Op) -> None:
        """Let what carried values are at first be made in their places, where only the loop reads it."""
        if isinstance(op, If):
            return
        parts = LoopParts.of(op)
        kept = stacked_states(op, parts)
        for number, (first, result) in enumerate(zip(parts.initial, parts.results, strict=True)):
            if (
                number in kept
                or first.use_count != 1
                or not self.storage.is_free(first)
                or first.type != result.type
            ):
                continue
            place = replace(self._own_place(result), shape=first.shape)
            if self.storage.exists_for(first, place):
                self.views[first] = place

    def assign(self, op: Op) -> None:
        """Views of an op's results and of all values in its regions; its operands have theirs."""
        placed = {r: self.views[r] for r in op.results if r in self.views}
        for result in op.results:
            self._own_place(result)
        if isinstance(op, If):
            self._choice(op)
        else:
            self._loop(op, placed)

    def _own_place(self, result: Value) -> View:
        """Where a result lies: row-major, so that turns have windows in it."""
        view = self.views.get(result)
        if view is None or not view.layout.is_row_major:
            view = self.views[result] = self.storage.arena(result)
        return view

    # -- choices --------------------------------------------------------------------------------------

    def _choice(self, op: If) -> None:
        choice = self.choices[op] = ChoiceStorage()
        own = set(self.decided.of(op))
        yields = [tuple(region.terminator.present_operands()) for region in op.regions]
        for result, first, second in zip(op.results, *yields, strict=True):
            for extent, a, b in zip(extents(result), first.shape, second.shape, strict=True):
                if free_symbols(extent) & own:
                    choice.cells.append(Cell(self._cell(), str(extent), (a, b)))
        for region, values, late in zip(op.regions, yields, choice.late, strict=True):
            self._capture(tuple(op.captures), tuple(region.args))
            copies: Copies = []
            for value, result in zip(values, op.results, strict=True):
                place = replace(self.views[result], shape=value.shape)
                if any(free_symbols(d) & own for d in extents(result)):
                    late.append((value, place))
                elif self.storage.can_be_made_in(value, place):
                    self.views[value] = place
                else:
                    copies.append((value, place))
            self.storage.assign(region)
            self.storage.copies.setdefault(region.terminator, []).extend(copies)

    def _cell(self) -> View:
        return self.storage.new_arena(TensorType(i64, ()), "extent")

    def _capture(self, outer: tuple[Value, ...], inner: tuple[Value, ...]) -> None:
        for value, argument in zip(outer, inner, strict=True):
            self.views[argument] = replace(self.views[value], shape=argument.shape)

    # -- loops ----------------------------------------------------------------------------------------

    def _loop(self, op: Op, placed: dict[Value, View]) -> None:
        parts, (body,) = LoopParts.of(op), op.regions
        turn = axis_name(f"turn{len(self.plan.turns)}")
        loop = self.loops[op] = LoopStorage(turn)
        resized = self._resize(op, parts, loop)
        history = self._keep_history(op, parts, loop, resized, placed)
        self._arguments(parts, loop, history)
        self.plan.turns.append(turn)
        places = [self.views[a] for a in parts.arguments]
        carried = self.storage.carried
        aside = resized | history.keys()
        made = history.keys() | carried.make_in_place(parts.arguments, parts.following, places, aside)
        copies: Copies = []
        kept = {stacked_states(op, parts)[number] for number in history}
        for position, (element, stack) in enumerate(zip(parts.elements, parts.stacks, strict=True)):
            if position in kept:
                continue
            if self._let_grow(op, loop, stack, element):
                continue
            window = element_of(self.views[stack], symbol(turn))
            assert window is not None, "a stacked result is row-major"
            window = replace(window, shape=element.shape)
            if self.storage.can_be_made_in(element, window):
                self.views[element] = window
            else:
                copies.append((element, window))
        self.storage.assign(body)
        self._limits(op, parts, loop, places, copies)
        first, loop.final = carried.carry(parts.following, places, made)
        copies += first
        self.storage.copies.setdefault(body.terminator, []).extend(copies)

    def _keep_history(
        self, op: Op, parts: LoopParts, loop: LoopStorage, resized: set[int], placed: dict[Value, View]
    ) -> dict[int, History]:
        """Let states that are stacked lie in their stacks, where each turn can make the next element."""
        found: dict[int, History] = {}
        for number, position in stacked_states(op, parts).items():
            value, stack, result = parts.following[number], parts.stacks[position], parts.results[number]
            argument = parts.arguments[number]
            plain = isinstance(argument.type, TensorType) and argument.type.layout.is_row_major
            if number in resized or not plain or not self.storage.is_free(value):
                continue
            length, turn = stack.shape[0], symbol(loop.turn)
            whole = self.storage.new_arena(
                TensorType(argument.dtype, (length + 1, *argument.shape)), "history"
            )
            present, following = element_of(whole, turn), element_of(whole, turn + 1)
            first, last = element_of(whole, 0), element_of(whole, length)
            assert first and present and following and last, "a history is row-major"
            self.views[value] = replace(following, shape=value.shape)
            behind = View(whole.buffer, byte_count(argument), stack.dtype, stack.shape)
            for made, view in ((stack, behind), (result, replace(last, shape=result.shape))):
                before = placed.get(made)
                if before is not None and not self._placed_by_a_view(made, before):
                    self.storage.copies.setdefault(op, []).append((view, before))
                self.views[made] = view
            found[number] = History(first, present, following)
        return found

    def _placed_by_a_view(self, value: Value, place: View) -> bool:
        """Whether a view op has put a value where it is: that op copies when the value lies elsewhere."""
        seen = (self.views.get(u.results[0]) for u in value.users if self.storage.is_view(u))
        return any(v is not None and v.buffer == place.buffer for v in seen)

    def _resize(self, op: Op, parts: LoopParts, loop: LoopStorage) -> set[int]:
        """Give carried values whose extents change cells and memory that grows; returns their numbers."""
        own, inside = set(self.decided.of(op)), {n for n, at in self.decided.carried.items() if at is op}
        found: set[int] = set()
        carried = zip(parts.initial, parts.arguments, parts.following, parts.results, strict=True)
        for number, (first, argument, following, result) in enumerate(carried):
            axes = zip(extents(argument), extents(result), first.shape, following.shape, strict=True)
            for within, behind, before, after in axes:
                names = free_symbols(within) & inside
                if not names and not free_symbols(behind) & own:
                    continue
                symbol_behind = str(behind) if free_symbols(behind) & own else ""
                cell = Cell(self._cell(), symbol_behind, (before, after), next(iter(names), ""))
                loop.cells.append(cell)
                found.add(number)
            if number in found:
                place = self.storage.arena(argument)
                self.views[result] = replace(place, shape=result.shape)
                loop.resized.append((place.buffer, byte_count(first), byte_count(following)))
        return found

    def _let_grow(self, op: Op, loop: LoopStorage, stack: Value, element: Value) -> bool:
        """Let a stacked result of unknown size grow in each turn; whether its element is copied late."""
        own, view = set(self.decided.of(op)), self.views[stack]
        length, *inner = stack.shape
        if free_symbols(length) & own:
            if loop.turns is None:
                loop.turns = self._cell()
            loop.counters.append(str(length))
        decided = [axis for axis, d in enumerate(inner) if free_symbols(d) & own]
        if decided:
            cells = [Cell(self._cell(), str(inner[a]), (0, element.shape[a])) for a in decided]
            loop.cells += cells
            loop.same += cells
            window = element_of(replace(view, shape=(length, *element.shape)), symbol(loop.turn))
            assert window is not None, "a stacked result is row-major"
            loop.late.append((view.buffer, byte_count(element), (element, window)))
        elif free_symbols(length) & own:
            loop.stacks.append((view.buffer, byte_count(element)))
        return bool(decided)

    def _arguments(self, parts: LoopParts, loop: LoopStorage, history: dict[int, History]) -> None:
        """Views of the body's arguments, and what must be copied before the first turn."""
        if parts.turn is not None and parts.going is not None:
            buffer = self.plan.new_buffer(BufferKind.TURN, 8, slot=len(self.plan.turns), name=parts.turn.name)
            self.views[parts.turn] = View(buffer.id, 0, i64, parts.turn.shape)
            self.views[parts.going] = replace(self._true(), shape=parts.going.shape)
        carried = zip(parts.initial, parts.arguments, parts.results, strict=True)
        for number, (first, argument, result) in enumerate(carried):
            if number in history:
                self.views[argument] = replace(history[number].present, shape=argument.shape)
                loop.entry.append((first, replace(history[number].first, shape=first.shape)))
                continue
            place = replace(self.views[result], shape=argument.shape)
            self.views[argument] = place
            if not same_place(self.views[first], place):
                loop.entry.append((first, replace(place, shape=first.shape)))
        for sequence, argument in zip(parts.sequences, parts.slices, strict=True):
            window = element_of(self.views[sequence], symbol(loop.turn))
            if window is None:
                assert isinstance(sequence.type, TensorType)
                dense = self.storage.new_arena(sequence.type.logical(), sequence.name)
                loop.entry.append((sequence, dense))
                window = element_of(dense, symbol(loop.turn))
                assert window is not None
            self.views[argument] = replace(window, shape=argument.shape)
        self._capture(parts.captures, parts.captured)

    def _true(self) -> View:
        handle = Const.of(np.array(True))
        buffer = self.plan.new_buffer(BufferKind.CONST, handle.nbytes, const=handle)
        return View(buffer.id, 0, handle.dtype, ())

    def _limits(
        self,
        op: Op,
        parts: LoopParts,
        loop: LoopStorage,
        places: list[View],
        copies: Copies,
    ) -> None:
        """When a loop ends; a condition that lies where a carried value will be is copied away first."""
        if isinstance(op, Scan):
            loop.count = parts.sequences[0].shape[0]
            return
        assert isinstance(op, Loop) and parts.again is not None
        if op.trips is not None:
            known = known_contents(op.trips, self.storage.function.symbols)
            loop.count = self.views[op.trips] if known is None else known.reshape(-1).tolist()[0]
        if op.counted:
            return
        if op.condition is not None and constant_flag(op.condition) is not True:
            loop.start = self.views[op.condition]
        if parts.again is parts.going or constant_flag(parts.again) is True:
            return
        loop.again = self.views[parts.again]
        old = {p.buffer for p in places}
        if loop.again.buffer in old:
            cell = self.storage.arena(parts.again)
            copies.append((parts.again, cell))
            loop.again = cell


def stacked_states(op: Op, parts: LoopParts) -> dict[int, int]:
    """Carried values whose every value is an element, in loops of a known length: number -> which element."""
    if not isinstance(op, Scan) and not (isinstance(op, Loop) and op.counted):
        return {}
    place = {e: i for i, e in reversed(list(enumerate(parts.elements)))}
    found: dict[int, int] = {}
    for number, value in enumerate(parts.following):
        position = place.get(value)
        if position is None or position in found.values():
            continue
        if not decides(op, parts.stacks[position]) and parts.arguments[number].type == value.type:
            found[number] = position
    return found


def decides(op: Op, result: Value) -> bool:
    """Whether an op decides an extent of its result."""
    assert op.block is not None and op.block.function is not None
    table = op.block.function.symbols
    return any(table.declared(n).origin.op == op.id for d in extents(result) for n in free_symbols(d))


def byte_count(value: Value) -> DimLike:
    """Bytes of a dense tensor."""
    assert isinstance(value.type, TensorType)
    return product(value.type.shape) * value.type.dtype.bytes


def constant_flag(value: Value) -> bool | None:
    """The bool that a one-element constant holds, or None."""
    if value.op is None or value.op.name != "core.constant":
        return None
    return bool(value.op.value.array().reshape(-1)[0])  # type: ignore[attr-defined]


def element_of(view: View, turn: DimLike) -> View | None:
    """The part of a view at one place of its first axis; None where strides cannot say it."""
    layout, allocated = view.layout, view.allocated
    if layout.tiles or layout.pad:
        return None
    extents = list(allocated if allocated is not None else view.shape)
    order = [axis for axis, _ in layout.parts(len(extents))]
    place = order.index(0)
    inner = order[place + 1 :]
    offset = view.offset + turn * product(extents[a] for a in inner) * view.dtype.bytes
    if place and not inner:
        return None  # the axis between elements is the innermost
    if place:
        extents[inner[0]] = extents[inner[0]] * extents[0]
    rest = [axis - 1 for axis in order if axis != 0]
    moved = Layout(tuple((axis, None) for axis in rest))
    dense = allocated is None and not place
    return View(
        view.buffer,
        offset,
        view.dtype,
        view.shape[1:],
        ROW_MAJOR if moved.is_row_major else moved,
        None if dense else tuple(extents[1:]),
    )

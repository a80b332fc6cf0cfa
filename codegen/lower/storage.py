"""Storage assignment: every graph value becomes a view of a buffer, before kernels are specified.

Reshapes alias; a slice with unit steps is a window of its parent; a concatenation's operands are
produced right into their slices where possible; outputs are produced right into the caller's
memory.  Offsets in the arena are left to memory planning.
"""

from __future__ import annotations

from collections import Counter

from aino_ir.codegen.lower.carried import CarriedStorage, MayOverwrite
from aino_ir.codegen.lower.decided import DecidedSymbols
from aino_ir.codegen.lower.regions import RegionStorage
from aino_ir.dims import DimLike
from aino_ir.graph import Block, Function, Value
from aino_ir.op import Op, Trait
from aino_ir.ops.control import CONTROL
from aino_ir.plan import Buffer, BufferKind, Plan, View
from aino_ir.types import TensorType


class StorageAssignment:
    """Views of all tensor values of a function, its control-flow regions included.

    Args:
        may_overwrite: whether an op's kernel may write its result over an operand (see `carried`).

    Attributes:
        views: value -> view.
        copies: (source value or view, view) pairs where a value must also be copied to (outputs that are
            inputs, concatenated pieces that live elsewhere), each with the op after which it happens.
        carried: storage of what lives on, in states and in loops.
        regions: storage of control flow.
    """

    def __init__(
        self,
        function: Function,
        plan: Plan,
        decided: DecidedSymbols,
        may_overwrite: MayOverwrite = lambda op, value: False,
    ) -> None:
        self.function = function
        self.plan = plan
        self.decided = decided
        self.views: dict[Value, View] = {}
        self.copies: dict[Op, list[tuple[Value | View, View]]] = {}
        self._owners: Counter[int] | None = None
        self.carried = CarriedStorage(self, may_overwrite)
        self.regions = RegionStorage(self)

    def run(self) -> None:
        """Assign everything."""
        self._inputs()
        self._outputs()
        states, places, new = self._states()
        made = self.carried.make_in_place(states, new, places)
        self.assign(self.function.block)
        aside, final = self.carried.carry(new, places, made)
        self.copies.setdefault(self.function.block.terminator, []).extend(aside + final)

    def assign(self, block: Block) -> None:
        """Assign the values of a block whose arguments have their views."""
        for op in reversed(block):
            self._backward(op)
        for op in block:
            self._forward(op)

    def owners(self, buffer: int) -> int:
        """How many values live in a buffer, and copies that write it or read it as it was assigned."""
        if self._owners is None:
            copied = [place for copies in self.copies.values() for copy in copies for place in copy]
            views = [*self.views.values(), *(place for place in copied if isinstance(place, View))]
            self._owners = Counter(view.buffer for view in views)
        return self._owners[buffer]

    # -- boundary -----------------------------------------------------------------------------------

    def _inputs(self) -> None:
        for slot, value in enumerate(self.function.inputs):
            if isinstance(value.type, TensorType):
                self.views[value] = self._new(value.type, BufferKind.INPUT, slot, value.name)
        for slot, value in enumerate(self.function.state_args):
            assert isinstance(value.type, TensorType)
            view = self.views[value] = self._new(value.type, BufferKind.STATE, slot, value.name)
            self.plan.buffers[view.buffer].const = self.function.states[slot].init

    def _outputs(self) -> None:
        terminator = self.function.block.terminator
        names = self.function.output_names
        for slot, (name, value) in enumerate(zip(names, self.function.results, strict=False)):
            if not isinstance(value.type, TensorType):
                continue
            view = self._new(value.type.logical(), BufferKind.OUTPUT, slot, name)
            if self.is_free(value) and self.exists_for(value, view):
                self.views[value] = view
            else:
                self.copies.setdefault(terminator, []).append((value, view))

    def _states(self) -> tuple[list[Value], list[View], list[Value]]:
        """The states as a run finds them, where they lie, and as it leaves them."""
        arguments = list(self.function.state_args)
        new = list(self.function.results)[len(self.function.output_names) :]
        return arguments, [self.views[a] for a in arguments], new

    # -- operands placed by what reads them -----------------------------------------------------------

    def _backward(self, op: Op) -> None:
        if op.name == "tensor.concat":
            self._concat(op)
        elif isinstance(op, CONTROL):
            self.regions.place_initial(op)
        elif self.is_view(op):
            (source,) = list(op.present_operands())[:1]
            view = self.views.get(op.result)
            if view is not None and self.is_free(source):
                placed = self.seen_back(op, view, source)
                if placed is not None and self.exists_for(source, placed):
                    self.views[source] = placed

    def _concat(self, op: Op) -> None:
        whole = self.views.get(op.result)
        if whole is None:
            whole = self.views[op.result] = self.arena(op.result)
        axis: int = op.axis % op.result.rank  # type: ignore[attr-defined]
        position: DimLike = 0
        allocated = whole.allocated if whole.allocated is not None else whole.shape
        for value in op.present_operands():
            assert isinstance(value.type, TensorType)
            start = tuple(position if a == axis else 0 for a in range(value.rank))
            offset = whole.layout.addr(allocated, start) * value.dtype.bytes
            window = View(
                whole.buffer, whole.offset + offset, value.dtype, value.shape, whole.layout, allocated
            )
            fits = value.type.layout == whole.layout and self.exists_for(value, window)
            if self.is_free(value) and fits:
                self.views[value] = window
            else:
                self.copies.setdefault(op, []).append((value, window))
            position = position + value.shape[axis]

    def exists_for(self, value: Value, view: View) -> bool:
        """Whether a place is there when the value is written: its size and address may be decided late."""
        size = self.plan.buffers[view.buffer].bytes
        places = (size, view.offset, *view.shape, *(view.allocated or ()))
        return value.op is not None and self.decided.known_to(value.op, *places)

    def can_be_made_in(self, value: Value, place: View) -> bool:
        """Whether a value may still be made in a place that has its shape."""
        assert isinstance(value.type, TensorType)
        return self.is_free(value) and value.type.layout == place.layout and self.exists_for(value, place)

    def is_free(self, value: Value) -> bool:
        """Whether a value is made by steps of its own, which may make it anywhere."""
        return value not in self.views and self._computed(value)

    def _computed(self, value: Value) -> bool:
        """Whether the value is written by a kernel of its own, or piece by piece (a concatenation)."""
        op = value.op
        if op is None or op.name == "core.constant":
            return False
        if self.is_view(op):
            (source,) = list(op.present_operands())[:1]
            plain = isinstance(source.type, TensorType) and source.type.layout.is_row_major
            return self.is_free(source) and (plain or is_free_transpose(op))
        return not self.is_window(op)

    # -- the rest, in order ---------------------------------------------------------------------------

    def _forward(self, op: Op) -> None:
        if op.name == "core.constant":
            self.views[op.result] = self._constant(op)
            return
        if op.has(Trait.TERMINATOR):
            return
        if isinstance(op, CONTROL):
            self.regions.assign(op)
        elif self.is_view(op):
            self._alias(op)
        elif self.is_window(op) and op.result not in self.views:
            self.views[op.result] = self._window(op)
        for value in op.results:
            if isinstance(value.type, TensorType) and value not in self.views:
                self.views[value] = self.arena(value)

    def _alias(self, op: Op) -> None:
        (source,) = list(op.present_operands())[:1]
        view = self.views[source]
        mine = self.views.get(op.result)
        if mine is None:
            seen = self.seen(op, view)
            if seen is not None:
                self.views[op.result] = seen
                return
            mine = self.views[op.result] = self.arena(op.result)
        if mine.buffer != view.buffer or mine.offset != view.offset:
            self._copy_through(op, source, view, mine)

    def _copy_through(self, op: Op, source: Value, view: View, mine: View) -> None:
        """Copy a view op's operand to where its result must lie."""
        copies = self.copies.setdefault(op, [])
        seen = self.seen(op, view)
        if seen is not None:
            copies.append((seen, mine))
            return
        target = self.seen_back(op, mine, source)
        if target is None:  # neither side's strides can say it: through a dense copy
            assert isinstance(source.type, TensorType)
            target = self.new_arena(source.type.logical(), source.name)
            dense = self.seen(op, target)
            assert dense is not None
            copies += [(source, target), (dense, mine)]
            return
        copies.append((source, target))

    def is_view(self, op: Op) -> bool:
        """Whether an op only looks at its operand's bytes in another way."""
        if op.has(Trait.VIEW) or op.name == "core.bind":
            return True
        return is_free_transpose(op) or is_reinterpretation(op)

    def seen(self, op: Op, view: View) -> View | None:
        """A view op's result as a view of its operand's buffer, or None where strides cannot say it."""
        allocated = view.allocated
        if is_free_transpose(op):
            perm: tuple[int, ...] = op.perm  # type: ignore[attr-defined]
            moved = None if allocated is None else tuple(allocated[p] for p in perm)
            layout = view.layout.transposed(perm)
            return View(view.buffer, view.offset, view.dtype, op.result.shape, layout, moved)
        if not view.layout.is_row_major:
            return None
        if allocated is not None:
            allocated = reshaped_allocation(view.shape, allocated, op.result.shape)
            if allocated is None:
                return None
        return View(view.buffer, view.offset, op.result.dtype, op.result.shape, allocated=allocated)

    def seen_back(self, op: Op, view: View, source: Value) -> View | None:
        """The operand of a view op, given where its result lies; None where strides cannot say it."""
        allocated = view.allocated
        if is_free_transpose(op):
            perm: tuple[int, ...] = op.perm  # type: ignore[attr-defined]
            inverse = tuple(perm.index(a) for a in range(len(perm)))
            moved = None if allocated is None else tuple(allocated[p] for p in inverse)
            layout = view.layout.transposed(inverse)
            return View(view.buffer, view.offset, view.dtype, source.shape, layout, moved)
        if not view.layout.is_row_major:
            return None
        if allocated is not None:
            allocated = reshaped_allocation(view.shape, allocated, source.shape)
            if allocated is None:
                return None
        return View(view.buffer, view.offset, source.dtype, source.shape, allocated=allocated)

    def is_window(self, op: Op) -> bool:
        """Whether an op's result is a part of its operand that strides can say."""
        if op.name != "tensor.slice":
            return False
        return all(s == 1 for s in op.steps) and not op.x.type.layout.tiles  # type: ignore[attr-defined]

    def _window(self, op: Op) -> View:
        source: Value = op.x  # type: ignore[attr-defined]
        view = self.views[source]
        allocated = view.allocated if view.allocated is not None else view.shape
        offset = view.layout.addr(allocated, tuple(op.starts)) * view.dtype.bytes  # type: ignore[attr-defined]
        return View(view.buffer, view.offset + offset, view.dtype, op.result.shape, view.layout, allocated)

    # -- making buffers -------------------------------------------------------------------------------

    def _new(self, type: TensorType, kind: BufferKind, slot: int, name: str) -> View:
        size = type.layout.bound(type.shape) * type.dtype.bytes
        buffer = self.plan.new_buffer(kind, size, slot=slot, name=name)
        return View(buffer.id, 0, type.dtype, type.shape, type.layout)

    def arena(self, value: Value) -> View:
        """A buffer of its own for a value."""
        assert isinstance(value.type, TensorType)
        return self.new_arena(value.type, value.name)

    def new_arena(self, type: TensorType, name: str = "") -> View:
        """A new buffer for intermediate contents."""
        return self._new(type, BufferKind.ARENA, -1, name)

    def _constant(self, op: Op) -> View:
        handle = op.value  # type: ignore[attr-defined]
        buffer: Buffer = self.plan.new_buffer(
            BufferKind.CONST, handle.nbytes, const=handle, name=op.result.name
        )
        return View(buffer.id, 0, handle.dtype, handle.type.shape)


def is_free_transpose(op: Op) -> bool:
    """Whether a transpose's result has the layout in which its bytes are the operand's own."""
    if op.name != "tensor.transpose":
        return False
    source, result = op.x.type, op.result.type  # type: ignore[attr-defined]
    assert isinstance(source, TensorType) and isinstance(result, TensorType)
    return bool(result.layout == source.layout.transposed(op.perm))  # type: ignore[attr-defined]


def is_reinterpretation(op: Op) -> bool:
    """Whether an op sees the stored bits of its operand as another dtype, where no arithmetic could."""
    if op.name != "math.bitcast":
        return False
    return bool(op.x.dtype.is_storage or op.to.is_storage)  # type: ignore[attr-defined]


def reshaped_allocation(
    shape: tuple[DimLike, ...], allocated: tuple[DimLike, ...], target: tuple[DimLike, ...]
) -> tuple[DimLike, ...] | None:
    """What a row-major window of `shape` in `allocated` counts as allocated when seen as `target`.

    An axis may be split where the inner parts divide what is allocated, and axes may be merged when the
    inner ones are whole; otherwise None.
    """
    out: list[DimLike] = []
    i = j = 0
    while i < len(shape) or j < len(target):
        old, new = [*range(i, min(i + 1, len(shape)))], [*range(j, min(j + 1, len(target)))]
        a = shape[i] if old else 1
        b = target[j] if new else 1
        if new and b == 1 and a != 1:
            out.append(1)
            j += 1
            continue
        while a is not b and a != b:
            if not (isinstance(a, int) and isinstance(b, int)):
                return None
            if a < b and old and old[-1] + 1 < len(shape):
                old.append(old[-1] + 1)
                a = a * shape[old[-1]]
            elif b < a and new and new[-1] + 1 < len(target):
                new.append(new[-1] + 1)
                b = b * target[new[-1]]
            else:
                return None
        i, j = i + len(old), j + len(new)
        if any(allocated[axis] != shape[axis] for axis in old[1:]):
            return None
        whole: DimLike = 1
        for axis in old:
            whole = whole * allocated[axis]
        inner: DimLike = 1
        for axis in new[1:]:
            inner = inner * target[axis]
        if not new:
            if whole != 1:
                return None
            continue
        if inner != 1:
            if not (isinstance(whole, int) and isinstance(inner, int)) or inner == 0 or whole % inner:
                return None
            whole = whole // inner
        out += [whole, *(target[axis] for axis in new[1:])]
    return tuple(out)
